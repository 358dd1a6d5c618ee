"""Download galaxies from Illustris into a folder, trimmed to the wanted bands.

The folder is kept between runs. Each `broadband_{id}.fits` is complete or absent, `skipped.json`
lists the subhaloes that are not requested again, and `partial/` holds unfinished downloads.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from threading import Lock

from filelock import FileLock, Timeout

from peculiar.core.errors import InputError
from peculiar.core.files import write_atomically
from peculiar.galaxies.fits import open_fits
from peculiar.galaxies.illustris import api
from peculiar.galaxies.illustris.http import Failed, Missing, Progress, Session, discard, retrying
from peculiar.galaxies.illustris.skipped import (
    IN_A_ROW,
    NO_IMAGE,
    NO_SUBHALO,
    NOT_PRIMARY,
    Ledger,
    Outcome,
    check_failed,
    check_first,
    check_left,
    damaged,
    outcome_summary,
    too_light,
)
from peculiar.galaxies.illustris.trim import intact, trimmed
from peculiar.galaxies.params import IllustrisSection
from peculiar.galaxies.sunrise import read_broadband, read_masses

LEDGER = "skipped.json"

READING = Lock()
"""Held while a FITS file is open: `open_fits` turns warnings off, which acts on all threads."""


class Damaged(Failed):
    """A downloaded file has the right length, but the reader refuses its content."""


class Refused(Exception):
    """A file was downloaded twice with the same bytes, and the reader refuses it."""


@dataclass(frozen=True)
class Filled:
    """Files of the requested galaxies.

    Attributes
    ----------
    paths : list of Path
        One file per galaxy, by ascending subhalo number.
    skipped : dict of int to str
        Reason why a subhalo has no file, by subhalo number.
    """

    paths: list[Path]
    skipped: dict[int, str]


@dataclass(frozen=True)
class Order:
    """Settings of a download, shared by its threads.

    Attributes
    ----------
    settings, bands, key
        See `fill`.
    masses : dict of int to float
        log10(M*/Msun) in the catalogue, by subhalo number.
    skipped : dict of int to str
        Subhaloes that are not requested, and why.
    progress : Progress
        Progress bar.
    """

    settings: IllustrisSection
    bands: Sequence[str]
    key: str = field(repr=False)
    masses: dict[int, float]
    skipped: dict[int, str]
    progress: Progress

    def path(self, subhalo: int) -> Path:
        """File of a subhalo's images."""
        return self.settings.folder / f"broadband_{subhalo}.fits"

    def part(self, subhalo: int) -> Path:
        """File into which a subhalo's images are downloaded."""
        return self.settings.folder / "partial" / f"broadband_{subhalo}.fits"

    def refusal(self, primary: bool, log10_mass: float) -> str:
        """Why a subhalo is skipped; empty if it is wanted."""
        if self.settings.primary and not primary:
            return NOT_PRIMARY
        limit = self.settings.log10_mass_min
        return too_light(limit) if log10_mass < limit else ""


def fill(settings: IllustrisSection, bands: Sequence[str], key: str) -> Filled:
    """Download the galaxies that the folder does not have yet.

    An interrupted download is resumed by the next call; the files are then the same.

    Parameters
    ----------
    settings : IllustrisSection
        Section `fetch.illustris`. If `galaxies` is set, the first `galaxies` subhaloes, in
        ascending order, that are wanted and have images. A failed download counts, so that a fault
        does not change the selection.
    bands : sequence of str
        SDSS bands to keep.
    key : str
        From `api.read_key`.

    Returns
    -------
    Filled
        Files, and the skipped subhaloes.

    Raises
    ------
    InputError
        When the key is not accepted, an answer of the server has an unknown form, another process
        downloads into the folder, all galaxies were skipped, or galaxies failed; the next call
        tries failed galaxies again.
    OSError
        When the disk is full or fails.
    """
    try:
        (settings.folder / "partial").mkdir(parents=True, exist_ok=True)
        with _exclusive(settings.folder):
            outcomes = _obtain_all(settings, bands, key)
            with suppress(OSError):  # not empty after a failure: partial downloads are kept
                (settings.folder / "partial").rmdir()
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"fetch.illustris.folder: {settings.folder} is not a folder, or is below a file: "
            "correct the path"
        ) from None
    except OSError as error:
        error.filename = error.filename or str(settings.folder)
        raise
    print(outcome_summary(outcomes))
    check_failed(settings.folder, outcomes)
    source = str(settings.catalogue or settings.snapshot_url)
    check_left(source, settings.folder / LEDGER, settings.log10_mass_min, outcomes)
    return Filled(
        [settings.folder / f"broadband_{o.subhalo}.fits" for o in outcomes if o.what != "skipped"],
        {o.subhalo: o.kind for o in outcomes if o.what == "skipped"},
    )


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise InputError(
            f"another process is downloading into {folder}: wait until it ends, or stop it"
        ) from None


