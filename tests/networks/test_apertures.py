"""Aperture photometry against photutils, and what it is blind to."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peculiar.networks.apertures import Apertures
from peculiar.networks.heads import all_turns

seeds = st.integers(0, 999)


def galaxy(seed=0, n=2, bands=3, pixels=64, noise=0.0):
    """Light, in units of the softening, of exponential discs off the middle, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((pixels, pixels)) - (pixels - 1) / 2
    centre, scale = rng.uniform(-3, 3, (2, n, 1, 1, 1)), rng.uniform(3, 6, (n, 1, 1, 1))
    peak = 10 ** rng.uniform(0.5, 2.5, (n, bands, 1, 1))
    light = peak * np.exp(-np.hypot(x - centre[0], 1.4 * (y - centre[1])) / scale)
    return light + noise * rng.normal(size=light.shape)


def measured(light):
    """Asinh of the fluxes (n, aperture), and colours (n, aperture, band)."""
    n, bands, pixels, _ = light.shape
    scaled = torch.as_tensor(np.arcsinh(light), dtype=torch.float32)
    numbers = Apertures(pixels)(scaled).double().numpy()
    assert numbers.shape == (n, Apertures.numbers(bands))
    apertures = len(Apertures.RADII) + 1
    return numbers[:, :apertures], numbers[:, apertures:].reshape(n, apertures, bands)


@given(seeds)
def test_fluxes_are_those_of_photutils(seed):
    """Its circles have sharp edges: the flux differs by a few per cent in the smallest."""
    photutils = pytest.importorskip("photutils.aperture")
    light = galaxy(seed)
    mean, colour = measured(light)
    middle = (light.shape[-1] - 1) / 2
    for image, flux, own in zip(light, mean, colour, strict=True):
        for k, radius in enumerate(r for r in Apertures.RADII if r < 32):
            circle = photutils.CircularAperture((middle, middle), radius)
            sums = [circle.do_photometry(band)[0][0] for band in image]
            expected = np.arcsinh(sums)
            assert flux[k] == pytest.approx(expected.mean(), abs=0.25)
            np.testing.assert_allclose(own[k], expected - expected.mean(), atol=0.15)
        np.testing.assert_allclose(flux[-1] + own[-1], np.arcsinh(image.sum((1, 2))), rtol=1e-3)


@given(seeds)
def test_turned_images_have_the_same_numbers(seed):
    scaled = torch.as_tensor(np.arcsinh(galaxy(seed, noise=0.3)), dtype=torch.float32)
    numbers = [Apertures(64)(turned) for turned in all_turns(scaled)]
    for other in numbers[1:]:
        torch.testing.assert_close(other, numbers[0], rtol=1e-4, atol=1e-4)


def test_fluctuations_of_single_pixels_are_hardly_seen():
    """Each pixel's light is multiplied by a Poisson number of mean 1 and deviation 1/2."""
    light = galaxy(n=40, pixels=128)
    grainy = light * np.random.default_rng(3).poisson(4, light.shape) / 4
    for smooth, seen in zip(measured(light), measured(grainy), strict=True):
        assert abs(np.mean(seen - smooth, axis=0)).max() < 0.02
        assert np.std(seen - smooth, axis=0)[1:].max() < 0.06


def test_nothing_is_infinite_where_there_is_no_light():
    dark = np.zeros((1, 3, 16, 16))
    for light in (dark, dark - 50):
        mean, colour = measured(light)
        assert np.isfinite(mean).all()
        assert np.isfinite(colour).all()
