"""Stage `observe`: give every image a distance and a velocity, and place it on the sky."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import astropy.units as u
import numpy as np
import torch
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.stats import truncnorm
from tqdm import tqdm

from peculiar.errors import InputError, one_sentence
from peculiar.galaxies import (
    OBSERVED_COLUMNS,
    RAW_COLUMNS,
    SPLITS,
    ShardWriter,
    open_set,
    whole_folder,
    write_table,
)
from peculiar.params import Normal, Observe, Split, Uniform, load
from peculiar.placing import best_device, place

RAW = Path("data/fetch")
OUT = Path("data/observe")
GALAXIES_AT_ONCE = 8
LABEL = {"physical": "", "literal": ", literal dimming"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make one dataset, named on the command line, from `params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="one of observe.datasets")
    dataset = parser.parse_args(arguments).dataset
    with one_sentence():
        params = load(Observe)
        if dataset not in params.distances:
            known = ", ".join(params.distances)
            raise InputError(f"params.yaml: observe.distances has no {dataset!r}: take {known}")
        observe(params, dataset, RAW, OUT / dataset)


def draw_distances_mpc(
    distances: Uniform | Normal, size: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Distances (size,), Mpc (paper, section 3.2).

    Normal distances are not cut at 50 and 100 Mpc, which the paper does not mention and which
    would lower their deviation to 12.5 Mpc; only those nearer than `min_mpc` are drawn again.
    """
    if isinstance(distances, Uniform):
        return rng.uniform(distances.min_mpc, distances.max_mpc, size)
    lowest = (distances.min_mpc - distances.mean_mpc) / distances.sigma_mpc
    law = truncnorm(lowest, np.inf, loc=distances.mean_mpc, scale=distances.sigma_mpc)
    return np.asarray(law.rvs(size, random_state=rng))


def draw_splits(
    galaxy: NDArray[np.int64], split: Split, rng: np.random.Generator
) -> NDArray[np.str_]:
    """Name of the split of each image (paper, section 3.1: 65, 10 and 25 per cent).

    Parameters
    ----------
    galaxy : ndarray, (n,)
        Galaxy of each image.
    split : Split
        Fractions, and whether galaxies or images are split.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of str, (n,)

    Raises
    ------
    InputError
        When there are too few galaxies to fill every split.
    """
    unit = galaxy if split.by == "galaxy" else np.arange(len(galaxy))
    units, unit_of = np.unique(unit, return_inverse=True)
    fractions = (split.train, split.train + split.validation)
    first, second = (round(fraction * len(units)) for fraction in fractions)
    if not 0 < first < second < len(units):
        raise InputError(
            f"observe.split: {len(units)} {split.by} units cannot fill {', '.join(SPLITS)}: "
            "fetch more galaxies"
        )
    rank = rng.permutation(len(units))
    return np.array(SPLITS)[np.searchsorted([first, second], rank, side="right")][unit_of]


def draw_table(params: Observe, dataset: str, ids: NDArray[np.int64], cameras: int) -> QTable:
    """Distances, velocities and splits of all images; the same splits whatever the dataset."""
    split_rng, distance_rng, velocity_rng = np.random.default_rng(params.seed).spawn(3)
    galaxy = np.repeat(ids, cameras)
    distance = draw_distances_mpc(params.distances[dataset], len(galaxy), distance_rng)
    velocity = velocity_rng.normal(0, params.sigma_v_kms, len(galaxy))
    table = QTable()
    table["galaxy"] = galaxy
    table["camera"] = np.tile(np.arange(cameras), len(ids))
    table["distance_mpc"] = distance * u.Mpc
    table["velocity_kms"] = velocity * u.km / u.s
    table["distance_z_mpc"] = (distance + velocity / params.H0_kms_mpc) * u.Mpc
    table["split"] = draw_splits(galaxy, params.split, split_rng)
    return table


def observe(params: Observe, dataset: str, raw: Path, folder: Path) -> None:
    """Write one observed dataset into `folder`, or nothing at all.

    Parameters
    ----------
    params : Observe
        Section `observe` of `params.yaml`.
    dataset : str
        Which of `params.distances`.
    raw : Path
        Output of `fetch`.
    folder : Path
        Takes shards (image, band, y, x), W/m/m^2/sr, and the image table.
    """
    images, galaxies = open_set(raw, RAW_COLUMNS)
    cameras = images.shape[1]
    table = draw_table(params, dataset, np.asarray(galaxies["id"]), cameras)
    table.meta = {
        "dataset": dataset,
        "distribution": params.distances[dataset].distribution,
        "bands": list(galaxies.meta["bands"]),
        # shown wherever a result is: literal dimming is never mistaken for physical
        "source": galaxies.meta["source"] + LABEL[params.dimming],
        "H0_kms_mpc": params.H0_kms_mpc,
        "sigma_v_kms": params.sigma_v_kms,
        "pixel_scale_arcsec": params.pixel_scale_arcsec,
        "dimming": params.dimming,
        "split_by": params.split.by,
    }
    kpc_per_pixel = galaxies["kpc_per_pixel"].to_value(u.kpc)
    distance = table["distance_mpc"].to_value(u.Mpc).reshape(len(galaxies), cameras)
    device = best_device()
    with whole_folder(folder) as partial:
        with (
            ShardWriter(partial, len(table), params.shard_images) as shards,
            tqdm(total=len(galaxies), desc=f"observe ({dataset})", unit="galaxy") as bar,
        ):
            for start in range(0, len(galaxies), GALAXIES_AT_ONCE):
                rows = np.arange(start, min(start + GALAXIES_AT_ONCE, len(galaxies)))
                placed = place(
                    torch.from_numpy(images[rows]).flatten(0, 1).to(device),
                    torch.from_numpy(kpc_per_pixel[rows]).flatten().to(device),
                    torch.from_numpy(distance[rows]).flatten().to(device),
                    pixels=params.pixels,
                    pixel_scale_arcsec=params.pixel_scale_arcsec,
                    dimming=params.dimming,
                )
                for image in placed.cpu().numpy():
                    shards.append(image)
                bar.update(len(rows))
        write_table(table, partial, OBSERVED_COLUMNS)


if __name__ == "__main__":
    main()
