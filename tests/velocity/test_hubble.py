"""Redshift distances, and the velocity posterior against numerical integration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.stats import norm, truncnorm

from peculiar.velocity.hubble import (
    distance_given_redshift_mpc,
    peculiar_velocity_kms,
    redshift_distance_mpc,
    velocity_posterior_kms,
)

SIGMA_V, H0 = 400.0, 70.0
SIGMA_Z = SIGMA_V / H0

distances = st.floats(1, 500)
velocities = st.floats(-3000, 3000)
hubble_constants = st.floats(50, 100)


@given(D=distances, v=velocities, H0=hubble_constants)
def test_velocity_survives_the_way_through_redshift(D, v, H0):
    D_z = redshift_distance_mpc(H0 * D + v, H0)
    assert peculiar_velocity_kms(D_z, D, H0) == pytest.approx(v, abs=1e-8)


def test_velocity_is_positive_away_from_us():
    assert peculiar_velocity_kms(75.0, 70.0, H0) == 350.0
    assert redshift_distance_mpc(7000.0, H0) == 100.0


@pytest.mark.parametrize("function", [redshift_distance_mpc, peculiar_velocity_kms])
def test_shapes_are_kept(function):
    second = (H0,) if function is redshift_distance_mpc else (np.ones((2, 1)), H0)
    assert function([[1, 2, 3], [4, 5, 6]], *second).shape == (2, 3)


@given(v_p=velocities, sigma_D=st.floats(0.3, 50), sigma_v=st.floats(50, 1000))
def test_posterior_is_the_normalised_product_of_two_gaussians(v_p, sigma_D, sigma_v):
    v = np.linspace(min(0, v_p) - 8 * sigma_v, max(0, v_p) + 8 * sigma_v, 40_001)
    log_p = norm.logpdf(v, v_p, H0 * sigma_D) + norm.logpdf(v, 0, sigma_v)
    p = np.exp(log_p - log_p.max())
    p /= trapezoid(p, v)
    expected = trapezoid(p * v, v)
    deviation = np.sqrt(trapezoid(p * (v - expected) ** 2, v))
    mean, error = velocity_posterior_kms(v_p, sigma_D, sigma_v, H0)
    assert mean == pytest.approx(expected, abs=1e-6 * sigma_v)
    assert error == pytest.approx(deviation, rel=1e-6)


@pytest.mark.parametrize(("sigma_D", "rms"), [(6.3, 296), (5.0, 263), (4.0, 229), (3.0, 186)])
def test_posterior_rms_of_the_design(sigma_D, rms):
    rng = np.random.default_rng(1)
    v = rng.normal(0, SIGMA_V, 200_000)
    v_p = v + H0 * rng.normal(0, sigma_D, v.size)
    mean, error = velocity_posterior_kms(v_p, sigma_D, SIGMA_V, H0)
    assert round(error) == rms
    assert np.sqrt(np.mean((mean - v) ** 2)) == pytest.approx(error, rel=0.01)


@given(v_p=velocities, sigma_D=st.floats(0, 1e9), sigma_v=st.floats(1, 1e4))
def test_posterior_is_never_wider_than_the_prior_nor_the_image(v_p, sigma_D, sigma_v):
    mean, error = velocity_posterior_kms(v_p, sigma_D, sigma_v, H0)
    assert error <= min(sigma_v, H0 * sigma_D) * (1 + 1e-12)
    assert abs(mean) <= abs(v_p) * (1 + 1e-12)


def test_a_useless_image_leaves_the_prior_and_a_perfect_one_decides():
    mean, error = velocity_posterior_kms(500.0, 1e9, SIGMA_V, H0)
    assert mean == pytest.approx(0, abs=1e-9)
    assert error == pytest.approx(SIGMA_V)
    assert velocity_posterior_kms(500.0, 0.0, SIGMA_V, H0) == (500.0, 0.0)


def test_a_dense_uniform_prior_gives_a_truncated_normal():
    D_z = np.array([40.0, 50, 55, 75, 98, 112])
    mean, deviation = distance_given_redshift_mpc(D_z, np.linspace(50, 100, 20_001), SIGMA_Z)
    law = truncnorm((50 - D_z) / SIGMA_Z, (100 - D_z) / SIGMA_Z, D_z, SIGMA_Z)
    np.testing.assert_allclose(mean, law.mean(), atol=2e-3)
    np.testing.assert_allclose(deviation, law.std(), atol=2e-3)


def test_a_normal_prior_gives_linear_shrinkage():
    prior = norm(75, 14.5).ppf((np.arange(20_000) + 0.5) / 20_000)
    D_z = np.linspace(55, 95, 9)
    mean, deviation = distance_given_redshift_mpc(D_z, prior, SIGMA_Z)
    weight = 14.5**2 / (14.5**2 + SIGMA_Z**2)
    np.testing.assert_allclose(mean, 75 + weight * (D_z - 75), atol=5e-3)
    np.testing.assert_allclose(deviation, SIGMA_Z * np.sqrt(weight), atol=5e-3)


@pytest.mark.parametrize(
    ("draw", "rms"),
    [(lambda rng, n: rng.uniform(50, 100, n), 357), (lambda rng, n: rng.normal(75, 14.5, n), 372)],
    ids=["uniform", "normal"],
)
def test_baseline_without_an_image(draw, rms):
    rng = np.random.default_rng(2)
    D, prior = draw(rng, 8000), draw(rng, 1000)
    v = rng.normal(0, SIGMA_V, D.size)
    expected, _ = distance_given_redshift_mpc(D + v / H0, prior, SIGMA_Z)
    error = peculiar_velocity_kms(D + v / H0, expected, H0) - v
    assert np.sqrt(np.mean(error**2)) == pytest.approx(rms, abs=8)


@given(D_z=st.floats(-1e4, 1e4))
def test_far_outside_the_prior_the_nearest_of_it_is_taken(D_z):
    prior = np.linspace(50, 100, 101)
    mean, deviation = distance_given_redshift_mpc([D_z], prior, SIGMA_Z)
    assert 50 - 1e-9 <= mean[0] <= 100 + 1e-9
    assert 0 <= deviation[0] < 15
    if not -900 < D_z < 1100:
        assert mean[0] == pytest.approx(np.clip(D_z, 50, 100), abs=0.1)
