"""Runs in MLflow. `runs.logged`, `registry.models` and `predict.server` import it too, no others.

The store is a folder (`peculiar.runs.store`) unless `MLFLOW_TRACKING_URI` names a server.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"  # loading a pickle can run any code

import mlflow
from filelock import FileLock
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]
from mlflow.entities import LifecycleStage, Metric, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from peculiar.core import processes
from peculiar.core.errors import InputError, redacted
from peculiar.core.files import replace_file
from peculiar.core.provenance import git_state
from peculiar.runs.servers import first_contact
from peculiar.runs.store import (
    ARTIFACTS,
    DATABASE,
    EXPERIMENT,
    check_finished,
    database_of,
    has_runs,
    present,
    relocate,
    remove_journals,
    sqlite_uri,
    store_folder,
    store_uri,
)

if TYPE_CHECKING:  # not every stage needs them, and they take seconds to import
    pass

FAULTS = (MlflowException, SQLAlchemyError, OSError)  # of a store that does not answer
CHAMPION, PREVIOUS = "champion", "previous"
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # of a model; of an alias
SYSTEM_METRICS_SECONDS = 5
LARGEST_BATCH = 1000  # metrics
DIGEST_LENGTH = 36  # of a dataset in MLflow; an md5 with DVC's ".dir" just fits


def connect(store: Path | None = None) -> str:
    """Open the store to write; make it on the first call.

    Several processes that create the database at once all crash, hence the lock. Paths are
    corrected if the store was moved. Runs that a killed process of this machine left as RUNNING
    are ended as KILLED.

    Parameters
    ----------
    store : Path, optional
        Folder of the database and the artifacts; by default `store_folder()`.

    Returns
    -------
    str
        The experiment's id.
    """
    store = store_folder(store).resolve()
    store.mkdir(parents=True, exist_ok=True)
    uri = store_uri(store)
    attach(uri)
    database, artifacts = database_of(uri), (store / ARTIFACTS).as_uri()
    with FileLock(store / "mlflow.lock"):
        if database is not None and not database.exists():
            _make(database, artifacts)
        elif database is not None:
            check_finished(database)
            if database == store / DATABASE:
                relocate(database)
        experiment_id = _experiment(uri)
        if experiment_id is None:
            where = None if uri.startswith("http") else artifacts
            experiment_id = mlflow.create_experiment(EXPERIMENT, artifact_location=where)
        _end_dead_runs(experiment_id)
    return str(experiment_id)


def _make(database: Path, artifacts: str) -> None:
    """Make a database beside its place and move it there, so that a killed process leaves none.

    Raises
    ------
    InputError
        When there is no room, or the folder cannot be written.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    try:
        with replace_file(database) as partial:
            remove_journals(partial)
            whole = SqlAlchemyStore(sqlite_uri(partial), str(database.parent))
            whole.create_experiment(EXPERIMENT, artifact_location=artifacts)
            whole.engine.dispose()
            remove_journals(database)
    except FAULTS as error:
        raise InputError(
            f"{database} cannot be made ({_reason(error)}): make room and let {database.parent} be "
            "written, and run the same command again"
        ) from None


def open_to_read(store: Path | None = None) -> str:
    """Open a store that is there, and leave every file as it is.

    Parameters
    ----------
    store : Path, optional
        Folder of the database and the artifacts; by default `store_folder()`.

    Returns
    -------
    str
        Its folder or the address of its server, for messages.

    Raises
    ------
    InputError
        When there is no store, or its server does not answer.
    """
    folder = store_folder(store).resolve()
    uri = store_uri(folder)
    database = database_of(uri)
    if database is not None and not has_runs(database):
        raise InputError(
            f"there is no champion: {database.parent} holds no models; run `make repro` first, or "
            "name another folder with --store or PECULIAR_HOME"
        )
    attach(uri)
    _experiment(uri)
    return uri if database is None else str(database.parent)


