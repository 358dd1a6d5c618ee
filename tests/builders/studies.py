"""Studies that train nothing."""

from builders.pipeline import tiny_params
from peculiar.core.params import validate
from peculiar.search import space, storage, study
from peculiar.search.params import Search


def plan(folder, name="test", in_space=None, **changes):
    params = tiny_params()["search"]
    params["space"] |= in_space or {}
    search = validate(Search, params | changes, "search")
    return storage.Plan(name, str(folder / "optuna.journal"), search)


def opened(folder, **changes):
    planned = plan(folder, **changes)
    return storage.open_study(planned), planned.params


def suggesting(params, value=lambda trial: float(trial.number)):
    """An objective that trains nothing."""

    def objective(trial):
        study.check_queued(trial, params)
        trial.set_user_attr(study.SEARCHED, space.suggest(trial, params.space))
        return value(trial)

    return objective
