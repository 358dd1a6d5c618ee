"""The pixels that networks look at: asinh of the middle of an image, and which middle it is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peculiar.core.errors import InputError
from peculiar.core.photometry import surface_brightness
from peculiar.networks.scaling import Pixels, asinh, check_crop, softening_of


@given(x=st.floats(-(2**60), 2**60, width=32))
def test_asinh_agrees_with_numpy_and_leaves_its_input(x):
    value = torch.tensor([x])
    assert float(asinh(value)) == pytest.approx(np.arcsinh(x), rel=1e-6, abs=1e-6)
    assert float(value) == x


@given(mag=st.floats(15, 30))
def test_softening_is_one_magnitude_in_each_band(mag):
    levels = softening_of("gr", mag)
    assert levels.shape == (2, 1, 1)
    expected = [float(surface_brightness(mag, band)) for band in "gr"]
    np.testing.assert_allclose(levels.flatten(), expected, rtol=1e-6)


sides = st.integers(1, 12)


@given(crop=sides | st.none(), pixels=sides)
def test_a_crop_is_the_middle_or_refused_with_those_there_are(crop, pixels):
    middles = {pixels - 2 * rim for rim in range(pixels)} - {0}
    if crop is None:
        assert check_crop(crop, pixels) == pixels
    elif crop in middles:
        assert check_crop(crop, pixels) == crop
    else:
        parity = "odd" if pixels % 2 else "even"
        with pytest.raises(
            InputError,
            match=rf"^params\.yaml: train: crop {crop} is not the middle of {pixels} pixels: "
            rf"take an {parity} number up to {pixels}, or null$",
        ):
            check_crop(crop, pixels)


@given(
    bands=st.lists(st.sampled_from("ugriz"), min_size=1, max_size=3, unique=True),
    rim=st.integers(0, 3),
    side=st.integers(1, 6),
    mag=st.floats(20, 32),
    seed=st.integers(0, 99),
)
def test_pixels_are_asinh_of_the_middle_in_units_of_the_softening(bands, rim, side, mag, seed):
    softening = np.array([surface_brightness(mag, band) for band in bands])[:, None, None]
    size = (2, len(bands), side + 2 * rim, side + 2 * rim)
    # noise makes some negative
    images = (softening * np.random.default_rng(seed).normal(0, 100, size)).astype(np.float32)
    before = images.copy()
    scaled = Pixels(bands, mag, side)(torch.from_numpy(images))
    middle = images[:, :, rim : rim + side, rim : rim + side]
    np.testing.assert_allclose(scaled, np.arcsinh(middle / softening), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(images, before)
    uncut = Pixels(bands, mag)(torch.from_numpy(images))
    np.testing.assert_allclose(uncut, np.arcsinh(images / softening), rtol=1e-5, atol=1e-5)


def test_the_softening_travels_with_the_weights_and_is_not_learnt():
    pixels = Pixels("gr", 26.0)
    assert list(pixels.parameters()) == []
    other = Pixels("gr", 24.0)
    other.load_state_dict(pixels.state_dict())
    torch.testing.assert_close(other.softening, softening_of("gr", 26.0), rtol=0, atol=0)
