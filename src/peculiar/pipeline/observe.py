"""Stage `observe`: draw a distance and a velocity for every image, and place it on the sky."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import starmap
from math import ceil
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray
from tqdm import tqdm

from peculiar.core.cosmography import FLAT_LAMBDA_CDM, HUBBLE
from peculiar.core.dataset import (
    OBSERVED_COLUMNS,
    RAW_COLUMNS,
    TABLE,
    Shards,
    open_set,
    write_table,
)
from peculiar.core.device import best_device
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.files import alone, replace_folder
from peculiar.core.params import load
from peculiar.core.shard import ShardWriter
from peculiar.core.survey import PAPER_FIELD_KPC, Measured, Survey
from peculiar.mock.images import read_kpc, views
from peculiar.mock.params import Observe
from peculiar.mock.resample import kpc_per_arcsec
from peculiar.parallel import in_order, pool, scheduler
from peculiar.pipeline.paths import Paths
from peculiar.pipeline.tables import draw_table, in_one_frame, measured_table

GALAXIES_AT_ONCE = 8
NOISE = 1  # separates the noise from other random streams of the same seed
# shown with every result, so that the paper's reading is never mistaken for ours
LABELS = {
    "header": "",
    "paper": f", every frame taken as {PAPER_FIELD_KPC:g} kpc",
    "physical": "",
    "literal": ", literal dimming",
    HUBBLE: "",
    FLAT_LAMBDA_CDM: ", dimmed by (1+z)^4",
}


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> None:
    """Make one dataset, named on the command line, from `params.yaml`."""
    parser = argparse.ArgumentParser(prog="peculiar observe", description=__doc__)
    parser.add_argument("--dataset", required=True, help="one of observe.datasets")
    dataset = parser.parse_args(arguments).dataset
    paths = Paths(root)
    with one_sentence():
        params = load(Observe, paths.params)
        if dataset not in params.distances:
            known = ", ".join(params.distances)
            raise InputError(f"params.yaml: observe.distances has no {dataset!r}: take {known}")
        observe_dataset(params, dataset, paths.fetched, paths.observed(dataset))


def survey_of(
    params: Observe, dataset: str, galaxies: QTable, measured_frame: str = "unknown"
) -> Survey:
    """Properties that all images of the dataset share."""
    name, reading = params.instrument, params.reading(dataset)
    noise = "" if name is None else f", seen with {name}"
    measured = isinstance(params.distances[dataset], Measured)
    resampling = ", cubic resampling" if reading.psf_fwhm_arcsec is None and not measured else ""
    labels = LABELS[reading.scale] + LABELS[reading.dimming] + resampling + noise
    if not measured:
        labels = LABELS[params.cosmology] + labels
    return Survey(
        dataset=dataset,
        source=galaxies.meta["source"] + labels,
        distances=params.distances[dataset],
        bands=galaxies.meta["bands"],
        pixels=params.pixels,
        pixel_scale_arcsec=params.pixel_scale_arcsec,
        scale=reading.scale,
        dimming=reading.dimming,
        cosmology=HUBBLE if measured else params.cosmology,
        psf_fwhm_arcsec=None if measured else reading.psf_fwhm_arcsec,
        instrument=None if name is None else params.instruments[name],
        measured_frame=measured_frame,
        H0_kms_mpc=params.H0_kms_mpc,
        sigma_v_kms=params.sigma_v_kms,
        split_by=params.split.by,
    )


def check_suits(params: Observe, dataset: str, galaxies: QTable) -> None:
    """Check that the distribution of distances suits the galaxies.

    Raises
    ------
    InputError
        When simulated galaxies would need redshifts, real galaxies would be moved, or real images
        would be given sky, dimming or another scale.
    """
    measured = isinstance(params.distances[dataset], Measured)
    simulated = bool(np.isfinite(galaxies["kpc_per_pixel"].to_value(u.kpc)).all())
    if measured and simulated:
        raise InputError(
            f"observe.distances.{dataset}: the galaxies are simulated and have no measured "
            "redshift: take distribution uniform, volume or normal"
        )
    if not measured and not simulated:
        raise InputError(
            f"observe.distances.{dataset}: real galaxies of unknown size cannot be moved: take "
            "distribution measured"
        )
    reading = params.reading(dataset)
    as_they_are = reading.scale == "header" and reading.dimming == "physical"
    if measured and (params.instrument is not None or not as_they_are):
        raise InputError(
            f"observe: dataset {dataset} has real images, which have sky, seeing and scale "
            "already: set its instrument to null, its scale to header and its dimming to physical"
        )


def check_frame(params: Observe, galaxies: QTable, pixels: int) -> None:
    """Check that real images, `pixels` on a side, cover the field of the observed images.

    Raises
    ------
    InputError
        When they are too small.
    """
    scale_arcsec = float(galaxies["pixel_scale_arcsec"].to_value(u.arcsec).min())
    least = ceil(round(params.pixels * params.pixel_scale_arcsec / scale_arcsec, 6))
    if pixels < least:
        raise InputError(
            f"fetch.nsa.pixels: {pixels} pixels of {scale_arcsec:g} arcsec do not cover "
            f"observe.pixels, {params.pixels} of {params.pixel_scale_arcsec:g} arcsec: fetch "
            f"{least} pixels or more"
        )


def observe_dataset(params: Observe, dataset: str, raw: Path, folder: Path) -> None:
    """Write one observed dataset into `folder`, completely or not at all.

    Parameters
    ----------
    params : Observe
        Section `observe` of `params.yaml`.
    dataset : str
        Key of `params.distances`.
    raw : Path
        Output of `fetch`; Dask's workers, if any, must see it under this path.
    folder : Path
        Folder to replace. It receives shards (image, band, y, x), W/m/m^2/sr, and the image table.

    Raises
    ------
    InputError
        When the raw images are missing or damaged, do not suit the distribution of distances, or
        are too few or too small.
    """
    images, galaxies = open_set(raw, RAW_COLUMNS)
    cameras = images.shape[1]
    check_suits(params, dataset, galaxies)
    distances = params.distances[dataset]
    if isinstance(distances, Measured):
        check_frame(params, galaxies, images.shape[-1])
        galaxies, frame = in_one_frame(galaxies)
        table = measured_table(params, galaxies, cameras)
    else:
        table, frame = draw_table(params, distances, np.asarray(galaxies["id"]), cameras), "unknown"
    survey = survey_of(params, dataset, galaxies, frame)
    table.meta = survey.model_dump(mode="json")
    with alone(folder), replace_folder(folder) as partial:
        with (
            ShardWriter(partial, len(table), params.shard_images) as shards,
            tqdm(total=len(galaxies), desc=f"observe ({dataset})", unit="galaxy") as bar,
        ):
            for images_seen in observe_pieces(pieces(params, survey, raw, galaxies, table)):
                for image in images_seen:
                    shards.append(image)
                bar.update(len(images_seen) // cameras)
        write_table(table, partial, OBSERVED_COLUMNS)


@lru_cache(maxsize=1)
def _opened(raw: Path, _written: int) -> Shards:
    """Raw images, opened once per process, and again when they were written again."""
    return Shards(raw)


Piece = tuple[Survey, int, Path, QTable, QTable, int]


def pieces(
    params: Observe, survey: Survey, raw: Path, galaxies: QTable, table: QTable
) -> Iterator[Piece]:
    """Arguments of `observe_galaxies` for `GALAXIES_AT_ONCE` galaxies at a time."""
    cameras = len(table) // len(galaxies)
    for start in range(0, len(galaxies), GALAXIES_AT_ONCE):
        end = min(start + GALAXIES_AT_ONCE, len(galaxies))
        of = slice(start * cameras, end * cameras)
        yield survey, params.seed, raw.resolve(), galaxies[start:end], table[of], start


def observe_pieces(each: Iterable[Piece]) -> Iterator[NDArray[np.float32]]:
    """Run `observe_galaxies` for each piece, in this process or on Dask's workers."""
    address = scheduler()
    if address is None:
        yield from starmap(observe_galaxies, each)
        return
    with pool(address) as workers:
        yield from in_order(workers, observe_galaxies, each)


