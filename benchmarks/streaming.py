"""Time an epoch of `cnn3` whose images are kept in memory, or read from their shards each epoch.

    python benchmarks/streaming.py [--images 2048]

Prints medians of three epochs each, in turns: kept; streamed, shards in the system's cache;
streamed, shards read from the disk.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from peculiar.core.dataset import Shards
from peculiar.core.params import validate
from peculiar.core.photometry import BANDS
from peculiar.core.shard import ShardWriter
from peculiar.networks.heads import build
from peculiar.networks.params import NetworkSection
from peculiar.training import loader
from peculiar.training.loop import fit

PIXELS, TIMES = 128, 3
RESIDENT_BYTES = {"kept": loader.RESIDENT_BYTES, "streamed": 0, "streamed, cold": 0}


def write_images(folder: Path, number: int) -> None:
    """Write images as bright as galaxies, W/m/m^2/sr."""
    rng = np.random.default_rng(0)
    with ShardWriter(folder, number, 512) as shards:
        for _ in range(number):
            shards.append(1e-10 * rng.random((len(BANDS), PIXELS, PIXELS), dtype=np.float32))


def forget(folder: Path) -> None:
    """Remove shards from the system's cache."""
    for path in folder.glob("*.npy"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def epoch_s(folder: Path, number: int, spec: NetworkSection, how: str) -> float:
    """Seconds of an epoch."""
    loader.RESIDENT_BYTES = RESIDENT_BYTES[how]
    rng, device = np.random.default_rng(0), torch.device("cpu")
    network = build(spec, BANDS, PIXELS, target=(50.0, 50.0), prior=None, seed=1)
    scaled = loader.scaled_images(network.front, Shards(folder), np.arange(number), device)
    if how.endswith("cold"):
        forget(folder)
    start = time.perf_counter()
    fit(
        network,
        Shards(folder),
        rng.uniform(50, 100, number),
        np.arange(number // 8, number),
        np.arange(number // 8),
        spec,
        rng=rng,
        device=device,
        on_epoch=lambda *_: None,
        scaled=scaled,
    )
    return time.perf_counter() - start


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2048)
    number = parser.parse_args().images
    shipped = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())
    cnn3 = shipped["train"]["specs"]["cnn3"] | {"epochs": 1}
    spec = validate(NetworkSection, cnn3, "train.specs.cnn3")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), number)
        runs = [
            {how: epoch_s(Path(folder), number, spec, how) for how in RESIDENT_BYTES}
            for _ in range(TIMES)
        ]
    for how in RESIDENT_BYTES:
        median = np.median([run[how] for run in runs])
        ratio = np.median([run[how] / run["kept"] for run in runs])
        print(f"{how:15} {median:6.1f} s {ratio:5.2f}")


if __name__ == "__main__":
    main()
