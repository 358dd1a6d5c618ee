"""Stage `fetch`: broadband FITS files, stand-in or downloaded, to shards and a galaxy table."""

import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import astropy.units as u
from astropy.table import QTable
from tqdm import tqdm

from peculiar.errors import InputError, one_sentence
from peculiar.galaxies import RAW_COLUMNS, Galaxy, ShardWriter, whole_folder, write_table
from peculiar.illustris import read_broadband, read_catalogue
from peculiar.params import Fetch, FilesSection, StandInSection, load
from peculiar.standin import StandIn, make_broadband

OUT = Path("data/fetch")


def main() -> None:
    """Run the stage from `params.yaml`."""
    with one_sentence():
        fetch(load(Fetch), OUT)


def fetch(params: Fetch, folder: Path) -> None:
    """Write the raw images of all galaxies into `folder`, or nothing at all.

    One galaxy is in memory at a time; the stand-in's workers are at most a few files ahead.

    Parameters
    ----------
    params : Fetch
        Section `fetch` of `params.yaml`.
    folder : Path
        Takes shards (galaxy, camera, band, y, x), W/m/m^2/sr, and the galaxy table.

    Raises
    ------
    InputError
        When a file cannot be used; the message names it.
    """
    masses: dict[int, float] = {}
    if params.source == "standin":
        total, files = params.standin.galaxies, standin_files(params.standin)
    else:
        paths = downloaded(params.files)
        total, files = len(paths), iter(paths)
        if params.files.catalogue is not None:
            masses = read_catalogue(params.files.catalogue)
    rows: list[dict[str, Any]] = []
    shape: tuple[int, ...] = ()
    with whole_folder(folder) as partial:
        with ShardWriter(partial, total, params.shard_galaxies) as shards:
            for path in tqdm(files, total=total, desc=f"fetch ({params.source})", unit="galaxy"):
                galaxy = read_broadband(path, params.bands)
                shape = shape or galaxy.images.shape
                if galaxy.images.shape != shape:
                    raise InputError(
                        f"{path} has images of shape {galaxy.images.shape}, the files before it "
                        f"{shape}: keep files of one size in a folder"
                    )
                shards.append(galaxy.images)
                rows.append(table_row(galaxy, masses))
        table = QTable(rows=rows)
        table["kpc_per_pixel"].unit = u.kpc
        table["log10_stellar_mass"].info.description = "log10(M*/Msun)"
        table["sha256"].info.description = "of the galaxy's images as float32, C order"
        table.meta["bands"] = list(params.bands)
        table.meta["source"] = "stand-in" if params.source == "standin" else "Illustris files"
        write_table(table, partial, RAW_COLUMNS)


def table_row(galaxy: Galaxy, masses: dict[int, float]) -> dict[str, Any]:
    """One row of the galaxy table."""
    return {
        "id": galaxy.id,
        "log10_stellar_mass": masses.get(galaxy.id, galaxy.log10_stellar_mass),
        "kpc_per_pixel": galaxy.kpc_per_pixel,
        "source": galaxy.source,
        "sha256": hashlib.sha256(galaxy.images.data).hexdigest(),
    }


def downloaded(params: FilesSection) -> list[Path]:
    """The broadband files of a folder, in the order of their names."""
    paths = sorted(params.folder.glob("*.fits"))
    if not paths:
        raise InputError(
            f"fetch.files.folder: {params.folder} holds no .fits file: put broadband_ID.fits "
            "files there or correct the path"
        )
    return paths


def standin_knobs(params: StandInSection) -> StandIn:
    """The simulation's knobs; an `InputError` names what it refuses."""
    try:
        return StandIn(**params.model_dump(exclude={"seed", "galaxies"}))
    except ValueError as error:
        raise InputError(f"params.yaml: fetch.standin: {error}") from None


def standin_files(params: StandInSection) -> Iterator[Path]:
    """Simulate stand-in galaxies on all cores; each file is removed after it has been used."""
    knobs = standin_knobs(params)
    workers = os.cpu_count() or 1
    # spawned, not forked: a fork copies locks that other threads hold, such as tqdm's
    context = multiprocessing.get_context("spawn")
    with (
        TemporaryDirectory(prefix="peculiar-") as scratch,
        ProcessPoolExecutor(workers, mp_context=context) as pool,
    ):
        ahead: deque[tuple[Path, Any]] = deque()
        for number in range(params.galaxies + 2 * workers):
            if number < params.galaxies:
                path = Path(scratch) / f"broadband_{number}.fits"
                job = pool.submit(make_broadband, path, number, params.seed, knobs)
                ahead.append((path, job))
            if number >= 2 * workers and ahead:
                path, job = ahead.popleft()
                job.result()
                yield path
                path.unlink()


if __name__ == "__main__":
    main()