def observe_galaxies(
    survey: Survey, seed: int, raw: Path, galaxies: QTable, table: QTable, first: int
) -> NDArray[np.float32]:
    """Observe the images of some galaxies.

    It reads the raw images itself, so that none is sent to a worker; workers must see the folder.

    Parameters
    ----------
    survey : Survey
        Properties that all images share.
    seed : int
        Seed of the noise.
    raw : Path
        Output of `fetch`.
    galaxies, table : QTable
        Rows of the galaxies, and of their images.
    first : int
        Row of the first of these galaxies in `raw`.

    Returns
    -------
    ndarray, (image, band, y, x), float32
        Surface brightness, W/m/m^2/sr.
    """
    raw_images = _opened(raw, (raw / TABLE).stat().st_mtime_ns)[
        np.arange(first, first + len(galaxies))
    ]
    cameras = raw_images.shape[1]
    distance_mpc = table["distance_mpc"].to_value(u.Mpc)
    stated = galaxies["kpc_per_pixel"].to_value(u.kpc).ravel()
    kpc_per_pixel = read_kpc(survey.scale, stated, raw_images.shape[-1])
    if survey.measured:
        scale_arcsec = np.repeat(galaxies["pixel_scale_arcsec"].to_value(u.arcsec), cameras)
        kpc_per_pixel = kpc_per_arcsec(distance_mpc) * scale_arcsec
    offset = np.repeat(galaxies["centre_offset"].to_value(u.pix), cameras, axis=0)
    # one random stream per image, so that noise does not depend on the batches
    numbers = range(first * cameras, first * cameras + len(table))
    rngs = [np.random.default_rng([seed, NOISE, number]) for number in numbers]
    seen = views(
        raw_images.reshape(-1, *raw_images.shape[2:]),
        kpc_per_pixel,
        distance_mpc,
        offset,
        survey.pixels,
        survey,
        rngs,
        best_device(),
    )
    return seen.numpy(force=True)


if __name__ == "__main__":
    main()
