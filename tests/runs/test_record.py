"""A trained network on disk comes back as it was, and damage is named."""

import csv
import json
import math

import numpy as np
import pytest
import torch

from builders.records import BINNED, ENSEMBLE, GRID, HISTORY, SAID, SPEC, make_run, trained_network
from peculiar.core.errors import InputError
from peculiar.runs import record
from peculiar.runs.weights import WEIGHTS


@pytest.fixture
def network():
    return trained_network(make_run())


@pytest.fixture
def folder(tmp_path, network):
    record.write(tmp_path, network, HISTORY, SAID, make_run())
    return tmp_path


@pytest.mark.parametrize("changes", [{}, BINNED, ENSEMBLE], ids=["point", "binned", "ensemble"])
def test_network_and_run_come_back(tmp_path, changes):
    network = trained_network(make_run(**changes))
    record.write(tmp_path, network, HISTORY, SAID, make_run(**changes))
    run = record.read_run(tmp_path)
    assert run == make_run(**changes)
    back = record.read_network(tmp_path, run).eval()
    images = torch.rand(3, 2, 8, 8) * 1e5
    torch.testing.assert_close(back(images), network(images), rtol=1e-5, atol=1e-4)
    ours, theirs = back.state_dict(), network.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_fresh_network_has_the_grid_and_members_of_its_run():
    network = make_run(**ENSEMBLE).fresh_network()
    assert len(network.bodies) == 2
    np.testing.assert_allclose(network.head.grid_mpc, GRID, rtol=1e-6)
    assert network(torch.rand(3, 2, 8, 8)).shape == (3, len(GRID))
    assert not make_run(target_mpc=None).fresh_network().offset_mpc.any()


def test_history_is_a_csv_row_an_epoch(folder):
    with (folder / record.HISTORY).open(newline="") as stream:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]
    assert rows[0] == HISTORY[0]
    assert len(rows) == 2
    assert math.isnan(rows[1]["validation_l2_mpc"])


def test_validation_predictions_come_back_bit_by_bit(folder):
    back = record.read_validation(folder / record.VALIDATION)
    assert back.keys() == SAID.keys()
    for name, column in SAID.items():
        np.testing.assert_array_equal(back[name], column)


def test_missing_and_damaged_validation_predictions_are_refused(folder):
    path = folder / record.VALIDATION
    path.write_bytes(b"# %ECSV 1.0\n# ---\n\x00")
    with pytest.raises(InputError, match=r"validation\.ecsv is damaged .*: run `dvc checkout`"):
        record.read_validation(path)
    path.unlink()
    with pytest.raises(InputError, match=r"validation\.ecsv is missing: run `dvc repro` to train"):
        record.read_validation(path)


def test_the_four_files_are_all(folder):
    names = {record.RUN, WEIGHTS, record.HISTORY, record.VALIDATION}
    assert {path.name for path in folder.iterdir()} == names


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_metrics_of_a_failed_training_come_back(tmp_path, network, value):
    run = make_run(sigma_D_mpc=value, validation={"l2_d_mpc": value, "coverage_68": 0.0})
    record.write(tmp_path, network, HISTORY, SAID, run)
    back = record.read_run(tmp_path)
    assert repr(back.sigma_D_mpc) == repr(back.validation["l2_d_mpc"]) == repr(value)
    assert back.validation["coverage_68"] == 0


def test_fresh_weights_are_the_seeds():
    a, b = make_run().fresh_network(), make_run().fresh_network()
    other = make_run(seed=4).fresh_network()
    assert torch.equal(a.body[0].weight, b.body[0].weight)
    assert not torch.equal(a.body[0].weight, other.body[0].weight)
    assert (float(a.offset_mpc), float(a.scale_mpc)) == (50.125, 49.5)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"run\.json is missing: run `dvc repro` to train"):
        record.read_run(tmp_path)
    with pytest.raises(InputError, match=r"weights\.safetensors is missing: run `dvc checkout`"):
        record.read_network(tmp_path, make_run())


