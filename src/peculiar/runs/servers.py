"""First contact with a server of runs: it ends within a minute where the server never answers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from peculiar.core.errors import InputError, redacted

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
        When it is a PostgreSQL database that cannot be reached, to which MLflow would try to
        connect ten times.
    """
    if uri.startswith("postgresql"):
        _check_database(uri)
    ours = {key: value for key, value in LIMITS.items() if key not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key in ours:
            os.environ.pop(key, None)


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
