"""Isophotes by another implementation, and what they are blind to."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import convolve1d

from peculiar.core.errors import InputError
from peculiar.networks.heads import all_turns
from peculiar.networks.isophotes import Isophotes

LAYERS = 8
seeds = st.integers(0, 999)


def galaxy(seed=0, n=2, bands=3, pixels=32, noise=0.0):
    """Scaled pixels asinh(I / softening) of exponential discs off the middle, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((pixels, pixels)) - (pixels - 1) / 2
    centre, scale = rng.uniform(-3, 3, (2, n, 1, 1, 1)), rng.uniform(2, 5, (n, 1, 1, 1))
    peak = 10 ** rng.uniform(0.5, 2.5, (n, bands, 1, 1))
    light = peak * np.exp(-np.hypot(x - centre[0], 1.4 * (y - centre[1])) / scale)
    light = light + noise * rng.normal(size=light.shape)
    return torch.as_tensor(np.arcsinh(light), dtype=torch.float32)


def plain(scaled):
    """What `Isophotes` gives of one image (band, y, x), pixel by pixel."""
    light = np.sinh(scaled.double().numpy())
    flux = np.arcsinh(light.sum(axis=(1, 2)))
    bands, side = len(light), light.shape[-1] // 4
    binned = light.reshape(bands, side, 4, side, 4).mean(axis=(2, 4))
    for axis in (1, 2):
        binned = convolve1d(binned, np.array([1, 4, 6, 4, 1]) / 16, axis=axis, mode="nearest")
    brightness = np.arcsinh(binned)
    base = brightness.mean(axis=0)
    y, x = (np.indices((side, side)) - (side - 1) / 2) * 4
    area, moment, colour = np.zeros(LAYERS), np.zeros(LAYERS), np.zeros((LAYERS, bands))
    for layer in range(LAYERS):
        share = np.clip(1 - abs(base.clip(0, LAYERS - 1) - layer), 0, None)
        area[layer] = 16 * share.sum()
        moment[layer] = 16 * (share * (x**2 + y**2)).sum()
        colour[layer] = (share * (brightness - base)).sum(axis=(1, 2)) / (share.sum() + 1)
    radius = np.log1p(moment / (area + 10))
    return np.concatenate(
        [[flux.mean()], flux - flux.mean(), np.log1p(area)[1:], radius[1:], colour.ravel()]
    )


@given(seeds)
def test_the_numbers_are_those_of_a_plain_loop(seed):
    scaled = galaxy(seed, noise=0.3)
    got = Isophotes(32)(scaled).numpy()
    assert got.shape == (2, Isophotes.numbers(3))
    np.testing.assert_allclose(got, [plain(one) for one in scaled], rtol=1e-3, atol=1e-3)


@given(seeds)
def test_turned_images_have_the_same_numbers(seed):
    scaled = galaxy(seed, noise=0.3)
    numbers = [Isophotes(32)(turned) for turned in all_turns(scaled)]
    for other in numbers[1:]:
        torch.testing.assert_close(other, numbers[0], rtol=1e-4, atol=1e-4)


def test_fluctuations_of_single_pixels_are_hardly_seen():
    """Noise that doubles a pixel's brightness here and there moves no number by 6 per cent."""
    scaled = galaxy(n=20, pixels=128)
    rng = np.random.default_rng(3)
    light = torch.sinh(scaled.double())
    grainy = light * torch.as_tensor(rng.poisson(4, light.shape) / 4)
    smooth, seen = (Isophotes(128)(torch.asinh(one).float()) for one in (light, grainy))
    assert (seen - smooth).abs().mean(dim=0).max() < 0.06


def test_nothing_is_infinite_where_there_is_no_light():
    dark = torch.zeros(1, 3, 32, 32)
    assert torch.isfinite(Isophotes(32)(dark)).all()
    assert torch.isfinite(Isophotes(32)(dark - 5)).all()


def test_a_side_that_cannot_be_halved_is_refused():
    with pytest.raises(InputError, match="isophotes cannot halve 30 pixels 2 times: take a crop"):
        Isophotes(30)
