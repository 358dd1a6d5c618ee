"""The store is a folder that may be moved, renamed and copied."""

import shutil
import sqlite3
from pathlib import Path

import mlflow
import pytest
import torch

from builders.networks import small, small_blueprint
from peculiar.core.errors import InputError
from peculiar.registry import models
from peculiar.runs import logged, store, tracking

pytestmark = pytest.mark.xdist_group("mlflow")


def write_version(folder, number):
    """A run with a file and a model, registered as a version; the run's id."""
    experiment = tracking.connect(folder)
    note = folder.parent / "note.txt"
    note.write_text(f"run {number}")
    with tracking.run(experiment, "x", params={}, system_metrics=False) as run_id:
        tracking.log_file(note)
        uri = logged.log_model(small(), small_blueprint())
    models.register("alpha", uri, run_id, {models.DIGEST: logged.model_sha256(uri)})
    models.move("alpha", {"champion": str(number)}, {"what": "test"})
    return run_id


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A store in a folder with a space and a sign, and its run."""
    folder = tmp_path_factory.mktemp("moved") / "a b%20c" / "mlruns"
    return folder, write_version(folder, 1)


@pytest.fixture
def moved(written, tmp_path):
    """That store in another folder, and nothing in the old one."""
    folder, run_id = written
    new = Path(shutil.copytree(folder, tmp_path / "new place" / "mlruns"))
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    yield new, run_id
    assert not folder.exists()
    hidden.rename(folder)


def recorded(folder):
    """All places that the database records."""
    with sqlite3.connect(folder / "mlflow.db") as connection:
        return [
            text
            for table, column in store.RECORDED
            for (text,) in connection.execute(f"SELECT {column} FROM {table} WHERE {column} != ''")
        ]


def test_a_moved_store_is_read_and_left_as_it_is(moved, tmp_path):
    folder, run_id = moved
    before = (folder / "mlflow.db").read_bytes()
    assert tracking.open_to_read(folder) == str(folder)
    network = models.load(models.find("alpha", "champion")).network
    assert isinstance(network(torch.zeros(3, 2, 16, 16)), torch.Tensor)
    copy = models.artifact(run_id, "note.txt", tmp_path)
    assert copy is not None
    assert copy.read_text() == "run 1"
    assert models.artifact(run_id, "gone.txt", tmp_path) is None
    assert (folder / "mlflow.db").read_bytes() == before


def test_a_moved_store_is_written_where_it_is(moved):
    """Old runs and new ones are in the new place, for MLflow's own pages too."""
    folder, run_id = moved
    new_run = write_version(folder, 2)
    for run in (run_id, new_run):
        files = {file.path for file in mlflow.MlflowClient().list_artifacts(run)}
        assert "note.txt" in files
    places = [place for place in recorded(folder) if not place.startswith("models:/")]
    ours = [place for place in places if not place.endswith("mlruns/0")]
    assert len(ours) >= 7
    assert all(place.startswith((folder / "artifacts").as_uri()) for place in ours)
    for number in ("1", "2"):
        models.load(models.find("alpha", number))


def test_a_copy_reads_its_own_files(written, tmp_path):
    folder, _ = written
    copy = Path(shutil.copytree(folder, tmp_path / "mlruns"))
    for name in (copy / "artifacts").rglob("weights.safetensors"):
        name.write_bytes(b"changed")
    tracking.open_to_read(copy)
    with pytest.raises(InputError, match="changed since promotion"):
        models.load(models.find("alpha", "champion"))
    tracking.open_to_read(folder)
    models.load(models.find("alpha", "champion"))


def tree(folder):
    """All files of a folder, with contents and times."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.mark.parametrize("copied", [".", "mlflow.db"], ids=["all", "database"])
def test_a_copy_never_writes_into_the_original(written, tmp_path, copied):
    """Whatever is logged to a run of before, registered or promoted."""
    folder, run_id = written
    before, copy = tree(folder), tmp_path / "mlruns"
    if copied == ".":
        shutil.copytree(folder, copy)
    else:
        copy.mkdir()
        shutil.copy(folder / copied, copy / copied)
    write_version(copy, 2)
    version = models.find("alpha", "1")
    assert tracking.owns(run_id) is (copied == ".")
    if copied == ".":
        models.describe(version, "# card")
        assert list((copy / "artifacts").rglob("version-1.md"))
    else:
        words = r"version 1 of alpha are in another store \(.*\), which stays as it is: copy"
        with pytest.raises(InputError, match=words):
            models.describe(version, "# card")
    models.describe(models.find("alpha", "2"), "# card")
    models.load(version)
    assert tree(folder) == before


def test_a_store_that_stays_is_not_touched(written):
    folder, _ = written
    before = (folder / "mlflow.db").read_bytes()
    store.relocate(folder / "mlflow.db")
    assert (folder / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "mlruns"),
        ({"DVC_ROOT": "/d"}, "/d/mlruns"),
        ({"DVC_ROOT": "/d", "PECULIAR_HOME": "/h"}, "/h/mlruns"),
    ],
)
def test_the_folder_of_the_store(environment, expected, monkeypatch):
    for name in ("DVC_ROOT", "PECULIAR_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert store.store_folder() == Path(expected)
    assert store.store_folder(Path("given")) == Path("given")


def test_a_server_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert store.store_uri(tmp_path) == "http://127.0.0.1:9"
    assert store.database_of("http://127.0.0.1:9") is None


def test_a_server_that_does_not_answer_is_one_sentence_for_readers_too(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        InputError, match=r"127\.0\.0\.1:9 cannot be opened .* correct MLFLOW_TRACK"
    ):
        tracking.open_to_read(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_that_stayed_at_the_old_place_stay_readable(tmp_path):
    """As when a store was moved, and written to by a version that did not correct its paths."""
    old, new = tmp_path / "old" / "mlruns", tmp_path / "new" / "mlruns"
    old.parent.mkdir()
    write_version(old, 1)
    shutil.copytree(old, new)
    write_version(old, 2)
    shutil.copy(old / "mlflow.db", new / "mlflow.db")
    shutil.rmtree(
        old
        / "artifacts"
        / "models"
        / next(path.name for path in (new / "artifacts" / "models").iterdir())
    )
    tracking.connect(new)
    for number in ("1", "2"):
        assert models.load(models.find("alpha", number)) is not None
