"""Serve the champion with MLflow's own scoring server: image in, distance and its error out.

The registry keeps a network that gives p(D | image) on a grid, or a distance alone, as data. For
clients, the network is exported as a program with D_p and D_error computed inside (`Served`), into
a temporary folder: the only export, made here and for this server alone. Their prior is flat on the
network's whole grid. The server loads no code of ours and no pickle (docs/decisions/0024, 0041).
"""

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import torch
from torch import Tensor, nn

from peculiar.core.errors import InputError
from peculiar.predict.priors import default_prior
from peculiar.registry.champion import Champion, load_champion
from peculiar.runs.tracking import CHAMPION
from peculiar.velocity.grid import moments

HOST = "127.0.0.1"
REQUIREMENTS = [f"{name}=={version(name).split('+')[0]}" for name in ("torch", "numpy")]


class Served(nn.Module):
    """The champion's network, with a distance and its error as output.

    Parameters
    ----------
    champion : Champion
        From `load_champion`.
    """

    grid_mpc: Tensor
    sigma_D_mpc: Tensor

    def __init__(self, champion: Champion):
        super().__init__()
        self.network = champion.network
        self.gives_distances = champion.grid_mpc is None
        grid = [0.0] if champion.grid_mpc is None else champion.grid_mpc
        self.register_buffer("grid_mpc", torch.tensor(grid, dtype=torch.float64))
        self.register_buffer("sigma_D_mpc", torch.tensor(champion.sigma_D_mpc))

    def forward(self, images: Tensor) -> Tensor:
        """D_p and D_error (n, 2), Mpc, of images (n, band, y, x), W/m/m^2/sr."""
        output = self.network(images)
        if self.gives_distances:
            return torch.stack([output, self.sigma_D_mpc.expand_as(output)], dim=-1)
        return torch.stack(moments(output.double(), self.grid_mpc), dim=-1).float()


def save(champion: Champion, folder: Path) -> None:
    """Export `Served` as an MLflow model into a new folder."""
    # the export needs a batch of two for a free batch size
    shape = 2, len(champion.bands), champion.pixels, champion.pixels
    example = np.zeros(shape, dtype=np.float32)
    served = Served(champion).eval().to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        output = served(torch.from_numpy(example)).numpy()
    mlflow.pytorch.save_model(
        served,
        str(folder),
        input_example=example,
        signature=mlflow.models.infer_signature(example, output),
        serialization_format="pt2",
        pip_requirements=REQUIREMENTS,
    )


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
        When there is no champion, its files have changed, or the server fails.
    """
    champion = load_champion(model, store, which)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "served"
        save(champion, folder)
        command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
        command += ["--model-uri", str(folder), "--host", HOST, "--port", str(port)]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        print(
            f"version {champion.version} of {model} at http://{HOST}:{port}/invocations: "
            f"{champion.bands} images of {champion.pixels} pixels to D_p and D_error [Mpc], "
            f"prior {default_prior(champion).name}",
            flush=True,
        )
        done = subprocess.run(command, env=os.environ | {"PATH": path}, check=False)
    if done.returncode > 0:
        raise InputError(
            f"the server on port {port} ended with code {done.returncode}, see above: if the port "
            "is taken, give another one with --port"
        )
