"""Sources of galaxies: one function for each `fetch.source`."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from peculiar.core.errors import InputError
from peculiar.galaxies.fits import is_fits_name
from peculiar.galaxies.galaxy import Galaxy, frame
from peculiar.galaxies.illustris.api import read_key
from peculiar.galaxies.illustris.archive import fill
from peculiar.galaxies.nsa import read_catalogue, read_nsa
from peculiar.galaxies.params import Fetch, SourceName, StandIn
from peculiar.galaxies.skirt import read_skirt
from peculiar.galaxies.standin.simulation import make_broadband
from peculiar.galaxies.sunrise import read_broadband, read_masses
from peculiar.parallel import in_order, pool, scheduler

SOURCE_LABELS: dict[SourceName, str] = {
    "standin": "stand-in",
    "files": "Illustris files",
    "illustris": "Illustris",
    "skirt": "TNG SKIRT",
    "nsa": "NASA-Sloan Atlas",
}


Source = tuple[int, Iterable[Galaxy], dict[str, int]]
"""Number of galaxies, the galaxies, and the number skipped for each reason."""


def from_standin(params: Fetch) -> Source:
    """Stand-in galaxies, simulated on all cores or by Dask workers."""
    total = params.standin.galaxies

    def galaxies() -> Iterator[Galaxy]:
        arguments = ((number, params.standin, params.bands) for number in range(total))
        with pool(scheduler()) as workers:
            yield from in_order(workers, simulated, arguments)

    return total, galaxies(), {}


def from_files(params: Fetch) -> Source:
    """Galaxies from a folder of downloaded broadband files."""
    paths = downloaded("files", params.files.folder)
    masses: dict[int, float] = {}
    if params.files.catalogue is not None:
        masses = read_masses(params.files.catalogue)

    def galaxies() -> Iterator[Galaxy]:
        for path in paths:
            galaxy = read_broadband(path, params.bands)
            mass = masses.get(galaxy.id, galaxy.log10_stellar_mass)
            yield replace(galaxy, log10_stellar_mass=mass)

    return len(paths), galaxies(), {}


def from_illustris(params: Fetch) -> Source:
    """Galaxies from the Illustris API; only missing files are downloaded."""
    filled = fill(params.illustris, params.bands, read_key())
    skipped = dict(sorted(Counter(filled.skipped.values()).items()))
    galaxies = (read_broadband(path, params.bands) for path in filled.paths)
    return len(filled.paths), galaxies, skipped


def from_skirt(params: Fetch) -> Source:
    """Galaxies from a folder of TNG SKIRT files."""
    paths = downloaded("skirt", params.skirt.folder)
    galaxies = (frame(read_skirt(path, params.bands), params.skirt.pixels) for path in paths)
    return len(paths), galaxies, {}


def from_nsa(params: Fetch) -> Source:
    """Real galaxies from the NASA-Sloan Atlas."""
    section = params.nsa
    paths = downloaded("nsa", section.folder)
    paths = [path for path in paths if path != section.catalogue]
    catalogue = None if section.catalogue is None else read_catalogue(section.catalogue)
    galaxies = (frame(read_nsa(path, params.bands, catalogue), section.pixels) for path in paths)
    return len(paths), galaxies, {}


SOURCES: dict[SourceName, Callable[[Fetch], Source]] = {
    "standin": from_standin,
    "files": from_files,
    "illustris": from_illustris,
    "skirt": from_skirt,
    "nsa": from_nsa,
}


def downloaded(section: str, folder: Path) -> list[Path]:
    """List the FITS files of a folder by name, broadband_9 before broadband_10."""
    paths = [path for path in folder.glob("*") if is_fits_name(path.name)]
    if not paths:
        raise InputError(
            f"fetch.{section}.folder: {folder} holds no .fits file: put them there or correct "
            "the path"
        )
    return sorted(paths, key=lambda path: (len(path.name), path.name))


def simulated(number: int, parameters: StandIn, bands: Sequence[str]) -> Galaxy:
    """Simulate one stand-in galaxy, write its file, and read it back as an Illustris file."""
    with TemporaryDirectory(prefix="peculiar-") as scratch:
        path = Path(scratch) / f"broadband_{number}.fits"
        make_broadband(path, number, parameters)
        return read_broadband(path, bands)
