"""Training and measuring on a tiny data set, and that the pieces agree with each other."""

import numpy as np
import pytest
import torch
from astropy.table import QTable

from peculiar import experiment
from peculiar.experiment import (
    calibrate,
    column_mpc,
    measures,
    predict_split,
    predictions,
    train_network,
)
from peculiar.galaxies import Observed
from peculiar.metrics import METRICS, l2
from peculiar.params_networks import FitSection, NetworkSection

SPEC = {
    "family": "cnn",
    "layers": [{"filters": 8, "kernel": 3, "stride": 2}],
    "batch_norm": False,
    "augment": True,
    "schedule": "constant",
    "learning_rate": 1e-2,
    "epochs": 25,
}
FIT = {"label": "D", "normalise": True, "batch_size": 16, "softening_mag_arcsec2": 24, "seed": 1}


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setattr(experiment, "best_device", lambda: torch.device("cpu"))


def train(observed, on_epoch=lambda *_: None, epochs=1, **fit):
    spec = NetworkSection(**(SPEC | {"epochs": epochs}))
    return train_network(observed, spec, FitSection(**(FIT | fit)), on_epoch)


def D_and_Dz(observed, split):
    rows = observed.rows(split)
    return [column_mpc(observed, name)[rows] for name in ("distance_mpc", "distance_z_mpc")]


def test_learns_the_tiny_data_set(observed):
    curves = []
    network = train(observed, lambda epoch, curve: curves.append((epoch, curve)), epochs=25)
    D, _ = D_and_Dz(observed, "test")
    D_p = predict_split(network, observed, "test")
    assert l2(D, D_p) < 0.15 * D.std()
    assert [epoch for epoch, _ in curves] == list(range(1, 26))


@pytest.mark.parametrize(("label", "which"), [("D", 0), ("D_z", 1)])
def test_the_label_decides_scaling_and_validation_loss(observed, label, which):
    curve = {}
    network = train(observed, lambda _, last: curve.update(last), label=label)
    target = D_and_Dz(observed, "train")[which]
    assert float(network.offset_mpc) == pytest.approx(target.min())
    assert float(network.scale_mpc) == pytest.approx(np.ptp(target))
    expected = D_and_Dz(observed, "validation")[which]
    assert curve["validation_l2_mpc"] == l2(
        expected, predict_split(network, observed, "validation")
    )


