"""FITS files plain and gzipped: both are read alike, and what is cut or damaged is refused."""

import gzip
import os

import numpy as np
import pytest
from astropy.io import fits

from peculiar.core.errors import InputError
from peculiar.galaxies.fits import (
    column,
    column_names,
    finite,
    header_number,
    open_fits,
    pixels,
    plane,
    subhalo_of_name,
)

IMAGE = np.random.default_rng(0).random((40, 30), dtype=np.float32)


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "image.fits"
    fits.HDUList([fits.PrimaryHDU(IMAGE), fits.ImageHDU(-IMAGE)]).writeto(path)
    return path


@pytest.fixture
def zipped(plain):
    path = plain.with_name("image.fits.gz")
    path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def check(path):
    with open_fits(path) as hdus:
        np.testing.assert_array_equal(hdus[0].data, IMAGE)
        np.testing.assert_array_equal(hdus[1].data, -IMAGE)


def test_plain_and_gzipped_files_are_read_alike(plain, zipped):
    check(plain)
    check(zipped)


def test_what_counts_is_the_content_and_not_the_name(plain, zipped):
    # some servers and clients zip or unzip on the way
    content = plain.read_bytes()
    plain.write_bytes(zipped.read_bytes())
    zipped.write_bytes(content)
    check(plain)
    check(zipped)


@pytest.mark.parametrize("part", [0, 0.001, 0.3, 0.7, 0.999])
def test_a_cut_gzip_file_is_refused(zipped, part):
    whole = zipped.read_bytes()
    zipped.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(InputError, match=r"image\.fits\.gz is not a complete FITS file") as refusal:
        check(zipped)
    assert str(refusal.value).endswith("delete it and fetch it again")
    assert "\n" not in str(refusal.value)


def test_a_gzip_file_of_a_cut_image_is_refused(plain, zipped):
    zipped.write_bytes(gzip.compress(plain.read_bytes()[:-2880]))
    with pytest.raises(InputError, match=r"is truncated, 2880 bytes are missing: delete it"):
        check(zipped)


def test_every_damaged_byte_of_a_gzip_file_is_refused_or_harmless(zipped):
    whole = zipped.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[position] ^= 255
        zipped.write_bytes(damaged)
        try:
            check(zipped)
        except InputError:
            refused += 1
    assert refused >= 58  # the time stamp in its header may be anything


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="is missing: fetch it, or correct the path"):
        check(tmp_path / "none.fits.gz")


def test_an_error_of_the_disk_stays_one(plain, monkeypatch):
    def broken(*_, **__):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(fits, "open", broken)
    with pytest.raises(OSError, match="Input/output error"):
        check(plain)


def test_a_mapped_table_is_read(tmp_path):
    path = tmp_path / "table.fits"
    columns = [fits.Column("A", "D", array=[1.0, 2.0]), fits.Column("B", "3A", array=["x", "yz"])]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    with open_fits(path, memmap=True) as hdus:
        np.testing.assert_array_equal(column(path, hdus[1], "A", float), [1, 2])
        assert column(path, hdus[1], 1, str).tolist() == ["x", "yz"]
        with pytest.raises(InputError, match="has no readable column C in table 1: delete it"):
            column(path, hdus[1], "C", float)
        with pytest.raises(InputError, match="has no readable column B in table 1"):
            column(path, hdus[1], "B", float)
        assert column_names(path, hdus[1]) == ["A", "B"]


def test_numbers_of_headers_and_pixels_are_checked(plain):
    assert header_number(plain, {"A": 2}, "A") == 2.0
    for value in ("2", True, None, 0, np.nan, np.inf):
        with pytest.raises(InputError, match="no usable A"):
            header_number(plain, {"A": value}, "A")
    assert finite(plain, IMAGE, "it") is IMAGE
    with pytest.raises(InputError, match="2 pixels that are not finite in it: set those"):
        finite(plain, np.array([np.nan, 1, np.inf], np.float32), "it")


def test_what_float32_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "image.fits"
    fits.PrimaryHDU(np.full((1, 2, 2), 1e300)).writeto(path)
    with (
        open_fits(path) as hdus,
        pytest.raises(InputError, match="4 pixels that are not finite in it"),
    ):
        plane(path, hdus[0], 0, "it")


def test_a_mangled_header_of_an_image_is_refused(plain):
    card = b"BITPIX  =                  -32"
    plain.write_bytes(plain.read_bytes().replace(card, card.replace(b"32", b"31")))
    with pytest.raises(InputError, match="is not a complete FITS file"), open_fits(plain) as hdus:
        pixels(plain, hdus[0])


@pytest.mark.parametrize("name", ["broadband_12.fits", "tng_broadband_12.fits.gz"])
def test_names_give_the_subhalo(tmp_path, name):
    assert subhalo_of_name(tmp_path / name) == 12
