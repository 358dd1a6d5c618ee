"""Training and measuring on a tiny data set, and that the pieces agree with each other."""

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from builders.surveys import MEASURED, NORMAL, survey_meta
from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError
from peculiar.core.params import load
from peculiar.mock.params import Observe
from peculiar.networks.heads import DistributionNetwork
from peculiar.networks.likelihood import DistanceHead
from peculiar.networks.params import NetworkSection
from peculiar.pipeline.observe import observe_dataset
from peculiar.training import calibration
from peculiar.training import predictions as prediction_module
from peculiar.training import train as experiment
from peculiar.training.calibration import SHARPEST, calibrate_sharpness
from peculiar.training.predictions import (
    calibrate,
    column_mpc,
    expected_mpc,
    grid_of,
    predict_split,
    prediction_columns,
    validate,
    velocity_of,
)
from peculiar.training.prior import CELL_MPC, distance_prior, law_on_grid
from peculiar.training.train import train_calibrated, train_network
from peculiar.velocity.metrics import METRICS, l2, measures
from peculiar.velocity.posterior import normal, velocity_from_distance, velocity_on_grid

SPEC = {
    "family": "cnn",
    "label": "D",
    "normalise": True,
    "head": "point",
    "layers": [{"filters": 8, "kernel": 3, "stride": 2}],
    "batch_norm": False,
    "hidden": 0,
    "dropout": 0,
    "crop": None,
    "softening_mag_arcsec2": 24,
    "fresh": False,
    "fresh_mpc": None,
    "views": None,
    "kernels": False,
    "loss": "absolute",
    "rounds": 1,
    "augment": True,
    "average_turns": False,
    "members": 1,
    "batch_size": 16,
    "precision": "float32",
    "images_per_galaxy": None,
    "schedule": "constant",
    "learning_rate": 1e-2,
    "weight_decay": 0,
    "ema": 0,
    "patience": None,
    "epochs": 1,
    "calibration_folds": None,
}
STARLET = {
    "family": "starlet",
    "head": "gaussian",
    "hidden": 8,
    "dropout": 0.5,
    "layers": [],
    "augment": False,
}
PYRAMID = {"family": "pyramid", "head": "gaussian", "hidden": 8}
SIGMA_Z = 400 / 70  # of the shared data set, Mpc


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    for module in (experiment, calibration, prediction_module):
        monkeypatch.setattr(module, "best_device", lambda: torch.device("cpu"))


def train(observed, on_epoch=lambda *_: None, raw=None, seed=1, **changes):
    """A network by `SPEC`, but for the changes."""
    return train_network(observed, NetworkSection(**(SPEC | changes)), seed, on_epoch, raw=raw)


def other(observed, images=None, meta=None, **columns):
    """A data set with other images, entries of the meta, or columns."""
    table = observed.table.copy()
    table.meta |= meta or {}
    for name, values in columns.items():
        table[name] = values
    return Observed(observed.images if images is None else images, table)


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
    unread = {"D": "distance_z_mpc", "D_z": "distance_mpc"}[label]
    table = observed.table.copy()
    table[unread] *= 3
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
    table.meta["distances"] = NORMAL
    network = train(Observed(observed.images, table))
    D, _ = D_and_Dz(observed, "train")
    assert float(network.offset_mpc) == pytest.approx(D.mean())
    assert float(network.scale_mpc) == pytest.approx(D.std())
    assert observed.survey.distribution == "uniform"


def test_the_network_takes_the_bands_and_softening_it_is_given(observed):
    faint, bright = (train(observed, softening_mag_arcsec2=m).front.softening for m in (26, 24))
    assert faint.shape == (2, 1, 1)
    torch.testing.assert_close(bright / faint, torch.full((2, 1, 1), 10**0.8))


@pytest.mark.parametrize("changes", [{}, STARLET])
def test_same_seed_same_predictions(observed, changes):
    first, again, second = (train(observed, seed=s, **changes) for s in (1, 1, 2))
    a, b = (predict_split(network, observed, "test") for network in (first, again))
    np.testing.assert_array_equal(a, b)
    weights = zip(first.parameters(), second.parameters(), strict=True)
    assert not all(torch.equal(*pair) for pair in weights)


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
    p = prediction_columns(
        observed, "test", D_p, velocity_from_distance(D_p, D_z, 5.0, 400, 70, None)
    )
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
    below = ((p["v_kms"] < p["v_low68_kms"]), (p["v_kms"] < p["v_high68_kms"]))
    for inside, level in zip(below, (0.158655, 0.841345), strict=True):
        np.testing.assert_array_equal(p["pit"] < level, inside)
    assert {len(column) for column in p.values()} == {len(rows)}


