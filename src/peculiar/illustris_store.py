"""The folder that keeps what was downloaded from Illustris, trimmed to the wanted bands.

It outlives runs and processes: `broadband_{id}.fits` appear whole or not at all, `skipped.json`
says which subhaloes need not be asked for again, and `partial/` holds what is half downloaded.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from threading import Lock
from typing import Literal

from filelock import FileLock, Timeout

from peculiar import illustris_api as api
from peculiar.download import Failed, Missing, Progress, Session, discard, patiently
from peculiar.errors import InputError
from peculiar.fitsfile import open_whole
from peculiar.illustris import read_broadband, read_catalogue
from peculiar.ledger import read_ledger, write_ledger, write_whole
from peculiar.params_data import IllustrisSection
from peculiar.trimming import Card, intact, trimmed

NO_IMAGE = "no image"
NO_SUBHALO = "no such subhalo"
NOT_PRIMARY = "not primary"
LEDGER = "skipped.json"

READING = Lock()
"""Held while a FITS file is open: `open_whole` switches warnings off for all threads at once."""


class Damaged(Failed):
    """A file of the right length with wrong content."""


@dataclass(frozen=True)
class Filled:
    """What the store holds of what was asked for.

    Attributes
    ----------
    paths : list of Path
        One file a galaxy, by ascending subhalo number.
    skipped : dict of int to str
        Why the other subhaloes have no file.
    """

    paths: list[Path]
    skipped: dict[int, str]


@dataclass(frozen=True)
class Outcome:
    """What became of one subhalo, and why."""

    subhalo: int
    what: Literal["fetched", "already there", "skipped", "failed"]
    reason: str = ""


@dataclass(frozen=True)
class Order:
    """What is wanted, for the threads that get it: the arguments of `fill` and what is known.

    `masses` are log10(M*/Msun) of the catalogue, `skipped` the subhaloes not to be asked for.
    """

    settings: IllustrisSection
    bands: Sequence[str]
    key: str = field(repr=False)
    masses: dict[int, float]
    skipped: dict[int, str]
    received: Callable[[int], None]

    def path(self, subhalo: int) -> Path:
        """File that keeps the subhalo's images."""
        return self.settings.folder / f"broadband_{subhalo}.fits"

    def part(self, subhalo: int) -> Path:
        """File that the subhalo's images are downloaded into."""
        return self.settings.folder / "partial" / f"broadband_{subhalo}.fits"

    def refusal(self, primary: bool, log10_mass: float) -> str:
        """Why a subhalo is not wanted, or nothing."""
        if self.settings.primary and not primary:
            return NOT_PRIMARY
        return _too_light(self.settings) if log10_mass < self.settings.log10_mass_min else ""


def _too_light(settings: IllustrisSection) -> str:
    return f"log10 mass below {settings.log10_mass_min:g}"


def _snapshot(settings: IllustrisSection) -> str:
    return f"{settings.simulation}/snapshots/{settings.snapshot}"


def _url(settings: IllustrisSection) -> str:
    return f"{settings.url.rstrip('/')}/{_snapshot(settings)}"


