"""Distances, velocities and log ratios: astropy, a direct integral, and the paper's identities."""

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from peculiar.core.cosmography import COSMOLOGIES, Cosmography
from peculiar.core.frames import convert_cz_kms
from peculiar.velocity.grid import cells_mpc, gaussian, log_distance_ratio, moments, moved
from peculiar.velocity.hubble import peculiar_velocity_kms, redshift_distance_mpc
from peculiar.velocity.posterior import velocity_on_grid

C_KMS = 299792.458
HUBBLE, FLAT = (Cosmography(name, 70) for name in COSMOLOGIES)
distances = st.floats(1, 400)


@pytest.mark.parametrize("Om0", [0.0, 0.3, 1.0])
def test_distances_are_astropy_s_and_those_of_the_integral(Om0):
    ours = Cosmography("flat_lambda_cdm", 70, Om0)
    z = np.linspace(1e-4, 0.1, 40)
    theirs = FlatLambdaCDM(H0=70, Om0=Om0, Tcmb0=0).comoving_distance(z).value
    found = ours.distance_mpc(C_KMS * z)
    np.testing.assert_allclose(found, theirs, rtol=1e-6)
    (last, _) = quad(lambda at: 1 / np.sqrt(Om0 * (1 + at) ** 3 + 1 - Om0), 0, z[-1])
    assert found[-1] == pytest.approx(C_KMS / 70 * last, rel=1e-7)


def test_the_errors_of_hubble_s_law_are_those_of_the_literature():
    """At cz/H0 of 100, 150 and 350 Mpc the paper's v is wrong by so much, at rest."""
    by_hubble = np.array([100, 150, 350])
    D = FLAT.distance_mpc(70 * by_hubble)
    np.testing.assert_allclose(70 * (by_hubble - D), [36.96, 83.35, 457.71], atol=0.01)
    np.testing.assert_allclose(FLAT.velocity_kms(70 * by_hubble, D), 0, atol=1e-3)


@given(D=distances, v=st.floats(-3000, 3000), name=st.sampled_from(COSMOLOGIES))
def test_a_velocity_comes_back_from_the_redshift_that_it_makes(D, v, name):
    law = Cosmography(name, 70)
    cosmological = law.cosmological_cz_kms(D)
    factor = 1 if name == "hubble" else 1 + cosmological / C_KMS
    assert law.velocity_kms(cosmological + v * factor, D) == pytest.approx(v, abs=1e-6)
    assert law.distance_mpc(cosmological) == pytest.approx(D, rel=1e-9)
    assert law.distance_mpc(-cosmological) == pytest.approx(-D, rel=1e-9)


@given(D=distances, v=st.floats(-1500, 1500))
def test_velocities_are_linear_in_x_and_eta_agrees_to_first_order(D, v):
    cz = C_KMS * ((1 + FLAT.cosmological_cz_kms(D) / C_KMS) * (1 + v / C_KMS) - 1)
    linear = 70 * (FLAT.x_of_redshift_mpc(cz) - FLAT.x_mpc(D))
    assert linear == pytest.approx(v, abs=0.51 * v**2 / C_KMS + 0.01)
    if D > 20 and abs(v) < 300:
        eta = np.log10(FLAT.distance_mpc(cz) / D)
        # d log10 D = v / (c z ln 10), by (1 + z) / E(z) = 1.00 to 1.05 here
        assert eta * np.log(10) * 70 * D == pytest.approx(v, rel=0.3, abs=0.3)


def test_hubble_s_law_keeps_the_paper_s_identities_exactly():
    cz, D = np.array([5000.0, -200.0, 0.0]), np.array([60.0, 80.0, 1.0])
    D_z = redshift_distance_mpc(cz, 70)
    np.testing.assert_array_equal(HUBBLE.distance_mpc(cz), D_z)
    np.testing.assert_array_equal(HUBBLE.x_mpc(D), D)
    np.testing.assert_allclose(HUBBLE.velocity_kms(cz, D), peculiar_velocity_kms(D_z, D, 70))


