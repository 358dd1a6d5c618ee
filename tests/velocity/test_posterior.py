"""Posterior on a grid: against closed forms, simulations, and its own inverse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest, norm

from peculiar.networks.likelihood import DistanceHead, Prior
from peculiar.velocity.grid import cdf, gaussian, moments, quantile
from peculiar.velocity.hubble import distance_given_redshift_mpc, velocity_posterior_kms
from peculiar.velocity.posterior import (
    given_redshift,
    normal,
    velocity_from_distance,
    velocity_on_grid,
)

SIGMA_Z = 400 / 70
WIDE = np.linspace(-100, 300, 4001)
GRID = np.linspace(50, 100, 101)

rows = arrays(float, (3, 101), elements=st.floats(0.01, 1)).map(
    lambda p: p / p.sum(axis=1, keepdims=True)
)


@given(mu=st.floats(60, 90), s=st.floats(2, 20), D_z=st.floats(40, 110))
def test_gaussians_without_edges_have_their_closed_form(mu, s, D_z):
    q = given_redshift(gaussian([mu], s, WIDE), WIDE, [D_z], SIGMA_Z)
    mean, deviation = moments(q, WIDE)
    v_hat, v_error = velocity_posterior_kms([70 * (D_z - mu)], s, 400, 70)
    assert 70 * (D_z - mean[0]) == pytest.approx(v_hat[0], abs=0.1)
    assert 70 * deviation[0] == pytest.approx(v_error, rel=1e-3)


def test_without_an_image_it_is_the_baseline():
    flat = np.full((5, len(GRID)), 1 / len(GRID))
    D_z = np.array([45.0, 52, 75, 98, 108])
    mean, deviation = moments(given_redshift(flat, GRID, D_z, SIGMA_Z), GRID)
    expected, spread = distance_given_redshift_mpc(D_z, GRID, SIGMA_Z)
    np.testing.assert_allclose(mean, expected)
    np.testing.assert_allclose(deviation, spread, rtol=0.01)


@given(p=rows, D_z=arrays(float, 3, elements=st.floats(40, 110)))
def test_exchanging_the_prior_is_multiplying_by_it(p, D_z):
    ratio = np.linspace(1, 3, len(GRID))
    weighted = p * ratio / (p * ratio).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        given_redshift(p, GRID, D_z, SIGMA_Z, ratio),
        given_redshift(weighted, GRID, D_z, SIGMA_Z),
        atol=1e-12,
    )


@pytest.mark.parametrize("D_z", [-1e4, 0.0, 1e4])
def test_a_redshift_far_beyond_the_grid_takes_its_end(D_z):
    q = given_redshift(np.full((1, len(GRID)), 1 / len(GRID)), GRID, [D_z], SIGMA_Z)
    assert np.isfinite(q).all()
    end = GRID[0] if D_z < 75 else GRID[-1]
    assert moments(q, GRID)[0][0] == pytest.approx(end, abs=1.0)


def test_it_is_calibrated_and_never_worse_than_zero_where_the_model_holds():
    """Distances, images and velocities drawn from the model: coverage, PIT and rms as stated."""
    rng = np.random.default_rng(0)
    D = rng.uniform(50, 100, 20_000)
    mu, v = D + rng.normal(0, 7, len(D)), rng.normal(0, 400, len(D))
    D_z = D + v / 70
    fine = np.linspace(50, 100, 251)
    q = given_redshift(gaussian(mu, 7, fine), fine, D_z, SIGMA_Z)
    low, high = quantile(q, fine, 0.16), quantile(q, fine, 0.84)
    assert np.mean((low <= D) & (high >= D)) == pytest.approx(0.68, abs=0.01)
    pit = cdf(q, fine, D)
    np.testing.assert_allclose(np.quantile(pit, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.01)
    mean, deviation = moments(q, fine)
    rms = 70 * np.sqrt(np.mean((mean - D) ** 2))
    assert rms == pytest.approx(70 * np.sqrt(np.mean(deviation**2)), rel=0.01)
    assert rms < 310 < np.std(v)  # 310: the closed form, which does not know the edges


@given(D_p=st.floats(55, 95), D_z=st.floats(45, 105), sigma_D=st.floats(1, 15))
def test_velocities_within_an_endless_range_have_their_closed_form(D_p, D_z, sigma_D):
    closed = velocity_from_distance([D_p], [D_z], sigma_D, 400, 70, None)
    wide = velocity_from_distance([D_p], [D_z], sigma_D, 400, 70, (-150, 300))
    v_hat, v_error = velocity_posterior_kms([70 * (D_z - D_p)], sigma_D, 400, 70)
    assert closed.mean_kms == pytest.approx(v_hat)
    assert closed.deviation_kms == pytest.approx(v_error)
    for name in ("mean_kms", "deviation_kms"):
        assert getattr(wide, name) == pytest.approx(getattr(closed, name), abs=2, rel=5e-3)
    for level, k in ((68, 1), (95, 2)):
        assert closed.low_kms[level] == pytest.approx(v_hat - k * v_error)
        assert wide.low_kms[level] == pytest.approx(closed.low_kms[level], abs=6)
        assert wide.high_kms[level] == pytest.approx(closed.high_kms[level], abs=6)


@given(D_p=st.floats(-200, 400), D_z=st.floats(-200, 400), sigma_D=st.floats(0.6, 1e3))
def test_no_galaxy_is_put_beyond_the_range(D_p, D_z, sigma_D):
    v = velocity_from_distance([D_p], [D_z], sigma_D, 400, 70, (50, 100))
    near, far = D_z - v.high_kms[95] / 70, D_z - v.low_kms[95] / 70
    assert 50 - 1e-6 <= near[0] <= D_z - v.mean_kms[0] / 70 <= far[0] <= 100 + 1e-6
    assert v.deviation_kms[0] > 0


def assert_same(first, second, **tolerance):
    """Two velocity posteriors agree in all they say."""
    for name in ("mean_kms", "deviation_kms"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), **tolerance)
    for ends in ("low_kms", "high_kms"):
        ours, theirs = getattr(first, ends), getattr(second, ends)
        assert ours.keys() == theirs.keys() == {68, 95}
        for level in ours:
            np.testing.assert_allclose(ours[level], theirs[level], **tolerance)


redshifts = arrays(float, 3, elements=st.floats(40, 110))


@given(D_p=arrays(float, 3, elements=st.floats(45, 105)), D_z=redshifts, sigma_D=st.floats(2, 20))
def test_a_gaussian_on_a_grid_agrees_with_velocity_from_distance(D_p, D_z, sigma_D):
    edges = np.linspace(50, 100, 501)
    fine = (edges[1:] + edges[:-1]) / 2
    ours = velocity_on_grid(gaussian(D_p, sigma_D, fine), fine, D_z, 400, 70)
    coarse = velocity_from_distance(D_p, D_z, sigma_D, 400, 70, (50, 100))
    assert_same(ours, coarse, atol=4, rtol=0.01)
    v = 70 * (D_z - 75)
    np.testing.assert_allclose(ours.pit(v), coarse.pit(v), atol=3e-3)


@given(p=rows, D_z=redshifts)
def test_a_grid_s_velocities_are_hubble_s_law_of_its_distances(p, D_z):
    v = velocity_on_grid(p, GRID, D_z, 400, 70)
    D, deviation = moments(given_redshift(p, GRID, D_z, SIGMA_Z), GRID)
    np.testing.assert_allclose(D_z - v.mean_kms / 70, D)
    np.testing.assert_allclose(v.deviation_kms, 70 * deviation)


def posteriors(p, D_z):
    """One posterior of each kind."""
    means = 70 * (D_z - p @ GRID)
    return [velocity_on_grid(p, GRID, D_z, 400, 70), normal(means, np.array([100.0, 250, 400]))]


@given(p=rows, D_z=redshifts)
def test_the_ends_of_intervals_have_the_pit_of_one_and_two_deviations(p, D_z):
    for v in posteriors(p, D_z):
        for level, k in ((68, 1), (95, 2)):
            np.testing.assert_allclose(v.pit(v.low_kms[level]), norm.cdf(-k), atol=1e-9)
            np.testing.assert_allclose(v.pit(v.high_kms[level]), norm.cdf(k), atol=1e-9)


@given(p=rows, D_z=redshifts)
def test_pit_rises_with_velocity_from_zero_to_one(p, D_z):
    for v in posteriors(p, D_z):
        at = np.linspace(-6000, 6000, 241)
        pit = np.array([v.pit(np.full(3, each)) for each in at])
        assert (np.diff(pit, axis=0) >= -1e-12).all()
        np.testing.assert_allclose(pit[0], 0, atol=1e-12)
        np.testing.assert_allclose(pit[-1], 1, atol=1e-12)


def test_pit_of_an_unknown_velocity_is_unknown():
    (on_grid, gaussians) = posteriors(np.full((3, 101), 1 / 101), np.array([55.0, 75, 95]))
    assert np.isnan(on_grid.pit(np.full(3, np.nan))).all()
    assert np.isnan(gaussians.pit(np.full(3, np.nan))).all()


def test_pit_is_uniform_for_velocities_drawn_from_the_posterior():
    rng = np.random.default_rng(3)
    mean, deviation = rng.normal(0, 200, 5000), rng.uniform(100, 400, 5000)
    v = rng.normal(mean, deviation)
    assert kstest(normal(mean, deviation).pit(v), "uniform").pvalue > 0.01
    assert kstest(normal(mean, 0.8 * deviation).pit(v), "uniform").pvalue < 1e-6


@pytest.mark.parametrize("low", [1.0, 0.2])
def test_pit_is_uniform_for_galaxies_drawn_from_the_model(low):
    """Distances from a prior that rises from `low` to 1, images, velocities of 400 km/s."""
    rng = np.random.default_rng(4)
    edges = np.linspace(50, 100, 201)
    grid = (edges[1:] + edges[:-1]) / 2
    prior = np.linspace(low, 1, 200)
    D = rng.choice(grid, 5000, p=prior / prior.sum()) + rng.uniform(-0.125, 0.125, 5000)
    mu, v = D + rng.normal(0, 7, len(D)), rng.normal(0, 400, len(D))
    flat = gaussian(mu, 7, grid)
    posterior = velocity_on_grid(flat, grid, D + v / 70, 400, 70, prior)
    assert kstest(posterior.pit(v), "uniform").pvalue > 0.01
    too_sure = velocity_on_grid(flat, grid, D + v / 70, 200, 70, prior)
    assert kstest(too_sure.pit(v), "uniform").pvalue < 1e-6


priors = arrays(float, 101, elements=st.floats(0.05, 1)).map(lambda p: p / p.sum())


@given(
    kind=st.sampled_from(["gaussian", "binned"]),
    before=priors,
    after=priors,
    raw=arrays(np.float32, (3, 101), elements=st.floats(-3, 3, width=32)),
    D_z=redshifts,
)
def test_another_prior_takes_the_place_of_the_learnt_one(kind, before, after, raw, D_z):
    raw = torch.from_numpy(raw[:, :2] if kind == "gaussian" else raw)
    p, expected = (
        DistanceHead(kind, Prior(GRID, prior, SIGMA_Z))(raw).double().exp().numpy()
        for prior in (before, after)
    )
    ratio = after / before
    np.testing.assert_allclose(
        given_redshift(p, GRID, D_z, SIGMA_Z, ratio),
        given_redshift(expected, GRID, D_z, SIGMA_Z),
        rtol=1e-4,
        atol=1e-7,
    )
    assert_same(
        velocity_on_grid(p, GRID, D_z, 400, 70, ratio),
        velocity_on_grid(expected, GRID, D_z, 400, 70),
        atol=0.5,
    )


@given(p=rows, D_z=st.floats(50, 100), error=st.floats(1, 900))
def test_intervals_of_redshifts_with_errors_have_the_stated_coverage(p, D_z, error):
    D_z = np.full(3, D_z)
    sharp = velocity_on_grid(p, GRID, D_z, 400, 70)
    v = velocity_on_grid(p, GRID, D_z, 400, 70, cz_error_kms=[0, error, error])
    np.testing.assert_allclose(v.mean_kms[0], sharp.mean_kms[0], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(v.deviation_kms[0], sharp.deviation_kms[0], rtol=1e-6)
    np.testing.assert_allclose(v.low_kms[95][0], sharp.low_kms[95][0], atol=0.01)
    for level, k in {68: 1, 95: 2}.items():
        np.testing.assert_allclose(v.pit(v.low_kms[level]), norm.cdf(-k), atol=1e-6)
        np.testing.assert_allclose(v.pit(v.high_kms[level]), norm.cdf(k), atol=1e-6)


def test_a_redshift_of_no_use_leaves_the_prior_of_velocities():
    p = gaussian([75.0], 6, GRID)
    v = velocity_on_grid(p, GRID, [75.0], 400, 70, cz_error_kms=1e6)
    assert v.mean_kms[0] == pytest.approx(0, abs=1)
    assert v.deviation_kms[0] == pytest.approx(400, rel=1e-3)
    assert v.high_kms[68][0] == pytest.approx(400, rel=1e-3)


@given(D_p=st.floats(60, 90), D_z=st.floats(50, 100), s=st.floats(2, 20), e=st.floats(1, 900))
def test_gaussians_with_errors_of_both_have_their_closed_form(D_p, D_z, s, e):
    on_grid = velocity_on_grid(gaussian([D_p], s, WIDE), WIDE, [D_z], 400, 70, cz_error_kms=e)
    v = velocity_from_distance([D_p], [D_z], s, 400, 70, None, cz_error_kms=[e])
    image = np.hypot(70 * s, e)
    assert v.mean_kms[0] == pytest.approx(70 * (D_z - D_p) / (1 + (image / 400) ** 2), abs=1e-6)
    assert v.deviation_kms[0] == pytest.approx(400 * image / np.hypot(400, image))
    assert on_grid.mean_kms[0] == pytest.approx(v.mean_kms[0], abs=0.1)
    assert on_grid.deviation_kms[0] == pytest.approx(v.deviation_kms[0], rel=1e-3)
    assert on_grid.low_kms[95][0] == pytest.approx(v.low_kms[95][0], abs=0.5)
    cut = velocity_from_distance([D_p], [D_z], s, 400, 70, (-500, 700), cz_error_kms=e)
    assert cut.high_kms[68][0] == pytest.approx(v.high_kms[68][0], abs=5)


def test_pit_is_uniform_for_galaxies_whose_redshifts_have_errors():
    rng = np.random.default_rng(5)
    n, sigma_D, error = 3000, 5.0, rng.choice([0.0, 150, 600], 3000)
    D, v = rng.uniform(50, 100, n), rng.normal(0, 400, n)
    D_z = D + (v + rng.normal(0, error)) / 70
    p = gaussian(D + rng.normal(0, sigma_D, n), sigma_D, GRID)
    posterior = velocity_on_grid(p, GRID, D_z, 400, 70, cz_error_kms=error)
    assert kstest(posterior.pit(v), "uniform").pvalue > 0.01
    inside = (posterior.low_kms[68] <= v) & (v <= posterior.high_kms[68])
    assert inside.mean() == pytest.approx(0.683, abs=0.02)
    # as if they had none, the intervals are too narrow
    naive = velocity_on_grid(p, GRID, D_z, 400, 70)
    assert kstest(naive.pit(v), "uniform").pvalue < 1e-6
