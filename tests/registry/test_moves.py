"""A move of aliases is done or not, also where the process is killed within it."""

import shutil
import sqlite3
from contextlib import closing

import mlflow
import pytest
from mlflow.tracking._model_registry.utils import _get_store as registry
from mlflow.tracking._tracking_service.utils import _get_store as runs

from builders.kills import OWN_STEP, killing
from peculiar.core.errors import InputError
from peculiar.registry import models, moves
from peculiar.registry.rollback import roll_back
from peculiar.runs import tracking

pytestmark = pytest.mark.xdist_group("mlflow")

IMPORTS = """
import sys
from pathlib import Path
import mlflow
import mlflow.store.model_registry.sqlalchemy_store
from peculiar.registry import models
from peculiar.registry.rollback import roll_back
from peculiar.runs import tracking

def audited(change):
    def changed(*arguments, **keywords):
        sys.audit("tests.step")
        return change(*arguments, **keywords)
    return changed

for name in dir(mlflow.MlflowClient):
    if name.startswith(("set_", "delete_", "create_registered", "update_")):
        setattr(mlflow.MlflowClient, name, audited(getattr(mlflow.MlflowClient, name)))

from mlflow.tracking._model_registry.utils import _get_store as registry
from mlflow.tracking._tracking_service.utils import _get_store as runs
tracking.connect(Path("mlruns"))
registry().engine.dispose()
runs().engine.dispose()
"""
ROLLBACK = """
roll_back("alpha", "it is bad", Path("mlruns"))
"""
PROMOTE = """
tracking.connect(Path("mlruns"))
with models.locked("alpha"):
    aliases = {"previous": "2", "champion": "3", "champion-x": "3"}
    models.move("alpha", aliases, {"what": "promote"})
"""
HELD = {"champion": "2", "previous": "1", "champion-x": "2"}
BACK = {"champion": "1", "previous": "2", "champion-x": "1"}
BEFORE = (HELD, {"1"}, ["promote"])
AFTER = {
    ROLLBACK: (BACK, {"2"}, ["promote", "rollback"]),
    PROMOTE: (
        {"champion": "3", "previous": "2", "champion-x": "3"},
        {"1"},
        ["promote", "promote"],
    ),
}
NEXT = {  # what a rollback makes of it
    ROLLBACK: (HELD, {"1"}, ["promote", "rollback", "rollback"]),
    PROMOTE: (
        {"champion": "2", "previous": "3", "champion-x": "2"},
        {"1", "3"},
        ["promote", "promote", "rollback"],
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with three versions, of which the second is champion."""
    folder = tmp_path_factory.mktemp("moves") / "mlruns"
    tracking.connect(folder)
    client = mlflow.MlflowClient()
    client.create_registered_model("alpha")
    for _ in range(3):
        client.create_model_version("alpha", "file:///nowhere")
    models.move("alpha", HELD, {"what": "promote"}, {"1": "it was bad"})
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the store."""
    return shutil.copytree(made, tmp_path / "store")


def state():
    """Aliases, versions that are withdrawn, and the history, of the store that is open."""
    withdrawn = {str(v.version) for v in models.versions("alpha") if "withdrawn" in v.tags}
    return models.aliases_of("alpha"), withdrawn, [e["what"] for e in models.history("alpha")]


def as_a_reader(store):
    """`state`, of a store that is only read."""
    before = (store / "mlflow.db").read_bytes()
    tracking.open_to_read(store)
    seen = state()
    assert (store / "mlflow.db").read_bytes() == before
    assert str(models.aliased("alpha").version) == seen[0]["champion"]
    assert str(models.find("alpha", "previous").version) == seen[0]["previous"]
    return seen


def restore(made, store):
    """Put the first state back, as another file, and close what is open of the old one."""
    shutil.copy(made / "mlflow.db", store / "new.db")
    (store / "new.db").replace(store / "mlflow.db")
    tracking.open_to_read(store)
    for opened in (runs(), registry()):
        opened.engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("code", [ROLLBACK, PROMOTE], ids=["rollback", "promote"])
def test_a_kill_at_any_step_leaves_the_state_before_or_after(made, tmp_path, code):
    """A reader sees it without writing, and the next rollback swaps what it sees."""
    seen, was_killed, store = [], True, tmp_path / "mlruns"
    shutil.copytree(made, store)
    with killing(IMPORTS, code, tmp_path, (OWN_STEP,)) as killed:
        while was_killed:
            restore(made, store)
            was_killed = killed(len(seen) + 1)
            seen.append(as_a_reader(store))
            roll_back("alpha", "again", store)
            assert state() == (NEXT[code] if seen[-1] == AFTER[code] else AFTER[ROLLBACK])
            assert moves.PENDING not in models._registered("alpha")[1]
    assert seen[:2] == [BEFORE, BEFORE]  # before the lock, and before the move is written down
    assert seen[2:] == [AFTER[code]] * len(seen[2:])
    assert len(seen) >= 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"tag pending of alpha: not valid JSON: restore MLflow's database"),
        ("[]", r"tag pending of alpha.*: restore MLflow's database"),
        ('{"number": 0, "entry": {}, "aliases": {}}', r"pending of alpha\.number: .*: restore"),
        ('{"number": 1, "entry": {}, "aliases": {"champion": 1}}', r"pending of alpha\.aliases"),
    ],
)
def test_a_damaged_move_is_named(copied, text, words):
    tracking.connect(copied)
    mlflow.MlflowClient().set_registered_model_tag("alpha", moves.PENDING, text)
    tracking.open_to_read(copied)
    with pytest.raises(InputError, match=words):
        models.find("alpha", "champion")


def test_a_move_to_a_version_that_is_gone_is_named(copied):
    tracking.connect(copied)
    begun = moves.Move(number=2, entry={"what": "promote"}, aliases={"champion": "9"})
    mlflow.MlflowClient().set_registered_model_tag("alpha", moves.PENDING, begun.model_dump_json())
    with pytest.raises(InputError, match=r"alpha has no version 9, which an interrupted promote n"):
        models.locked("alpha").__enter__()
    mlflow.MlflowClient().delete_registered_model_tag("alpha", moves.PENDING)
    with models.locked("alpha"):
        assert state() == BEFORE


def test_a_rollback_that_an_older_version_left_half_done_is_not_confirmed(copied):
    with closing(sqlite3.connect(copied / "mlflow.db")) as database, database:
        database.execute("UPDATE registered_model_aliases SET version = 2 WHERE alias = 'previous'")
    with pytest.raises(InputError, match=r"of alpha are both version 2, as a rollback left them"):
        roll_back("alpha", "again", copied)
    tracking.open_to_read(copied)
    assert state() == ({**HELD, "previous": "2"}, {"1"}, ["promote"])
