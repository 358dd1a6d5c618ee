"""The bulk flow of mock galaxies is found, with errors that hold."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.spatial.transform import Rotation
from scipy.stats import norm

from experiments.flow import mocks
from experiments.flow.mocks import Mock
from peculiar.core.errors import InputError
from peculiar.flow import likelihood
from peculiar.flow.fit import fit_flow
from peculiar.flow.likelihood import Galaxies, log_likelihood

H0, SIGMA_V = 70.0, 300.0
FLOW = np.array([150.0, -200.0, 170.0])


def drawn(number, seed, zero_point=0.0, cz_error=0.0):
    """Mock galaxies in a volume of 30 to 110 Mpc with images that tell distances to 8 Mpc."""
    mock = Mock(
        galaxies=number,
        sigma_D_mpc=8.0,
        flow_kms=tuple(FLOW),
        sigma_v_kms=SIGMA_V,
        zero_point=zero_point,
        range_mpc=(30.0, 110.0),
        hidden_deg=0.0,
        cz_error_kms=cz_error,
        H0_kms_mpc=H0,
    )
    return mocks.drawn(mock, np.random.default_rng(seed)).galaxies


def test_the_flow_is_found():
    found = fit_flow([drawn(4000, 1, zero_point=0.02, cz_error=100.0)], H0)
    errors = np.sqrt(np.diag(found.covariance))
    assert np.abs((found.V_kms - FLOW) / errors[:3]).max() < 3
    assert found.zero_point == pytest.approx(0.02, abs=3 * errors[3])
    assert errors[3] < 0.01
    assert (errors[:3] < 40).all()
    assert found.sigma_v_kms == pytest.approx(SIGMA_V, abs=3 * found.sigma_v_error_kms)
    assert found.chance < 1e-6
    assert found.number == 4000
    assert 60 < found.depth_mpc < 100
    assert found.speed_error_kms == pytest.approx(errors[:3].mean(), rel=0.1)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), sigma=st.floats(100, 1000))
def test_gradient_and_curvature_are_the_derivatives(seed, sigma):
    galaxies = drawn(40, seed, cz_error=80.0)
    at = np.append(np.random.default_rng(seed).normal(0, 200, 3), 0.01)
    _, gradient, hessian = log_likelihood(galaxies, H0, sigma, at)
    step = np.array([0.1, 0.1, 0.1, 1e-5])
    by_value = [
        (
            log_likelihood(galaxies, H0, sigma, at + step * axis)[0]
            - log_likelihood(galaxies, H0, sigma, at - step * axis)[0]
        )
        / (2 * step @ axis)
        for axis in np.eye(4)
    ]
    assert gradient == pytest.approx(np.array(by_value), rel=1e-4, abs=1e-3 * abs(gradient).max())
    by_gradient = approx_fprime(at, lambda x: log_likelihood(galaxies, H0, sigma, x)[1], step)
    scale = np.sqrt(np.abs(np.outer(np.diag(hessian), np.diag(hessian))))
    assert np.abs((hessian - by_gradient) / scale).max() < 1e-3


def test_the_likelihood_is_the_integral_over_the_distance():
    """By SciPy's normal distribution, galaxy by galaxy."""
    galaxies = drawn(20, 3, cz_error=150.0)
    at = np.array([100.0, 50.0, -20.0, 0.03])
    total = 0.0
    for k in range(20):
        mean = 1.03 * H0 * galaxies.x_mpc + galaxies.towards[k] @ at[:3]
        density = norm.pdf(H0 * galaxies.X_mpc[k], mean, np.hypot(SIGMA_V, 150.0))
        total += np.log(H0 * galaxies.p[k] @ density)
    assert log_likelihood(galaxies, H0, SIGMA_V, at)[0] == pytest.approx(total, rel=1e-9)


def test_exact_distances_give_least_squares():
    galaxies = drawn(500, 4)
    grid = galaxies.x_mpc
    D = grid[np.random.default_rng(4).integers(30, 110, 500)]
    v = galaxies.towards @ FLOW + np.random.default_rng(5).normal(0, SIGMA_V, 500)
    exact = replace(galaxies, p=(D[:, None] == grid).astype(float), X_mpc=D + v / H0)
    design = np.column_stack([galaxies.towards, H0 * D])
    inverse = np.linalg.inv(design.T @ design)
    found = fit_flow([exact], H0, SIGMA_V)
    assert [*found.V_kms, found.zero_point] == pytest.approx(inverse @ design.T @ v, rel=1e-5)
    assert found.covariance == pytest.approx(SIGMA_V**2 * inverse, rel=1e-5)
    assert found.sigma_v_kms == SIGMA_V
    assert np.isnan(found.sigma_v_error_kms)


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_a_turned_sky_turns_the_flow(seed):
    galaxies, turn = drawn(300, 6), Rotation.random(rng=np.random.default_rng(seed))
    plain = fit_flow([galaxies], H0, SIGMA_V)
    turned = fit_flow([replace(galaxies, towards=turn.apply(galaxies.towards))], H0, SIGMA_V)
    assert turned.V_kms == pytest.approx(turn.apply(plain.V_kms), abs=1e-2)
    assert turned.zero_point == pytest.approx(plain.zero_point, abs=1e-6)
    assert turned.chance == pytest.approx(plain.chance, rel=1e-3)


def test_groups_and_pieces_change_nothing(monkeypatch):
    galaxies = drawn(300, 7)
    whole = fit_flow([galaxies], H0)
    halves = [
        Galaxies(
            galaxies.p[at], galaxies.x_mpc, galaxies.X_mpc[at], galaxies.X_error_mpc[at], towards
        )
        for at in (slice(0, 100), slice(100, 300))
        for towards in [galaxies.towards[at]]
    ]
    monkeypatch.setattr(likelihood, "AT_ONCE", 70)
    split = fit_flow(halves, H0)
    assert split.V_kms == pytest.approx(whole.V_kms, abs=1e-3)
    assert split.covariance == pytest.approx(whole.covariance, rel=1e-4, abs=1e-3)
    assert split.depth_mpc == pytest.approx(whole.depth_mpc)


def test_a_redshift_far_off_the_grid_stays_finite():
    galaxies = drawn(50, 8)
    far = replace(galaxies, X_mpc=np.where(np.arange(50) == 3, 400.0, galaxies.X_mpc))
    value, gradient, hessian = log_likelihood(far, H0, SIGMA_V, np.zeros(4))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert np.isfinite(hessian).all()


def test_galaxies_that_do_not_determine_a_flow_are_refused():
    few = drawn(4, 9)
    with pytest.raises(InputError, match=r"^4 galaxies do not determine a flow: give more, over"):
        fit_flow([few], H0)
    one_way = replace(drawn(50, 9), towards=np.tile([0.0, 0.0, 1.0], (50, 1)))
    with pytest.raises(InputError, match=r"^50 galaxies do not determine a flow"):
        fit_flow([one_way], H0)


@pytest.mark.slow
def test_intervals_of_100_mocks_cover_the_truth():
    """A fraction of 68 % within one deviation; the mean deviation of V is one."""
    pulls = []
    for seed in range(100):
        found = fit_flow([drawn(300, seed)], H0)
        errors = np.sqrt(np.diag(found.covariance))
        pulls.append([*(found.V_kms - FLOW), found.zero_point] / errors)
    within = np.mean(np.abs(pulls) < 1)
    assert abs(within - 0.683) < 0.07  # 400 pulls: three deviations
    assert np.abs(np.mean(pulls, axis=0)).max() < 0.35
    assert np.std(pulls) == pytest.approx(1, abs=0.12)