def _obtain_all(settings: IllustrisSection, bands: Sequence[str], key: str) -> list[Outcome]:
    """Download until enough galaxies are there; outcomes are in ascending subhalo number."""
    ledger = Ledger(settings.folder / LEDGER, settings.snapshot_name)
    candidates, masses = _candidates(settings, key)
    wanted = min(settings.galaxies or len(candidates), len(candidates))
    outcomes: list[Outcome] = []
    # threads of a pool are daemons: Ctrl-C need not wait for one that waits for the server
    with Progress(wanted) as progress, ThreadPool(settings.connections) as pool:
        skipped = ledger.valid(settings.log10_mass_min, settings.primary, bands)
        order = Order(settings, bands, key, masses, skipped, progress)
        while candidates and wanted:
            # a few first, so that thousands are not downloaded and then refused
            size = wanted if ledger.trusted else min(wanted, IN_A_ROW)
            batch, candidates = candidates[:size], candidates[size:]
            for outcome in pool.imap_unordered(partial(_obtain, order), batch):
                outcomes.append(outcome)
                ledger.note(outcome)
                wanted -= outcome.what != "skipped"
                if outcome.what != "skipped" or settings.galaxies is None:
                    progress.done()
                if outcome.fault and outcome.subhalo not in skipped:
                    progress.write(f"subhalo {outcome.subhalo} {outcome.what}: {outcome.reason}")
            if not ledger.trusted:
                check_first(outcome for outcome in outcomes if outcome.subhalo not in skipped)
    return sorted(outcomes, key=lambda outcome: outcome.subhalo)


def _candidates(settings: IllustrisSection, key: str) -> tuple[list[int], dict[int, float]]:
    """Subhalo numbers in ascending order, and their log10(M*/Msun) if there is a catalogue."""
    if settings.catalogue is not None:
        masses = read_masses(settings.catalogue)
        heavy = [number for number, mass in masses.items() if mass >= settings.log10_mass_min]
        return sorted(heavy), masses
    try:
        with _connect(settings, key) as session:
            listed = api.subhaloes(
                session, settings.snapshot_url, settings.log10_mass_min, settings.primary
            )
            return sorted(set(listed)), {}
    except Missing as error:
        raise InputError(f"{error}: correct fetch.illustris.url, simulation or snapshot") from None
    except Failed as error:
        raise InputError(
            f"the list of subhaloes at {settings.snapshot_url} could not be read ({error}): run "
            "the same command again"
        ) from None


def _connect(settings: IllustrisSection, key: str) -> Session:
    return api.open_session(key, settings.attempts, settings.timeout_s)


def _obtain(order: Order, subhalo: int) -> Outcome:
    """Download one subhalo into the folder, if it is wanted and not there yet."""
    if subhalo in order.skipped:
        return Outcome(subhalo, "skipped", order.skipped[subhalo])
    held = _held(order, subhalo)
    if held is not None:
        discard(order.part(subhalo))  # left by a process killed just before it removed it
        reason = order.refusal(*held)
        return Outcome(subhalo, "skipped" if reason else "already there", reason)
    missing = NO_SUBHALO
    try:
        with _connect(order.settings, order.key) as session:
            details = api.details(session, order.settings.snapshot_url, subhalo)
            mass = order.masses.get(subhalo, details.log10_stellar_mass)
            if reason := order.refusal(details.primary, mass):
                return Outcome(subhalo, "skipped", reason)
            missing = NO_IMAGE
            details = replace(details, log10_stellar_mass=mass)
            _store(order, session, details)
    except Missing:
        return Outcome(subhalo, "skipped", missing)
    except Refused as error:
        return Outcome(subhalo, "skipped", f"{damaged(order.bands)}{error}")
    except Failed as error:
        return Outcome(subhalo, "failed", str(error))
    return Outcome(subhalo, "fetched")


def _held(order: Order, subhalo: int) -> tuple[bool, float] | None:
    """Whether a stored subhalo is primary, and its log10(M*/Msun); None if it must be downloaded.

    A file that the user put there may lack these cards; it counts as primary, with unknown mass.
    """
    path = order.path(subhalo)
    if not path.is_file():
        return None
    try:
        with READING:
            galaxy, complete = read_broadband(path, order.bands), intact(path)
            with open_fits(path) as hdus:
                primary = bool(hdus[0].header.get("PRIMARY", True))
    except InputError:
        return None
    mass = order.masses.get(subhalo, galaxy.log10_stellar_mass)
    return (primary, mass) if complete and galaxy.id == subhalo else None


def _store(order: Order, session: Session, details: api.Details) -> None:
    """Download, check and trim the images of one subhalo, and write them into the folder.

    A file damaged in transfer is downloaded again. A damaged file that arrives twice with the same
    bytes is damaged on the server, and is not requested again.
    """
    part, seen = order.part(details.id), set()

    def attempt() -> bytes:
        api.download_images(
            session, order.settings.snapshot_url, details.id, part, order.progress.received
        )
        try:
            return _content(order, part, details)
        except InputError as error:
            reason = f"the file {str(error).removeprefix(f'{part} ').rpartition(': ')[0]}"
        if part.exists():  # unless another process removed it
            with part.open("rb") as stream:
                copy = hashlib.file_digest(stream, "sha256").digest()
            discard(part)
            if copy in seen:
                raise Refused(reason)
            seen.add(copy)
        order.progress.write(f"subhalo {details.id}: {reason}")
        raise Damaged(reason)

    write_atomically(order.path(details.id), retrying(session, Damaged)(attempt))
    discard(part)


def _content(order: Order, part: Path, details: api.Details) -> bytes:
    """Trim a downloaded file, or raise `InputError`."""
    with READING:
        galaxy = read_broadband(part, order.bands)
        if galaxy.id != details.id:
            raise InputError(f"{part} holds subhalo {galaxy.id}: fetch it again")
        return trimmed(part, order.bands, details.cards())
