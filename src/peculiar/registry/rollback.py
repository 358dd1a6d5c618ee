"""Make the previous champion champion again."""

from pathlib import Path

from peculiar.core.errors import InputError
from peculiar.core.provenance import who
from peculiar.registry import models
from peculiar.runs import tracking


def roll_back(model: str, reason: str, store: Path | None = None) -> str:
    """Swap `champion` and `previous`.

    The alias of the best network for one kind of data moves too if both versions are of that kind.
    The version that was champion is tagged `withdrawn`: `peculiar promote` takes its network again
    only with `--allow withdrawn`. A second rollback undoes the first.

    Parameters
    ----------
    model : str
        Name in the registry.
    reason : str
        Kept in the history.
    store : Path, optional
        Folder of the store; by default `peculiar.runs.store.store_folder()`.

    Returns
    -------
    str
        What was done, in a sentence.

    Raises
    ------
    InputError
        When there is no champion, or no other one before it.
    """
    tracking.open_to_read(store)  # makes no store where there is none
    tracking.connect(store)
    with models.locked(model):
        held = models.aliases_of(model)
        now, before = held.get(tracking.CHAMPION), held.get(tracking.PREVIOUS)
        if now is None or before is None:
            what = "champion" if now is None else "previous champion"
            raise InputError(f"{model} has no {what}: there is nothing to roll back")
        if now == before:
            raise InputError(
                f"champion and previous champion of {model} are both version {now}, as a rollback "
                "left them that was interrupted before 2026-11-30: set the alias previous on "
                "MLflow's page of the model"
            )
        withdrawn, back = models.find(model, now), models.find(model, before)
        aliases = {tracking.PREVIOUS: now, tracking.CHAMPION: before}
        if all(withdrawn.tags.get(key) == back.tags.get(key) for key in ("dataset", "data_source")):
            kinds = [a for a, n in held.items() if n == now and a.startswith("champion-")]
            aliases |= dict.fromkeys(kinds, before)
        event = {"who": who(), "when": models.now(), "why": reason}
        why = {now: f"{event['when']} {event['who']}: {reason}", before: None}
        models.move(model, aliases, {"what": "rollback", **event}, why)
    return f"{model}: version {before} is champion again, version {now} is withdrawn: {reason}"
