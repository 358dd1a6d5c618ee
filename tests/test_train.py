import json

import mlflow
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from tiny import inside, tiny_params, write_params

from peculiar import tracking, train, trained
from peculiar.errors import InputError
from peculiar.experiment import distance_range_mpc, measures, predict_split, predictions
from peculiar.galaxies import Observed
from peculiar.params import load
from peculiar.params_networks import Train

pytestmark = pytest.mark.xdist_group("pipeline")
CNN2 = "results/train/uniform-cnn2"


def read(pipeline):
    run = trained.read_run(pipeline / CNN2)
    return run, trained.read_network(pipeline / CNN2, run)


def test_the_weights_reproduce_the_validation_metrics(pipeline):
    run, network = read(pipeline)
    observed = Observed.read(pipeline / "data/observe/uniform")
    D_p = predict_split(network, observed, "validation")
    predicted = predictions(
        observed, "validation", D_p, run.sigma_D_mpc, distance_range_mpc(observed)
    )
    assert measures(predicted, 70) == pytest.approx(run.validation, rel=1e-5)
    assert run.zero_rms_kms == pytest.approx(np.sqrt(np.mean(predicted["v_kms"] ** 2)))


def test_the_mlflow_run_has_what_the_folder_has(pipeline):
    run, network = read(pipeline)
    with inside(pipeline):
        tracking.connect()
        model = tracking.load_model(run.model_uri)
    logged = mlflow.MlflowClient().get_run(run.run_id)
    assert logged.info.status == "FINISHED"
    assert logged.data.tags["dataset"] == "uniform"
    assert logged.data.params["network.learning_rate"] == "0.003"
    for key, value in run.validation.items():
        assert logged.data.metrics[f"validation_{key}"] == pytest.approx(value)
    (dataset,) = logged.inputs.dataset_inputs
    assert dataset.dataset.digest == run.data["data/observe/uniform"][:36]
    images = Observed.read(pipeline / "data/observe/uniform").images[np.arange(3)]
    import torch

    batch = torch.from_numpy(images)
    with torch.inference_mode():
        torch.testing.assert_close(model(batch), network.eval()(batch), rtol=1e-5, atol=1e-4)
    history = mlflow.MlflowClient().get_metric_history(run.run_id, "validation_l2_mpc")
    assert [point.step for point in history] == list(range(1, 13))
    figures = {f.path for f in mlflow.MlflowClient().list_artifacts(run.run_id, "figures")}
    assert figures == {"figures/history.png", "figures/distances.png"}


def test_best_is_built_from_best_yaml(pipeline):
    run = trained.read_run(pipeline / "results/train/uniform-best")
    best = yaml.safe_load((pipeline / "results/search/best.yaml").read_text())
    assert run.spec.learning_rate == best["learning_rate"]
    assert [layer.model_dump() for layer in run.spec.layers] == best["layers"]
    assert "results/search/best.yaml" in run.data


@pytest.mark.slow
def test_training_again_gives_the_same_weights(pipeline, tmp_path):
    for name in ("data", "params.yaml"):
        (tmp_path / name).symlink_to(pipeline / name)
    with inside(tmp_path):
        train.main(["--dataset", "uniform", "--network", "cnn2"])
    first, again = (load_file(folder / CNN2 / trained.WEIGHTS) for folder in (pipeline, tmp_path))
    for name, weights in first.items():
        np.testing.assert_array_equal(again[name], weights)
    values = [json.loads((f / CNN2 / "run.json").read_text()) for f in (pipeline, tmp_path)]
    assert values[0]["validation"] == pytest.approx(values[1]["validation"], rel=1e-6)


def test_a_misspelt_network_is_refused_with_the_known_ones(pipeline):
    with inside(pipeline), pytest.raises(InputError, match=r"no network 'cnn22': take cnn2, cnn3"):
        train.network_spec(load(Train), "cnn22")


def test_best_needs_a_search(tmp_path):
    write_params(tiny_params(), tmp_path)
    with (
        inside(tmp_path),
        pytest.raises(InputError, match=r"best\.yaml is missing: run `dvc repro"),
    ):
        train.network_spec(load(Train), "best")


def test_a_failure_leaves_no_output_and_a_failed_run(pipeline, tmp_path, monkeypatch):
    for name in ("data", "params.yaml"):
        (tmp_path / name).symlink_to(pipeline / name)

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trained, "write", broken)
    with inside(tmp_path):
        with pytest.raises(SystemExit, match="No space left on device"):
            train.main(["--dataset", "uniform", "--network", "cnn2"])
        experiment = tracking.connect()
    (run,) = mlflow.MlflowClient().search_runs([experiment])
    assert run.info.status == "FAILED"
    assert list((tmp_path / "results/train").iterdir()) == []
