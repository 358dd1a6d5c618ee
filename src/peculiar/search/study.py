"""A study's trials: which are left, how each runs, and what came of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial as Trial
from optuna.trial import TrialState

from peculiar.search.params import Search
from peculiar.search.storage import (
    QUEUED,
    FrozenTrial,
    Plan,
    Study,
    open_study,
    patient,
    requeue_dead,
)

TRIES = 50  # refused networks for each trial before the space is called empty
REFUSED, SEARCHED, TASK = "refused", "searched", "task"  # attributes of trials

Value = float | tuple[float, ...]


class PrunedError(optuna.TrialPruned):
    """A trial that is not worth its end."""


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of `search.trials`: it was trained, to its end or until pruned."""
    over = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return over and REFUSED not in trial.user_attrs


@patient
def finished(study: Study) -> list[FrozenTrial]:
    """The trials that count."""
    return [trial for trial in study.get_trials(deepcopy=False) if counts(trial)]


@patient
def left(study: Study, params: Search) -> int:
    """How many trials are still to be started: neither finished nor running."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    more = params.trials - len(finished(study)) - len(running)
    if params.sampler == "grid":
        waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        more = min(more, len(waiting))
    return max(0, more)


@patient
def running(study: Study) -> int:
    """How many trials run, in whatever process."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def queue_grid(study: Study, grid: Sequence[Mapping[str, Any]], refused: int) -> None:
    """Put networks of a grid that are not there yet in the study's queue, each once.

    So many others were refused.

    Optuna's GridSampler draws a point of the grid twice where several workers ask at once, and
    loses one whose trial failed; what waits in the queue is taken by one worker, once.
    """
    study.set_user_attr(REFUSED, refused)

    def key(params: Mapping[str, Any]) -> str:
        return json.dumps(params, sort_keys=True)

    there = {
        key(trial.user_attrs[QUEUED])
        for trial in study.get_trials(deepcopy=False)
        if QUEUED in trial.user_attrs
    }
    for params in grid:
        if key(params) not in there:
            study.enqueue_trial(dict(params), user_attrs={QUEUED: dict(params)})


def constrain(trial: Trial, constraint: Mapping[str, float], reason: str) -> None:
    """Tell the sampler how far a network is from being refused, and end the trial if it is."""
    for name, value in constraint.items():
        trial.set_constraint(name, value)
    if reason:
        trial.set_user_attr(REFUSED, reason)
        raise PrunedError(reason)


def check_queued(trial: Trial, params: Search) -> None:
    """End a trial of a grid that another process has emptied meanwhile."""
    if params.sampler == "grid" and QUEUED not in trial.user_attrs:
        trial.set_user_attr(REFUSED, "the grid is at its end")
        trial.study.stop()
        raise PrunedError("the grid is at its end")


def report(trial: Trial, value: float, step: int) -> None:
    """Tell an intermediate value; raises `PrunedError` where the study's pruner gives up."""
    trial.report(value, step)
    if trial.should_prune():
        raise PrunedError(f"pruned at step {step}")


def run_trials(
    study: Study,
    objective: Callable[[Trial], Value],
    most: int,
    watch: Callable[[FrozenTrial], None] | None = None,
) -> None:
    """Run trials in this process until so many count; refused networks do not.

    Parameters
    ----------
    study : Study
        From `open_study`.
    objective : callable
        Trial to its value or values.
    most : int
        How many have to count.
    watch : callable, optional
        Is told of each of them.
    """
    more = most

    def after(study: Study, trial: FrozenTrial) -> None:
        nonlocal more
        if counts(trial):
            more -= 1
            if watch is not None:
                watch(trial)
        if more <= 0:
            study.stop()

    if more > 0:
        study.optimize(objective, n_trials=TRIES * most, callbacks=[after])


@lru_cache(maxsize=1)
def _opened_once(plan: Plan, seed: int) -> Study:
    return open_study(plan, seed)


_SEEDS: dict[Plan, int] = {}  # of this process: that of its first task


def run_task(plan: Plan, objective: Callable[[Trial], Value], task: str, number: int) -> None:
    """Run one trial that counts, as a task that may be begun again where its worker died.

    Parameters
    ----------
    plan : Plan
        The study, opened once a process.
    objective : callable
        Trial to its value or values.
    task : str
        Name of the task, which its trials carry: begun again, it goes on with what they left.
    number : int
        Another for each task of a study, for the sampler's seed.
    """
    study = _opened_once(plan, _SEEDS.setdefault(plan, number))
    requeue_dead(study, lambda trial: trial.user_attrs.get(TASK) == task)

    def named(trial: Trial) -> Value:
        trial.set_user_attr(TASK, task)
        return objective(trial)

    if left(study, plan.params):
        run_trials(study, named, 1)


@patient
def best(study: Study) -> FrozenTrial | None:
    """The trial with the lowest L2, the first objective; None where no trial is complete."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min(complete, key=lambda trial: trial.values[0], default=None)


@patient
def refusals(study: Study) -> int:
    """How many networks were refused before training, suggested ones and those of a grid."""
    suggested = sum(REFUSED in trial.user_attrs for trial in study.get_trials(deepcopy=False))
    return suggested + int(study.user_attrs.get(REFUSED, 0))


def write_trials(study: Study, path: Path) -> None:
    """Write one row a trial: number, state, values, parameters, attributes, duration."""
    value = "value" if len(study.directions) == 1 else "values"
    columns = ("number", "state", value, "params", "user_attrs", "duration")
    study.trials_dataframe(attrs=columns).to_csv(path, index=False)
