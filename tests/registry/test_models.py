import json
import pickle
import shutil
import threading
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from builders.networks import small, small_blueprint
from peculiar.core.errors import InputError
from peculiar.registry import models
from peculiar.runs import logged, tracking

pytestmark = pytest.mark.xdist_group("mlflow")
EXAMPLE = np.random.default_rng(0).random((2, 2, 16, 16), dtype=np.float32)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return tracking.connect(tmp_path_factory.mktemp("registry") / "mlruns")


@pytest.fixture(scope="module")
def one(experiment):
    """URI, run and digest of one logged network."""
    with tracking.run(experiment, "model", params={}) as run_id:
        uri = logged.log_model(small(head="binned"), small_blueprint(head="binned"))
    return uri, run_id, logged.model_sha256(uri)


@pytest.fixture
def version(experiment, one, request):
    """A version of its own copy of the model, and the copy's folder."""
    uri, _, digest = one
    source = Path(mlflow.artifacts.download_artifacts(uri))
    with tracking.run(experiment, "copy", params={}) as run_id:
        mlflow.log_artifacts(str(source), "model")
        folder = Path(mlflow.get_artifact_uri("model").removeprefix("file://"))
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    version = models.register(name, folder.as_uri(), run_id, {models.DIGEST: digest})
    return version, folder


def again(version):
    return mlflow.MlflowClient().get_model_version(version.name, version.version)


def test_what_was_promoted_is_loaded_also_a_second_time(version):
    batch = torch.from_numpy(EXAMPLE)
    for _ in range(2):  # MLflow writes registered_model_meta into what it hands out
        network = models.load(version[0]).network
        with torch.inference_mode():
            expected = small(head="binned").eval()(batch)
            torch.testing.assert_close(network(batch), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["weights.safetensors", "MLmodel", "network.json"])
def test_one_flipped_bit_is_refused(version, name):
    path = version[1] / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"changed since promotion .*peculiar registry rollback"):
        models.load(version[0])


def test_a_file_more_or_less_is_refused(version):
    (version[1] / "network.json").rename(version[1] / "more.json")
    with pytest.raises(InputError, match="changed since promotion"):
        models.load(version[0])


def test_missing_files_are_refused(version):
    shutil.rmtree(version[1])
    with pytest.raises(InputError, match=r"the files of models:/.* cannot be read .*: restore"):
        models.load(version[0])


def test_a_version_without_a_digest_is_refused(version):
    mlflow.MlflowClient().delete_model_version_tag(
        version[0].name, version[0].version, models.DIGEST
    )
    with pytest.raises(InputError, match=r"has no tag model_sha256.*`peculiar promote`"):
        models.load(again(version[0]))


class Evil:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("owned"),)


