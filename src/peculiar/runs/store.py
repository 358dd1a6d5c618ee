"""Where the store of runs and models is, and how it survives a move.

The store is a folder, `mlruns/`: MLflow's database, `mlflow.db`, and `artifacts/` beside it.
MLflow records the artifacts by absolute paths. When the folder is moved, renamed or copied, a
writer corrects these paths in the database (`relocate`); a reader leaves the database alone and
corrects each path as it is read (`present`).
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote

from peculiar.core.errors import InputError

EXPERIMENT = "peculiar"
DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
RECORDED = (  # all columns of the database in which MLflow records a place
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def store_folder(given: Path | None = None) -> Path:
    """Folder of the store.

    Parameters
    ----------
    given : Path, optional
        As the user names it; by default `mlruns` in the folder that `PECULIAR_HOME` names, else in
        `DVC_ROOT` (the repository, also where DVC runs an experiment in a temporary folder), else
        in the working folder.

    Returns
    -------
    Path
    """
    if given is not None:
        return given
    home = os.environ.get("PECULIAR_HOME") or os.environ.get("DVC_ROOT") or ""
    return Path(home) / "mlruns"


def store_uri(store: Path) -> str:
    """Address of the store for MLflow; the server in `MLFLOW_TRACKING_URI` comes first."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(store.resolve() / DATABASE)


def sqlite_uri(database: Path) -> str:
    """Address of a database for MLflow."""
    path = str(database).replace("%", "%25")  # SQLAlchemy decodes it
    return f"sqlite:///{path}"


def database_of(uri: str) -> Path | None:
    """Database of a store by its address; None where a server has it."""
    prefix, found, path = uri.partition("sqlite:///")
    return Path(unquote(path)) if found and not prefix else None


def has_runs(database: Path) -> bool:
    """Whether a database is there and complete. Nothing is written.

    MLflow fills an empty database with its tables as soon as it opens it, so we look first.

    Raises
    ------
    InputError
        When the file is not a database, or was not finished.
    """
    if not database.is_file():
        return False
    check_finished(database)
    return _recorded_artifacts(database) is not None


def check_finished(database: Path) -> None:
    """Check that the process that made a database was not killed, or out of disk, meanwhile.

    We move a database to its place when it is finished (`peculiar.runs.tracking.connect`); MLflow's
    own commands, and we before 2026-11-29, make it there. The last step adds an experiment.

    Raises
    ------
    InputError
        When the database is not finished, or cannot be read.
    """
    if _first(database, "SELECT 1 FROM experiments") is None:
        raise InputError(
            f"{database} was not finished by the process that made it, and holds no runs: if none "
            f"is making it now, delete {database} and run the same command again"
        )


def address_to_read(database: Path) -> str:
    """Address of a database for SQLite, where nothing is to be written.

    A process that was killed while it changed the database has left a journal; SQLite then undoes
    that change before anything is read, and must be allowed to.
    """
    place = database.resolve()
    undo = place.with_name(f"{place.name}-journal").exists()
    return f"{place.as_uri()}?mode={'rw' if undo else 'ro'}"


def remove_journals(database: Path) -> None:
    """Remove what belongs to a database that is gone, or SQLite would apply it to the next one."""
    for ending in ("-journal", "-wal", "-shm"):
        database.with_name(database.name + ending).unlink(missing_ok=True)


def relocate(database: Path) -> None:
    """Correct the recorded paths of a database that was moved; call it under the store's lock.

    A path whose files are still at the old place and not at the new one stays as it is.
    """
    before, now = _recorded_artifacts(database), _artifacts_beside(database)
    if before is None or before == now or not before.startswith(("file:", "/")):
        return
    with _open(f"{database.resolve().as_uri()}?mode=rw", database) as connection, connection:
        for table, column in RECORDED:
            recorded = [
                row[0] for row in connection.execute(f"SELECT DISTINCT {column} FROM {table}")
            ]
            for uri in recorded:
                below = str(uri).removeprefix(before)
                moved = uri == before or (below != uri and below.startswith("/"))
                if moved and (not _exists(uri) or _exists(now + below) or uri == before):
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? WHERE {column} = ?", [now + below, uri]
                    )


def present(uri: str, database: Path) -> str:
    """Where artifacts are now that the database records at `uri`.

    Parameters
    ----------
    uri : str
        As recorded, for example "file:///old/mlruns/artifacts/models/m-1/artifacts".
    database : Path
        The store's database.

    Returns
    -------
    str
        The same place beside the database, if the files are there; else `uri`.
    """
    before, now = _recorded_artifacts(database), _artifacts_beside(database)
    if before is None or before == now or not uri.startswith(f"{before}/"):
        return uri
    below = uri.removeprefix(before)
    return now + below if (database.parent / ARTIFACTS / below[1:]).exists() else uri


def _exists(uri: str) -> bool:
    """Whether a place as MLflow records it, a path or a file URI, has files."""
    return Path(unquote(uri.removeprefix("file://"))).exists()


def _artifacts_beside(database: Path) -> str:
    return (database.resolve().parent / ARTIFACTS).as_uri()


def _recorded_artifacts(database: Path) -> str | None:
    """Root of the artifacts as recorded; None where our experiment is not there yet."""
    query = "SELECT artifact_location FROM experiments WHERE name = ?"
    return _first(database, query, EXPERIMENT)


def _first(database: Path, query: str, *values: str) -> str | None:
    """First value of a query as text; None where there is none, or no such table."""
    with _open(address_to_read(database), database) as connection:
        try:
            row = connection.execute(query, values).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            row = None
    return None if row is None else str(row[0])


@contextmanager
def _open(address: str, database: Path) -> Iterator[sqlite3.Connection]:
    """An open database; `InputError` when SQLite cannot use it."""
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise InputError(
            f"{database} cannot be read ({error}): restore it from a copy, or name another store"
        ) from None
