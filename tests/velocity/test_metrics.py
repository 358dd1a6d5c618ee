"""The paper's measures, their identities, and bootstrap errors."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import linregress

from peculiar.velocity.hubble import velocity_posterior_kms
from peculiar.velocity.metrics import (
    METRICS,
    average_shift,
    bootstrap_rows,
    distance_error_mpc,
    l1,
    l2,
    line_of_best_fit,
    measure,
)

SIGMA_V, H0 = 400.0, 70.0
SIGMA_Z = SIGMA_V / H0

distances = arrays(np.float64, 12, elements=st.floats(20, 200))


def catalogue(n, sigma_D, seed=0):
    """True, redshift and predicted distances with Gaussian errors, Mpc."""
    rng = np.random.default_rng(seed)
    D = rng.uniform(50, 100, n)
    return D, D + rng.normal(0, SIGMA_Z, n), D + rng.normal(0, sigma_D, n)


def measured(D, D_z, D_p, sigma_D=5.0, H0=H0):
    v_hat, error = velocity_posterior_kms(H0 * (D_z - D_p), sigma_D, SIGMA_V, H0)
    intervals = {68: (v_hat - error, v_hat + error), 95: (v_hat - 2 * error, v_hat + 2 * error)}
    return measure(D, D_z, D_p, H0 * (D_z - D), v_hat, intervals, H0)


@given(D=distances, D_z=distances, D_p=distances, H0=st.floats(50, 100))
def test_velocity_rms_is_h0_times_l2_of_the_distance(D, D_z, D_p, H0):
    m = measured(D, D_z, D_p, H0=H0)
    assert abs(m["velocity_rms_kms"] - H0 * m["l2_d_mpc"]) <= 1e-6 * H0 * m["l2_d_mpc"] + 1e-9


@given(D=distances, D_p=distances)
def test_l1_lies_between_shift_and_l2(D, D_p):
    assert abs(average_shift(D, D_p)) <= l1(D, D_p) * (1 + 1e-12)
    assert l1(D, D_p) <= l2(D, D_p) * (1 + 1e-12)


def test_l1_l2_and_shift_of_a_known_sample():
    true, predicted = [10, 20, 30, 40], [10, 23, 26, 40]
    assert l1(true, predicted) == 7 / 4
    assert l2(true, predicted) == 5 / 2
    assert average_shift(true, predicted) == 1 / 4


def test_shift_is_positive_where_distances_come_out_too_small():
    assert average_shift([75.0, 80.0], [70.0, 75.0]) == 5.0


@given(x=distances, y=distances)
def test_line_of_best_fit_agrees_with_numpy_and_scipy(x, y):
    assume(np.ptp(x) > 1e-3)
    slope, intercept = line_of_best_fit(x, y)
    other = linregress(x, y)
    for expected in (np.polyfit(x, y, 1), (other.slope, other.intercept)):
        scale = 1 + np.abs(expected[0]) * x.max()
        assert slope == pytest.approx(expected[0], rel=1e-6, abs=1e-6)
        assert intercept == pytest.approx(expected[1], abs=1e-6 * scale)


def test_a_line_through_one_abscissa_is_not_a_number():
    assert np.isnan(line_of_best_fit([3, 3, 3], [1, 2, 3])).all()


def test_measure_gives_every_metric_once_and_finite():
    m = measured(*catalogue(100, 5))
    assert tuple(m) == METRICS
    assert np.isfinite(list(m.values())).all()


def test_perfect_distances_have_no_error():
    D, D_z, _ = catalogue(100, 0)
    m = measured(D, D_z, D, sigma_D=0)
    zero = {"l1_d_mpc", "l2_d_mpc", "shift_d_mpc", "velocity_rms_kms", "posterior_rms_kms"}
    assert all(m[name] == 0 for name in zero)
    assert m["velocity_slope"] == pytest.approx(1)
    assert m["velocity_intercept_kms"] == pytest.approx(0, abs=1e-9)
    assert m["coverage_68"] == 1
    assert m["l2_dz_mpc"] == l2(D, D_z)


def test_independent_errors_leave_the_slope_at_one_and_cover_68_per_cent():
    m = measured(*catalogue(200_000, 5))
    assert m["velocity_slope"] == pytest.approx(1, abs=0.01)
    assert m["coverage_68"] == pytest.approx(0.683, abs=0.004)
    assert m["coverage_95"] == pytest.approx(0.954, abs=0.002)
    assert m["posterior_rms_kms"] == pytest.approx(263, abs=2)
    assert m["l2_dz_mpc"] == pytest.approx(np.hypot(5, SIGMA_Z), rel=0.01)


def test_underestimated_errors_cover_less():
    D, D_z, D_p = catalogue(50_000, 8)
    assert measured(D, D_z, D_p, sigma_D=4)["coverage_68"] < 0.6


@pytest.mark.parametrize("sigma_D", [3.0, 5.0, 10.0])
def test_distance_error_is_recovered_without_true_distances(sigma_D):
    _, D_z, D_p = catalogue(100_000, sigma_D)
    assert distance_error_mpc(D_z, D_p, SIGMA_Z) == pytest.approx(sigma_D, rel=0.03)


@given(D_z=distances, D_p=distances, sigma_z=st.floats(0.1, 20))
def test_distance_error_is_a_number_with_a_floor(D_z, D_p, sigma_z):
    assert distance_error_mpc(D_z, D_p, sigma_z) >= 0.1 * sigma_z * (1 - 1e-12)
    assert distance_error_mpc(D_z, D_z, sigma_z) == pytest.approx(0.1 * sigma_z)


@given(galaxy=arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 6)))
def test_bootstrap_draws_galaxies_with_all_images(galaxy):
    sizes = dict(zip(*np.unique(galaxy, return_counts=True), strict=True))
    for rows in bootstrap_rows(galaxy, 5, np.random.default_rng(0)):
        times = np.bincount(rows, minlength=len(galaxy))
        for name in sizes:
            assert np.ptp(times[galaxy == name]) == 0
        draws = sum(times[galaxy == name][0] for name in sizes)
        assert draws == len(sizes)


def test_bootstrap_error_of_a_mean_counts_galaxies_not_images():
    rng = np.random.default_rng(3)
    galaxy = rng.permutation(np.repeat(np.arange(400), 4))
    value = rng.normal(0, 1, 400)[galaxy]  # the four views err together
    samples = bootstrap_rows(galaxy, 1000, rng)
    assert len(samples) == 1000
    assert np.std([value[rows].mean() for rows in samples]) == pytest.approx(1 / 20, rel=0.12)


def test_bootstrap_depends_on_the_generator_alone():
    galaxy = np.repeat(np.arange(9), 2)
    a, b, c = (bootstrap_rows(galaxy, 3, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_what_needs_true_velocities_is_nan_without_them():
    D, D_z, D_p = catalogue(50, 5.0)
    unknown = np.full(50, np.nan)
    everywhere = (np.full(50, -1e9), np.full(50, 1e9))
    m = measure(D, D_z, D_p, unknown, np.zeros(50), {68: everywhere, 95: everywhere}, H0)
    known = {"l1_d_mpc", "l2_d_mpc", "shift_d_mpc", "l1_dz_mpc", "l2_dz_mpc"}
    assert {key for key, value in m.items() if np.isfinite(value)} == known
