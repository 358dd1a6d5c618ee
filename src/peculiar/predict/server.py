"""Serve the champion with MLflow's scoring server: images in, distances, errors and flags out.

The server runs in this process, on the network that the registry has checked, and ends with it. The
prior is the champion's own (`default_prior`). See docs/decisions/0046.
"""

import math
import socket
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import uvicorn
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PyFuncModel, scoring_server
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.predict.estimate import predict_images
from peculiar.predict.priors import default_prior
from peculiar.predict.view import view_images
from peculiar.registry.champion import Champion, load_champion
from peculiar.runs.tracking import CHAMPION

HOST = "127.0.0.1"
STOP_S = 5  # for answers under way when the server is stopped
# a client gives no redshift and gets no velocity, and says nothing of dust
NOT_ASKED = ("no_cz", "dust")


class Served:
    """What MLflow's server asks for predictions.

    Parameters
    ----------
    champion : Champion
        From `load_champion`.
    """

    def __init__(self, champion: Champion):
        self.champion = champion

    def predict(self, images: NDArray[np.float32]) -> list[dict[str, Any]]:
        """D_p and D_error, Mpc (None where there is none), and flags, of images.

        Parameters
        ----------
        images : ndarray, (n, band, pixels, pixels), float32
            Surface brightness, W/m/m^2/sr, in the champion's bands and pixels.

        Returns
        -------
        list of dict, n
            The flags are those of `peculiar predict`, without `no_cz` and `dust`: dust of the Milky
            Way is for the client to remove.
        """
        views = view_images(self.champion, images, self.champion.pixel_scale_arcsec)
        table = predict_images(self.champion, views, math.nan)
        numbers = {name: table[name].value.tolist() for name in ("D_p", "D_error")}
        return [
            {
                **{name: _number(values[k]) for name, values in numbers.items()},
                "flags": ", ".join(f for f in flags.split(", ") if f not in NOT_ASKED) or "ok",
            }
            for k, flags in enumerate(table["flags"].tolist())
        ]


def _number(value: float) -> float | None:
    """A number as JSON has it, which knows no NaN."""
    return value if math.isfinite(value) else None


def as_pyfunc(champion: Champion) -> PyFuncModel:
    """The champion as MLflow's server takes a model, with the shape of its images."""
    shape = (-1, len(champion.bands), champion.pixels, champion.pixels)
    signature = ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.float32), shape)]))
    flavors = {mlflow.pyfunc.FLAVOR_NAME: {mlflow.pyfunc.MAIN: __name__}}
    return PyFuncModel(Model(signature=signature, flavors=flavors), Served(champion))


def serve(model: str, port: int, store: Path | None = None, which: str = CHAMPION) -> None:
    """Serve a promoted model on 127.0.0.1 until interrupted.

    Parameters
    ----------
    model : str
        Name in the registry.
    port : int
        Port.
    store : Path, optional
        Folder of the store; by default `peculiar.runs.store.store_folder()`.
    which : str
        Number or alias of its version.

    Raises
    ------
    InputError
        When there is no champion, its files have changed, or the port cannot be used.
    """
    champion = load_champion(model, store, which)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"--port {port}: cannot be used ({reason}): give another port"
            ) from None
        print(
            f"version {champion.version} of {model} at http://{HOST}:{port}/invocations: "
            f"{champion.bands} images of {champion.pixels} pixels to D_p and D_error [Mpc] and "
            f"flags, prior {default_prior(champion).name}",
            flush=True,
        )
        app = scoring_server.init(as_pyfunc(champion))
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=STOP_S)
        uvicorn.Server(config).run(sockets=[listening])
