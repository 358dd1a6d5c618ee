"""Trimmed SUNRISE files: the same images, whatever the original did to store them."""

import numpy as np
import pytest
from astropy.io import fits

from builders.illustris_server import broadband
from peculiar.core.errors import InputError
from peculiar.galaxies.illustris.trim import intact, trimmed
from peculiar.galaxies.sunrise import read_broadband

CARDS = {"SUBHALO": (7, "number")}
CUBES = [f"CAMERA{camera}-BROADBAND-NONSCATTER" for camera in range(4)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "broadband_7.fits"
    path.write_bytes(broadband(7))
    return path


@pytest.fixture
def small(tmp_path):
    return tmp_path / "small_broadband_7.fits"


def scaled(cube):
    cube.data = cube.data.astype(np.float64)
    cube.scale("int16", bscale=1e-4, bzero=1.0)


def double(cube):
    cube.data = cube.data.astype(np.float64)


@pytest.mark.parametrize("change", [scaled, double, lambda _: None])
def test_images_are_the_same_however_they_were_stored(file, small, change):
    with fits.open(file, memmap=False) as hdus:
        for name in CUBES:
            change(hdus[name])
        hdus.writeto(file, overwrite=True)
    small.write_bytes(trimmed(file, "iu", CARDS))
    one, other = read_broadband(file, "iu"), read_broadband(small, "iu")
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.kpc_per_pixel, other.kpc_per_pixel)
    np.testing.assert_array_equal(one.mag_ab, other.mag_ab)
    assert trimmed(file, "ui", CARDS) == small.read_bytes()
    assert intact(small)


def test_a_changed_pixel_is_noticed(file, small):
    content = bytearray(trimmed(file, "r", CARDS))
    small.write_bytes(content)
    assert intact(small)
    assert intact(file)
    content[-2880] ^= 1
    small.write_bytes(content)
    assert not intact(small)


def test_a_lost_table_is_noticed(file, small):
    small.write_bytes(trimmed(file, "r", CARDS).replace(b"'FILTERS '", b"'FILTER  '"))
    assert not intact(small)


def test_a_header_that_cannot_be_written_again_is_refused(file, monkeypatch):
    def mangled(*_, **__):
        raise ValueError("FITS header values must contain standard printable ASCII characters")

    monkeypatch.setattr(fits.HDUList, "writeto", mangled)
    with pytest.raises(InputError, match=r"7\.fits has a mangled header \(ValueError\): delete it"):
        trimmed(file, "r", CARDS)
