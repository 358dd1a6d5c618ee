"""Outcomes of a download, and the list of skipped subhaloes, which is kept between runs."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peculiar.core.errors import InputError
from peculiar.core.files import write_atomically

NO_IMAGE = "no image"
NO_SUBHALO = "no such subhalo"
NOT_PRIMARY = "not primary"
DAMAGED = "damaged"

IN_A_ROW = 3
"""If this number of galaxies fails for one reason before any succeeds, the download stops."""


def too_light(limit: float) -> str:
    """Reason to skip a galaxy with log10(M*/Msun) below `limit`."""
    return f"log10 mass below {limit:g}"


def damaged(bands: Iterable[str]) -> str:
    """Start of the reason for a damaged file; other bands of the file may be good."""
    return f"{DAMAGED}: read in {''.join(bands)}, "


@dataclass(frozen=True)
class Outcome:
    """Outcome of one subhalo, and the reason, with details after a colon."""

    subhalo: int
    what: Literal["fetched", "already there", "skipped", "failed"]
    reason: str = ""

    @property
    def kind(self) -> str:
        """The reason without details, for counting."""
        return self.reason.partition(": ")[0]

    @property
    def fault(self) -> bool:
        """Whether a wanted subhalo failed or is damaged."""
        return self.what == "failed" or self.kind == DAMAGED


def outcome_summary(outcomes: Sequence[Outcome]) -> str:
    """Summarise the outcomes in one line."""
    counts, why = Counter(outcome.what for outcome in outcomes), _why(outcomes)
    return (
        f"fetched {counts['fetched']}, already there {counts['already there']}, "
        f"skipped {counts['skipped']}{f' ({why})' if why else ''}, failed {counts['failed']}"
    )


def _why(outcomes: Iterable[Outcome]) -> str:
    """Number of skipped subhaloes by reason, as text."""
    reasons = Counter(outcome.kind for outcome in outcomes if outcome.what == "skipped")
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))


def check_failed(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Raise `InputError` if subhaloes failed, which another run may download."""
    failed = [outcome for outcome in outcomes if outcome.what == "failed"]
    if failed:
        first = "; ".join(f"{outcome.subhalo}: {outcome.reason}" for outcome in failed[:3])
        more = "; ..." if len(failed) > 3 else ""
        raise InputError(
            f"{folder}: {len(failed)} of {len(outcomes)} subhaloes could not be downloaded "
            f"({first}{more}): run the same command again"
        )


def check_first(outcomes: Iterable[Outcome]) -> None:
    """Raise `InputError` if the last `IN_A_ROW` faults have one reason.

    It is called until a galaxy is complete.
    """
    faults = sorted((o for o in outcomes if o.fault), key=lambda outcome: outcome.subhalo)
    last = faults[-IN_A_ROW:]
    if len(last) == IN_A_ROW and len({outcome.reason for outcome in last}) == 1:
        raise InputError(
            f"fetch.illustris: subhaloes {', '.join(str(o.subhalo) for o in last)} all failed for "
            f"one reason ({last[0].reason}), so no other was requested: correct the url or the "
            "bands if they are the reason, or run the same command again later"
        )


def check_left(source: str, ledger: Path, limit: float, outcomes: Sequence[Outcome]) -> None:
    """Raise `InputError` if all were skipped, with advice for the most frequent reason.

    Parameters
    ----------
    source : str
        Catalogue or URL of the snapshot, for the message.
    ledger : Path
        File of the skipped subhaloes.
    limit : float
        Least log10(M*/Msun).
    outcomes : sequence of Outcome
        Of all subhaloes.
    """
    if any(outcome.what != "skipped" for outcome in outcomes):
        return
    lower = "lower fetch.illustris.log10_mass_min"
    if not outcomes:
        raise InputError(f"{source} has no galaxy of log10 mass {limit:g} or more: {lower}")
    again = f"delete {ledger} to request them again, or correct fetch.illustris.simulation"
    advice = {
        NO_IMAGE: again,
        DAMAGED: again,
        NO_SUBHALO: "correct fetch.illustris.catalogue",
        NOT_PRIMARY: "set fetch.illustris.primary to false",
    }
    (commonest, _), *_ = Counter(outcome.kind for outcome in outcomes).most_common(1)
    raise InputError(
        f"{source} has no usable galaxy, all are skipped ({_why(outcomes)}): "
        f"{advice.get(commonest, lower)}"
    )


class Ledger:
    """JSON file of the skipped subhaloes of a snapshot, with reasons.

    Damaged files are recorded only once a galaxy was complete: before, the fault may be that of the
    server or the reader.

    Parameters
    ----------
    path : Path
        The file; it is created if missing.
    snapshot : str
        Simulation and snapshot of the folder.

    Attributes
    ----------
    skipped : dict of int to str
        Reason by subhalo number.
    trusted : bool
        Whether a galaxy was complete in this run.

    Raises
    ------
    InputError
        When the file is damaged, or belongs to another snapshot.
    """

    def __init__(self, path: Path, snapshot: str) -> None:
        self.path, self.snapshot, self.trusted = path, snapshot, False
        self.skipped: dict[int, str] = {}
        self._doubtful: dict[int, str] = {}
        if path.exists():
            self._read()
        else:
            self._write()

    def note(self, outcome: Outcome) -> None:
        """Record an outcome; a subhalo that does not exist is not recorded."""
        self.trusted |= outcome.what in ("fetched", "already there")
        new: dict[int, str] = {}
        if outcome.what == "skipped" and outcome.reason != NO_SUBHALO:
            (self._doubtful if outcome.fault else new)[outcome.subhalo] = outcome.reason
        if self.trusted:
            new |= self._doubtful
            self._doubtful = {}
        if not new.items() <= self.skipped.items():
            self.skipped |= new
            self._write()

    def valid(self, limit: float, primary: bool, bands: Iterable[str]) -> dict[int, str]:
        """Those of `skipped` whose reason is valid for these settings."""
        reasons = (NO_IMAGE, too_light(limit)) + ((NOT_PRIMARY,) if primary else ())
        damage = damaged(bands)
        return {
            subhalo: reason
            for subhalo, reason in self.skipped.items()
            if reason in reasons or reason.startswith(damage)
        }

    def _write(self) -> None:
        skipped = {str(number): self.skipped[number] for number in sorted(self.skipped)}
        content = {"snapshot": self.snapshot, "skipped": skipped}
        write_atomically(self.path, json.dumps(content, indent=1).encode())

    def _read(self) -> None:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            recorded = content["snapshot"]
            self.skipped = {int(number): str(why) for number, why in content["skipped"].items()}
        except (ValueError, LookupError, TypeError, AttributeError):
            raise InputError(
                f"{self.path} is damaged: delete it, and its subhaloes are requested again"
            ) from None
        if recorded != self.snapshot:
            raise InputError(
                f"fetch.illustris.folder: {self.path.parent} holds {recorded}: set another folder "
                f"for {self.snapshot}"
            )
