"""Prediction: images/s from shards to a table of velocities, and memory."""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from measuring import Machine, Timing, Work, by_turns, threads
from numpy.typing import NDArray
from rows_training import Stored, make_shards, network_of, spec_of
from torch.utils.data import DataLoader

from peculiar.core.dataset import Shards
from peculiar.networks.heads import DistributionNetwork, Network
from peculiar.networks.inference import run_network
from peculiar.training.predictions import velocity_columns
from peculiar.velocity.posterior import velocity_on_grid

GROUP = "prediction"
SIGMA_V_KMS, H0_KMS_MPC = 400.0, 70.0


def tabulate(network: DistributionNetwork, p: NDArray[Any], D_z: NDArray[Any], path: Path) -> None:
    """Posterior velocities of p(D | image), (n, G), as a file."""
    grid = network.head.grid_mpc.double().numpy(force=True)
    v = velocity_on_grid(p, grid, D_z, SIGMA_V_KMS, H0_KMS_MPC)
    Table(velocity_columns(v)).write(path, format="ascii.csv", overwrite=True)


def starlet() -> DistributionNetwork:
    """Ours, with fresh weights."""
    network: Network = network_of(spec_of("starlet"))
    assert isinstance(network, DistributionNetwork)
    return network.eval()


def ours(folder: Path, D_z: NDArray[Any], device: torch.device) -> Callable[[], None]:
    """From shards to the file, in pieces."""
    network = starlet().to(device)

    def run() -> None:
        p = run_network(network, Shards(folder), np.arange(len(D_z)), device)
        tabulate(network, p, D_z, folder / "velocities.csv")

    return run


def by_loader(
    folder: Path, D_z: NDArray[Any], device: torch.device, batch: int, workers: int
) -> Callable[[], None]:
    """What most users write."""
    network = starlet().to(device)
    data = Stored(Shards(folder), D_z, network.front)

    def run() -> None:
        found = []
        with torch.no_grad():
            for scaled, _ in DataLoader(data, batch, num_workers=workers):
                found.append(network.probability(scaled.to(device)).cpu().double())
        tabulate(network, np.asarray(torch.cat(found)), D_z, folder / "theirs.csv")

    return run


def peak_mib(folder: Path, number: int) -> float:
    """Peak memory of a fresh process that predicts this number of images, MiB."""
    command = [sys.executable, __file__, str(folder), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def rows(machine: Machine, repeats: int, quick: bool, device: torch.device) -> Iterator[Timing]:
    """Rates of ours, and its memory for some images and for four times as many."""
    threads(machine.cores)
    number = 64 if quick else 1024
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, D_z = make_shards(folder, number)
        bytes_of_one = 4 * float(np.prod(images.shape[1:]))
        few = number // 4
        memory = f"peak {peak_mib(folder, few):.0f} MiB for {few} images, "
        memory += f"{peak_mib(folder, number):.0f} MiB for {number}"
        yield from by_turns(
            Work(
                GROUP,
                "shards to a table of velocities, starlet",
                "images/s",
                number,
                {
                    "ours": ours(folder, D_z, device),
                    "DataLoader with workers": by_loader(folder, D_z, device, 64, machine.cores),
                    "one by one": by_loader(folder, D_z, device, 1, 0),
                },
                limit=1 / machine.seconds(0, bytes_of_one),
                limit_by="copy of the images",
                notes={"ours": memory},
            ),
            min(repeats, 3),
        )


def main() -> None:
    """Predict in a fresh process and print the peak of its memory, MiB."""
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    ours(folder, np.linspace(50, 100, number), torch.device("cpu"))()
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


if __name__ == "__main__":
    main()
