"""A trained network on disk comes back as it was, and damage is named."""

import csv
import json
import math

import pytest
import torch

from peculiar import trained
from peculiar.errors import InputError
from peculiar.params_networks import FitSection, NetworkSection

SPEC = NetworkSection(
    family="cnn",
    layers=({"filters": 3, "kernel": 3, "stride": 2},),
    batch_norm=True,
    augment=False,
    schedule="constant",
    learning_rate=1e-3,
    epochs=2,
)
FIT = FitSection(label="D_z", normalise=True, batch_size=4, softening_mag_arcsec2=24, seed=3)
HISTORY = [
    {"epoch": 1, "train_l2_mpc": 9.25, "validation_l2_mpc": 10.5},
    {"epoch": 2, "train_l2_mpc": 8.0, "validation_l2_mpc": float("nan")},
]


def make_run(**changes):
    values = {
        "dataset": "uniform",
        "distribution": "uniform",
        "network": "cnn2",
        "spec": SPEC,
        "fit": FIT,
        "bands": ("g", "r"),
        "pixels": 8,
        "target_mpc": (50.125, 49.5),
        "H0_kms_mpc": 70,
        "sigma_v_kms": 400,
        "pixel_scale_arcsec": 1.36,
        "dimming": "physical",
        "instrument": None,
        "split_by": "galaxy",
        "data_source": "stand-in",
        "data": {"data/observe/uniform": "0a1b.dir"},
        "run_id": "f00d",
        "model_uri": "models:/m-1",
        "seconds": 1.5,
        "sigma_D_mpc": 1 / 3,
        "spread_dz_mpc": 15.0,
        "zero_rms_kms": 401.5,
        "validation": {"l2_d_mpc": 0.1, "velocity_slope": 1.0},
    }
    return trained.Run(**(values | changes))


@pytest.fixture
def network():
    """A network whose weights, and running means, are not the initial ones."""
    network = make_run().fresh_network()
    network(torch.rand(4, 2, 8, 8) * 1e5)
    with torch.no_grad():
        for number, weight in enumerate(network.parameters()):
            weight += number + 1
    return network.eval()


@pytest.fixture
def folder(tmp_path, network):
    trained.write(tmp_path, network, HISTORY, make_run())
    return tmp_path


def test_network_and_run_come_back(folder, network):
    run = trained.read_run(folder)
    assert run == make_run()
    back = trained.read_network(folder, run).eval()
    images = torch.rand(3, 2, 8, 8) * 1e5
    torch.testing.assert_close(back(images), network(images), rtol=1e-6, atol=1e-6)
    ours, theirs = back.state_dict(), network.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_history_is_a_csv_row_an_epoch(folder):
    with (folder / trained.HISTORY).open(newline="") as stream:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]
    assert rows[0] == HISTORY[0]
    assert len(rows) == 2
    assert math.isnan(rows[1]["validation_l2_mpc"])


def test_the_three_files_are_all(folder):
    names = {trained.RUN, trained.WEIGHTS, trained.HISTORY}
    assert {path.name for path in folder.iterdir()} == names


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_metrics_of_a_failed_training_come_back(tmp_path, network, value):
    run = make_run(sigma_D_mpc=value, validation={"l2_d_mpc": value, "coverage_68": 0.0})
    trained.write(tmp_path, network, HISTORY, run)
    back = trained.read_run(tmp_path)
    assert repr(back.sigma_D_mpc) == repr(back.validation["l2_d_mpc"]) == repr(value)
    assert back.validation["coverage_68"] == 0


def test_fresh_weights_are_the_seeds():
    a, b = make_run().fresh_network(), make_run().fresh_network()
    other = make_run(fit=FIT.model_copy(update={"seed": 4})).fresh_network()
    assert torch.equal(a.body[0].weight, b.body[0].weight)
    assert not torch.equal(a.body[0].weight, other.body[0].weight)
    assert (float(a.offset_mpc), float(a.scale_mpc)) == (50.125, 49.5)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"run\.json is missing: run `dvc repro` to train"):
        trained.read_run(tmp_path)
    with pytest.raises(InputError, match=r"weights\.safetensors is missing: run `dvc checkout`"):
        trained.read_network(tmp_path, make_run())


@pytest.mark.parametrize("text", ["", "{", '{"dataset": "uni', "\x00"])
def test_a_damaged_run_is_refused(folder, text):
    (folder / trained.RUN).write_text(text)
    with pytest.raises(InputError, match=r"run\.json is damaged \(.*\): run `dvc checkout`"):
        trained.read_run(folder)


def test_a_run_that_lacks_or_adds_a_key_is_refused(folder):
    path = folder / trained.RUN
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"colour": 1}))
    with pytest.raises(InputError, match=r"run\.json\.colour: unknown key"):
        trained.read_run(folder)
    del values["fit"]["seed"]
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"run\.json\.fit\.seed: key is missing"):
        trained.read_run(folder)
    path.write_text("[]")
    with pytest.raises(InputError, match="should be a valid dictionary"):
        trained.read_run(folder)


@pytest.mark.parametrize("end", [0, 4, 60, -1])
def test_truncated_weights_are_refused(folder, end):
    path = folder / trained.WEIGHTS
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(InputError, match=r"does not hold this network .*: run `dvc checkout`"):
        trained.read_network(folder, make_run())


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
        trained.read_network(folder, make_run(**changes))
    assert "\n" not in str(refusal.value)


def test_runs_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        make_run().run_id = "other"