@pytest.mark.parametrize("text", ["", "{", '{"dataset": "uni', "\x00"])
def test_a_damaged_run_is_refused(folder, text):
    (folder / record.RUN).write_text(text)
    with pytest.raises(InputError, match=r"run\.json is damaged \(.*\): run `dvc checkout`"):
        record.read_run(folder)


def test_a_run_that_lacks_or_adds_a_key_is_refused(folder):
    path = folder / record.RUN
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"colour": 1}))
    with pytest.raises(InputError, match=r"run\.json\.colour: unknown key"):
        record.read_run(folder)
    del values["seed"]
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"run\.json\.seed: key is missing"):
        record.read_run(folder)
    path.write_text("[]")
    with pytest.raises(InputError, match="should be a valid dictionary"):
        record.read_run(folder)


@pytest.mark.parametrize("error", [0.125, float("nan")])
def test_the_sharpness_and_its_error_come_back(tmp_path, network, error):
    record.write(tmp_path, network, HISTORY, SAID, make_run(sharpness=1.5, sharpness_error=error))
    back = record.read_run(tmp_path)
    assert back.sharpness == 1.5
    assert repr(back.sharpness_error) == repr(error)


def test_a_run_older_than_folds_was_calibrated_by_validation(folder):
    path = folder / record.RUN
    values = json.loads(path.read_text())
    del values["spec"]["calibration_folds"], values["sharpness"], values["sharpness_error"]
    path.write_text(json.dumps(values))
    run = record.read_run(folder)
    assert run.spec.calibration_folds is None
    assert run.sharpness is run.sharpness_error is None


def test_a_run_older_than_precisions_learnt_in_float32(folder):
    path = folder / record.RUN
    values = json.loads(path.read_text())
    assert values["spec"].pop("precision") == "float32"
    path.write_text(json.dumps(values))
    assert record.read_run(folder).spec.precision == "float32"
    del values["spec"]["epochs"]
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"run\.json\.spec\.epochs: key is missing"):
        record.read_run(folder)


@pytest.mark.parametrize("end", [0, 4, 60, -1])
def test_truncated_weights_are_refused(folder, end):
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(InputError, match=r"does not hold this network .*: run `dvc checkout`"):
        record.read_network(folder, make_run())


@pytest.mark.parametrize(
    "changes",
    [
        {"bands": ("g", "r", "i")},
        {"pixels": 12},
        {"spec": SPEC.model_copy(update={"batch_norm": False})},
        {"spec": SPEC.model_copy(update={"layers": SPEC.layers * 2})},
    ],
    ids=["bands", "pixels", "batch_norm", "layers"],
)
def test_weights_of_another_network_are_refused_in_one_line(folder, changes):
    with pytest.raises(InputError, match="does not hold this network") as refusal:
        record.read_network(folder, make_run(**changes))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"grid_mpc": GRID[1:]},
        {"spec": ENSEMBLE["spec"].model_copy(update={"members": 3})},
        {"spec": ENSEMBLE["spec"].model_copy(update={"members": 1})},
        {"spec": ENSEMBLE["spec"].model_copy(update={"head": "binned"})},
        {"spec": ENSEMBLE["spec"].model_copy(update={"hidden": 6})},
    ],
    ids=["grid", "members", "member", "binned", "hidden"],
)
def test_weights_of_another_distribution_are_refused_in_one_line(tmp_path, changes):
    run = make_run(**ENSEMBLE)
    record.write(tmp_path, run.fresh_network(), HISTORY, SAID, run)
    with pytest.raises(InputError, match="does not hold this network") as refusal:
        record.read_network(tmp_path, make_run(**(ENSEMBLE | changes)))
    assert "\n" not in str(refusal.value)


def test_runs_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        make_run().run_id = "other"


@pytest.mark.parametrize("changes", [{"grid_mpc": GRID}, ENSEMBLE | {"grid_mpc": None}])
def test_a_grid_belongs_to_heads_that_give_distributions(changes):
    with pytest.raises(ValueError, match="grid_mpc must be set for heads that give distributions"):
        make_run(**changes)
