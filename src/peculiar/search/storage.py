"""Where an Optuna study is kept, what it is opened with, and trials whose process died.

A study is kept in a journal, a file that survives concurrent workers of one machine (Optuna's
SQLite did not), or in PostgreSQL, for workers on many machines.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

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
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study as Study
from optuna.trial import FrozenTrial as FrozenTrial
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

HEARTBEAT_S, GRACE_S = 15, 120  # a trial without a heartbeat for the grace period is dead
PATIENCE_S = 600  # with a database that is restarting
CONNECT_S = 20  # to open a connection to a database, at each of its addresses
STARTUP_TRIALS = 5  # at random, before TPE learns from them; a default study has 8
TRIAL_RETRIES = 3  # of a trial whose process died
TAIL_BYTES = 1 << 16  # of a journal read at once; a line has some hundreds
QUEUED = "queued"  # attribute of a trial of a grid: its parameters

# A statement that is under way when the database goes down fails; the next one waits for the
# database (`_connect_patiently`). Only for what may be repeated: a failed trial is queued again.
patient = retry(
    retry=retry_if_exception_type((optuna.exceptions.StorageInternalError, SQLAlchemyError)),
    wait=wait_exponential(multiplier=0.2, max=10),
    stop=stop_after_attempt(5),
    reraise=True,
)


@dataclass(frozen=True)
class Plan:
    """What a process needs to open a study: its name, its journal or URL, and its parameters."""

    name: str
    storage: str
    params: Search


@contextmanager
def _calm() -> Iterator[None]:
    """Silence warnings: Optuna calls most of what is used here experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def open_study(plan: Plan, seed: int | None = None) -> Study:
    """Open the study of a plan, or create it.

    Parameters
    ----------
    plan : Plan
        Name, place and parameters of the study. All objectives are minimised.
    seed : int, optional
        Added to the study's own seed for what this process draws. It must differ between the
        processes of a study, and when a study is resumed, or the sampler repeats its first
        suggestions. Default: the number of trials so far.

    Returns
    -------
    Study
        With its sampler and pruner.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # no message for each refused network
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


def mend_journal(path: Path) -> None:
    """Cut off a last line that a full disk or a power failure left without its end.

    Optuna would append to it, and no later search could read the journal. What is lost is the last
    thing that was said of one trial, which is done again. Only the end of the file is read.

    Raises
    ------
    InputError
        When the last whole line is damaged; Optuna would pass over it until one follows.
    """
    if not path.exists():
        return
    lock = JournalFileSymlinkLock(str(path))
    _unlock_if_moved(path)
    lock.acquire()
    try:
        with path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            whole = _whole_lines(file, size)
            if whole < size:
                file.truncate(whole)
            file.seek(begin := _whole_lines(file, whole - 1))
            if whole and not _is_json(file.read(whole - begin)):
                raise _damaged(path)
    finally:
        lock.release()


def _whole_lines(file: BinaryIO, size: int) -> int:
    """Bytes of a file up to the end of its last whole line."""
    for end in range(size, 0, -TAIL_BYTES):
        begin = max(0, end - TAIL_BYTES)
        file.seek(begin)
        if (found := file.read(end - begin).rfind(b"\n")) >= 0:
            return begin + found + 1
    return 0


def _unlock_if_moved(path: Path) -> None:
    """Remove a lock that a killed search left before the folder was moved or copied.

    A lock is a link to its journal. Optuna waits for ever for one that leads nowhere, and for the
    searches of the original where it leads there.
    """
    lock = path.with_name(path.name + ".lock")
    if lock.is_symlink() and lock.readlink() != path:
        lock.unlink(missing_ok=True)


def _journal(path: Path) -> JournalStorage:
    """Open a journal; `InputError` that names the line where Optuna cannot read it."""
    mend_journal(path)
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError):
        raise _damaged(path) from None


def _damaged(path: Path) -> InputError:
    """An error that names the first line that is not JSON; only "a line" where each is."""
    with path.open("rb") as file:
        numbers = (number for number, line in enumerate(file, start=1) if not _is_json(line))
        number = next(numbers, None)
    line = "a line" if number is None else f"line {number}"
    return InputError(
        f"{path}: {line} is damaged: restore the file, or move it away to begin new studies"
    )


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _storage(plan: Plan) -> BaseStorage:
    if not plan.storage.startswith("postgresql"):
        return _journal(Path(plan.storage))
    where = plan.storage.rpartition("@")[2]
    try:
        storage = RDBStorage(
            plan.storage.replace("postgresql://", "postgresql+psycopg://"),
            engine_kwargs={
                "pool_pre_ping": True,
                "connect_args": {"connect_timeout": CONNECT_S},
            },
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
    """Connect to a database that may be restarting; SQLAlchemy replaces broken connections."""
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


def requeue(study: Study, trial: FrozenTrial) -> None:
    """Queue a trial whose process died again, with the same parameters."""
    kept = {name: value for name, value in trial.user_attrs.items() if name == QUEUED}
    trial.user_attrs = kept
    with _calm():
        RetryHeartbeatStaleTrialCallback(max_retry=TRIAL_RETRIES)(study, trial)


@patient
def requeue_dead(study: Study, dead: Callable[[FrozenTrial], bool]) -> None:
    """Queue each failed or dead trial again, once.

    Parameters
    ----------
    study : Study
        From `open_study`.
    dead : callable
        Whether the process of a trial that failed, or is marked as running, has ended. In
        PostgreSQL a trial without a heartbeat is dead too.
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