@pytest.mark.parametrize("keep", [True, False])
def test_a_pickled_model_is_refused_whatever_its_digest(version, keep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (version[1] / "data").mkdir()
    (version[1] / "data/model.pth").write_bytes(pickle.dumps(Evil()))
    if not keep:
        (version[1] / "weights.safetensors").unlink()
    with pytest.raises(InputError, match=r"is pickled \(model\.pth\) and is not loaded"):
        models.load(resigned(version))
    assert not Path("owned").exists()


def resigned(version):
    """The version with the digest of what its folder holds now."""
    (version[1] / logged.BESIDE).unlink(missing_ok=True)  # which `fetch_model` removes as well
    digest = models.files_sha256(version[1])
    mlflow.MlflowClient().set_model_version_tag(
        version[0].name, version[0].version, models.DIGEST, digest
    )
    return again(version[0])


def test_no_weights_are_refused(version):
    (version[1] / "weights.safetensors").unlink()
    with pytest.raises(InputError, match=r"version 1 of .* has no weights\.safetensors: train and"):
        models.load(resigned(version))


def test_an_exported_program_is_refused_whatever_its_digest(version, tmp_path, monkeypatch):
    """`torch.export.load` evaluates strings of the file, and unpickles sample inputs in it."""
    monkeypatch.chdir(tmp_path)
    (version[1] / "data").mkdir()
    torch.save(Evil(), version[1] / "data/model.pt2")
    with pytest.raises(
        InputError,
        match=r"version 1 of .* is an exported program \(data/model\.pt2\) and is not loaded, "
        r"since that can run code: train and promote it again with `make repro`, or ask who sent",
    ):
        models.load(resigned(version))
    assert not Path("owned").exists()


def test_a_version_is_found_by_number_and_alias(version):
    found, name = version[0], version[0].name
    models.move(name, {"champion": "1"}, {"what": "test"})
    assert models.find(name, "1").version == models.find(name, "champion").version
    with pytest.raises(InputError, match=r"has no version '2': take one of 1, champion"):
        models.find(name, "2")
    with pytest.raises(InputError, match="take one of none"):
        models.find("nothing", "1")
    assert models.register(name, "elsewhere", found.run_id, {}).version == found.version


def test_the_history_is_in_order_with_before_and_after(version):
    name = version[0].name
    for number in range(12):
        models.move(name, {"champion": "1"}, {"what": str(number)})
    history = models.history(name)
    assert [entry["what"] for entry in history] == [str(number) for number in range(12)]
    assert history[0]["before"] == {"champion": None}
    assert history[1]["before"] == history[1]["after"] == {"champion": "1"}
    assert models.history("nothing") == []


def test_a_moved_alias_is_noticed(version):
    name = version[0].name
    models.check_unmoved(name, {"champion": None})
    event = {"what": "promote", "who": "another", "when": "now", "why": "better"}
    models.move(name, {"champion": "1"}, event)
    models.check_unmoved(name, {"champion": "1"})
    with pytest.raises(
        InputError, match=r"now version 1, not None .*\(another, now: better\): run the"
    ):
        models.check_unmoved(name, {"champion": None})


@pytest.mark.usefixtures("experiment")
def test_only_one_at_a_time_holds_the_lock(monkeypatch):
    monkeypatch.setattr(models, "WAIT_S", 0.3)
    with models.locked("alpha"):
        with pytest.raises(InputError, match=r"has been promoting since .*: wait until it"):
            models.locked("alpha").__enter__()
        with models.locked("beta"):
            pass
    with models.locked("alpha"):
        pass


@pytest.mark.usefixtures("experiment")
def test_who_waits_goes_on_when_the_other_has_ended():
    order, inside = [], threading.Event()

    def first():
        with models.locked("gamma"):
            inside.set()
            order.append("first")
            threading.Event().wait(0.4)
            order.append("first ends")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with models.locked("gamma"):
        order.append("second")
    thread.join()
    assert order == ["first", "first ends", "second"]


@pytest.mark.usefixtures("experiment")
@pytest.mark.parametrize(
    "tags",
    [
        {"host": "elsewhere", "process": "1@0", "since": "2026-01-01T00:00:00+00:00"},
        {"host": models.socket.gethostname(), "process": "999999@0", "since": models.now()},
    ],
    ids=["old", "dead"],
)
def test_the_lock_of_the_dead_is_broken(tags):
    mlflow.MlflowClient().create_registered_model("delta-promotion-under-way", tags=tags)
    with models.locked("delta"):
        pass


def test_the_lock_is_given_back_after_a_failure(version):
    name = version[0].name
    with pytest.raises(ZeroDivisionError), models.locked(name):
        _ = 1 / 0
    with models.locked(name):
        pass


def test_a_card_is_description_and_file(version, tmp_path):
    models.describe(version[0], "# card")
    assert again(version[0]).description == "# card"
    folder = models.artifact(version[0].run_id, "cards", tmp_path)
    assert (folder / "version-1.md").read_text() == "# card"
    assert models.artifact(version[0].run_id, "nothing", tmp_path) is None
    assert models.artifact("0" * 32, "nothing", tmp_path) is None


def test_candidates_of_a_decision_fit_into_a_tag():
    """MLflow cuts tags of versions at 100,000 characters; `make paper` has forty networks."""
    one = {"score": 1 / 3, "less_holder": 1 / 3, "better": 1 / 3, "against": "x" * 150}
    assert len(json.dumps({f"uniform-{i:030d}": one for i in range(200)})) < 100_000