def test_measures_agree_with_the_columns_they_come_from(observed):
    D, D_z = D_and_Dz(observed, "test")
    D_p = D + np.random.default_rng(0).normal(1, 5, D.size)
    p, unbounded = (
        prediction_columns(
            observed, "test", D_p, velocity_from_distance(D_p, D_z, 5.0, 400, 70, ends)
        )
        for ends in ((50, 100), None)
    )
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
    assert m["posterior_rms_kms"] < measures(unbounded, 70)["posterior_rms_kms"]


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


def test_velocities_of_measured_distances_are_unknown(observed):
    """Their difference from cz is mostly the motion of the Sun; what is predicted stays."""
    _, D_z = D_and_Dz(observed, "test")
    v = normal(np.zeros(60), np.full(60, 400.0))
    known = prediction_columns(observed, "test", D_z, v)
    real = prediction_columns(other(observed, meta={"distances": MEASURED}), "test", D_z, v)
    for name in known:
        if name in ("v_kms", "pit"):
            assert np.isnan(real[name]).all()
        else:
            np.testing.assert_array_equal(real[name], known[name])


def edges(prior):
    half = (prior.grid_mpc[1] - prior.grid_mpc[0]) / 2
    return prior.grid_mpc[0] - half, prior.grid_mpc[-1] + half, 2 * half


def with_law(observed, **law):
    return other(observed, meta={"distances": law})


def reaches(prior, low, high):
    """The grid goes on beyond the law, which is zero there; its limits are edges of cells."""
    first, last, cell = edges(prior)
    by = 3 * (SIGMA_Z + 10)
    assert cell <= CELL_MPC + 1e-9
    np.testing.assert_allclose(np.diff(prior.grid_mpc), cell)
    assert last >= high + by - 1e-9
    assert prior.grid_mpc[0] > 0
    if low > 0:
        assert -1e-9 < first <= max(low - by, cell) + 1e-9  # 2e-16 above an edge rounds to it
    within = prior.p > 0
    np.testing.assert_array_equal(
        within, (prior.grid_mpc > low - 1e-6) & (prior.grid_mpc < high + 1e-6)
    )
    assert within.sum() * cell == pytest.approx(high - low)
    assert prior.p.sum() == pytest.approx(1)
    return prior.grid_mpc[within], prior.p[within]


lows, widths, of_labels = st.floats(1, 200), st.floats(1, 400), st.sampled_from(["D", "D_z"])


@given(low=lows, width=widths, label=of_labels)
def test_a_uniform_prior_is_flat_within_its_limits_and_its_grid_goes_on(
    observed, low, width, label
):
    law = {"distribution": "uniform", "min_mpc": low, "max_mpc": low + width}
    prior = distance_prior(with_law(observed, **law), label)
    _, p = reaches(prior, low, low + width)
    np.testing.assert_allclose(p, 1 / len(p))
    cell = edges(prior)[2]
    assert prior.label_error_mpc == pytest.approx(SIGMA_Z if label == "D_z" else cell)


@given(low=lows, width=widths)
def test_a_prior_of_a_volume_grows_as_the_square_of_the_distance(observed, low, width):
    law = {"distribution": "volume", "min_mpc": low, "max_mpc": low + width}
    D, p = reaches(distance_prior(with_law(observed, **law), "D_z"), low, low + width)
    np.testing.assert_allclose(p / p[0], (D / D[0]) ** 2)


@given(mean=st.floats(60, 200), sigma=st.floats(2, 10), label=of_labels)
def test_a_normal_prior_has_the_mean_and_deviation_of_its_law(observed, mean, sigma, label):
    law = {"distribution": "normal", "mean_mpc": mean, "sigma_mpc": sigma, "min_mpc": 5.0}
    prior = distance_prior(with_law(observed, **law), label)
    first, last, cell = edges(prior)
    assert 0 < first <= cell + 1e-9
    assert last >= mean + 5 * sigma + 3 * (SIGMA_Z + 10) - 1e-9
    beyond = (prior.grid_mpc < 5) | (prior.grid_mpc > mean + 5 * sigma)
    assert (prior.p[beyond] == 0).all()
    assert prior.p @ prior.grid_mpc == pytest.approx(mean, rel=1e-4)
    deviation = np.sqrt(prior.p @ (prior.grid_mpc - mean) ** 2)
    assert deviation == pytest.approx(sigma, rel=1e-3)


