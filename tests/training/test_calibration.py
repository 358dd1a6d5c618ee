"""Cross-fitting holds galaxies out, and the sharpness and its error are what they should be."""

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from builders.surveys import survey_meta
from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError
from peculiar.networks.heads import DistanceHead, DistributionNetwork, Prior
from peculiar.training import calibration
from peculiar.training.calibration import (
    HeldOut,
    Sharpness,
    calibrate_sharpness,
    cross_fit,
    joined,
    rows_of_folds,
    sandwich_error,
)
from peculiar.training.loader import Shared

GRID = np.linspace(50.4, 99.6, 62)
PRIOR = Prior(GRID, np.full(62, 1 / 62), 400 / 70)


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setattr(calibration, "best_device", lambda: torch.device("cpu"))


def table_of(galaxy, split, distance_mpc, velocity_kms):
    table = QTable({"galaxy": galaxy, "split": split})
    table["distance_mpc"] = distance_mpc * u.Mpc
    table["distance_z_mpc"] = (distance_mpc + velocity_kms / 70) * u.Mpc
    table.meta = survey_meta(bands=("r",), pixels=2)
    return Observed(np.zeros((len(galaxy), 1, 2, 2)), table)


def drawn(rng, galaxies, error_mpc, stated_mpc, views=4):
    """Galaxies whose views have one error together, and the raw numbers that state another."""
    n = galaxies * views
    D, v = rng.uniform(50, 100, n), rng.normal(0, 400, n)
    galaxy = np.repeat(np.arange(galaxies), views)
    D_p = D + np.repeat(rng.normal(0, error_mpc, galaxies), views)
    observed = table_of(galaxy, np.full(n, "train"), D, v)
    half, cell = (GRID[-1] - GRID[0]) / 2, GRID[1] - GRID[0]
    width = np.full(n, np.log(np.expm1((stated_mpc - cell) / half)))
    raw = torch.tensor(np.stack([(D_p - 75) / half, width], axis=-1)[None])
    return observed, HeldOut(raw, np.arange(n))


def network():
    head = DistanceHead("gaussian", PRIOR)
    return DistributionNetwork(nn.Identity(), [nn.Identity()], head, average_turns=False)


