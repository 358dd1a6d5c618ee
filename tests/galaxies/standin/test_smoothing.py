"""Smoothing: equal to a sum of Gaussians, and the same galaxy in any pixels and any field."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from builders.standin import small_standin
from peculiar.galaxies.standin.simulation import render, simulate
from peculiar.galaxies.standin.smoothing import Kernels, adaptive_kernels, image_of
from peculiar.mock.resample import place

SQRT_2 = np.sqrt(2)


def direct_sum(position, light, sigma, pixels, pixel):
    """Integrals over pixels of one Gaussian after the other: (y, x)."""
    edges = (np.arange(pixels + 1) - pixels / 2) * pixel
    image = np.zeros((pixels, pixels))
    for (x, y, *_), one, width in zip(position, light, sigma, strict=True):
        along_x, along_y = (np.diff(erf((edges - at) / (SQRT_2 * width))) / 2 for at in (x, y))
        image += one * np.outer(along_y, along_x)
    return image


def smoothed(position, light, kernels, pixels, pixel):
    """`image_of` of particles in any order: (y, x)."""
    order = np.argsort(kernels.level, kind="stable")
    ordered = Kernels(kernels.level[order], kernels.unit)
    return image_of(position[order, :2].T, light[None, order], ordered, pixels, pixel)[0]


def particles(seed=0, n=1500):
    """Dense middles and sparse outskirts: widths over a factor of 100, many beyond the field."""
    rng = np.random.default_rng(seed)
    position = rng.normal(size=(n, 3)) * rng.choice([0.5, 5.0, 15.0, 60.0], (n, 1))
    return position, rng.lognormal(size=n)


@pytest.mark.parametrize(("pixels", "total", "brightest"), [(48, 0.015, 0.04), (96, 0.015, 0.04)])
def test_an_image_is_the_sum_of_a_gaussian_per_particle(pixels, total, brightest):
    """Summed differences are below `total` of the light, each below `brightest` of the peak.

    They come from binning into cells of two thirds of a deviation. The steps in width,
    by at most 2^(1/4), add a few per cent.
    """
    position, light = particles()
    distance = np.linalg.norm(position[:, None] - position, axis=2)  # no tree
    exact = np.partition(distance, 16, axis=1)[:, 16] / np.sqrt(8 * np.log(2))
    kernels = adaptive_kernels(position, 16)
    stepped = np.array([kernels.sigma(level) for level in kernels.level])
    assert abs(np.log2(stepped / exact)).max() < 0.2501
    pixel = 96 / pixels
    got = smoothed(position, light, kernels, pixels, pixel)
    expected = direct_sum(position, light, stepped, pixels, pixel)
    assert abs(got - expected).sum() < total * expected.sum()
    assert abs(got - expected).max() < brightest * expected.max()
    unstepped = direct_sum(position, light, exact, pixels, pixel)
    assert abs(got - unstepped).sum() < 0.04 * unstepped.sum()


def test_no_width_has_a_limit():
    """The neighbours of the most distant particle are far away, and so its light is spread."""
    position, _ = particles()
    position[0] = [4000.0, 0, 0]
    kernels = adaptive_kernels(position, 16)
    nearest = np.sort(np.linalg.norm(position - position[0], axis=1))[16]
    assert kernels.sigma(kernels.level[0]) == pytest.approx(nearest / 2.3548, rel=0.2)
    narrow = np.linalg.norm(position - position[:, None], axis=2)
    narrow = np.partition(narrow, 16, axis=1)[:, 16].min()
    assert kernels.sigma(kernels.level.min()) == pytest.approx(narrow / 2.3548, rel=0.2)


def test_few_particles_and_particles_in_one_place_have_widths():
    kernels = adaptive_kernels(np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0]]), 16)
    assert np.isfinite([kernels.sigma(level) for level in kernels.level]).all()
    position = np.concatenate([np.zeros((20, 3)), particles(n=30)[0]])
    kernels = adaptive_kernels(position, 16)
    widths = np.array([kernels.sigma(level) for level in kernels.level])
    assert np.isfinite(widths).all()
    assert (widths > 0).all()
    image = smoothed(position, np.ones(50), kernels, 32, 100.0)
    assert image.sum() == pytest.approx(50, rel=1e-3)


@given(
    st.floats(0.02, 40),
    st.tuples(st.floats(-20, 20), st.floats(-20, 20)),
    st.sampled_from([32, 50, 97]),
)
@settings(max_examples=60, deadline=None)
def test_a_particle_keeps_its_light_place_and_width(sigma, at, pixels):
    pixel = max(0.7, 14 * (sigma + 2) / pixels)  # the field holds all of its light
    xy = np.array(at)[:, None]
    image = image_of(xy, np.full((1, 1), 5.0), Kernels(np.array([0]), sigma), pixels, pixel)[0]
    reach = pixels * pixel / 2 - np.abs(at).max()
    if reach < 5.5 * sigma + pixel:
        return
    assert image.sum() == pytest.approx(5, rel=1e-4)
    x = (np.arange(pixels) - (pixels - 1) / 2) * pixel
    for along, true in ((image.sum(axis=0), at[0]), (image.sum(axis=1), at[1])):
        middle = (along @ x) / 5
        variance = (along @ (x - middle) ** 2) / 5
        # pixels of a width that resolves the Gaussian tell its place and width; others its pixel
        resolved = sigma > 0.8 * pixel
        assert middle == pytest.approx(true, abs=0.02 * sigma if resolved else 0.51 * pixel)
        if resolved:
            # at the centre of a cell binning adds no variance, and its mean is taken off
            assert variance == pytest.approx(sigma**2 + pixel**2 / 12, rel=0.09)
        else:
            assert variance < sigma**2 + 0.35 * pixel**2


@given(st.floats(0.01, 100))
@settings(max_examples=10, deadline=None)
def test_a_galaxy_of_another_size_in_a_field_as_much_larger_looks_the_same(factor):
    """Nothing in the renderer has a length of its own."""
    position, light = particles(n=300)
    kernels = adaptive_kernels(position, 16)
    usual = smoothed(position, light, kernels, 48, 1.0)
    larger = smoothed(factor * position, light, adaptive_kernels(factor * position, 16), 48, factor)
    np.testing.assert_allclose(larger, usual, rtol=2e-3, atol=2e-5 * usual.max())


@pytest.fixture(scope="module")
def stars():
    return simulate(np.random.default_rng(2), small_standin(particle_mass_msun=2e6))


def seen(stars, mpc, **rendering):
    """One camera's r band, placed as `observe` does by default, 2.72 arcsec FWHM."""
    parameters = small_standin(particle_mass_msun=2e6, **rendering)
    images = torch.from_numpy(render(stars, parameters)[:1, 2:3])
    kpc = torch.tensor([parameters.field_of_view_kpc / parameters.pixels]).double()
    return place(
        images,
        kpc,
        torch.tensor([mpc]).double(),
        pixels=128,
        pixel_scale_arcsec=1.36,
        dimming="physical",
        psf_fwhm_arcsec=2.72,
    )[0, 0].numpy()


@pytest.mark.parametrize("mpc", [50.0, 61.3, 99.0])
@pytest.mark.parametrize(
    "rendering",
    [
        {"pixels": 304, "field_of_view_kpc": 84.4},
        {"pixels": 384, "field_of_view_kpc": 84.4},
        {"pixels": 512, "field_of_view_kpc": 84.4},
        {"pixels": 320, "field_of_view_kpc": 105.5},
    ],
)
def test_the_same_stars_in_other_pixels_and_fields_give_the_same_placed_image(
    stars, rendering, mpc
):
    """To 2.5 % of the peak, and 0.5 % of the light, against the paper's 256 pixels of 84.4 kpc."""
    usual = seen(stars, mpc, pixels=256, field_of_view_kpc=84.4)
    other = seen(stars, mpc, **rendering)
    assert abs(other - usual).max() < 0.025 * usual.max()
    assert abs(other - usual).sum() < 0.005 * usual.sum()
    assert other.sum() == pytest.approx(usual.sum(), rel=1e-3)