@given(low=lows, width=widths)
def test_limits_of_fresh_distances_replace_the_law(observed, low, width):
    prior = distance_prior(observed, "D_z", (low, low + width))
    _, p = reaches(prior, low, low + width)
    np.testing.assert_allclose(p, 1 / len(p))


def test_a_grid_may_end_with_its_law(observed):
    prior = distance_prior(observed, "D_z", beyond=False)
    assert edges(prior)[:2] == pytest.approx((50, 100))
    np.testing.assert_allclose(prior.p, 1 / len(prior.p))


@given(factor=st.floats(0.02, 5), label=of_labels)
def test_a_prior_of_measured_galaxies_covers_the_redshifts_of_the_training_split(
    observed, factor, label
):
    """And reads neither another split nor a distance."""
    rows, D_z = observed.rows("train"), observed.table["distance_z_mpc"] * factor
    D_z[np.setdiff1d(np.arange(240), rows)] = np.nan
    real = other(
        observed,
        meta={"distances": MEASURED},
        distance_z_mpc=D_z,
        distance_mpc=D_z * np.nan,
    )
    low = max(0, D_z[rows].value.min() - 3 * SIGMA_Z)
    high = D_z[rows].value.max() + 3 * SIGMA_Z
    prior = distance_prior(real, label)
    _, p = reaches(prior, low, high)
    np.testing.assert_allclose(p, 1 / len(p))
    np.testing.assert_allclose(law_on_grid(real, prior.grid_mpc), prior.p, atol=1e-12)


@given(low=st.floats(20, 90), width=st.floats(1, 50), cells=st.integers(30, 300))
def test_a_law_on_any_grid_is_its_share_of_each_cell(observed, low, width, cells):
    """Against the distances themselves, on a grid whose edges are not the law's limits."""
    law = {"distribution": "uniform", "min_mpc": low, "max_mpc": low + width}
    edge = np.linspace(3, 160, cells + 1)
    p = law_on_grid(with_law(observed, **law), (edge[1:] + edge[:-1]) / 2)
    expected = np.diff(np.clip(edge, low, low + width)) / width
    np.testing.assert_allclose(p, expected, atol=1e-9)


def test_a_grid_without_a_distance_of_the_dataset_is_refused(observed):
    with pytest.raises(InputError, match=r"uniform has no distance from 10 to 40 Mpc, which the"):
        law_on_grid(observed, np.linspace(10, 40, 31))


@pytest.mark.parametrize("changes", [PYRAMID, PYRAMID | {"head": "binned"}])
def test_a_trained_network_has_a_flat_prior_and_is_measured_with_the_law(observed, changes):
    data = with_law(observed, distribution="volume", min_mpc=50, max_mpc=100)
    network = train(data, **changes)
    prior, grid = network.head.log_prior, grid_of(network)
    assert len(set(prior.tolist())) == 1
    flat = network(torch.from_numpy(data.images[data.rows("test")])).double().numpy(force=True)
    law = law_on_grid(data, grid)
    assert ((law > 0).all()) == (changes["head"] == "binned")
    expected = flat * law
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predict_split(network, data, "test"), expected, atol=1e-6)
    assert torch.equal(network.head.log_prior, prior)  # as before


