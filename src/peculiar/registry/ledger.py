"""Keep in MLflow's registry which comparisons were made on each validation set.

Each comparison is a tag `comparison.0001`, ... of the registered model, beside the history of its
aliases. A version also states the comparison that promoted it (tag `comparison`), so that a
registry from elsewhere, without these tags, does not start again at the first.
"""

from collections.abc import Mapping, Sequence

from peculiar.core.errors import InputError
from peculiar.core.params import validate
from peculiar.registry import models
from peculiar.registry.models import name_of
from peculiar.registry.spending import Round, rounds_of

TAG = "comparison."


def read(model: str) -> list[Round]:
    """All comparisons of a registered model, in the order of time; empty if there is no model.

    Raises
    ------
    InputError
        When a tag is damaged.
    """
    found = [
        validate(Round, entry, f"tag {TAG}{number:04d} of {model}")
        for number, entry in enumerate(models.entries(model, TAG), start=1)
    ]
    for version in models.versions(model):
        data, number = version.tags.get("data", ""), comparison_of(version.tags, name_of(version))
        if number > max((one.number for one in found if one.data == data), default=0):
            found.append(Round(data=data, number=number, holder="", candidates=()))
    return found


def comparison_of(tags: Mapping[str, str], where: str) -> int:
    """Number of the comparison that promoted a version.

    Raises
    ------
    InputError
        When its tag is not a number.
    """
    number = tags.get("comparison", "0")
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise InputError(
            f"{where}: tag comparison is {number!r}, not a number: restore MLflow's database"
        )
    return int(number)


def write(model: str, opened: Sequence[Round]) -> None:
    """Add comparisons; call it under `models.locked`, before the aliases move.

    Parameters
    ----------
    model : str
        Name in the registry.
    opened : sequence of Round
        New comparisons, numbered on from the ledger with which the candidates were compared.

    Raises
    ------
    InputError
        When comparisons on the same validation set were added since.
    """
    ledger = read(model)
    for one in opened:
        if set(rounds_of(ledger, one.data, one.holder, one.candidates).values()) != {one}:
            raise InputError(
                f"nothing is promoted: comparison {one.number} on the validation images of "
                f"{one.data} was made by another promotion meanwhile: run the same command again"
            )
        _add(model, one)
        ledger.append(one)


def adopt(model: str, imported: Sequence[Round]) -> None:
    """Add the comparisons of another registry that are not known; call it under `models.locked`.

    On a validation set with comparisons of its own they are numbered on.
    """
    ledger = read(model)
    for one in imported:
        known = rounds_of(ledger, one.data, one.holder, one.candidates)
        new = [run for run in one.candidates if known[run] not in ledger]
        if new:
            last = max((r.number for r in ledger if r.data == one.data and r.holder), default=0)
            number = max(one.number, last + 1)
            adopted = one.model_copy(update={"candidates": tuple(new), "number": number})
            _add(model, adopted)
            ledger.append(adopted)


def _add(model: str, one: Round) -> None:
    models.add_entry(model, TAG, one.model_dump(mode="json"))
