"""What became of subhaloes: the outcomes of a run, and the list of the skipped that outlives it."""

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
"""When this many galaxies fail for one reason before any succeeds, the server is at fault."""


def too_light(limit: float) -> str:
    """Reason to skip a galaxy of less log10(M*/Msun) than `limit`."""
    return f"log10 mass below {limit:g}"


def damaged(bands: Iterable[str]) -> str:
    """Beginning of the reason for a damaged file, which may be good in other bands."""
    return f"{DAMAGED}: read in {''.join(bands)}, "


@dataclass(frozen=True)
class Outcome:
    """What happened to one subhalo, and the reason, with details after a colon."""

    subhalo: int
    what: Literal["fetched", "already there", "skipped", "failed"]
    reason: str = ""

    @property
    def kind(self) -> str:
        """The reason without details, to count by."""
        return self.reason.partition(": ")[0]

    @property
    def fault(self) -> bool:
        """Whether it is wanted and should be there."""
        return self.what == "failed" or self.kind == DAMAGED


def outcome_summary(outcomes: Sequence[Outcome]) -> str:
    """One line for the user."""
    counts, why = Counter(outcome.what for outcome in outcomes), _why(outcomes)
    return (
        f"fetched {counts['fetched']}, already there {counts['already there']}, "
        f"skipped {counts['skipped']}{f' ({why})' if why else ''}, failed {counts['failed']}"
    )


def _why(outcomes: Iterable[Outcome]) -> str:
    """How many subhaloes were skipped for which kind of reason."""
    reasons = Counter(outcome.kind for outcome in outcomes if outcome.what == "skipped")
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))


def check_failed(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """`InputError` where subhaloes failed that another run may get."""
    failed = [outcome for outcome in outcomes if outcome.what == "failed"]
    if failed:
        first = "; ".join(f"{outcome.subhalo}: {outcome.reason}" for outcome in failed[:3])
        more = "; ..." if len(failed) > 3 else ""
        raise InputError(
            f"{folder}: {len(failed)} of {len(outcomes)} subhaloes could not be downloaded "
            f"({first}{more}): run the same command again"
        )


def check_first(outcomes: Iterable[Outcome]) -> None:
    """`InputError` where the last few faults have one reason; for use until a galaxy is there."""
    faults = sorted((o for o in outcomes if o.fault), key=lambda outcome: outcome.subhalo)
    last = faults[-IN_A_ROW:]
    if len(last) == IN_A_ROW and len({outcome.reason for outcome in last}) == 1:
        raise InputError(
            f"fetch.illustris: subhaloes {', '.join(str(o.subhalo) for o in last)} all failed for "
            f"one reason ({last[0].reason}), so no other was asked for: correct the url or the "
            "bands if they are the reason, or run the same command again later"
        )


def check_left(source: str, ledger: Path, limit: float, outcomes: Sequence[Outcome]) -> None:
    """`InputError` where all were skipped; the advice is that for the commonest reason."""
    if any(outcome.what != "skipped" for outcome in outcomes):
        return
    lower = "lower fetch.illustris.log10_mass_min"
    if not outcomes:
        raise InputError(f"{source} has no galaxy of log10 mass {limit:g} or more: {lower}")
    ask_again = f"delete {ledger} to ask again, or correct fetch.illustris.simulation"
    advice = {
        NO_IMAGE: ask_again,
        DAMAGED: ask_again,
        NO_SUBHALO: "correct fetch.illustris.catalogue",
        NOT_PRIMARY: "set fetch.illustris.primary to false",
    }
    (commonest, _), *_ = Counter(outcome.kind for outcome in outcomes).most_common(1)
    raise InputError(
        f"{source} has no galaxy that can be used, all are skipped ({_why(outcomes)}): "
        f"{advice.get(commonest, lower)}"
    )


class Ledger:
    """List of the subhaloes of a snapshot that were skipped, and why; a JSON file.

    Damage is recorded only after a galaxy was complete: until then, it may be the server
    or the reader that is wrong, and not the file.

    Parameters
    ----------
    path : Path
        Its file, which is begun where it is missing.
    snapshot : str
        Simulation and snapshot that it must be of.

    Attributes
    ----------
    skipped : dict of int to str
        Reason by subhalo number.
    trusted : bool
        Whether a galaxy was complete.

    Raises
    ------
    InputError
        When it is damaged, or of another snapshot.
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
        """Take in an outcome; a subhalo that does not exist now is asked for again."""
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

    def standing(self, limit: float, primary: bool, bands: Iterable[str]) -> dict[int, str]:
        """The part of `skipped` that holds by these settings."""
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
                f"{self.path} is damaged: delete it, and what it lists is asked for again"
            ) from None
        if recorded != self.snapshot:
            raise InputError(
                f"fetch.illustris.folder: {self.path.parent} holds {recorded}: take another folder "
                f"for {self.snapshot}"
            )
