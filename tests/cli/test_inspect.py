"""What a file is said to hold agrees with its headers and with sums over its pixels."""

from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from astropy.io import fits

from builders.layouts import nsa, skirt
from builders.pipeline import ROOT
from builders.standin import small_standin
from peculiar.cli.inspect import describe, text
from peculiar.core.errors import InputError
from peculiar.core.photometry import BANDS, SKIRT_ZEROPOINT_AB
from peculiar.galaxies.formats import bands_in, read_galaxy
from peculiar.galaxies.standin.simulation import make_broadband

ARCSEC = np.pi / 648_000
C_KMS = 299_792.458
SHARED = ROOT.resolve().parent / "shared/data"
TNG = sorted((SHARED / "tng").glob("*.fits"))
NSA = sorted((SHARED / "nsa_r").glob("*.fits"))
genuine = pytest.mark.skipif(not (TNG and NSA), reason=f"no genuine files in {SHARED}")


def contents_of(path, H0=70.0):
    bands = bands_in(path)
    return describe(path, read_galaxy(path, bands), bands, H0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("standin") / "broadband_5.fits"
    make_broadband(path, 5, small_standin())
    return path


@pytest.fixture
def standin(whole, tmp_path):
    """A stand-in that a test may change."""
    return Path(copy(whole, tmp_path))


def edited(path, to, change):
    with fits.open(path, memmap=False) as hdus:
        for hdu in hdus:
            assert hdu.data is None or hdu.data.size
        change(hdus)
        hdus.writeto(to, overwrite=True)
    return to


def test_magnitudes_of_a_stand_in_agree_with_its_filters_table(whole):
    contents = contents_of(whole)
    with fits.open(whole) as hdus:
        table = hdus["FILTERS"].data
        stated = np.array([table[f"AB_mag_nonscatter{camera}"] for camera in range(4)])
    np.testing.assert_allclose(contents.absolute_mag, stated, atol=0.02)
    np.testing.assert_allclose(contents.stated_mag, stated)


def test_magnitudes_of_a_stand_in_agree_with_an_independent_sum(whole):
    contents = contents_of(whole)
    with fits.open(whole) as hdus:
        fov = hdus["CAMERA0-PARAMETERS"].header["linear_fov"]
        distance = hdus["CAMERA0-PARAMETERS"].header["cameradist"]
        pivot = hdus["FILTERS"].data["lambda_eff"]
        for camera in range(4):
            cube = hdus[f"CAMERA{camera}-BROADBAND-NONSCATTER"].data.astype(float)
            f_lambda = cube.mean(axis=(1, 2)) * (fov / distance) ** 2
            jansky = f_lambda * pivot**2 / 2.997_924_58e8 / 1e-26
            expected = 8.90 - 2.5 * np.log10(jansky)
            np.testing.assert_allclose(contents.apparent_mag[camera], expected, atol=0.001)
            modulus = 5 * np.log10(distance / 0.01)
            np.testing.assert_allclose(contents.absolute_mag[camera], expected - modulus, atol=1e-3)


def test_light_falls_as_the_square_of_the_cameras_distance(standin, whole):
    def twice_as_far(hdus):
        hdus["CAMERA1-PARAMETERS"].header["cameradist"] *= 2

    near, far = contents_of(whole), contents_of(edited(standin, standin, twice_as_far))
    fainter = far.apparent_mag - near.apparent_mag
    np.testing.assert_allclose(fainter[1], 5 * np.log10(2), rtol=1e-9)
    np.testing.assert_array_equal(fainter[[0, 2, 3]], 0)
    np.testing.assert_array_equal(far.absolute_mag, near.absolute_mag)
    np.testing.assert_allclose(far.pixel_arcsec[1], near.pixel_arcsec[1] / 2)
    np.testing.assert_allclose(far.distance_mpc, [50, 100, 50, 50])


def test_facts_of_a_stand_in(whole):
    contents = contents_of(whole)
    header = fits.getheader(whole)
    assert (contents.layout, contents.standin, contents.id) == ("sunrise", True, 5)
    assert (contents.bands, contents.other_filters) == (BANDS, ())
    assert contents.shape == (4, 5, 32, 32)
    assert contents.unit == "W/m/m^2/sr"
    assert contents.redshift == 0
    assert np.isnan(contents.flow_redshift)
    assert contents.log10_stellar_mass == header["LOGMSTAR"]
    assert contents.half_mass_radius_kpc == header["HALFMASS"]
    np.testing.assert_allclose(contents.pixel_kpc, [84.4 / 32] * 4)
    np.testing.assert_allclose(contents.pixel_arcsec, 84.4 / 32 / 50e3 / ARCSEC, rtol=1e-9)
    assert contents.catalogue_mag[1] == header["ABSMAG_G"]


def test_a_genuine_layout_of_36_filters(tmp_path):
    names = [f"filter_{k}.res" for k in range(36)]
    names[2:7] = [f"{band}_SDSS.res" for band in BANDS]
    column = fits.Column("filter", "40A", array=[f"{name:40}" for name in names])
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([column], name="FILTERS")]
    for camera in range(4):
        image = fits.ImageHDU(
            np.ones((36, 8, 8), "f4"), name=f"CAMERA{camera}-BROADBAND-NONSCATTER"
        )
        image.header["IMUNIT"], image.header["CD1_1"] = "W/m/m^2/sr", 2.0
        hdus.append(image)
    fits.HDUList(hdus).writeto(tmp_path / "broadband_123.fits")
    contents = contents_of(tmp_path / "broadband_123.fits")
    assert contents.bands == BANDS
    assert contents.other_filters == (*names[:2], *names[7:])
    assert not contents.standin
    np.testing.assert_array_equal(contents.pixel_kpc, 2.0)
    # nothing says how far the cameras are
    assert np.isnan(contents.pixel_arcsec).all()
    assert np.isnan(contents.apparent_mag).all()
    assert np.isfinite(contents.absolute_mag).all()
    assert "31: filter_0.res filter_1.res filter_7.res" in text(contents)