def fill(settings: IllustrisSection, bands: Sequence[str], key: str) -> Filled:
    """Download what the folder does not have yet.

    Whatever interrupts it, the next call goes on with what is missing, and the files in the end
    are the same, byte for byte.

    Parameters
    ----------
    settings : IllustrisSection
        Section `fetch.illustris`. With `galaxies`, the first that many, by ascending number, that
        are wanted and have images; what fails counts, so that no fault changes the choice.
    bands : sequence of str
        SDSS bands to keep.
    key : str
        From `illustris_api.read_key`.

    Returns
    -------
    Filled
        Files and what was skipped.

    Raises
    ------
    InputError
        When the key is not accepted, the server's answers make no sense, another process is at
        work in the folder, or galaxies failed: these the next call tries again.
    OSError
        When the disk is full or broken.
    """
    (settings.folder / "partial").mkdir(parents=True, exist_ok=True)
    try:
        with _alone(settings.folder):
            outcomes = _obtain_all(settings, bands, key)
            with suppress(OSError):  # where something failed, what is half downloaded stays
                (settings.folder / "partial").rmdir()
    except OSError as error:
        error.filename = error.filename or str(settings.folder)
        raise
    print(_summary(outcomes))
    _check_failed(settings.folder, outcomes)
    return Filled(
        [settings.folder / f"broadband_{o.subhalo}.fits" for o in outcomes if o.what != "skipped"],
        {o.subhalo: o.reason for o in outcomes if o.what == "skipped"},
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise InputError(
            f"another process is downloading into {folder}: wait until it has ended, or end it"
        ) from None


def _obtain_all(settings: IllustrisSection, bands: Sequence[str], key: str) -> list[Outcome]:
    """Outcomes by ascending subhalo number, of as many candidates as are needed."""
    path = settings.folder / LEDGER
    ledger = read_ledger(path, _snapshot(settings))
    candidates, masses = _candidates(settings, key)
    wanted = min(settings.galaxies or len(candidates), len(candidates))
    outcomes: list[Outcome] = []
    # Threads of a pool are daemons: Ctrl-C need not wait for one that a server lets wait.
    with Progress(wanted) as progress, ThreadPool(settings.connections) as pool:
        order = Order(settings, bands, key, masses, _standing(ledger, settings), progress.received)
        while candidates and wanted:
            batch, candidates = candidates[:wanted], candidates[wanted:]
            for outcome in pool.imap_unordered(partial(_obtain, order), batch):
                outcomes.append(outcome)
                if outcome.what != "skipped" or settings.galaxies is None:
                    progress.done()
                if outcome.what != "skipped":
                    wanted -= 1
                elif outcome.reason != NO_SUBHALO and outcome.subhalo not in order.skipped:
                    ledger[outcome.subhalo] = outcome.reason
                    write_ledger(path, _snapshot(settings), ledger)
    return sorted(outcomes, key=lambda outcome: outcome.subhalo)


def _standing(ledger: dict[int, str], settings: IllustrisSection) -> dict[int, str]:
    """The part of the ledger that holds by the present settings."""
    reasons = {NO_IMAGE, _too_light(settings)} | ({NOT_PRIMARY} if settings.primary else set())
    return {subhalo: reason for subhalo, reason in ledger.items() if reason in reasons}


def _candidates(settings: IllustrisSection, key: str) -> tuple[list[int], dict[int, float]]:
    """Ascending subhalo numbers, and their masses where the catalogue gives them."""
    if settings.catalogue is not None:
        masses = read_catalogue(settings.catalogue)
        heavy = [number for number, mass in masses.items() if mass >= settings.log10_mass_min]
        return sorted(heavy), masses
    try:
        with _connect(settings, key) as session:
            listed = api.subhaloes(
                session, _url(settings), settings.log10_mass_min, settings.primary
            )
            return sorted(set(listed)), {}
    except Missing as error:
        raise InputError(f"{error}: mend fetch.illustris.url, simulation or snapshot") from None
    except Failed as error:
        raise InputError(
            f"the list of subhaloes at {_url(settings)} could not be had ({error}): run the same "
            "command again"
        ) from None


def _connect(settings: IllustrisSection, key: str) -> Session:
    return api.connect(key, settings.attempts, settings.timeout_s)


def _obtain(order: Order, subhalo: int) -> Outcome:
    """See to it that one subhalo is in the store, if it is wanted."""
    if subhalo in order.skipped:
        return Outcome(subhalo, "skipped", order.skipped[subhalo])
    held = _held(order, subhalo)
    if held is not None:
        discard(order.part(subhalo))  # of a process that was killed just before it would have
        reason = order.refusal(*held)
        return Outcome(subhalo, "skipped" if reason else "already there", reason)
    missing = NO_SUBHALO
    try:
        with _connect(order.settings, order.key) as session:
            details = api.details(session, _url(order.settings), subhalo)
            mass = order.masses.get(subhalo, details.log10_stellar_mass)
            if reason := order.refusal(details.primary, mass):
                return Outcome(subhalo, "skipped", reason)
            missing = NO_IMAGE
            details = replace(details, log10_stellar_mass=mass)
            patiently(session, Damaged)(_store, order, session, details)
    except Missing:
        return Outcome(subhalo, "skipped", missing)
    except Failed as error:
        return Outcome(subhalo, "failed", str(error))
    return Outcome(subhalo, "fetched")


def _held(order: Order, subhalo: int) -> tuple[bool, float] | None:
    """Whether a stored subhalo is primary, and its log10(M*/Msun); None if it is of no use.

    A file that the user put there has neither card and is taken as it is.
    """
    path = order.path(subhalo)
    if not path.is_file():
        return None
    try:
        with READING:
            galaxy, whole = read_broadband(path, order.bands), intact(path)
            with open_whole(path) as hdus:
                primary = bool(hdus[0].header.get("PRIMARY", True))
    except InputError:
        return None
    mass = order.masses.get(subhalo, galaxy.log10_stellar_mass)
    return (primary, mass) if whole and galaxy.id == subhalo else None


def _store(order: Order, session: Session, details: api.Details) -> None:
    """Download, check, trim and keep one subhalo's images; `Damaged` where they are."""
    part = order.part(details.id)
    api.download(session, _url(order.settings), details.id, part, order.received)
    try:
        with READING:
            galaxy = read_broadband(part, order.bands)
            content = trimmed(part, order.bands, _cards(details))
        if galaxy.id != details.id:
            raise InputError(f"{part} is of subhalo {galaxy.id}: fetch it again")
    except InputError as error:
        discard(part)
        reason = str(error).removeprefix(f"{part} ").rpartition(": ")[0]
        raise Damaged(f"the file {reason}") from None
    write_whole(order.path(details.id), content)
    discard(part)


def _cards(details: api.Details) -> dict[str, Card]:
    """What the store adds to the primary header, as far as it is known."""
    numbers: dict[str, tuple[float, str]] = {
        "LOGMSTAR": (details.log10_stellar_mass, "log10(stellar mass / Msun)"),
        "HALFMASS": (details.half_mass_radius_kpc, "[kpc] stellar half-mass radius"),
    }
    for band, mag in details.absolute_mag.items():
        numbers[f"ABSMAG_{band.upper()}"] = (mag, "[mag] absolute, AB")
    return {
        "SUBHALO": (details.id, "number of the subhalo"),
        "PRIMARY": (details.primary, "primary subhalo of its halo"),
        **{name: card for name, card in numbers.items() if math.isfinite(card[0])},
    }


def _summary(outcomes: list[Outcome]) -> str:
    counts = Counter(outcome.what for outcome in outcomes)
    reasons = Counter(outcome.reason for outcome in outcomes if outcome.what == "skipped")
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return (
        f"fetched {counts['fetched']}, already there {counts['already there']}, "
        f"skipped {counts['skipped']}{f' ({why})' if why else ''}, failed {counts['failed']}"
    )


def _check_failed(folder: Path, outcomes: list[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.what == "failed"]
    if failed:
        first = "; ".join(f"{outcome.subhalo}: {outcome.reason}" for outcome in failed[:3])
        more = "; ..." if len(failed) > 3 else ""
        raise InputError(
            f"{folder}: {len(failed)} of {len(outcomes)} subhaloes could not be downloaded "
            f"({first}{more}): run the same command again"
        )
