"""Distributions on a grid: against SciPy, and their own inverse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import truncnorm

from peculiar.velocity.grid import cdf, gaussian, quantile

GRID = np.linspace(50, 100, 101)

rows = arrays(float, (3, 101), elements=st.floats(0.01, 1)).map(
    lambda p: p / p.sum(axis=1, keepdims=True)
)


@given(q=rows, level=st.floats(0.001, 0.999))
def test_quantile_is_the_inverse_of_cdf(q, level):
    np.testing.assert_allclose(cdf(q, GRID, quantile(q, GRID, level)), level, atol=1e-9)


def test_cdf_is_that_of_scipy():
    q = gaussian([75.0], 6, GRID)
    D = np.linspace(50, 100, 23)
    expected = truncnorm(-25 / 6, 25 / 6, 75, 6).cdf(D)
    np.testing.assert_allclose([cdf(q, GRID, [d])[0] for d in D], expected, atol=2e-4)
    assert cdf(q, GRID, [20.0])[0] == 0
    assert cdf(q, GRID, [200.0])[0] == pytest.approx(1)
