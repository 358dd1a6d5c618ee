"""Frames: whole pixels are moved, the galaxy stays where it was on its pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peculiar.galaxies.galaxy import Galaxy, frame

SIZES = st.integers(1, 40)
OFFSETS = st.floats(-15, 15)


def galaxy(ny=9, nx=12, x=0.0, y=0.0):
    images = np.random.default_rng(0).random((2, 3, ny, nx), dtype=np.float32) + 1
    return Galaxy(7, images, np.array([1.0, 2.0]), "test", centre_offset=(x, y), cz_kms=5000.0)


def position(framed):
    """Pixel coordinates x, y of the galaxy."""
    ny, nx = framed.images.shape[-2:]
    return (nx - 1) / 2 + framed.centre_offset[0], (ny - 1) / 2 + framed.centre_offset[1]


def value(framed, x, y):
    ny, nx = framed.images.shape[-2:]
    return framed.images[..., y, x] if 0 <= x < nx and 0 <= y < ny else np.zeros((2, 3))


@given(ny=SIZES, nx=SIZES, pixels=SIZES, x=OFFSETS, y=OFFSETS)
def test_pixels_keep_their_values_and_their_places_around_the_galaxy(ny, nx, pixels, x, y):
    before = galaxy(ny, nx, x, y)
    after = frame(before, pixels)
    assert after.images.shape == (2, 3, pixels, pixels)
    assert after.images.dtype == np.float32
    assert after.images.flags.c_contiguous
    assert np.abs(after.centre_offset).max() <= 0.5
    moved = np.subtract(position(before), position(after))
    dx, dy = np.rint(moved).astype(int)
    np.testing.assert_allclose(moved, [dx, dy], atol=1e-12)
    for row in range(pixels):
        for col in range(pixels):
            expected = value(before, col + dx, row + dy)
            np.testing.assert_array_equal(after.images[..., row, col], expected)


@given(ny=SIZES, nx=SIZES, x=OFFSETS, y=OFFSETS)
def test_filling_up_conserves_the_flux(ny, nx, x, y):
    before = galaxy(ny, nx, x, y)
    after = frame(before, 72)
    np.testing.assert_allclose(
        after.images.sum(axis=(2, 3), dtype=float), before.images.sum(axis=(2, 3), dtype=float)
    )


@given(ny=SIZES, nx=SIZES, pixels=SIZES, x=OFFSETS, y=OFFSETS)
def test_framing_twice_is_framing_once(ny, nx, pixels, x, y):
    once = frame(galaxy(ny, nx, x, y), pixels)
    twice = frame(once, pixels)
    np.testing.assert_array_equal(twice.images, once.images)
    assert twice.centre_offset == once.centre_offset


@pytest.mark.parametrize(("size", "pixels"), [(8, 8), (8, 16), (9, 5), (9, 9)])
def test_a_centred_galaxy_stays_centred_where_both_sizes_are_odd_or_even(size, pixels):
    assert frame(galaxy(size, size), pixels).centre_offset == (0.0, 0.0)


def test_half_a_pixel_remains_where_only_one_size_is_odd():
    assert frame(galaxy(9, 12), 16).centre_offset == (0.0, -0.5)


def test_all_else_stays():
    before = galaxy(x=3.0)
    after = frame(before, 6)
    assert (after.id, after.source, after.cz_kms) == (7, "test", 5000.0)
    assert after.kpc_per_pixel is before.kpc_per_pixel


def test_a_galaxy_outside_its_image_gives_dark_sky():
    assert not frame(galaxy(x=100.0), 8).images.any()
    assert not frame(galaxy(y=-100.0), 8).images.any()
