import math
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow.exceptions import MlflowException

from builders.networks import small, small_blueprint
from peculiar.core.errors import InputError
from peculiar.runs import logged, stored, tracking

pytestmark = pytest.mark.xdist_group("mlflow")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return tracking.connect(tmp_path_factory.mktemp("store") / "mlruns")


def read(run_id):
    return mlflow.MlflowClient().get_run(run_id)


def test_connecting_twice_finds_the_same_experiment(experiment):
    store = mlflow.get_tracking_uri().removeprefix("sqlite:///").removesuffix("mlflow.db")
    assert Path(store).is_absolute()
    assert tracking.connect(Path(store)) == experiment


def test_a_deleted_experiment_is_named_with_what_brings_it_back(tmp_path):
    client, store = mlflow.MlflowClient(), tmp_path / "mlruns"
    try:
        number = tracking.connect(store)
        mlflow.MlflowClient().delete_experiment(number)
        words = rf"was deleted: restore it with .*mlflow\.db mlflow .* --experiment-id {number}`"
        with pytest.raises(InputError, match=words):
            tracking.connect(store)
        with pytest.raises(InputError, match=words):
            tracking.open_to_read(store)
        mlflow.MlflowClient().restore_experiment(number)
        assert tracking.connect(store) == number
    finally:
        tracking.attach(client.tracking_uri)


def test_a_run_has_parameters_code_data_and_curves(experiment):
    data = {"data/observe/uniform": "0" * 32 + ".dir"}
    params = {"network": {"label": "D_z"}, "epochs": 2}
    with tracking.run(experiment, "x", params=params, tags={"stage": "train"}, data=data) as run_id:
        tracking.log_curves(run_id, [{"epoch": 1, "l2": 3.0}, {"epoch": 2, "l2": 2.0}])
        tracking.log_metrics(run_id, {"slope": math.nan}, prefix="validation_")
    run = read(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"network.label": "D_z", "epochs": "2"}
    assert run.data.tags["stage"] == "train"
    assert len(run.data.tags["git_commit"]) in (7, 40)
    assert run.data.tags["git_dirty"] in ("true", "false", "unknown")
    curve = mlflow.MlflowClient().get_metric_history(run_id, "l2")
    assert [(m.step, m.value) for m in curve] == [(1, 3.0), (2, 2.0)]
    assert math.isnan(run.data.metrics["validation_slope"])
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == "0" * 32 + ".dir"
    assert dataset.dataset.name == "data/observe/uniform"


def test_system_metrics_are_logged(experiment, monkeypatch):
    monkeypatch.setattr(tracking, "SYSTEM_METRICS_SECONDS", 1)
    mlflow.set_system_metrics_sampling_interval(1)
    with tracking.run(experiment, "busy", params={}) as run_id:
        time.sleep(2.5)
    names = read(run_id).data.metrics
    assert "system/cpu_utilization_percentage" in names


def test_an_exception_marks_the_run_failed(experiment):
    with pytest.raises(ZeroDivisionError), tracking.run(experiment, "x", params={}) as run_id:
        _ = 1 / 0
    assert read(run_id).info.status == "FAILED"


def test_children_know_their_parent(experiment):
    with (
        tracking.run(experiment, "study", params={}) as parent,
        tracking.run(experiment, "trial", params={}, parent=parent) as child,
    ):
        pass
    assert read(child).data.tags["mlflow.parentRunId"] == parent
    with tracking.run(experiment, "study", params={}, run_id=parent) as again:
        assert again == parent


@pytest.mark.slow
def test_a_killed_run_is_ended_at_the_next_start_and_a_living_one_is_not(experiment, tmp_path):
    store = mlflow.get_tracking_uri().removeprefix("sqlite:///").removesuffix("/mlflow.db")
    code = f"""
import os, signal
from pathlib import Path
from peculiar.runs import tracking
from peculiar.core.errors import InputError
with tracking.run(tracking.connect(Path({store!r})), 'doomed', params={{}}) as run_id:
    print(run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == -9
    dead = done.stdout.strip()
    assert read(dead).info.status == "RUNNING"
    with tracking.run(experiment, "alive", params={}) as alive:
        tracking.connect(Path(store))
        assert read(dead).info.status == "KILLED"
        assert read(alive).info.status == "RUNNING"
        assert read(alive).data.tags["peculiar.host"] == socket.gethostname()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head": "binned", "members": 2, "average_turns": True},
        {"head": "gaussian", "family": "pyramid", "hidden": 5, "crop": 12},
    ],
    ids=["point", "ensemble", "pyramid"],
)
def test_the_logged_model_predicts_the_same(experiment, tmp_path, changes):
    network, blueprint = small(**changes).eval(), small_blueprint(**changes)
    if "head" in changes:
        network.head.sharpness.fill_(0.75)
    with tracking.run(experiment, "model", params={}) as run_id:
        uri = logged.log_model(network, blueprint)
    loaded = stored.read_model(logged.fetch_model(uri, tmp_path), "it")
    assert loaded.blueprint == blueprint
    rng = torch.Generator().manual_seed(1)
    for n in (1, 2, 5):
        batch = 1e4 * torch.rand(n, 2, 16, 16, generator=rng)
        with torch.inference_mode():  # rounding depends on where the weights are in memory
            torch.testing.assert_close(loaded.network(batch), network(batch), rtol=1e-5, atol=1e-4)
    info = mlflow.models.get_model_info(uri)  # what MLflow's pages show
    assert info.signature.inputs.inputs[0].shape == (-1, 2, 16, 16)
    assert info.signature.outputs.inputs[0].shape == ((-1, 50) if "head" in changes else (-1,))
    (output,) = read(run_id).outputs.model_outputs
    assert uri == f"models:/{output.model_id}"


def test_a_server_that_does_not_answer_is_one_sentence(experiment, monkeypatch, tmp_path):
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9 cannot be opened .* MLFLOW_TRACKING_URI"):
        tracking.connect(tmp_path)
    with pytest.raises(MlflowException):  # and is not taken for "there is no such run"
        tracking.run_exists("0" * 32)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.connect(Path(before.removeprefix("sqlite:///")).parent) == experiment


def test_run_exists(experiment):
    with tracking.run(experiment, "x", params={}) as run_id:
        pass
    assert tracking.run_exists(run_id)
    assert not tracking.run_exists("0" * 32)


def test_flatten_joins_nested_keys():
    assert tracking.flatten({"a": {"b": 1, "c": {"d": [2]}}}) == {"a.b": "1", "a.c.d": "[2]"}


def test_no_password_is_logged():
    logged = tracking.flatten({"search": {"storage": "postgresql://me:S3cret@host/x"}})
    assert logged == {"search.storage": "postgresql://me:***@host/x"}
