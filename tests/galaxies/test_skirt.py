"""The reader of TNG SKIRT images: units, scale, order of bands, refusals, three genuine files."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from peculiar.core.errors import InputError
from peculiar.core.photometry import SKIRT_ZEROPOINT_AB, flux_density
from peculiar.galaxies.skirt import bands_in, read_skirt, recognises

TNG = Path(__file__).resolve().parents[3] / "shared" / "data" / "tng"
GENUINE = ["tng100_snap099_broadband_6", "tng50_snap095_broadband_117378"]
GENUINE += ["tng50_snap095_broadband_99185"]
COUNTS = np.random.default_rng(0).random((4, 8, 8), dtype=np.float32)


def write(path, counts=COUNTS, **cards):
    hdu = fits.PrimaryHDU(counts)
    header = {"BUNIT": "counts/s/pixel", "CTYPE1": "pc", "CDELT1": 400.0, "PIXSCALE": 0.396}
    header |= {"USE_Z": 0.05} | {
        f"FILTER{k}": f"sloan/sdss_{band}" for k, band in enumerate("griz")
    }
    for key, value in (header | cards).items():
        if value is not None:
            hdu.header[key] = value
    hdu.writeto(path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tng_broadband_12.fits"


def test_counts_become_surface_brightness_at_redshift_zero(path):
    galaxy = read_skirt(write(path), "rg")
    assert galaxy.id == 12
    assert np.isnan(galaxy.log10_stellar_mass)
    assert galaxy.source == "skirt:tng_broadband_12.fits"
    assert galaxy.images.shape == (1, 2, 8, 8)
    assert galaxy.images.dtype == np.float32
    np.testing.assert_allclose(galaxy.kpc_per_pixel, [0.4])
    steradian = (0.396 * np.pi / 648_000) ** 2
    for image, plane, band in zip(galaxy.images[0], COUNTS[[1, 0]], "rg", strict=True):
        mag = SKIRT_ZEROPOINT_AB[band] - 2.5 * np.log10(plane)
        expected = flux_density(mag, band) / steradian * 1.05**5
        np.testing.assert_allclose(image, expected, rtol=1e-5)


def test_the_layout_and_the_bands_are_recognised(path):
    write(path, FILTER1="sloan/sdss_u", FILTER0="other")  # the zero point of u is not known
    assert bands_in(path) == ("i", "z")
    with fits.open(path) as hdus:
        assert recognises(hdus)
        del hdus[0].header["FILTER0"]
        assert not recognises(hdus)
    assert not recognises(fits.HDUList([fits.PrimaryHDU()]))


def test_filters_are_found_by_name(path):
    write(path, FILTER0="sloan/sdss_z", FILTER3="sloan/sdss_g")
    swapped = read_skirt(path, "g").images
    path.unlink()
    right = read_skirt(write(path, counts=COUNTS[::-1]), "g").images
    np.testing.assert_array_equal(swapped, right)


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"BUNIT": "Jy"}, "BUNIT 'Jy', not 'counts/s/pixel'"),
        ({"CTYPE1": "kpc"}, "CTYPE1 'kpc', not 'pc'"),
        ({"CDELT1": None}, "no usable CDELT1"),
        ({"CDELT1": -1.0}, "no usable CDELT1"),
        ({"PIXSCALE": 0.0}, "no usable PIXSCALE"),
        ({"USE_Z": None}, "no usable USE_Z"),
        ({"FILTER2": None}, "the filter of plane 2"),
        ({"FILTER1": "other"}, "has no filter sloan/sdss_r"),
        (
            {"counts": COUNTS[0]},
            r"is not a TNG SKIRT image, .* remove it from fetch\.skirt\.folder",
        ),
        ({"counts": COUNTS[:, 1:]}, r"shape \(4, 7, 8\), not \(bands, N, N\)"),
        ({"counts": np.where(COUNTS > 0.9, np.nan, COUNTS)}, "not finite in band g"),
    ],
)
def test_refusals_name_the_file(path, cards, words):
    with pytest.raises(InputError, match=words) as refusal:
        read_skirt(write(path, **cards), "griz")
    assert str(refusal.value).startswith(str(path))


def test_a_band_the_files_do_not_have_is_refused(path):
    with pytest.raises(InputError, match="has no filter sloan/sdss_u: leave u out"):
        read_skirt(write(path), "ug")


@pytest.mark.parametrize("end", [0, 80, 2880, 3000, -2881])
def test_truncated_files_are_refused(path, end):
    whole = write(path).read_bytes()
    path.write_bytes(whole[:end])
    with pytest.raises(InputError, match="fetch it again"):
        read_skirt(path, "griz")


@pytest.mark.skipif(not TNG.is_dir(), reason=f"no genuine SKIRT files at {TNG}")
@pytest.mark.parametrize("name", GENUINE)
def test_genuine_files_are_galaxies(name):
    path = TNG / f"{name}.fits"
    galaxy = read_skirt(path, "griz")
    assert bands_in(path) == ("g", "r", "i", "z")
    with fits.open(path) as hdus:
        assert recognises(hdus)
    assert galaxy.id == int(name.rsplit("_", 1)[1])
    assert 0.37 < galaxy.kpc_per_pixel[0] < 0.39
    at_10_pc = (
        galaxy.images[0].sum(axis=(1, 2), dtype=float) * (galaxy.kpc_per_pixel[0] / 0.01) ** 2
    )
    zero = np.array([flux_density(0.0, band) for band in "griz"])
    g, r, i, z = -2.5 * np.log10(at_10_pc / zero)
    assert -23.5 < r < -18.5
    assert 0.5 < g - r < 1.0
    assert 0.1 < r - i < 0.5
    assert 0.1 < i - z < 0.5