def _experiment(uri: str) -> str | None:
    """Id of our experiment; None where it is not there yet."""
    try:
        with first_contact(uri):
            experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    except FAULTS as error:
        how = "start its server, or correct MLFLOW_TRACKING_URI"
        if database_of(uri) is not None:
            how = f"restore it from a copy, or copy it and run `mlflow db upgrade {uri}`"
        raise InputError(
            f"MLflow's store {uri} cannot be opened ({_reason(error)}): {how}"
        ) from None
    if experiment is None:
        return None
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise InputError(
            f"the experiment {EXPERIMENT} was deleted: restore it with `MLFLOW_TRACKING_URI={uri} "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}`"
        )
    return str(experiment.experiment_id)


def _reason(error: BaseException) -> str:
    """The first line of an error, which may be MLflow's of SQLAlchemy's of SQLite's."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")


def attach(uri: str) -> None:
    """Point MLflow at a store that exists already, as the processes of a search do."""
    server = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    if server is None:  # MLflow sets it; the next call would take it for the user's
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    mlflow.set_registry_uri(uri)
    # alembic and the registry are verbose at the INFO level of the root logger
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow.set_system_metrics_sampling_interval(SYSTEM_METRICS_SECONDS)
    mlflow.set_system_metrics_samples_before_logging(1)


def address() -> str:
    """URI of the present store, for `attach`."""
    return str(mlflow.get_tracking_uri())


def _end_dead_runs(experiment_id: str) -> None:
    client = mlflow.MlflowClient()
    here = socket.gethostname()
    query = "attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment_id], query):
        process = run.data.tags.get("peculiar.process", "")
        if run.data.tags.get("peculiar.host") == here and not processes.alive(process):
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))


@lru_cache(maxsize=1)
def _code(_folder: Path) -> dict[str, str]:
    """State of git where this process runs; cached, since git is slow beside a short trial."""
    return git_state()


@contextmanager
def run(
    experiment_id: str,
    name: str,
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
    parent: str | None = None,
    run_id: str | None = None,
    system_metrics: bool = True,
    root: str = "",
) -> Iterator[str]:
    """One MLflow run with its parameters, code, data and system metrics.

    The run is FAILED if the body raises. Write a stage's outputs inside the body: if writing them
    failed after the run had closed, a FINISHED run without outputs would stay.

    Parameters
    ----------
    experiment_id : str
        From `connect`.
    name : str
        Name of the run, for example "uniform-cnn2".
    params : mapping
        Parameters, nested as they are in `params.yaml`.
    tags : mapping, optional
        More tags; stage, code and process are always tagged.
    data : mapping, optional
        Digest of each data dependency, from `peculiar.core.provenance.digests`.
    parent : str, optional
        Run id of the study, if this run is one of its trials.
    run_id : str, optional
        Continue this run instead of starting one.
    system_metrics : bool
        Whether to record CPU, memory and GPU use, in a thread.
    root : str
        Folder that the paths of `data` are below; the working folder if not given.

    Yields
    ------
    str
        The run's id.
    """
    origin = {
        "peculiar.host": socket.gethostname(),
        "peculiar.process": processes.this_process(),
        "dvc.stage": os.environ.get("DVC_STAGE", ""),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        **_code(Path.cwd()),
        **(tags or {}),
    }
    with mlflow.start_run(
        run_id=run_id,
        experiment_id=experiment_id,
        run_name=name,
        nested=parent is not None,
        parent_run_id=parent,
        tags=origin,
        log_system_metrics=system_metrics,
    ) as active:
        if run_id is not None:
            mlflow.set_tags(origin)
        mlflow.log_params(flatten(params))
        for path, digest in (data or {}).items():
            source = LocalArtifactDatasetSource(str(Path(root, path).resolve()))
            digest = digest[:DIGEST_LENGTH]
            dataset = MetaDataset(source, path, digest)  # type: ignore[abstract]
            mlflow.log_input(dataset, context="input")
        yield active.info.run_id


def end_run(run_id: str, status: str) -> None:
    """Set a run's status to FINISHED, FAILED or KILLED, whatever it was."""
    mlflow.MlflowClient().set_terminated(run_id, status)


def children(parent: str) -> dict[str, tuple[str, str]]:
    """Status and tag `trial` of each child of a study's run, by its id."""
    query = f"tags.mlflow.parentRunId = '{parent}'"
    found: dict[str, tuple[str, str]] = {}
    client, token = mlflow.MlflowClient(), None
    experiment = client.get_run(parent).info.experiment_id
    while True:
        page = client.search_runs([experiment], query, max_results=1000, page_token=token)
        found |= {r.info.run_id: (r.info.status, r.data.tags.get("trial", "")) for r in page}
        token = page.token
        if not token:
            return found


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as {"section.key": text}, without the passwords of URLs."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = redacted(str(value))
    return flat


def log_curves(
    run_id: str, curves: Sequence[Mapping[str, float]], times_ms: Sequence[int] | None = None
) -> None:
    """Log curves, `[{"epoch": 1, "validation_l2_mpc": ...}, ...]`, in one batch.

    With the given times, else the present one. Logging the same point twice with the same time
    keeps it once.
    """
    times_ms = times_ms or [now_ms()] * len(curves)
    metrics = [
        Metric(key, value, time_ms, int(row["epoch"]))
        for row, time_ms in zip(curves, times_ms, strict=True)
        for key, value in row.items()
        if key != "epoch"
    ]
    client = mlflow.MlflowClient()
    for start in range(0, len(metrics), LARGEST_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + LARGEST_BATCH])


def now_ms() -> int:
    """The present time in MLflow's unit, ms."""
    return int(time.time() * 1000)


def log_metrics(run_id: str, metrics: Mapping[str, float], prefix: str = "") -> None:
    """Log final metrics of a run, finite or not, each named `prefix + key`."""
    now = now_ms()
    batch = [Metric(prefix + key, value, now, 0) for key, value in metrics.items()]
    mlflow.MlflowClient().log_batch(run_id, metrics=batch)


def tag_run(run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run."""
    mlflow.MlflowClient().log_batch(run_id, tags=[RunTag(*tag) for tag in tags.items()])


def log_file(path: Path, folder: str | None = None, run_id: str | None = None) -> None:
    """Save a file, below `folder` if given, in the active run or in that of `run_id`."""
    mlflow.log_artifact(str(path), folder, run_id=run_id)


def artifacts_of(run_id: str) -> str:
    """URI of a run's artifacts, also in a store that was moved."""
    uri = str(mlflow.MlflowClient().get_run(run_id).info.artifact_uri)
    return artifacts_now(uri, uri)


def artifacts_now(recorded: str, otherwise: str) -> str:
    """The place of artifacts in a folder that was moved; `otherwise` where it was not."""
    database = database_of(address())
    now = recorded if database is None else present(recorded, database)
    return otherwise if now == recorded else now


def owns(run_id: str) -> bool:
    """Whether what is logged to a run now goes to this store, or to its server.

    A database that was copied without its artifacts has runs whose files are in the original.
    """
    database, uri = database_of(address()), artifacts_of(run_id)
    if database is None or not uri.startswith(("file:", "/")):
        return True
    return Path(unquote(uri.removeprefix("file://"))).is_relative_to(database.resolve().parent)


def run_exists(run_id: str) -> bool:
    """Whether the store has this run."""
    try:
        mlflow.MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ABSENT:  # a store that does not answer says nothing of the kind
            raise
        return False
    return True