@genuine
@pytest.mark.parametrize("path", TNG, ids=lambda path: path.stem)
def test_genuine_tng_files_agree_with_their_headers(path):
    contents = contents_of(path)
    with fits.open(path) as hdus:
        header, counts = hdus[0].header, hdus[0].data.sum(axis=(1, 2), dtype=float)
    assert (contents.layout, contents.standin) == ("skirt", False)
    assert str(contents.id) == path.stem.split("_")[-1]
    assert [f"sloan/sdss_{band}" for band in contents.bands] == [
        header[f"FILTER{k}"] for k in range(4)
    ]
    assert contents.shape == (1, 4, header["NAXIS2"], header["NAXIS1"])
    assert contents.unit == header["BUNIT"]
    assert contents.redshift == header["USE_Z"]
    assert contents.pixel_arcsec == [header["PIXSCALE"]]
    np.testing.assert_allclose(contents.pixel_kpc, header["CDELT1"] / 1e3)
    zero_points = [SKIRT_ZEROPOINT_AB[band] for band in contents.bands]
    expected = zero_points - 2.5 * np.log10(counts)
    np.testing.assert_allclose(contents.apparent_mag[0], expected, atol=1e-4)
    assert np.isnan(contents.stated_mag).all()


@genuine
@pytest.mark.parametrize("path", NSA, ids=lambda path: path.stem)
def test_genuine_nsa_files_agree_with_their_headers(path):
    contents = contents_of(path, H0=75.0)
    with fits.open(path) as hdus:
        header, nanomaggies = hdus[0].header, hdus[0].data.sum(dtype=float)
    assert (contents.layout, contents.standin, contents.id) == ("nsa", False, header["NSAID"])
    assert contents.bands == (header["FILTER"],)
    assert contents.shape == (1, 1, header["NAXIS2"], header["NAXIS1"])
    assert contents.unit == header["BUNIT"]
    np.testing.assert_allclose(contents.redshift, header["Z"], rtol=1e-9)
    np.testing.assert_allclose(contents.flow_redshift, header["ZDIST"], rtol=1e-9)
    assert contents.pixel_arcsec == [header["PIXSCALE"]]
    distance_mpc = C_KMS * header["ZDIST"] / 75
    np.testing.assert_allclose(contents.distance_mpc, distance_mpc, rtol=1e-6)
    np.testing.assert_allclose(contents.pixel_kpc, 0.396 * ARCSEC * distance_mpc * 1e3, rtol=1e-6)
    expected = 22.5 - 2.5 * np.log10(nanomaggies)
    np.testing.assert_allclose(contents.apparent_mag, expected, atol=1e-4)
    modulus = 5 * np.log10(distance_mpc) + 25
    np.testing.assert_allclose(contents.absolute_mag, expected - modulus, atol=1e-4)


