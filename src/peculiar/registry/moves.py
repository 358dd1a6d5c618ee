"""A move of aliases that is begun, kept in the registry until all of its steps are done.

MLflow sets one alias or tag at a time. So a move is written down first, as one tag of the
registered model. From then on it counts: readers see what it changes, whatever is done already, and
the next command that writes does what a killed process has left (docs/decisions/0044).
"""

from collections.abc import Mapping
from typing import Any

from pydantic import PositiveInt

from peculiar.core.params import Section, validate_json

PENDING = "pending"  # tag of a registered model
HISTORY = "history."
WITHDRAWN = "withdrawn"  # tag of a version that was rolled back


class Move(Section):
    """What a move changes.

    Attributes
    ----------
    number : int
        Of its entry in the history, from 1.
    entry : mapping
        That entry.
    aliases : mapping of str to str
        New version of each alias.
    withdrawn : mapping of str to str or None
        Why versions are withdrawn; None for one that is no longer.
    """

    number: PositiveInt
    entry: Mapping[str, Any]
    aliases: Mapping[str, str]
    withdrawn: Mapping[str, str | None] = {}

    @property
    def key(self) -> str:
        """Tag of its entry in the history."""
        return f"{HISTORY}{self.number:04d}"


def pending(model: str, tags: Mapping[str, str]) -> Move | None:
    """The move that is begun, by the tags of a registered model; None if there is none.

    Raises
    ------
    InputError
        When its tag is damaged.
    """
    if PENDING not in tags:
        return None
    where = f"tag {PENDING} of {model}"
    return validate_json(Move, tags[PENDING], where, "restore MLflow's database")


def mark_withdrawn(tags: dict[str, str], number: str, move: Move | None) -> None:
    """Change the tags of a version to what a move that is begun makes of them."""
    if move is not None and number in move.withdrawn:
        tags.pop(WITHDRAWN, None)
        if (reason := move.withdrawn[number]) is not None:
            tags[WITHDRAWN] = reason