@given(
    galaxy=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    folds=st.integers(0, 5),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_folds_are_of_whole_galaxies_and_leave_the_test_split_out(galaxy, folds, seed, data):
    galaxy, n = np.array(galaxy), len(galaxy)
    splits = st.sampled_from(["train", "validation", "test"])
    split = np.array(data.draw(st.lists(splits, min_size=n, max_size=n)))
    observed = table_of(galaxy, split, np.full(n, 75.0), np.zeros(n))
    wanted = np.flatnonzero(split != "test")
    galaxies = np.unique(galaxy[wanted])
    if len(galaxies) < folds:
        with pytest.raises(
            InputError,
            match=rf"calibration_folds {folds} is more than the {len(galaxies)} galaxies that "
            "dataset uniform has to train and validate: lower it",
        ):
            rows_of_folds(observed, folds, np.random.default_rng(seed))
        return
    made = rows_of_folds(observed, folds, np.random.default_rng(seed))
    assert len(made) == folds
    if folds:
        np.testing.assert_array_equal(np.sort(np.concatenate(made)), wanted)
    of = [set(galaxy[rows]) for rows in made]
    assert sum(map(len, of)) == (len(galaxies) if folds else 0)
    assert max(map(len, of), default=0) - min(map(len, of), default=0) <= 1
    again = rows_of_folds(observed, folds, np.random.default_rng(seed))
    assert all(map(np.array_equal, made, again))


def test_no_network_speaks_about_galaxies_that_it_learnt_from():
    galaxy = np.repeat(np.arange(11), 3)
    split = np.repeat(["train", "validation", "test"], [18, 6, 9])
    observed = table_of(galaxy, split, np.full(33, 75.0), np.zeros(33))
    folds = rows_of_folds(observed, 4, np.random.default_rng(0))
    taught = {}

    def train_on(seed, rows):
        taught[seed] = rows
        built = network()
        built.bodies = nn.ModuleList([nn.Linear(1, 2)])
        nn.init.zeros_(built.bodies[0].weight)
        nn.init.constant_(built.bodies[0].bias, seed)
        return built

    shared = Shared(lambda rows: torch.zeros(len(rows), 1))
    held_out = cross_fit(train_on, shared, folds, [5, 6, 7, 8])
    assert held_out.raw.shape == (1, 24, 2)
    assert sorted(held_out.rows) == list(range(24))
    by = held_out.raw[0, :, 0].numpy()
    for seed, (learnt, held) in taught.items():
        np.testing.assert_array_equal(np.sort(held_out.rows[by == seed]), held)
        assert set(galaxy[learnt]).isdisjoint(galaxy[held])
        assert set(learnt) | set(held) == set(range(24))


def test_members_speak_about_the_same_rows_one_after_the_other():
    rows = np.array([4, 2])
    first, second = (HeldOut(torch.full((2, 2, 1), k), rows) for k in (1.0, 2.0))
    together = joined([first, second])
    assert together.raw[:, 0, 0].tolist() == [1, 1, 2, 2]
    assert together.rows is rows
    assert joined([]) is None


@given(
    values=st.lists(st.floats(-9, 9), min_size=2, max_size=30),
    views=st.integers(1, 4),
    step=st.floats(0.01, 1),
)
def test_the_error_of_a_mean_is_that_of_the_textbook(values, views, step):
    """Of losses (x - m)^2 / 2; views that only repeat a galaxy do not make it smaller."""
    x = np.repeat(values, views)
    mean = x.mean()
    losses = np.stack([(x - mean - k * step) ** 2 / 2 for k in (-1, 0, 1)])
    error = sandwich_error(losses, step, np.repeat(np.arange(len(values)), views))
    assert error == pytest.approx(np.std(values) / np.sqrt(len(values)), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("losses", [-np.ones((3, 4)) * [[2], [1], [2]], np.full((3, 4), np.nan)])
def test_without_a_minimum_there_is_no_error(losses):
    assert np.isnan(sandwich_error(losses, 0.1, np.arange(4)))


def test_the_stated_error_is_the_scatter_of_the_sharpness():
    """Four views with one error: without the galaxies the stated error would be too small."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(60):
        observed, held_out = drawn(rng, 150, error_mpc=6, stated_mpc=7)
        found.append(calibrate_sharpness(network(), observed, "D_z", held_out))
    values, errors = (np.array([getattr(s, key) for s in found]) for key in ("value", "error"))
    assert {s.galaxies for s in found} == {150}
    assert values.mean() == pytest.approx((7 / 6) ** 2, rel=0.05)
    assert errors.mean() == pytest.approx(values.std(), rel=0.25)
    alone = []
    for _ in range(10):
        observed, held_out = drawn(rng, 600, error_mpc=6, stated_mpc=7, views=1)
        alone.append(calibrate_sharpness(network(), observed, "D_z", held_out).error)
    assert np.mean(alone) < 0.85 * errors.mean()


def test_sharpness_is_set_and_said():
    observed, held_out = drawn(np.random.default_rng(0), 100, 6, 6)
    net = network()
    found = calibrate_sharpness(net, observed, "D_z", held_out)
    assert float(net.head.sharpness) == pytest.approx(found.value)
    assert 0 < found.error < 1
    assert str(Sharpness(1.25, 0.5, 7)) == "sharpness 1.250 ± 0.500 from 7 galaxies"


def test_a_sharpness_at_its_limit_has_no_error():
    observed, held_out = drawn(np.random.default_rng(0), 100, 1, 20)
    found = calibrate_sharpness(network(), observed, "D_z", held_out)
    assert found.value == pytest.approx(4, rel=1e-3)
    assert np.isnan(found.error)
