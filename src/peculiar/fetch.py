"""Stage `fetch`: broadband FITS files, stand-in or downloaded, to shards and a galaxy table."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import QTable
from tqdm import tqdm

from peculiar.errors import InputError, one_sentence
from peculiar.framing import frame
from peculiar.galaxies import RAW_COLUMNS, Galaxy, ShardWriter, whole_folder, write_table
from peculiar.illustris import read_broadband, read_catalogue
from peculiar.illustris_api import read_key
from peculiar.illustris_store import fill
from peculiar.nsa import read_catalogue as read_nsa_catalogue
from peculiar.nsa import read_nsa
from peculiar.params import load
from peculiar.params_data import Fetch, StandInSection
from peculiar.skirt import read_skirt
from peculiar.standin import StandIn, make_broadband
from peculiar.workers import in_order, pool, scheduler

OUT = Path("data/fetch")
LABELS = {
    "standin": "stand-in",
    "files": "Illustris files",
    "illustris": "Illustris",
    "skirt": "TNG SKIRT",
    "nsa": "NASA-Sloan Atlas",
}
UNITS = {
    "kpc_per_pixel": u.kpc,
    "half_mass_radius_kpc": u.kpc,
    "absolute_mag": u.mag,
    "mag_ab": u.mag,
    "pixel_scale_arcsec": u.arcsec,
    "cz_kms": u.km / u.s,
    "cz_flow_kms": u.km / u.s,
    "centre_offset": u.pix,
}


def main() -> None:
    """Run the stage from `params.yaml`."""
    with one_sentence():
        fetch(load(Fetch), OUT)


def fetch(params: Fetch, folder: Path) -> None:
    """Write the raw images of all galaxies into `folder`, or nothing at all.

    One galaxy is in memory at a time, and of stand-ins two more for each core.

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
    total, galaxies, skipped = SOURCES[params.source](params)
    rows: list[dict[str, Any]] = []
    shape: tuple[int, ...] = ()
    with whole_folder(folder) as partial:
        with ShardWriter(partial, total, params.shard_galaxies) as shards:
            for galaxy in tqdm(galaxies, f"fetch ({params.source})", total, unit="galaxy"):
                shape = shape or galaxy.images.shape
                if galaxy.images.shape != shape:
                    raise InputError(
                        f"{galaxy.source} has images of shape {galaxy.images.shape}, the files "
                        f"before it {shape}: keep files of one size in a folder"
                    )
                shards.append(galaxy.images)
                rows.append(table_row(galaxy))
        table = galaxy_table(rows)
        table.meta["bands"] = list(params.bands)
        made_here = any(row["source"].startswith("stand-in:") for row in rows)
        table.meta["source"] = "stand-in" if made_here else LABELS[params.source]
        table.meta["skipped"] = skipped
        write_table(table, partial, RAW_COLUMNS)


def table_row(galaxy: Galaxy) -> dict[str, Any]:
    """One row of the galaxy table: all that is known of a galaxy but its images."""
    row = {field.name: getattr(galaxy, field.name) for field in fields(galaxy)}
    images = row.pop("images")
    row["absolute_mag"] = np.broadcast_to(galaxy.absolute_mag, images.shape[1])
    row["mag_ab"] = np.broadcast_to(galaxy.mag_ab, images.shape[:2])
    return row | {"sha256": hashlib.sha256(images.data).hexdigest()}


def galaxy_table(rows: list[dict[str, Any]]) -> QTable:
    """The galaxy table, with units and descriptions."""
    table = QTable(rows=rows)
    for name, unit in UNITS.items():
        table[name].unit = unit
    table["log10_stellar_mass"].info.description = "log10(M*/Msun)"
    table["mag_ab"].info.description = "as the file states it for each camera and band"
    table["cz_flow_kms"].info.description = "corrected for peculiar velocities by a flow model"
    table["sha256"].info.description = "of the galaxy's images as float32, C order"
    return table