def test_distributions_keep_their_sum_their_moments_and_their_cells():
    grid = cells_mpc((20, 400), 1.0)
    p = gaussian([60.0, 150.0, 380.0], 12.0, grid)
    q, x = moved(p, grid, FLAT.x_mpc)
    np.testing.assert_allclose(q.sum(axis=1), 1)
    mean, deviation = moments(q, x)
    expected = [(row @ FLAT.x_mpc(grid)) for row in p]
    np.testing.assert_allclose(mean, expected, atol=5e-3)
    np.testing.assert_allclose(
        deviation,
        moments(p, grid)[1] * np.gradient(FLAT.x_mpc(grid), grid)[[int(at - 20) for at in mean]],
        rtol=2e-2,
    )
    assert q.min() >= 0
    assert moved(p[:0], grid, FLAT.x_mpc)[0].shape == (0, len(x))


def test_a_posterior_in_x_is_the_direct_integral():
    """p(v | image, z) over D, with v = c (z - z_cos) / (1 + z_cos) in each cell."""
    grid, sigma_v, cz = cells_mpc((100, 300), 0.05), 400.0, 14000.0
    p = gaussian([195.0], 15.0, grid)
    q, x = moved(p, grid, FLAT.x_mpc)
    found = velocity_on_grid(q, x, FLAT.x_of_redshift_mpc([cz]), sigma_v, 70)
    v = FLAT.velocity_kms(cz, grid)
    r = p[0] * np.exp(-0.5 * (v / sigma_v) ** 2)
    r /= r.sum()
    assert found.mean_kms[0] == pytest.approx(r @ v, abs=1)
    assert found.deviation_kms[0] == pytest.approx(np.sqrt(r @ v**2 - (r @ v) ** 2), rel=5e-3)
    by_hubble = velocity_on_grid(p, grid, [cz / 70], sigma_v, 70)
    assert abs(by_hubble.mean_kms[0] - found.mean_kms[0]) > 15  # what is at stake


def test_every_redshift_that_can_be_used_has_a_distance():
    """A row beyond the table would have neither numbers nor a flag."""
    cz = C_KMS * np.array([-0.999, 0.3, 0.6, 1.0])
    cz_cmb = np.array([convert_cz_kms(cz, 168, -7, "heliocentric", "cmb")])
    assert np.isfinite(FLAT.distance_mpc(cz_cmb)).all()
    theirs = FlatLambdaCDM(H0=70, Om0=0.3, Tcmb0=0).comoving_distance([0.3, 0.6, 1.0]).value
    np.testing.assert_allclose(FLAT.distance_mpc(cz[1:]), theirs, rtol=1e-6)


def test_eta_is_the_logarithm_of_the_ratio():
    grid = cells_mpc((20, 200), 0.1)
    p = gaussian([80.0, 100.0, 100.0, 100.0], 4.0, grid)
    eta, error = log_distance_ratio(p, grid, [90.0, 100.0, np.nan, -3.0])
    np.testing.assert_allclose(eta[:2], np.log10([90 / 80, 1]), atol=1e-3)
    np.testing.assert_allclose(error[:2], 4 / np.array([80, 100]) / np.log(10), rtol=1e-2)
    assert np.isnan(eta[2:]).all()
    assert np.isnan(error[2:]).all()


def test_a_law_describes_itself_and_ends_where_its_table_ends():
    assert HUBBLE.describe() == "hubble, H0 = 70"
    assert FLAT.describe() == "flat_lambda_cdm, H0 = 70, Om0 = 0.3"
    assert np.isnan(FLAT.distance_mpc(1.2 * C_KMS))
    assert np.isnan(FLAT.cosmological_cz_kms(5000))
    assert np.isnan(FLAT.velocity_kms(np.nan, 100))
