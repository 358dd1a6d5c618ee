"""First contact with a store of runs: a silent server and a damaged database end it, soon."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from peculiar.core.errors import InputError, redacted
from peculiar.runs.store import address_to_read, database_of

# MLflow's own are 7 and 120 s: a quarter of an hour
LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "12"}
CONNECT_S = 20  # to a database, at each of its addresses


@contextmanager
def first_contact(uri: str) -> Iterator[None]:
    """Let MLflow's client give up soon, unless the user has set how long it waits.

    Parameters
    ----------
    uri : str
        Address of the store.

    Raises
    ------
    InputError
        When it is a PostgreSQL database that cannot be reached, or a file that is not a whole
        database; MLflow would try ten times.
    """
    database = database_of(uri)
    if database is not None and database.exists():
        check_whole(database)
    if uri.startswith("postgresql"):
        _check_database(uri)
    ours = {key: value for key, value in LIMITS.items() if key not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key in ours:
            os.environ.pop(key, None)


def check_whole(database: Path) -> None:
    """Check the structure of a database, without writing; linear in its length, some 1 GB/s.

    Raises
    ------
    InputError
        When it is no database, or damaged.
    """
    try:
        with closing(sqlite3.connect(address_to_read(database), uri=True)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        reason = " ".join(found.replace("***", "").split())
        raise InputError(
            f"{database} is damaged ({reason}): restore it from a copy, or name another store"
        )


def _check_database(uri: str) -> None:
    import psycopg  # seldom needed

    plain = "postgresql" + uri[uri.index(":") :]  # without SQLAlchemy's driver
    try:
        psycopg.connect(plain, connect_timeout=CONNECT_S).close()
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the database {redacted(uri)} cannot be opened ({reason}): start its server, or "
            "correct MLFLOW_TRACKING_URI"
        ) from None