@pytest.mark.parametrize("label", ["D", "D_z"])
def test_nothing_but_the_label_and_the_images_is_read(observed, label):
    other = {"D": "distance_z_mpc", "D_z": "distance_mpc"}[label]
    table = observed.table.copy()
    table[other] *= 3
    table["velocity_kms"] *= -7
    weights = [
        train(data, label=label).state_dict()
        for data in (observed, Observed(observed.images, table))
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_test_split_does_not_touch_the_weights(observed):
    table = observed.table.copy()
    table["distance_mpc"][observed.rows("test")] = np.nan
    a, b = (train(data).state_dict() for data in (observed, Observed(observed.images, table)))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_targets_may_be_left_in_mpc_or_scaled_as_normal(observed):
    network = train(observed, normalise=False)
    assert (float(network.offset_mpc), float(network.scale_mpc)) == (0, 1)
    table = QTable(observed.table)
    table.meta["distribution"] = "normal"
    network = train(Observed(observed.images, table))
    D, _ = D_and_Dz(observed, "train")
    assert float(network.offset_mpc) == pytest.approx(D.mean())
    assert float(network.scale_mpc) == pytest.approx(D.std())
    assert observed.table.meta["distribution"] == "uniform"


def test_the_network_takes_the_bands_and_softening_it_is_given(observed):
    faint, bright = (train(observed, softening_mag_arcsec2=m).softening for m in (26, 24))
    assert faint.shape == (2, 1, 1)
    torch.testing.assert_close(bright / faint, torch.full((2, 1, 1), 10**0.8))


def test_same_seed_same_predictions(observed):
    a, b, c = (predict_split(train(observed, seed=s), observed, "test") for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_predictions_are_in_the_order_of_the_split(observed):
    network = train(observed)
    D_p = predict_split(network, observed, "test")
    rows = observed.rows("test")
    with torch.inference_mode():
        expected = network(torch.from_numpy(observed.images[rows]))
    np.testing.assert_allclose(D_p, expected, rtol=1e-6)


def test_predictions_obey_hubbles_law_row_by_row(observed):
    D, D_z = D_and_Dz(observed, "test")
    D_p = D + np.random.default_rng(0).normal(0, 5, D.size)
    p = predictions(observed, "test", D_p, 5.0, None)
    rows = observed.rows("test")
    for name, expected in [
        ("galaxy", observed.table["galaxy"]),
        ("camera", observed.table["camera"]),
    ]:
        np.testing.assert_array_equal(p[name], expected[rows])
    np.testing.assert_array_equal(p["D_mpc"], D)
    np.testing.assert_array_equal(p["D_z_mpc"], D_z)
    np.testing.assert_array_equal(p["D_p_mpc"], D_p)
    np.testing.assert_allclose(p["v_kms"], observed.table["velocity_kms"].value[rows], atol=1e-9)
    np.testing.assert_allclose(p["v_p_kms"], 70 * (D_z - D_p))
    weight = 400**2 / (400**2 + 350**2)
    np.testing.assert_allclose(p["v_hat_kms"], weight * p["v_p_kms"])
    np.testing.assert_allclose(p["v_error_kms"], 400 * 350 / np.hypot(400, 350))
    assert {len(column) for column in p.values()} == {len(rows)}


def test_measures_agree_with_the_columns_they_come_from(observed):
    D, D_z = D_and_Dz(observed, "test")
    D_p = D + np.random.default_rng(0).normal(1, 5, D.size)
    p = predictions(observed, "test", D_p, 5.0, (50, 100))
    m = measures(p, 70)
    assert tuple(m) == METRICS
    assert m["l2_d_mpc"] == l2(D, D_p)
    assert m["l2_dz_mpc"] == l2(D_z, D_p)
    assert m["shift_d_mpc"] == pytest.approx(np.mean(D - D_p))
    assert m["velocity_rms_kms"] == pytest.approx(70 * m["l2_d_mpc"], rel=1e-6)
    assert m["posterior_rms_kms"] == l2(p["v_kms"], p["v_hat_kms"])
    for level in (68, 95):
        inside = (p[f"v_low{level}_kms"] <= p["v_kms"]) & (p["v_kms"] <= p[f"v_high{level}_kms"])
        assert m[f"coverage_{level}"] == inside.mean()
    # nothing is put beyond the range, and knowing it helps
    distance = p["D_z_mpc"] - np.array([p["v_low95_kms"], p["v_high95_kms"]]) / 70
    assert distance.min() >= 50 - 1e-9
    assert distance.max() <= 100 + 1e-9
    assert (
        m["posterior_rms_kms"]
        < measures(predictions(observed, "test", D_p, 5.0, None), 70)["posterior_rms_kms"]
    )


def test_calibration_takes_the_velocities_out_of_the_redshift_distances(observed):
    D, D_z = D_and_Dz(observed, "train")
    D_p = D + np.random.default_rng(0).normal(0, 9, D.size)
    sigma_D = calibrate(observed, "train", D_p)
    assert sigma_D**2 == pytest.approx(l2(D_z, D_p) ** 2 - (400 / 70) ** 2)
    assert sigma_D == pytest.approx(9, rel=0.25)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_calibration_reads_the_split_it_is_given(observed, split):
    _, D_z = D_and_Dz(observed, split)
    assert calibrate(observed, split, D_z) == pytest.approx(0.1 * 400 / 70)
    assert calibrate(observed, split, D_z + 30) == pytest.approx(np.sqrt(900 - (400 / 70) ** 2))
