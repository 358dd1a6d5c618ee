"""Run the trials of a study, and read its results."""

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
    """A trial that ends early: it is refused or not promising."""


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial counts as one of `search.trials`: trained to the end or until pruned."""
    over = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return over and REFUSED not in trial.user_attrs


@patient
def finished(study: Study) -> list[FrozenTrial]:
    """Trials that count; see `counts`."""
    return [trial for trial in study.get_trials(deepcopy=False) if counts(trial)]


@patient
def left(study: Study, params: Search) -> int:
    """Number of trials still to be started."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    more = params.trials - len(finished(study)) - len(running)
    if params.sampler == "grid":
        waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        more = min(more, len(waiting))
    return max(0, more)


@patient
def running(study: Study) -> int:
    """Number of running trials, in all processes."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def queue_grid(study: Study, grid: Sequence[Mapping[str, Any]], refused: int) -> None:
    """Queue the networks of a grid that the study does not have yet, each once.

    Optuna's GridSampler draws a point of the grid twice if several workers ask at once, and loses
    a point whose trial failed. A queued trial is taken by one worker, once.

    Parameters
    ----------
    study : Study
        From `open_study`.
    grid : sequence of mapping
        Parameters of each network.
    refused : int
        Number of networks of the grid that were refused.
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
    """Tell the sampler how close a network is to being refused, and end a refused trial."""
    for name, value in constraint.items():
        trial.set_constraint(name, value)
    if reason:
        trial.set_user_attr(REFUSED, reason)
        raise PrunedError(reason)


def check_queued(trial: Trial, params: Search) -> None:
    """End a trial of a grid if another process has taken the last point."""
    if params.sampler == "grid" and QUEUED not in trial.user_attrs:
        trial.set_user_attr(REFUSED, "the grid is at its end")
        trial.study.stop()
        raise PrunedError("the grid is at its end")


def report(trial: Trial, value: float, step: int) -> None:
    """Report an intermediate value; `PrunedError` if the pruner ends the trial."""
    trial.report(value, step)
    if trial.should_prune():
        raise PrunedError(f"pruned at step {step}")


def run_trials(
    study: Study,
    objective: Callable[[Trial], Value],
    most: int,
    watch: Callable[[FrozenTrial], None] | None = None,
) -> None:
    """Run trials in this process until `most` of them count; refused networks do not count.

    Parameters
    ----------
    study : Study
        From `open_study`.
    objective : callable
        Trial to its value or values.
    most : int
        Number of trials that have to count.
    watch : callable, optional
        Called with each trial that counts.
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


_SEEDS: dict[Plan, int] = {}  # of this process, from its first task


def run_task(plan: Plan, objective: Callable[[Trial], Value], task: str, number: int) -> None:
    """Run one trial that counts, as a task that restarts elsewhere if its worker dies.

    Parameters
    ----------
    plan : Plan
        The study, opened once per process.
    objective : callable
        Trial to its value or values.
    task : str
        Name of the task, kept with its trials: a restarted task resumes from them.
    number : int
        Number of the task within the study, for the sampler's seed.
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
    """The complete trial with the lowest L2, the first objective; None if there is none."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min(complete, key=lambda trial: trial.values[0], default=None)


@patient
def refusals(study: Study) -> int:
    """Number of networks refused before training, suggested or in a grid."""
    suggested = sum(REFUSED in trial.user_attrs for trial in study.get_trials(deepcopy=False))
    return suggested + int(study.user_attrs.get(REFUSED, 0))


def write_trials(study: Study, path: Path) -> None:
    """Write a row per trial: number, state, values, parameters, attributes, duration."""
    value = "value" if len(study.directions) == 1 else "values"
    columns = ("number", "state", value, "params", "user_attrs", "duration")
    study.trials_dataframe(attrs=columns).to_csv(path, index=False)