def test_the_law_is_taken_back_when_a_measurement_fails(observed, monkeypatch):
    network = train(observed, **PYRAMID)
    before = network.head.log_prior.clone()

    def failing(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(prediction_module, "run_network", failing)
    with pytest.raises(ZeroDivisionError):
        predict_split(network, observed, "test")
    assert torch.equal(network.head.log_prior, before)


def test_fresh_distances_have_the_limits_asked_for(placed):
    """They are the training law: its scale is the head's, whose grid goes on beyond."""
    changes = PYRAMID | {"fresh": True, "fresh_mpc": (30.0, 130.0), "batch_size": 4}
    network = train(placed[0], raw=placed[1], **changes)
    assert float(network.head.middle_mpc) == pytest.approx(80)
    assert float(network.head.half_mpc) == pytest.approx(50, abs=CELL_MPC)
    grid = grid_of(network)
    assert grid[0] < CELL_MPC * 1.5
    assert grid[-1] > 130 + 3 * (SIGMA_Z + 10) - CELL_MPC


class Told(nn.Module):
    """A body whose images are its raw numbers already: it knows what it is told, no more."""

    def __init__(self, columns):
        super().__init__()
        self.columns = columns

    def forward(self, scaled):
        return scaled.flatten(1)[:, self.columns]


def told(observed, D_p_mpc, deviation_mpc, label, members=1):
    """A data set, and a network whose members state these Gaussians of mean (n, member)."""
    D_p_mpc = np.asarray(D_p_mpc).reshape(len(observed.table), -1)
    head = DistanceHead("gaussian", distance_prior(observed, label))
    _, _, cell = edges(distance_prior(observed, label))
    middle, half = float(head.middle_mpc), float(head.half_mpc)
    width = np.broadcast_to((deviation_mpc - cell) / half, D_p_mpc.shape)
    raw = np.stack([(D_p_mpc - middle) / half, np.log(np.expm1(width))], axis=-1)
    images = raw.reshape(len(raw), 1, 1, -1).astype(np.float32)
    bodies = [Told(slice(2 * k, 2 * k + 2)) for k in range(members)]
    network = DistributionNetwork(nn.Identity(), bodies, head, average_turns=False)
    return other(observed, images), network


@pytest.fixture(scope="module")
def many():
    """The table of 4,000 galaxies, 3,000 of them for validation: D uniform from 50 to 100 Mpc."""
    rng, table = np.random.default_rng(5), QTable()
    table["galaxy"], table["camera"] = np.arange(4000), np.zeros(4000, dtype=int)
    D, v = rng.uniform(50, 100, 4000), rng.normal(0, 400, 4000)
    table["distance_mpc"], table["distance_z_mpc"] = D * u.Mpc, (D + v / 70) * u.Mpc
    table["split"] = np.repeat(["validation", "test"], [3000, 1000])
    table.meta = survey_meta(bands=("r",), pixels=2)
    return Observed(np.zeros((4000, 1, 1, 2)), table)


@pytest.mark.parametrize("label", ["D", "D_z"])
@pytest.mark.parametrize("stated", [0.6, 1.0, 1.6])
def test_sharpness_corrects_the_errors_a_network_states(many, label, stated):
    """A likelihood to the power a is a Gaussian whose deviation is smaller by sqrt(a)."""
    true, D = 6.0, many.table["distance_mpc"].value
    D_p = D + np.random.default_rng(0).normal(0, true, D.size)
    data, network = told(many, D_p, stated * true, label)
    calibrate_sharpness(network, data, label)
    assert float(network.head.sharpness) == pytest.approx(stated**2, rel=0.12)


def test_sharpness_has_a_limit(many):
    D = many.table["distance_mpc"].value
    data, network = told(many, D, 20.0, "D_z")
    calibrate_sharpness(network, data, "D_z")
    assert float(network.head.sharpness) == pytest.approx(SHARPEST, rel=1e-3)


@pytest.mark.parametrize("deviation", [1.0, 4.0, 15.0])
def test_a_network_that_learnt_nothing_ends_as_the_prior(many, deviation):
    """Its velocities are then those of p(D) and the redshift, and no worse than v = 0."""
    D_p = np.random.default_rng(6).uniform(50, 100, 4000)
    data, network = told(many, D_p, deviation, "D_z")
    _, before, _ = validate(network, data)
    calibrate_sharpness(network, data, "D_z")
    assert 0 <= float(network.head.sharpness) < 0.06
    _, predicted, after = validate(network, data)
    zero = l2(predicted["v_kms"], 0)
    assert after["posterior_rms_kms"] < 0.97 * zero
    assert after["posterior_rms_kms"] < l2(before["v_kms"], before["v_hat_kms"])
    assert after["coverage_68"] == pytest.approx(0.683, abs=0.03)
    assert np.std(predicted["D_p_mpc"]) < 3


def test_members_that_disagree_are_calibrated_by_their_mean(many):
    """The mean of two independent members is wider than either: both are made sharper."""
    D, rng = many.table["distance_mpc"].value, np.random.default_rng(0)
    D_p = D[:, None] + rng.normal(0, 6, (D.size, 2))
    data, network = told(many, D_p, 6.0, "D_z", members=2)
    calibrate_sharpness(network, data, "D_z")
    labels, rows = torch.tensor(D_and_Dz(many, "validation")[1]), many.rows("validation")
    best = float(network.head.sharpness)

    def score(sharpness):
        network.head.sharpness.fill_(sharpness)
        with torch.inference_mode():
            p = network(torch.from_numpy(data.images[rows]))
        return float(network.head.loss(p.double().log(), labels).mean())

    assert best > 1.05
    assert score(best) < min(score(best * 0.9), score(best * 1.1))


def test_calibration_of_sharpness_reads_the_validation_split_alone(many):
    D, rows = many.table["distance_mpc"].value, many.rows("test")
    data, network = told(many, D + np.random.default_rng(0).normal(0, 6, D.size), 4.0, "D_z")
    calibrate_sharpness(network, data, "D_z")
    expected = float(network.head.sharpness)
    images = data.images.copy()
    images[rows] = np.nan
    blind = other(data, images)
    for name in ("distance_mpc", "distance_z_mpc"):
        blind.table[name][rows] = np.nan
    calibrate_sharpness(network, blind, "D_z")  # also: what it was before does not matter
    assert float(network.head.sharpness) == expected
    assert expected < 1


def test_a_diverged_network_keeps_its_nan_and_nothing_else_breaks(many):
    data, network = told(many, np.full(4000, np.nan), 5.0, "D_z")
    calibrate_sharpness(network, data, "D_z")
    assert float(network.head.sharpness) == 0
    _, predicted, metrics = validate(network, data)
    assert np.isnan(predicted["D_p_mpc"]).all()
    assert np.isnan(metrics["posterior_rms_kms"])


@pytest.mark.parametrize("head", ["gaussian", "binned"])
def test_distributions_are_learnt_from_redshifts_and_are_those_of_distances(observed, head):
    """The images tell D; the labels are D_z, which are 5.7 Mpc off."""
    how = {"epochs": 30, "learning_rate": 1e-2, "ema": 0.9, "schedule": "onecycle"}
    network = train(observed, label="D_z", **(PYRAMID | how | {"head": head}))
    D, D_z = D_and_Dz(observed, "test")
    p, grid = predict_split(network, observed, "test"), grid_of(network)
    assert p.shape == (60, len(grid))
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    D_p = expected_mpc(p, grid)
    assert l2(D, D_p) < 0.3 * D.std()
    stated = np.sqrt(np.einsum("ng,ng->n", p, (grid - D_p[:, None]) ** 2))
    if head == "gaussian":  # 63 bins learn no shape so soon
        assert stated.mean() < 0.8 * SIGMA_Z
    v = velocity_of(observed, "test", p, np.nan, grid)  # no need of a point head's error
    m = measures(prediction_columns(observed, "test", D_p, v), 70)
    assert m["velocity_rms_kms"] == pytest.approx(70 * m["l2_d_mpc"], rel=1e-9)
    assert m["posterior_rms_kms"] < 0.8 * l2(70 * (D_z - D), 0)


def test_velocities_are_by_the_grid_or_by_the_error_of_point_heads(observed):
    D, D_z = D_and_Dz(observed, "test")
    point = velocity_of(observed, "test", D, 5.0, None)
    expected = velocity_from_distance(D, D_z, 5.0, 400, 70, observed.survey.range_mpc)
    np.testing.assert_array_equal(point.mean_kms, expected.mean_kms)
    grid = np.linspace(40, 110, 71)
    p = np.random.default_rng(0).dirichlet(np.ones(71), 60)
    v, expected = (
        velocity_of(observed, "test", p, 5.0, tuple(grid)),
        velocity_on_grid(p, grid, D_z, 400, 70),
    )
    np.testing.assert_array_equal(v.mean_kms, expected.mean_kms)
    np.testing.assert_array_equal(v.low_kms[95], expected.low_kms[95])


def test_validation_is_by_what_the_network_gives(observed):
    for changes in ({}, PYRAMID):
        network = train(observed, **changes)
        sigma_D, predicted, metrics = validate(network, observed)
        output, grid = predict_split(network, observed, "validation"), grid_of(network)
        assert (grid is None) == (not changes)
        D_p = output if grid is None else output @ grid
        np.testing.assert_array_equal(predicted["D_p_mpc"], D_p)
        assert sigma_D == calibrate(observed, "validation", D_p)
        v = velocity_of(observed, "validation", output, sigma_D, grid)
        np.testing.assert_array_equal(predicted["v_hat_kms"], v.mean_kms)
        assert metrics == measures(predicted, 70)


def bodies(network):
    return [dict(body.named_parameters()) for body in network.bodies]


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_members_are_counted_on_differ_and_begin_with_the_single_network(observed):
    epochs = []
    alone = train(observed, epochs=2, **PYRAMID)
    network = train(observed, lambda epoch, _: epochs.append(epoch), epochs=2, members=2, **PYRAMID)
    assert epochs == [1, 2, 3, 4]
    first, second = bodies(network)
    assert same(first, bodies(alone)[0])
    assert not any(torch.equal(first[k], second[k]) for k in first if k.endswith("0.weight"))


def test_an_ensemble_repeats_itself_from_its_seed(observed):
    a, b, c = (
        predict_split(train(observed, members=2, seed=s, **PYRAMID), observed, "test")
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(a, b)
    assert not np.isclose(a, c).all()


def test_an_ensemble_gives_the_mean_of_its_members(observed):
    network = train(observed, members=3, **PYRAMID)
    images = torch.from_numpy(observed.images[observed.rows("test")])
    with torch.inference_mode():
        each = [
            DistributionNetwork(network.front, [body], network.head, average_turns=False)(images)
            for body in network.bodies
        ]
        torch.testing.assert_close(network(images), torch.stack(each).mean(dim=0))


@pytest.mark.parametrize("changes", [{"fresh": True}, PYRAMID, PYRAMID | {"members": 2}])
def test_the_test_split_touches_neither_weights_nor_sharpness(observed, placed, changes):
    data, raw = placed if changes.get("fresh") else (observed, None)
    rows = data.rows("test")
    images = data.images[np.arange(len(data.table))]
    images[rows] = np.nan
    blind = other(data, images)
    for name in ("distance_mpc", "distance_z_mpc", "velocity_kms"):
        blind.table[name][rows] = np.nan
    a, b = (train(d, raw=raw, batch_size=4, **changes).state_dict() for d in (data, blind))
    assert same(a, b)


@pytest.fixture(scope="module")
def placed(raw_folder, params_file, tmp_path_factory):
    """24 images of 8 pixels that `observe` placed, and the folder they are from."""
    params = load(Observe, params_file).model_copy(update={"pixels": 8, "psf_fwhm_arcsec": None})
    folder = tmp_path_factory.mktemp("placed") / "uniform"
    observe_dataset(params, "uniform", raw_folder, folder)
    return Observed.read(folder), raw_folder


FRESH = {"fresh": True, "batch_size": 4, "label": "D_z"}


@pytest.mark.parametrize(
    ("changes", "on"),
    [
        (PYRAMID, "observed"),
        (PYRAMID | {"members": 2}, "observed"),
        (PYRAMID | FRESH, "placed"),
        (STARLET | FRESH | {"views": 2, "kernels": True, "learning_rate": 1e-3}, "placed"),
    ],
    ids=["stored", "ensemble", "fresh", "views"],
)
def test_folds_change_the_sharpness_and_no_weight(observed, placed, changes, on):
    data, raw = (observed, None) if on == "observed" else placed
    found = []
    for folds in (0, 4, 4):
        spec = NetworkSection(**(SPEC | changes | {"calibration_folds": folds, "epochs": 2}))
        epochs, of_folds = [], []
        network, sharpness = train_calibrated(
            data,
            spec,
            1,
            lambda epoch, _, epochs=epochs: epochs.append(epoch),
            raw=raw,
            on_fold_epoch=lambda epoch, _, of_folds=of_folds: of_folds.append(epoch),
        )
        assert epochs == list(range(1, spec.all_epochs + 1))
        assert of_folds == [1, 2] * folds * spec.members
        assert float(network.head.sharpness) == pytest.approx(sharpness.value)
        found.append((network.state_dict(), sharpness))
    (without, _), (with_folds, first), (_, again) = found
    differ = {name for name in without if not torch.equal(without[name], with_folds[name])}
    assert differ <= {"head.sharpness"}
    assert differ or on == "placed"  # twelve galaxies teach too little: the prior is left
    assert repr(first) == repr(again)
    splits = [set(data.table["galaxy"][data.rows(name)]) for name in ("train", "validation")]
    assert first.galaxies == len(set.union(*splits))
    assert found[0][1].galaxies == len(splits[1])


def test_a_point_head_has_no_sharpness_and_needs_no_folds(observed):
    def never(*_):
        raise AssertionError

    spec = NetworkSection(**(SPEC | {"calibration_folds": 4}))
    network, sharpness = train_calibrated(observed, spec, 1, lambda *_: None, on_fold_epoch=never)
    assert sharpness is None
    assert same(network.state_dict(), train(observed).state_dict())


def test_rounds_learn_from_labels_that_the_round_before_corrected(observed, monkeypatch):
    taught, epochs = [], []
    fit = experiment.fit

    def spy(network, images, targets_mpc, *args, **kwargs):
        taught.append(targets_mpc.copy())
        fit(network, images, targets_mpc, *args, **kwargs)

    monkeypatch.setattr(experiment, "fit", spy)
    network = train(
        observed, lambda epoch, _: epochs.append(epoch), label="D_z", rounds=3, epochs=4
    )
    D, D_z = (column_mpc(observed, name) for name in ("distance_mpc", "distance_z_mpc"))
    rows = observed.rows("train")
    others = np.setdiff1d(np.arange(len(D)), rows)
    assert len(taught) == 3
    assert epochs == list(range(1, 13))
    np.testing.assert_array_equal(taught[0], D_z)
    for labels in taught:  # neither validation nor test is corrected
        np.testing.assert_array_equal(labels[others], D_z[others])
    # this data set tells distances well: corrected labels are nearer to them
    assert l2(D[rows], taught[1][rows]) < 0.9 * l2(D[rows], D_z[rows])
    once = train(observed, label="D_z", epochs=4)
    corrected = experiment.corrected_mpc(once, observed)
    np.testing.assert_allclose(taught[1][rows], corrected, atol=1e-3)
    assert not torch.equal(network.body[0].weight, once.body[0].weight)


def test_a_network_of_other_numbers_than_pixels_learns_in_rounds_too(observed):
    changes = STARLET | {"head": "point"}
    network = train(observed, label="D_z", rounds=2, **changes)
    assert np.isfinite(experiment.corrected_mpc(network, observed)).all()


def test_rounds_end_when_labels_change_no_more(observed, monkeypatch):
    D_z = column_mpc(observed, "distance_z_mpc")[observed.rows("train")]
    monkeypatch.setattr(experiment, "corrected_mpc", lambda *_: D_z + 0.01)
    epochs = []
    train(observed, lambda epoch, _: epochs.append(epoch), label="D_z", rounds=9)
    assert epochs == [1]


def test_fractional_errors_need_labels_above_zero(observed):
    D_z = observed.table["distance_z_mpc"].copy()
    D_z[observed.rows("train")[0]] = -2.5 * u.Mpc
    near = other(observed, distance_z_mpc=D_z)
    with pytest.raises(
        InputError, match=r"labels above 0, and dataset uniform has -2\.5 Mpc: take"
    ):
        train(near, label="D_z", loss="fractional")
    train(observed, label="D_z", loss="fractional")


def test_fresh_distances_are_drawn_by_the_seed(placed):
    observed, raw = placed
    networks = [
        train(observed, raw=raw, epochs=2, batch_size=4, fresh=fresh, seed=seed).state_dict()
        for fresh, seed in ((True, 1), (True, 1), (True, 2), (False, 1))
    ]
    assert same(networks[0], networks[1])
    assert not same(networks[0], networks[2])
    assert not same(networks[0], networks[3])


def test_kernels_at_random_are_a_switch(placed):
    observed, raw = placed
    states = [
        train(observed, raw=raw, epochs=2, batch_size=4, fresh=True, kernels=kernels).state_dict()
        for kernels in (True, True, False)
    ]
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


def test_fresh_distances_look_at_the_cropped_middle_alone(placed):
    """A network of the middle of 8 pixels sees 4, of the data set and of fresh views alike."""
    observed, raw = placed
    network = train(observed, raw=raw, batch_size=4, fresh=True, crop=4)
    rows = observed.rows("validation")
    images = observed.images[rows]
    rim = np.ones((8, 8), dtype=bool)
    rim[2:-2, 2:-2] = False
    expected = predict_split(network, observed, "validation")
    images[..., rim] = np.nan
    with torch.inference_mode():
        np.testing.assert_allclose(network(torch.from_numpy(images)), expected, rtol=1e-6)
