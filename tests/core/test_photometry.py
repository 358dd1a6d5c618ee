"""Magnitudes and half-light radii of images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peculiar.core.photometry import ARCSEC_RAD, ab_mag, half_light_arcsec, magnitudes


@given(sigma=st.floats(2, 8), scale=st.floats(0.3, 3), level=st.floats(1e-3, 1e3))
def test_a_gaussian_has_its_half_light_radius_and_flux(sigma, scale, level):
    x = np.arange(96) - 47.5
    profile = level * np.exp(-0.5 * (x**2 + x[:, None] ** 2) / sigma**2)
    images = np.stack([profile, 3 * profile])[None].astype(np.float32)
    radius = half_light_arcsec(images, scale)
    # of the pixel on the edge
    assert radius[0] == pytest.approx(sigma * np.sqrt(2 * np.log(2)) * scale, abs=0.6 * scale)
    flux = 2 * np.pi * sigma**2 * level * (scale * ARCSEC_RAD) ** 2
    expected = [ab_mag(flux, "g"), ab_mag(3 * flux, "r")]
    np.testing.assert_allclose(magnitudes(images, "gr", scale)[0], expected, atol=1e-4)


def test_an_image_without_light_has_neither():
    images = np.zeros((2, 1, 8, 8), np.float32)
    images[1] = -1
    assert np.isnan(half_light_arcsec(images, 1.0)).all()
    assert np.isnan(magnitudes(images, "r", 1.0)).all()
