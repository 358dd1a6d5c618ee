"""Every file goes to the reader of its layout, and what has no reader is refused."""

import gzip

import numpy as np
import pytest
from astropy.io import fits

from builders.layouts import IMAGES, nsa, skirt, sunrise
from builders.pipeline import ROOT
from peculiar.core.errors import InputError
from peculiar.galaxies.formats import bands_in, layout_of, read_galaxy
from peculiar.galaxies.nsa import read_nsa
from peculiar.galaxies.skirt import read_skirt
from peculiar.galaxies.sunrise import read_broadband

LAYOUTS = [
    (sunrise, "sunrise", "ugriz", read_broadband),
    (skirt, "skirt", "griz", read_skirt),
    (nsa, "nsa", "r", read_nsa),
]


@pytest.mark.parametrize(("write", "layout", "bands", "read"), LAYOUTS)
def test_each_layout_is_recognised_and_read_by_its_reader(tmp_path, write, layout, bands, read):
    path = write(tmp_path)
    assert layout_of(path) == layout
    assert bands_in(path) == tuple(bands)
    galaxy, expected = read_galaxy(path, bands), read(path, bands)
    np.testing.assert_array_equal(galaxy.images, expected.images)
    assert (galaxy.id, galaxy.source) == (expected.id, expected.source)


@pytest.mark.parametrize("write", [write for write, *_ in LAYOUTS])
def test_gzipped_files_have_the_same_layout(tmp_path, write):
    path = write(tmp_path)
    zipped = path.with_name(f"{path.name}.gz")
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert layout_of(zipped) == layout_of(path)
    assert bands_in(zipped) == bands_in(path)


def test_other_layouts_are_refused_by_name(tmp_path):
    path = tmp_path / "other.fits"
    fits.PrimaryHDU(IMAGES).writeto(path)
    for ask in (layout_of, bands_in, lambda path: read_galaxy(path, "r")):
        with pytest.raises(InputError, match=r"other\.fits has none of the supported") as refusal:
            ask(path)
        for name in ("SUNRISE", "TNG SKIRT", "NASA-Sloan Atlas"):
            assert name in str(refusal.value)


def test_incomplete_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone\.fits is missing"):
        layout_of(tmp_path / "gone.fits")
    path = sunrise(tmp_path)
    path.write_bytes(path.read_bytes()[:-2880])
    with pytest.raises(InputError, match="is truncated"):
        layout_of(path)


def test_a_file_without_our_bands_is_refused(tmp_path):
    path = sunrise(tmp_path)
    with fits.open(path, memmap=False) as hdus:
        hdus["FILTERS"].data["filter"] = [f"other_{k}.res" for k in range(5)]
        hdus.writeto(path, overwrite=True)
    with pytest.raises(InputError, match=r"broadband_7\.fits has none of the SDSS bands"):
        bands_in(path)


def test_missing_bands_are_named_with_those_of_the_file(tmp_path):
    words = r"nsa_5\.fits has the bands r, but the champion or --bands requires griz"
    with pytest.raises(InputError, match=words):
        read_galaxy(nsa(tmp_path), "griz")


@pytest.mark.parametrize(
    ("write", "read", "words"),
    [
        (sunrise, read_skirt, "is not a TNG SKIRT image, which is one cube"),
        (nsa, read_skirt, "is not a TNG SKIRT image, which is one cube"),
        (sunrise, read_nsa, "is not an image of the NASA-Sloan Atlas, which has 14 HDUs"),
        (skirt, read_nsa, "is not an image of the NASA-Sloan Atlas, which has 14 HDUs"),
    ],
)
def test_a_file_of_another_layout_is_refused_with_the_expected_one(tmp_path, write, read, words):
    with pytest.raises(InputError, match=rf"{words}.*: remove it from fetch\..*, or correct fetch"):
        read(write(tmp_path), "r")


@pytest.mark.parametrize(("folder", "layout"), [("tng", "skirt"), ("nsa_r", "nsa")])
def test_genuine_files_are_recognised(folder, layout):
    paths = sorted((ROOT.resolve().parent / "shared/data" / folder).glob("*.fits"))
    if not paths:
        pytest.skip(f"no genuine files in ../shared/data/{folder}")
    assert {layout_of(path) for path in paths} == {layout}
