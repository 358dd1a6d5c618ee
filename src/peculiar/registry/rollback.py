"""Give the alias `champion` back to the version that had it before."""

from peculiar.core.errors import InputError
from peculiar.core.provenance import who
from peculiar.registry import models
from peculiar.runs import tracking


def rollback(model: str, reason: str) -> str:
    """Let `previous` be champion again, and the present champion be `previous`.

    The alias of the best at the champion's kind of data goes along if the version before was best
    of it, too. The version that goes is tagged `withdrawn`: `peculiar promote` takes its network
    again only with `--allow withdrawn`. A second rollback takes the first one back.

    Parameters
    ----------
    model : str
        Name in the registry.
    reason : str
        Kept in the history.

    Returns
    -------
    str
        What was done, for people.

    Raises
    ------
    InputError
        When there is no champion, or none before it.
    """
    tracking.connect()
    with models.locked(model):
        held = models.aliases_of(model)
        now, before = held.get(tracking.CHAMPION), held.get(tracking.PREVIOUS)
        if now is None or before is None:
            what = "champion" if now is None else "version before its champion"
            raise InputError(f"{model} has no {what}: there is nothing to roll back")
        withdrawn, back = models.find(model, now), models.find(model, before)
        aliases = {tracking.PREVIOUS: now, tracking.CHAMPION: before}
        if all(withdrawn.tags.get(key) == back.tags.get(key) for key in ("dataset", "data_source")):
            kinds = [a for a, n in held.items() if n == now and a.startswith("champion-")]
            aliases |= dict.fromkeys(kinds, before)
        event = {"who": who(), "when": models.now(), "why": reason}
        models.move(model, aliases, {"what": "rollback", **event})
        models.withdraw(withdrawn, back, f"{event['when']} {event['who']}: {reason}")
    return f"{model}: version {before} is champion again, version {now} is withdrawn: {reason}"
