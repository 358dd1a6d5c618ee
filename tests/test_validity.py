"""What training images spanned is what they were made with."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peculiar.bands import ARCSEC_RAD, ab_mag
from peculiar.validity import Validity, half_light_arcsec, magnitudes, validity_of


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


def test_a_dataset_is_measured_on_its_training_split(observed):
    found = validity_of(observed)
    images = observed.images[observed.rows("train")]
    assert found.distance_mpc == (50, 100)
    mag = magnitudes(images, "gr", 1.36)
    assert list(found.mag_ab) == ["g", "r"]
    assert found.mag_ab["r"] == (mag[:, 1].min(), mag[:, 1].max())
    radius = half_light_arcsec(images, 1.36)
    assert found.half_light_arcsec == (radius.min(), radius.max())
    assert Validity(**json.loads(found.model_dump_json())) == found