def test_surface_brightness_of_skirt_files_is_seen_as_counted(tmp_path):
    path = skirt(tmp_path)
    contents = contents_of(path)
    counts = fits.getdata(path).sum(axis=(1, 2), dtype=float)
    expected = [25.93, 25.92, 25.49, 23.54] - 2.5 * np.log10(counts)
    np.testing.assert_allclose(contents.apparent_mag[0], expected, atol=1e-5)


def test_no_light_is_no_magnitude(standin):
    def dark(hdus):
        hdus["CAMERA3-BROADBAND-NONSCATTER"].data[2] = 0

    contents = contents_of(edited(standin, standin, dark))
    assert np.argwhere(np.isnan(contents.apparent_mag)).tolist() == [[3, 2]]
    (line,) = (line for line in text(contents).splitlines() if line.startswith("  3 apparent"))
    assert line.split()[4] == "-"


@pytest.mark.parametrize(
    ("hdu", "key", "value", "words"),
    [
        ("CAMERA2-PARAMETERS", "cameradist", -1.0, r"no usable cameradist \(-1\.0"),
        ("CAMERA2-PARAMETERS", "cameradist", "far", r"no usable cameradist \('far'"),
        ("BROADBAND", "REDSHIFT", "near", r"no usable REDSHIFT \('near'"),
    ],
)
def test_headers_that_make_no_sense_are_refused(standin, hdu, key, value, words):
    def change(hdus):
        hdus[hdu].header[key] = value

    with pytest.raises(InputError, match=words) as refusal:
        contents_of(edited(standin, standin, change))
    assert str(refusal.value).startswith(str(standin))


def test_text_of_a_real_galaxy(tmp_path):
    path = nsa(tmp_path)
    contents = contents_of(path)
    apparent = 22.5 - 2.5 * np.log10(fits.getdata(path).sum())
    absolute = apparent - 5 * np.log10(C_KMS * 0.021 / 70) - 25
    assert text(contents).splitlines() == [
        str(path),
        "  layout            nsa",
        "  galaxy            5",
        "  images            1 x 1 x 8 x 8 (camera, band, y, x)",
        "  unit              nanomaggy",
        "  other filters     none",
        "  redshift          0.020000",
        "  flow redshift     0.021000",
        "  stellar mass      not stated",
        "  half-mass radius  not stated",
        "  remark            kpc and absolute magnitudes at c ZDIST / H0 with H0 = 70 km/s/Mpc",
        "  camera             kpc/pixel  arcsec/pixel  distance [Mpc]  field [kpc]"
        "  [half-mass radii]",
        "  0                     0.1727        0.3960          89.938         1.38"
        "                  -",
        "  camera, AB mag            r",
        f"  0 apparent       {apparent:10.3f}",
        f"  0 absolute       {absolute:10.3f}",
    ]


def test_the_field_of_view_is_told_in_half_mass_radii(tmp_path):
    path = tmp_path / "broadband_5.fits"
    make_broadband(path, 5, small_standin(field_of_view_radii=10.0))
    contents = contents_of(path)
    header = fits.getheader(path)
    np.testing.assert_allclose(contents.field_kpc, 10 * header["HALFMASS"])
    lines = text(contents).splitlines()
    (first,) = (k for k, line in enumerate(lines) if "[half-mass radii]" in line)
    assert [line.split()[-1] for line in lines[first + 1 : first + 5]] == ["10.00"] * 4


def test_text_names_a_stand_in_and_lines_its_columns_up(whole):
    lines = text(contents_of(whole)).splitlines()
    assert lines[1] == "  layout            sunrise, a stand-in made by peculiar"
    table = lines[next(k for k, line in enumerate(lines) if "AB mag" in line) :]
    assert len({len(line) for line in table}) == 1
    assert [line[:18].split() for line in table[1:4]] == [
        ["0", "apparent"],
        ["0", "absolute"],
        ["0", "stated"],
    ]
    assert len(table) == 1 + 3 * 4 + 1
    assert table[-1].startswith("  stated absolute")
