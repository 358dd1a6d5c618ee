"""Train networks on a GPU machine that has numpy, scipy, torch, pydantic and astropy, and no more.

    python -m experiments.standin.bare_gpu WORK --galaxies 4642 --networks cnn2 cnn3 starlet

fetches and observes stand-ins below WORK, compares what the GPU and the processor give, and trains
each network with the seed of `params.yaml`. Prints one JSON line for each network, with metrics of
the validation split; the test split is not read. Neither MLflow, DVC, Optuna nor Dask is imported,
so nothing is logged.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import torch
import yaml

from experiments.datasets import make_dataset
from peculiar.core.dataset import RAW_COLUMNS, Observed, open_set
from peculiar.core.device import best_device
from peculiar.core.errors import one_sentence
from peculiar.core.params import load
from peculiar.mock.images import views
from peculiar.pipeline.paths import Paths
from peculiar.training.params import Train
from peculiar.training.predictions import validate
from peculiar.training.train import train_network

TRACKING = {"mlflow", "dvc", "optuna", "distributed"}
COMPARED = 32  # galaxies placed on both devices


def difference_of_devices(observed: Observed, raw: Path, device: torch.device) -> float:
    """Greatest difference of images placed on the processor and on a device, over the peak."""
    images, galaxies = open_set(raw, RAW_COLUMNS)
    number = min(COMPARED, len(galaxies))
    first = images[np.arange(number)][:, 0]
    kpc = galaxies["kpc_per_pixel"].to_value(u.kpc)[:number, 0]
    distance_mpc = np.linspace(50, 100, number)
    survey = observed.survey.model_copy(update={"instrument": None})
    here, there = (
        views(first, kpc, distance_mpc, np.zeros((number, 2)), survey.pixels, survey, [], place)
        .cpu()
        .numpy()
        for place in (torch.device("cpu"), device)
    )
    return float(np.abs(here - there).max() / here.max())


def trained(observed: Observed, name: str, train: Train, raw: Path) -> dict[str, Any]:
    """Seconds, memory and validation metrics of one network."""
    spec, device = train.specs[name], best_device()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.monotonic()
    network = train_network(observed, spec, train.seed, lambda *_: None, raw=raw)
    seconds = time.monotonic() - start
    metrics = validate(network, observed)[2]
    return {
        "network": name,
        "device": str(device),
        "seconds": round(seconds, 1),
        "images_per_s": round(len(observed.rows("train")) * spec.all_epochs / seconds),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)
        if device.type == "cuda"
        else None,
        **{key: round(value, 3) for key, value in metrics.items()},
    }


def main() -> None:
    """Make the dataset, compare devices, train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder for the dataset")
    parser.add_argument("--galaxies", type=int, default=500)
    parser.add_argument("--networks", nargs="+", default=["cnn2", "cnn3", "cnn4", "cnn5"])
    options = parser.parse_args()
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["fetch"] |= {"source": "standin"}
    params["fetch"]["standin"] |= {"galaxies": options.galaxies}
    with one_sentence():
        start = time.monotonic()
        observed = make_dataset(options.work, params)
        print(f"dataset: {time.monotonic() - start:.1f} s, {observed.survey}", flush=True)
        raw = Paths(options.work).fetched
        difference = difference_of_devices(observed, raw, best_device())
        print(f"{best_device()} and cpu differ by {difference:.1e} of the peak", flush=True)
        train = load(Train)
        for name in options.networks:
            print(json.dumps(trained(observed, name, train, raw)), flush=True)
        loaded = TRACKING & {module.split(".")[0] for module in sys.modules}
        print(f"tracking libraries imported: {', '.join(sorted(loaded)) or 'none'}")


if __name__ == "__main__":
    main()
