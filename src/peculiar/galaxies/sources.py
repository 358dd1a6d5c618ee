"""Sources of galaxies: one function for each `fetch.source`."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peculiar.core.errors import InputError
from peculiar.galaxies.fits import is_fits_name
from peculiar.galaxies.galaxy import Galaxy, frame
from peculiar.galaxies.illustris.api import read_key
from peculiar.galaxies.illustris.archive import fill
from peculiar.galaxies.nsa import read_catalogue, read_nsa
from peculiar.galaxies.params import Fetch, SourceName, StandIn
from peculiar.galaxies.skirt import read_skirt
from peculiar.galaxies.standin.simulation import make_broadband
from peculiar.galaxies.standin.stars import SSP_TABLE
from peculiar.galaxies.sunrise import read_broadband, read_masses
from peculiar.galaxies.unfinished import State, state
from peculiar.parallel import in_order, pool, scheduler

SOURCE_LABELS: dict[SourceName, str] = {
    "standin": "stand-in",
    "files": "Illustris files",
    "illustris": "Illustris",
    "skirt": "TNG SKIRT",
    "nsa": "NASA-Sloan Atlas",
}


@dataclass(frozen=True)
class Source:
    """Galaxies that `fetch` asks for.

    Attributes
    ----------
    total : int
        Number of galaxies.
    galaxies : callable
        Makes the galaxies from a number on; those before are neither read nor simulated.
    files : list of State
        State of the file of each galaxy; none of stand-ins.
    decided_by : list of State
        Of other files that decide them, such as a catalogue.
    skipped : dict of str to int
        Number of galaxies skipped for each reason.
    """

    total: int
    galaxies: Callable[[int], Iterator[Galaxy]]
    files: list[State] = field(default_factory=list)
    decided_by: list[State] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


def read_from(paths: list[Path], read: Callable[[Path], Galaxy], **more: Any) -> Source:
    """Galaxies that are read from a file each; `more` are attributes of `Source`."""
    states = [state(path) for path in paths]
    return Source(len(paths), lambda first: map(read, paths[first:]), states, **more)


def states_of(catalogue: Path | None) -> list[State]:
    """State of a catalogue, if there is one; a missing one is refused by its reader."""
    return [] if catalogue is None or not catalogue.exists() else [state(catalogue)]


def from_standin(params: Fetch) -> Source:
    """Stand-in galaxies, simulated on all cores or by Dask workers."""
    total = params.standin.galaxies

    def galaxies(first: int) -> Iterator[Galaxy]:
        arguments = ((number, params.standin, params.bands) for number in range(first, total))
        with pool(scheduler()) as workers:
            yield from in_order(workers, simulated, arguments)

    return Source(total, galaxies, decided_by=[state(SSP_TABLE)])


def from_files(params: Fetch) -> Source:
    """Galaxies from a folder of downloaded broadband files."""
    section = params.files
    masses: dict[int, float] = {}
    paths = downloaded("files", section.folder)
    decided_by = states_of(section.catalogue)
    if section.catalogue is not None:
        masses = read_masses(section.catalogue)

    def read(path: Path) -> Galaxy:
        galaxy = read_broadband(path, params.bands)
        mass = masses.get(galaxy.id, galaxy.log10_stellar_mass)
        return replace(galaxy, log10_stellar_mass=mass)

    return read_from(paths, read, decided_by=decided_by)


def from_illustris(params: Fetch) -> Source:
    """Galaxies from the Illustris API; only missing files are downloaded."""
    filled = fill(params.illustris, params.bands, read_key())
    skipped = dict(sorted(Counter(filled.skipped.values()).items()))
    return read_from(filled.paths, lambda path: read_broadband(path, params.bands), skipped=skipped)


def from_skirt(params: Fetch) -> Source:
    """Galaxies from a folder of TNG SKIRT files."""
    section = params.skirt
    paths = downloaded("skirt", section.folder)
    return read_from(paths, lambda path: frame(read_skirt(path, params.bands), section.pixels))


def from_nsa(params: Fetch) -> Source:
    """Real galaxies from the NASA-Sloan Atlas."""
    section = params.nsa
    paths = downloaded("nsa", section.folder)
    paths = [path for path in paths if path != section.catalogue]
    decided_by = states_of(section.catalogue)
    catalogue = None if section.catalogue is None else read_catalogue(section.catalogue)
    return read_from(
        paths,
        lambda path: frame(read_nsa(path, params.bands, catalogue), section.pixels),
        decided_by=decided_by,
    )


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
