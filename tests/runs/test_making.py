"""The store's database is made whole or not at all; one that is half-made is named."""

import resource
import shutil
import sqlite3
from contextlib import closing, contextmanager

import mlflow
import pytest

from builders.kills import NEVER, STATEMENTS, killing
from peculiar.core.errors import InputError
from peculiar.runs import store, tracking

pytestmark = pytest.mark.xdist_group("mlflow")

VERSION = "UPDATE alembic_version SET version_num = '{}'"
IMPORTS = """
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from peculiar.runs import tracking
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A new store."""
    folder = tmp_path_factory.mktemp("made") / "mlruns"
    tracking.connect(folder)
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """A store, and how to run SQL in its database."""
    folder = shutil.copytree(made, tmp_path / "mlruns")

    def sql(*statements):
        with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
            for text in statements:
                connection.execute(text)

    return folder, sql


@contextmanager
def room_for(size):
    """Files can have this many bytes and no more, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_a_kill_leaves_no_half_made_database(tmp_path):
    """Each run finds what the killed ones before it have left; there are about 600 steps."""
    database = tmp_path / "mlruns/mlflow.db"
    with killing(STATEMENTS + IMPORTS, 'tracking.connect(Path("mlruns"))', tmp_path) as killed:
        for step in (1, 3, 9, 100, 500):
            assert killed(step)
            assert not database.exists()
        assert not killed(NEVER)
    assert {path.name for path in database.parent.iterdir()} <= {"mlflow.db", "mlflow.lock"}
    assert store.has_runs(database)
    experiment = tracking.connect(database.parent)
    with tracking.run(experiment, "x", params={}, system_metrics=False):
        pass


@pytest.mark.parametrize("size", [0, 4096, 200_000])
def test_a_full_disk_is_one_sentence_and_the_next_command_makes_it(tmp_path, size):
    folder = tmp_path / "mlruns"
    words = r"mlflow\.db cannot be made \(.+\): make room and let .*mlruns be written, and run"
    with room_for(size), pytest.raises(InputError, match=words):
        tracking.connect(folder)
    assert {path.name for path in folder.iterdir()} <= {"mlflow.lock"}


def test_what_belongs_to_a_database_that_is_gone_is_not_applied_to_the_next(tmp_path, made):
    """A rollback journal of the deleted file would overwrite pages of the new one."""
    folder = tmp_path / "mlruns"
    folder.mkdir()
    for ending in ("-journal", "-wal", "-shm"):
        (folder / f"mlflow.db{ending}").write_bytes(b"of another file")
    tracking.connect(folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in made.iterdir()}


@pytest.mark.parametrize(
    "statements",
    [None, [], ["CREATE TABLE runs (a)"], ["CREATE TABLE experiments (artifact_location, name)"]],
    ids=["empty", "no table", "some tables", "no experiment"],
)
def test_a_database_that_was_not_finished_is_named(tmp_path, statements):
    database = tmp_path / "mlflow.db"
    if statements is None:
        database.touch()
    else:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("PRAGMA user_version = 1")
            for text in statements:
                connection.execute(text)
    before = database.read_bytes()
    words = r"mlflow\.db was not finished by .* delete .*mlflow\.db and run the same command again"
    for use in (tracking.open_to_read, tracking.connect):
        with pytest.raises(InputError, match=words):
            use(tmp_path)
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ([VERSION.format("451aebb31d03")], "out-of-date database schema"),
        ([VERSION.format("of a later one")], "out-of-date database schema"),
        (
            [VERSION.format("451aebb31d03"), "DROP TABLE metrics"],
            "already exists|duplicate column|out-of-date",
        ),
    ],
)
def test_a_database_of_another_version_of_mlflow_is_one_sentence(copied, statements, reason):
    folder, sql = copied
    sql(*statements)
    words = rf"cannot be opened \(.*({reason}).*\): restore it from a copy, or copy it and run `ml"
    for use in (tracking.open_to_read, tracking.connect):
        with pytest.raises(InputError, match=words):
            use(folder)


def test_a_database_that_mlflow_made_is_used(tmp_path):
    """As `mlflow ui` makes one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    whole = SqlAlchemyStore(store.store_uri(tmp_path), str(tmp_path / "artifacts"))
    whole.engine.dispose()
    assert not store.has_runs(tmp_path / "mlflow.db")
    experiment = tracking.connect(tmp_path)
    with tracking.run(experiment, "x", params={}, system_metrics=False) as run_id:
        pass
    where = (tmp_path / "artifacts").as_uri()
    assert mlflow.get_run(run_id).info.artifact_uri.startswith(where)


def test_a_database_elsewhere_is_made_whole_too(tmp_path, monkeypatch):
    uri = store.sqlite_uri(tmp_path / "a b%20c.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    experiment = tracking.connect(tmp_path / "mlruns")
    assert experiment == tracking.connect(tmp_path / "mlruns")
    assert [path.name for path in tmp_path.glob("*.db*")] == ["a b%20c.db"]