Source = tuple[int, Iterable[Galaxy], dict[str, int]]
"""Number of galaxies, the galaxies, and how many were left out for which reason."""


def from_standin(params: Fetch) -> Source:
    """Galaxies simulated here, on all cores, or by Dask's workers."""
    section = params.standin
    knobs = standin_knobs(section)

    def galaxies() -> Iterator[Galaxy]:
        each = ((number, section.seed, knobs, params.bands) for number in range(section.galaxies))
        with pool(scheduler()) as workers:
            yield from in_order(workers, simulated, each)

    return section.galaxies, galaxies(), {}


def from_files(params: Fetch) -> Source:
    """Galaxies of a folder of broadband files, which somebody downloaded."""
    paths = downloaded("files", params.files.folder, ["*.fits"])
    masses: dict[int, float] = {}
    if params.files.catalogue is not None:
        masses = read_catalogue(params.files.catalogue)

    def galaxies() -> Iterator[Galaxy]:
        for path in paths:
            galaxy = read_broadband(path, params.bands)
            mass = masses.get(galaxy.id, galaxy.log10_stellar_mass)
            yield replace(galaxy, log10_stellar_mass=mass)

    return len(paths), galaxies(), {}


def from_illustris(params: Fetch) -> Source:
    """Galaxies of Illustris' API, downloaded first as far as they are not there yet."""
    filled = fill(params.illustris, params.bands, read_key())
    skipped = dict(sorted(Counter(filled.skipped.values()).items()))
    galaxies = (read_broadband(path, params.bands) for path in filled.paths)
    return len(filled.paths), galaxies, skipped


def from_skirt(params: Fetch) -> Source:
    """Galaxies of a folder of TNG SKIRT files."""
    paths = downloaded("skirt", params.skirt.folder, ["*.fits"])
    galaxies = (frame(read_skirt(path, params.bands), params.skirt.pixels) for path in paths)
    return len(paths), galaxies, {}


def from_nsa(params: Fetch) -> Source:
    """Real galaxies of the NASA-Sloan Atlas."""
    section = params.nsa
    paths = downloaded("nsa", section.folder, ["*.fits", "*.fits.gz"])
    paths = [path for path in paths if path != section.catalogue]
    catalogue = None if section.catalogue is None else read_nsa_catalogue(section.catalogue)
    galaxies = (
        frame(read_nsa(path, params.bands, catalogue), section.pixels) for path in paths
    )  # fmt: skip
    return len(paths), galaxies, {}


SOURCES: dict[str, Callable[[Fetch], Source]] = {
    "standin": from_standin,
    "files": from_files,
    "illustris": from_illustris,
    "skirt": from_skirt,
    "nsa": from_nsa,
}


def downloaded(section: str, folder: Path, patterns: Iterable[str]) -> list[Path]:
    """The FITS files of a folder, in the order of their names: broadband_9 before broadband_10."""
    paths = [path for pattern in patterns for path in folder.glob(pattern)]
    if not paths:
        raise InputError(
            f"fetch.{section}.folder: {folder} holds no .fits file: put them there or correct "
            "the path"
        )
    return sorted(paths, key=lambda path: (len(path.name), path.name))


def standin_knobs(params: StandInSection) -> StandIn:
    """The simulation's knobs; an `InputError` names what it refuses."""
    try:
        return StandIn(**params.model_dump(exclude={"seed", "galaxies"}))
    except ValueError as error:
        raise InputError(f"params.yaml: fetch.standin: {error}") from None


def simulated(number: int, seed: int, knobs: StandIn, bands: Sequence[str]) -> Galaxy:
    """One stand-in galaxy, through a file and the reader of Illustris' own."""
    with TemporaryDirectory(prefix="peculiar-") as scratch:
        path = Path(scratch) / f"broadband_{number}.fits"
        make_broadband(path, number, seed, knobs)
        return read_broadband(path, bands)


if __name__ == "__main__":
    main()
