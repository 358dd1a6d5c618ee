"""A damaged database is one sentence in every command that opens it; a read-only one is read."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import filelock
import pytest

from builders.registries import MODEL, write_registry
from peculiar.cli.main import main
from peculiar.core.errors import InputError, one_sentence
from peculiar.registry import exchange
from peculiar.registry.champion import load_champion
from peculiar.runs import servers, tracking

pytestmark = pytest.mark.xdist_group("mlflow")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = tmp_path_factory.mktemp("whole") / "mlruns"
    write_registry(store)
    return store


@pytest.fixture
def copy(store, tmp_path):
    return Path(shutil.copytree(store, tmp_path / "mlruns"))


def overwritten(content):
    return lambda database: database.write_bytes(content)


def cut(part):
    return lambda database: os.truncate(database, int(part * database.stat().st_size))


def spoilt(first, last):
    """Zeros in a part of the file."""

    def change(database):
        content = bytearray(database.read_bytes())
        begin, end = (int(part * len(content)) for part in (first, last))
        content[begin:end] = bytes(end - begin)
        database.write_bytes(content)

    return change


def folder_instead(database):
    database.unlink()
    database.mkdir()


DAMAGES = {
    "text": overwritten(b"not a database\n" * 100),
    "header": overwritten(b"SQLite format 3\0"),
    "half": cut(0.5),
    "a part": cut(0.97),
    "first page": spoilt(0, 0.004),
    "middle": spoilt(0.3, 0.7),
    "end": spoilt(0.9, 1),
    "folder": folder_instead,
}
COMMANDS = {
    "list": ["registry", "list"],
    "export": ["registry", "export", "OUT"],
    "rollback": ["registry", "rollback", "--why", "x"],
}


def said(words):
    """What a command that ends with an error says; empty if it does not."""
    try:
        main(words)
    except SystemExit as end:
        return str(end.code)
    return ""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_damaged_database_is_one_sentence(copy, tmp_path, damage, command):
    DAMAGES[damage](copy / "mlflow.db")
    words = [str(tmp_path / "out") if word == "OUT" else word for word in COMMANDS[command]]
    sentence = said([*words, "--store", str(copy)])
    assert sentence.startswith("peculiar: ")
    assert "mlflow.db" in sentence or (damage == "folder" and "holds no models" in sentence)
    assert "\n" not in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bytes_are_one_sentence_or_harmless(copy, seed):
    database, dice = copy / "mlflow.db", random.Random(seed)
    content = bytearray(database.read_bytes())
    for _ in range(3):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    database.write_bytes(content)
    assert said(["registry", "list", "--store", str(copy)])[:10] in ("", "peculiar: ")


def test_what_makes_no_sense_to_mlflow_is_one_sentence(copy):
    """The structure is whole and the content is not."""
    with sqlite3.connect(copy / "mlflow.db") as connection:
        connection.execute("UPDATE model_versions SET user_id = CAST(X'FF' AS TEXT)")
    servers.check_whole(copy / "mlflow.db")
    with pytest.raises(
        SystemExit, match=r"^peculiar: the store of runs and models failed \(.+\): "
    ):
        main(["registry", "list", "--store", str(copy)])


def test_errors_of_a_store_are_one_sentence_without_passwords_and_others_are_not():
    def failing(error):
        with one_sentence():
            raise error

    with pytest.raises(
        SystemExit, match=r"failed \(no postgresql://me:\*\*\*@h\): see that its dat"
    ):
        failing(sqlite3.OperationalError("no postgresql://me:secret@h\nmore"))
    with pytest.raises(SystemExit, match=r"failed \(Error\)"):
        failing(sqlite3.Error())
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


def test_a_database_that_is_not_there_or_damaged_is_named(copy, tmp_path):
    with pytest.raises(InputError, match=r"none\.db is damaged \(unable to open database file\)"):
        servers.check_whole(tmp_path / "none.db")
    cut(0.5)(copy / "mlflow.db")
    with pytest.raises(InputError, match=r"mlflow\.db is damaged \(.*\): restore it from a copy"):
        servers.check_whole(copy / "mlflow.db")


def killed_in_a_change(database):
    """What a process leaves that is killed while SQLite writes: a part of it, and a journal."""
    other = database.with_name("other.db")
    shutil.copy(database, other)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # pages are written before the end
        connection.execute("UPDATE registered_model_aliases SET alias = 'lost'")
        connection.execute("CREATE TABLE large AS SELECT zeroblob(1000000)")
        for ending in ("", "-journal"):
            shutil.copy(f"{other}{ending}", f"{database}{ending}")
    other.unlink()


@pytest.mark.parametrize("use", [tracking.connect, tracking.open_to_read])
def test_a_change_that_a_kill_cut_off_is_undone(copy, use):
    killed_in_a_change(copy / "mlflow.db")
    assert (copy / "mlflow.db-journal").stat().st_size > 0
    use(copy)
    assert load_champion(MODEL, copy).version == "1"
    with closing(sqlite3.connect(copy / "mlflow.db")) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    assert "large" not in tables
    assert not (copy / "mlflow.db-journal").exists()


def refusing(*_args, **_options):
    raise PermissionError(13, "Permission denied", "mlflow.lock")


def test_readers_take_no_lock_and_write_nothing(copy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(filelock.FileLock, "acquire", refusing)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert load_champion(MODEL, copy).version == "1"
    main(["registry", "list", "--store", str(copy)])
    exchange.export(MODEL, tmp_path / "out", copy)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    with pytest.raises(PermissionError):
        tracking.connect(copy)
    with pytest.raises(SystemExit, match=r"^peculiar: Permission denied at mlflow\.lock: fix that"):
        main(["registry", "rollback", "--why", "x", "--store", str(copy)])
    assert "champion" in capsys.readouterr().out


READERS = """
import sys
from contextlib import closing
from pathlib import Path
from peculiar.cli.main import main
from peculiar.registry.champion import load_champion
store, out = sys.argv[1:]
try:
    Path(store, "mlflow.lock").open("a")
except PermissionError:
    main(["registry", "list", "--store", store])
    main(["registry", "export", out, "--store", store])
    print(load_champion("peculiar-velocity", Path(store)).version, "loaded")
    main(["registry", "rollback", "--why", "x", "--store", store])
"""


@pytest.mark.slow
def test_a_read_only_store_of_another_is_read(copy, tmp_path):
    """Run without the right of root to write everywhere."""
    alone = [] if os.getuid() else ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if alone and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and setpriv is not there to take that away")
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = subprocess.run(
            [*alone, sys.executable, "-c", READERS, str(copy), str(tmp_path / "out")],
            env=os.environ | {"PYTHONPATH": str(Path(servers.__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for path in [copy, *copy.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert "champion" in done.stdout
    assert "wrote 1 versions" in done.stdout
    assert "1 loaded" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("peculiar: Permission denied at ")
