"""Serve the champion with MLflow's own scoring server: image in, distance and its error out.

The registry keeps a network that gives p(D | image) on a grid (or a distance alone), which a client
of the server would have to know what to do with. Before serving, the verified network is exported
once more with the two moments computed inside (`Served`), into a temporary folder: no code of ours
and no pickle is in what the server loads (docs/decisions/0024).
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from peculiar.core.errors import InputError
from peculiar.predict.files import Champion, load_champion
from peculiar.runs import tracking

HOST = "127.0.0.1"


class Served(nn.Module):
    """A promoted network whose output is a distance and its error.

    Parameters
    ----------
    champion : Champion
        From `peculiar.predict.files.load_champion`.
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
        """Surface brightness (n, band, y, x), W/m/m^2/sr, to (n, 2): D_p and D_error, Mpc."""
        output = self.network(images)
        if self.gives_distances:
            return torch.stack([output, self.sigma_D_mpc.expand_as(output)], dim=-1)
        p = output.double()  # as `peculiar.velocity.posterior.moments` does
        D = p @ self.grid_mpc
        within = (self.grid_mpc[1] - self.grid_mpc[0]) ** 2 / 12  # a cell
        variance = (p * (self.grid_mpc - D[:, None]).square()).sum(dim=-1) + within
        return torch.stack([D, variance.sqrt()], dim=-1).float()


def save(champion: Champion, folder: Path) -> None:
    """Export `Served` as an MLflow model into a folder that is not there yet."""
    shape = 2, len(champion.bands), champion.pixels, champion.pixels
    tracking.save_model(Served(champion), np.zeros(shape, dtype=np.float32), folder)


def serve(model: str, port: int, store: Path | None = None) -> None:
    """Serve the champion on 127.0.0.1 until interrupted.

    Parameters
    ----------
    model : str
        Name in the registry.
    port : int
        Port.
    store : Path, optional
        Folder of the store; by default `peculiar.runs.store.store_folder()`.

    Raises
    ------
    InputError
        When there is no champion, it is not what was promoted, or the server ends by itself.
    """
    champion = load_champion(model, store)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "served"
        save(champion, folder)
        command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
        command += ["--model-uri", str(folder), "--host", HOST, "--port", str(port)]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        print(
            f"version {champion.version} of {model} at http://{HOST}:{port}/invocations: "
            f"{champion.bands} images of {champion.pixels} pixels to D_p and D_error [Mpc]",
            flush=True,
        )
        done = subprocess.run(command, env=os.environ | {"PATH": path}, check=False)
    if done.returncode > 0:
        raise InputError(
            f"the server on port {port} ended with code {done.returncode}: see above; is the port "
            "taken? Give another one with --port"
        )
