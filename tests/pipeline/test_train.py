import json

import mlflow
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from builders.pipeline import inside, tiny_params, write_params
from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError
from peculiar.core.params import load
from peculiar.pipeline import train
from peculiar.pipeline.paths import Paths
from peculiar.runs import logged, record, stored, tracking
from peculiar.runs.weights import WEIGHTS
from peculiar.training.params import Train
from peculiar.training.predictions import validate

pytestmark = pytest.mark.xdist_group("pipeline")


def read(pipeline, network="cnn2"):
    folder = pipeline / f"results/train/uniform-{network}"
    run = record.read_run(folder)
    return run, record.read_network(folder, run)


@pytest.mark.parametrize("name", ["cnn2", "pyramid", "starlet", "best"])
def test_the_weights_reproduce_the_validation_metrics(pipeline, name):
    run, network = read(pipeline, name)
    sigma_D, predicted, metrics = validate(
        network, Observed.read(pipeline / "data/observe/uniform")
    )
    assert metrics == pytest.approx(run.validation, rel=1e-5)
    assert sigma_D == pytest.approx(run.sigma_D_mpc, rel=1e-5)
    assert run.zero_rms_kms == pytest.approx(np.sqrt(np.mean(predicted["v_kms"] ** 2)))


@pytest.mark.parametrize(
    ("name", "epochs", "data"),
    [("cnn2", 12, []), ("pyramid", 2 * 2, ["data/fetch"]), ("starlet", 2, ["data/fetch"])],
)
def test_the_mlflow_run_has_what_the_folder_has(pipeline, tmp_path, name, epochs, data):
    run, network = read(pipeline, name)
    with inside(pipeline):
        tracking.connect()
        blueprint, model = stored.read_model(logged.fetch_model(run.model_uri, tmp_path), name)
    assert blueprint == run.blueprint
    mlflow_run = mlflow.MlflowClient().get_run(run.run_id)
    assert mlflow_run.info.status == "FINISHED"
    assert mlflow_run.data.tags["dataset"] == "uniform"
    assert mlflow_run.data.params["network.learning_rate"] == str(run.spec.learning_rate)
    assert run.spec == load(Train, pipeline / "params.yaml").specs[name]
    for key, value in run.validation.items():
        assert mlflow_run.data.metrics[f"validation_{key}"] == pytest.approx(value)
    if name == "cnn2":
        assert run.sharpness is run.sharpness_error is None
        assert "sharpness" not in mlflow_run.data.metrics
    else:
        assert run.sharpness == pytest.approx(float(network.head.sharpness))
        for key in ("sharpness", "sharpness_error"):
            assert mlflow_run.data.metrics[key] == pytest.approx(getattr(run, key), nan_ok=True)
    assert [*run.data] == ["data/observe/uniform", *data]
    logged_data = {found.dataset.digest for found in mlflow_run.inputs.dataset_inputs}
    assert logged_data == {digest[:36] for digest in run.data.values()}
    images = Observed.read(pipeline / "data/observe/uniform").images[np.arange(3)]
    import torch

    batch = torch.from_numpy(images)
    with torch.inference_mode():
        torch.testing.assert_close(model(batch), network.eval()(batch), rtol=1e-5, atol=1e-4)
    history = mlflow.MlflowClient().get_metric_history(run.run_id, "validation_l2_mpc")
    assert [point.step for point in history] == list(range(1, epochs + 1))


def test_the_grid_of_distances_is_written_down_for_distributions_alone(pipeline):
    cnn2, pyramid = read(pipeline)[0], read(pipeline, "pyramid")
    assert cnn2.grid_mpc is None
    assert cnn2.target_mpc is not None
    run, network = pyramid
    assert run.target_mpc is None
    np.testing.assert_array_equal(run.grid_mpc, network.head.grid_mpc.double())
    assert len(network.bodies) == run.spec.members == 2
    # the prior is the weights' own, not what a fresh network is filled with
    assert float(network.head.label_error_mpc) == pytest.approx(400 / 70)


def test_best_is_built_from_best_yaml(pipeline):
    run = record.read_run(pipeline / "results/train/uniform-best")
    best = yaml.safe_load((pipeline / "results/search/best.yaml").read_text())
    assert run.spec.learning_rate == best["learning_rate"]
    assert [layer.model_dump() for layer in run.spec.layers] == best["layers"]
    assert "results/search/best.yaml" in run.data


@pytest.mark.slow
@pytest.mark.parametrize("network", ["cnn2", "pyramid", "starlet"])
def test_training_again_gives_the_same_weights(pipeline, tmp_path, network):
    for name in ("data", "params.yaml"):
        (tmp_path / name).symlink_to(pipeline / name)
    with inside(tmp_path):
        train.main(["--dataset", "uniform", "--network", network])
    where = [folder / f"results/train/uniform-{network}" for folder in (pipeline, tmp_path)]
    first, again = (load_file(folder / WEIGHTS) for folder in where)
    for name, weights in first.items():
        np.testing.assert_array_equal(again[name], weights)
    values = [json.loads((folder / "run.json").read_text()) for folder in where]
    assert values[0]["validation"] == pytest.approx(values[1]["validation"], rel=1e-6)


@pytest.mark.slow
def test_fresh_distances_need_the_galaxies_that_were_observed(pipeline, tmp_path):
    """Another simulation in data/fetch is noticed, and none at all."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/observe").symlink_to(pipeline / "data/observe")
    (tmp_path / "params.yaml").symlink_to(pipeline / "params.yaml")
    command = ["--dataset", "uniform", "--network", "pyramid"]
    with inside(tmp_path), pytest.raises(SystemExit, match=r"data/fetch is missing: run `dvc"):
        train.main(command)
    # the digest of the images is kept, and nothing else is left
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "params.yaml", ".peculiar"}


def test_a_misspelt_network_is_refused_with_the_known_ones(pipeline):
    with inside(pipeline), pytest.raises(InputError, match=r"no network 'cnn22': take cnn2, cnn3"):
        train.network_spec(load(Train), "cnn22", Paths())


def test_best_needs_a_search(tmp_path):
    write_params(tiny_params(), tmp_path)
    with (
        inside(tmp_path),
        pytest.raises(InputError, match=r"best\.yaml is missing: run `dvc repro"),
    ):
        train.network_spec(load(Train), "best", Paths())


@pytest.mark.slow
def test_a_failure_leaves_no_output_and_a_failed_run(pipeline, tmp_path, monkeypatch):
    for name in ("data", "params.yaml"):
        (tmp_path / name).symlink_to(pipeline / name)

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "write", broken)
    with inside(tmp_path):
        with pytest.raises(SystemExit, match="No space left on device"):
            train.main(["--dataset", "uniform", "--network", "cnn2"])
        experiment = tracking.connect()
    (run,) = mlflow.MlflowClient().search_runs([experiment])
    assert run.info.status == "FAILED"
    assert list((tmp_path / "results/train").iterdir()) == []
