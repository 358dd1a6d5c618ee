"""Optuna's study: where it is kept, who decides what is tried next, and one trial after another.

The only module that imports optuna. A study stands in a journal, a file that survives concurrent
workers of one machine (Optuna's SQLite did not), or in PostgreSQL, for workers of many.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
    fail_stale_trials,
)
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study as Study
from optuna.trial import FrozenTrial as FrozenTrial
from optuna.trial import Trial as Trial
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from tenacity import (
    Retrying,
    retry,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
)

from peculiar.core.errors import InputError
from peculiar.search.params import Search

HEARTBEAT_S, GRACE_S = 15, 120  # a trial whose heart is silent for so long is dead
PATIENCE_S = 600  # with a database that is being started again
STARTUP_TRIALS = 5  # at random, before TPE learns from them; a default study has 8
TRIES = 50  # refused networks for each trial before the space is called empty
RETRIES = 3  # of a trial whose process died
QUEUED, REFUSED, SEARCHED, TASK = "queued", "refused", "searched", "task"  # attributes of trials

Value = float | tuple[float, ...]

# A statement that was on its way when the database went down fails; the next waits for it to be
# back (`_connect_patiently`). For what may be said twice; a trial that it ends is queued again.
patient = retry(
    retry=retry_if_exception_type((optuna.exceptions.StorageInternalError, SQLAlchemyError)),
    wait=wait_exponential(multiplier=0.2, max=10),
    stop=stop_after_attempt(5),
    reraise=True,
)


class PrunedError(optuna.TrialPruned):
    """A trial that is not worth its end."""


@dataclass(frozen=True)
class Plan:
    """What a process needs to open a study: its name, the journal or URL, and the parameters."""

    name: str
    storage: str
    params: Search


@contextmanager
def _calm() -> Iterator[None]:
    """Optuna calls most of what is used here experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def open_study(plan: Plan, seed: int | None = None) -> Study:
    """The study of a plan, made if it is not there.

    Parameters
    ----------
    plan : Plan
        The directions are those of its objectives: all are minimised.
    seed : int, optional
        Of what this process draws, which has to be another for each process of a study, and for a
        study that goes on, or the sampler would repeat its first suggestions; the number of trials
        so far if None, added to the study's own.

    Returns
    -------
    Study
        With its sampler and pruner.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # refused networks are no news
    with _calm():
        study = optuna.create_study(
            storage=_storage(plan),
            study_name=plan.name,
            load_if_exists=True,
            directions=["minimize"] * len(plan.params.objectives),
            pruner=_pruner(plan.params),
        )
        count = len(study.get_trials(deepcopy=False)) if seed is None else seed
        study.sampler = _sampler(plan.params, plan.params.seed + count)
    return study


def _storage(plan: Plan) -> BaseStorage:
    if not plan.storage.startswith("postgresql"):
        return JournalStorage(JournalFileBackend(plan.storage))
    where = plan.storage.rpartition("@")[2]
    try:
        storage = RDBStorage(
            plan.storage.replace("postgresql://", "postgresql+psycopg://"),
            engine_kwargs={"pool_pre_ping": True},
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            heartbeat_stale_trial_callback=requeue,
        )
    except SQLAlchemyError as error:
        reason = " ".join(str(error).splitlines()[0].split())
        raise InputError(
            f"params.yaml: search.storage: the database at {where} cannot be opened ({reason})"
        ) from None
    event.listen(storage.engine, "do_connect", _connect_patiently)
    return storage


def _connect_patiently(
    dialect: Any, _record: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> Any:
    """A connection to a database that may be starting again: SQLAlchemy replaces broken ones."""
    retrying = Retrying(
        retry=retry_if_exception_type(dialect.loaded_dbapi.OperationalError),
        wait=wait_exponential(multiplier=0.2, max=10),
        stop=stop_after_delay(PATIENCE_S),
        reraise=True,
    )
    return retrying(dialect.connect, *arguments, **keywords)


def _sampler(params: Search, seed: int) -> BaseSampler:
    if params.sampler == "tpe":  # a varying depth needs `group`
        return TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed, multivariate=True, group=True)
    if params.sampler == "gp":
        return GPSampler(seed=seed)
    if params.sampler == "qmc":  # one sequence for all processes; only its first draw is random
        return QMCSampler(
            scramble=True,
            seed=params.seed,
            independent_sampler=RandomSampler(seed=seed),
            warn_independent_sampling=False,
        )
    return RandomSampler(seed=seed)  # a grid's trials are queued and draw nothing


def _pruner(params: Search) -> BasePruner:
    if params.pruner == "median":
        return MedianPruner()
    if params.pruner == "hyperband":
        return HyperbandPruner(max_resource=params.epochs)
    if params.pruner == "wilcoxon":
        return WilcoxonPruner()
    return NopPruner()


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


def requeue(study: Study, trial: FrozenTrial) -> None:
    """Put a trial whose process died back into the queue, with what was drawn for it."""
    kept = {name: value for name, value in trial.user_attrs.items() if name == QUEUED}
    trial.user_attrs = kept
    with _calm():
        RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, trial)


@patient
def requeue_dead(study: Study, dead: Callable[[FrozenTrial], bool]) -> None:
    """Queue again, once, what failed and what runs no more.

    Parameters
    ----------
    study : Study
        From `open_study`.
    dead : callable
        Whether the process of a trial, which failed or is marked as running, is no more. In
        PostgreSQL trials are also dead whose heart is silent.
    """
    with _calm():
        fail_stale_trials(study)
    trials = study.get_trials(deepcopy=False)
    again = {n for trial in trials for n in trial.system_attrs.get("retry_history", [])}
    for trial in trials:
        if trial.state == TrialState.RUNNING and dead(trial):
            with suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):  # it ended
                study.tell(trial.number, state=TrialState.FAIL)
                requeue(study, deepcopy(trial))
        elif trial.state == TrialState.FAIL and trial.number not in again and dead(trial):
            requeue(study, deepcopy(trial))


@lru_cache(maxsize=1)
def _opened(plan: Plan, seed: int) -> Study:
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
    study = _opened(plan, _SEEDS.setdefault(plan, number))
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


def write_table(study: Study, path: Path) -> None:
    """Write one row a trial: number, state, values, parameters, attributes, duration."""
    value = "value" if len(study.directions) == 1 else "values"
    columns = ("number", "state", value, "params", "user_attrs", "duration")
    study.trials_dataframe(attrs=columns).to_csv(path, index=False)
