"""The reader of the NASA-Sloan Atlas: layouts, units, catalogue, refusals, 24 genuine cut-outs."""

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from builders.nsa import (
    BOTH_SIGNS,
    DEC,
    NORTH,
    NX,
    NY,
    RA,
    ROWS,
    SOUTH,
    UV,
    atlas,
    cutout,
    parent,
    wcs_cards,
    write,
    write_catalogue,
)
from peculiar.core.errors import InputError
from peculiar.core.photometry import BANDS, PIVOT_WAVELENGTH_M
from peculiar.galaxies.nsa import bands_in, read_catalogue, read_nsa, recognises

GENUINE = Path(__file__).resolve().parents[3] / "shared" / "data" / "nsa_r"
CUTOUTS = sorted(GENUINE.glob("nsa_*.fits")) or [None]


@pytest.fixture
def catalogue(tmp_path):
    return read_catalogue(write_catalogue(tmp_path / "nsa_v0_1_2.fits"))


def nanomaggies(galaxy):
    """Images (band, y, x) in nanomaggies, by the definition of the jansky and of a nanomaggy."""
    steradian = np.radians(galaxy.pixel_scale_arcsec / 3600) ** 2
    wavelength = np.array([PIVOT_WAVELENGTH_M[band] for band in BANDS])[:, None, None]
    per_hertz = galaxy.images[0].astype(float) * steradian * wavelength**2 / 299_792_458
    return per_hertz / 3.631e-32  # 3631 Jy are AB magnitude 0, a nanomaggy is 1e-9 of them


@pytest.mark.parametrize("zipped", ["", ".gz"])
@pytest.mark.parametrize(("make", "ending"), [(parent, "parent-3"), (atlas, "3-atlas-2")])
def test_layouts_give_bands_in_order_and_surface_brightness(
    tmp_path, catalogue, zipped, make, ending
):
    path = make(tmp_path / f"{SOUTH}-{ending}.fits{zipped}")
    galaxy = read_nsa(path, BANDS, catalogue)
    assert galaxy.id == 12
    assert galaxy.source == f"nsa:{path.name}"
    assert galaxy.images.shape == (1, 5, NY, NX)
    assert galaxy.images.dtype == np.dtype("=f4")
    assert galaxy.images.flags.c_contiguous
    np.testing.assert_allclose(nanomaggies(galaxy), BOTH_SIGNS, rtol=3e-7)
    assert galaxy.kpc_per_pixel.shape == (1,)
    assert np.isnan(galaxy.kpc_per_pixel[0])
    assert galaxy.pixel_scale_arcsec == 0.396
    assert galaxy.cz_kms == pytest.approx(299_792.458 * 0.022)
    assert galaxy.cz_flow_kms == pytest.approx(299_792.458 * 0.0224)
    assert galaxy.centre_offset == (0.0, 0.0)
    assert bands_in(path) == BANDS
    some = read_nsa(path, "zr", catalogue)
    np.testing.assert_array_equal(some.images, galaxy.images[:, [4, 2]])
    np.testing.assert_array_equal(some.mag_ab, galaxy.mag_ab[:, [4, 2]])


def test_magnitudes_are_of_the_petrosian_fluxes(tmp_path, catalogue):
    path = parent(tmp_path / f"{SOUTH}-parent-3.fits")
    expected = [[20.0, 17.5, 15.0, np.nan, np.nan]]  # 22.5 - 2.5 log10 of 10, 100, 1000, -1, NaN
    np.testing.assert_allclose(read_nsa(path, BANDS, catalogue).mag_ab, expected)
    rows = {name: value for name, value in ROWS.items() if name != "PETROFLUX"}
    without = read_catalogue(write_catalogue(tmp_path / "short.fits", rows))
    assert np.isnan(read_nsa(path, "gr", without).mag_ab).tolist() == [[True, True]]


@pytest.mark.parametrize(
    ("name", "nsaid"),
    [
        (f"{NORTH}-parent-3.fits", 11),
        (f"{SOUTH}-parent-3.fits", 12),
        (f"{SOUTH}-parent-40.fits.gz", 13),
        (f"{NORTH}-3-atlas-0.fits", 11),
        (f"{SOUTH}-40-atlas-0.fits", 13),
    ],
)
def test_the_name_finds_the_galaxy(tmp_path, catalogue, name, nsaid):
    path = (parent if "parent" in name else atlas)(tmp_path / name, NSAID=99)
    galaxy = read_nsa(path, "r", catalogue)
    assert galaxy.id == nsaid
    assert galaxy.cz_kms == pytest.approx(299_792.458 * ROWS["Z"][nsaid - 11])


@pytest.mark.parametrize(
    "name",
    [
        "J094651.40+010228.4-parent-3.fits",  # not this galaxy
        f"{NORTH}-parent-40.fits",  # not this parent
        f"{SOUTH}-3-atlas-1.fits",  # a neighbour on the same parent image
        "galaxy.fits",  # neither a name of the Atlas nor an NSAID in the header
    ],
)
def test_an_image_not_in_the_catalogue_is_refused(tmp_path, catalogue, name):
    path = atlas(tmp_path / name)
    with pytest.raises(InputError, match=r"is 0 times in .*nsa_v0_1_2\.fits, not once") as refusal:
        read_nsa(path, "r", catalogue)
    assert str(refusal.value).startswith(str(path))


def test_a_cut_out_is_found_by_its_nsaid_or_knows_itself(tmp_path, catalogue):
    path = cutout(tmp_path / "nsa_12.fits")
    assert read_nsa(path, "r").cz_kms == pytest.approx(299_792.458 * 0.02)
    assert np.isnan(read_nsa(path, "r").mag_ab).tolist() == [[True]]
    known = read_nsa(path, "r", catalogue)
    assert (known.id, known.mag_ab.tolist()) == (12, [[15.0]])
    assert known.cz_kms == pytest.approx(299_792.458 * 0.022)
    assert bands_in(path) == ("r",)


def test_pixels_without_data_are_dark_sky(tmp_path, catalogue):
    images, weights = BOTH_SIGNS.copy(), np.ones_like(BOTH_SIGNS)
    images[2, 3, 4:8] = [np.nan, np.inf, 1e30, 7]
    weights[2, 3, 4:8] = [0, 0, -1, 0]
    path = parent(tmp_path / f"{SOUTH}-parent-3.fits", images, weights)
    expected = BOTH_SIGNS.copy()
    expected[2, 3, 4:8] = 0
    galaxy = read_nsa(path, BANDS, catalogue)
    np.testing.assert_allclose(nanomaggies(galaxy), expected, rtol=3e-7)


@pytest.mark.parametrize(("x", "y"), [(7.0, 5.5), (3.25, 10.5), (14.4, -0.4)])
def test_the_galaxy_is_where_its_position_falls_on_the_sky(tmp_path, catalogue, x, y):
    path = parent(tmp_path / f"{SOUTH}-parent-3.fits.gz", **wcs_cards(x, y, scale=0.5))
    galaxy = read_nsa(path, "gr", catalogue)
    expected = (x - (NX - 1) / 2, y - (NY - 1) / 2)
    np.testing.assert_allclose(galaxy.centre_offset, expected, atol=1e-7)
    assert galaxy.pixel_scale_arcsec == pytest.approx(0.5)


def test_a_cut_out_with_a_wcs_needs_no_pixscale(tmp_path):
    cards = {"CDELT1": -1e-4, "CDELT2": 1e-4, "CD1_1": None, "CD2_2": None}
    cards = wcs_cards(7.0, 7.5) | cards | {"CD1_2": None, "CD2_1": None, "PIXSCALE": None}
    galaxy = read_nsa(cutout(tmp_path / "nsa_12.fits", **cards), "r")
    assert galaxy.pixel_scale_arcsec == pytest.approx(0.36)
    np.testing.assert_allclose(galaxy.centre_offset, (0.0, 2.0), atol=1e-7)


def test_images_that_are_no_images_of_the_sky_have_no_wcs(tmp_path):
    cards = {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR", "CRVAL1": 5.0}
    assert read_nsa(cutout(tmp_path / "a.fits", **cards), "r").centre_offset == (0.0, 0.0)
    cards = wcs_cards(0, 0) | {"RA": None}
    assert read_nsa(cutout(tmp_path / "b.fits", **cards), "r").centre_offset == (0.0, 0.0)


HOLED = np.where(BOTH_SIGNS > 3, np.nan, BOTH_SIGNS)
REFUSALS = {
    "no images": (
        {"images": [UV, UV, UV]},
        r"not an image of the NASA.*14 HDUs \(parent\), .* remove it from",
    ),
    "cube": ({"images": [BOTH_SIGNS]}, "is not an image of the NASA-Sloan Atlas"),
    "no NSAID": ({"NSAID": None}, r"or 1 with NSAID \(cut-out\)"),
    "no Z": ({"Z": None}, "has no Z in its header: give the Atlas"),
    "no ZDIST": ({"ZDIST": None}, "has no ZDIST in its header: give the Atlas"),
    "odd Z": ({"Z": "far"}, "no usable Z"),
    "negative ZDIST": ({"ZDIST": -1.0}, "no usable ZDIST"),
    "odd NSAID": ({"NSAID": "12"}, "no usable NSAID"),
    "unit": ({"BUNIT": "counts"}, "BUNIT 'counts', not 'nanomaggy'"),
    "no unit": ({"BUNIT": None}, "BUNIT '', not 'nanomaggy'"),
    "filter": ({"FILTER": "J"}, "FILTER 'J', not one of u, g, r, i, z"),
    "no filter": ({"FILTER": None}, "FILTER '', not one of"),
    "other band": ({"FILTER": "g"}, "has no band r: leave r out of fetch.bands"),
    "no scale": ({"PIXSCALE": None}, "neither PIXSCALE nor a WCS"),
    "zero scale": ({"PIXSCALE": 0.0}, "no usable PIXSCALE"),
    "not finite": ({"images": HOLED[1:2]}, "pixels that are not finite in band r"),
    "elsewhere": (wcs_cards(-9, 5), r"does not show its galaxy's RA 146.71421, DEC -1.04124"),
    "behind": (wcs_cards(7, 5) | {"RA": RA + 180, "DEC": -DEC}, "does not show its galaxy's"),
    "beyond the pole": ({"RA": 10.0, "DEC": 91.0}, "has RA 10 and DEC 91, which are on no sky"),
    "odd RA": (wcs_cards(7, 5) | {"RA": "east"}, "no usable RA"),
    "two scales": (wcs_cards(7, 5, scale=0.5), "PIXSCALE 0.396, but 0.5 by its WCS: delete it"),
    "one axis": (wcs_cards(7, 5) | {"CTYPE2": "RA---TAN"}, r"has no usable WCS \(.*\): delete it"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refusals_name_the_file_in_one_sentence(tmp_path, what):
    cards, words = REFUSALS[what]
    path = cutout(tmp_path / "nsa_12.fits", **cards)
    with pytest.raises(InputError, match=words) as refusal:
        read_nsa(path, "r")
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


def test_parent_images_are_refused_without_a_catalogue(tmp_path):
    path = parent(tmp_path / f"{SOUTH}-parent-3.fits.gz")
    with pytest.raises(InputError, match=r"has no NSAID in its header: give the Atlas' cat"):
        read_nsa(path, "r")


@pytest.mark.parametrize(
    ("images", "weights", "words"),
    [
        (HOLED, None, "not finite in band r"),
        (BOTH_SIGNS, HOLED, "not finite in the inverse variance of band r"),
        (BOTH_SIGNS, 0 * BOTH_SIGNS, "has no data in band r: remove it from fetch.nsa.folder"),
        (
            BOTH_SIGNS,
            BOTH_SIGNS[:, 1:],
            "has an inverse variance of another size than the image in r",
        ),
        ([*BOTH_SIGNS[:2], BOTH_SIGNS[2, 1:], *BOTH_SIGNS[3:]], None, "bands of different sizes"),
    ],
)
def test_parent_images_that_contradict_themselves_are_refused(
    tmp_path, catalogue, images, weights, words
):
    weights = [np.ones_like(image) for image in images] if weights is None else weights
    path = parent(tmp_path / f"{SOUTH}-parent-3.fits", images, weights)
    with pytest.raises(InputError, match=words):
        read_nsa(path, "rg", catalogue)


def test_catalogues_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "nsa_v0_1_2.fits"
    for missing in set(ROWS) - {"PETROFLUX"}:
        write_catalogue(path, {name: value for name, value in ROWS.items() if name != missing})
        with pytest.raises(InputError, match=f"no column {missing}: give nsa_v0_1_2"):
            read_catalogue(path)
    write_catalogue(path, ROWS | {"PETROFLUX": np.ones((3, 5))}, PETROFLUX="5E")
    with pytest.raises(InputError, match="does not have 7 values per row in PETROFLUX"):
        read_catalogue(path)
    write(path, [UV])
    with pytest.raises(InputError, match=r"has no table in HDU 1: give nsa_v0_1_2"):
        read_catalogue(path)
    with pytest.raises(InputError, match="is missing"):
        read_catalogue(tmp_path / "none.fits")


def test_a_cut_gzip_file_is_refused(tmp_path, catalogue):
    path = parent(tmp_path / f"{SOUTH}-parent-3.fits.gz")
    whole = path.read_bytes()
    for end in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match="delete it and fetch it again"):
            read_nsa(path, "r", catalogue)


def test_damaged_files_are_read_or_refused_never_a_traceback(tmp_path):
    path = cutout(tmp_path / "nsa_12.fits", **wcs_cards(7, 5))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        damaged = np.frombuffer(whole, dtype=np.uint8).copy()
        damaged[rng.integers(0, 2000, 5)] = rng.integers(32, 127, 5)
        path.write_bytes(damaged.tobytes())
        try:
            read_nsa(path, "r")
        except InputError:
            refused += 1
    assert refused > 10


def test_damaged_catalogues_are_read_or_refused_never_a_traceback(tmp_path):
    path = write_catalogue(tmp_path / "nsa_v0_1_2.fits")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        damaged = np.frombuffer(whole, dtype=np.uint8).copy()
        damaged[rng.integers(2880, 6000, 8)] = rng.integers(32, 127, 8)
        path.write_bytes(damaged.tobytes())
        try:
            read_catalogue(path)
        except InputError:
            refused += 1
    assert refused > 10


@pytest.mark.skipif(CUTOUTS == [None], reason=f"no genuine NSA images at {GENUINE}")
@pytest.mark.parametrize("path", CUTOUTS, ids=lambda path: path and path.stem)
def test_genuine_cut_outs_agree_with_their_headers(path):
    with fits.open(path) as hdus:
        assert recognises(hdus)
        header, flux = hdus[0].header, hdus[0].data
    galaxy = read_nsa(path, "r")
    assert bands_in(path) == ("r",)
    assert galaxy.id == header["NSAID"] == int(path.stem[4:])
    assert galaxy.pixel_scale_arcsec == header["PIXSCALE"]
    assert galaxy.cz_kms == pytest.approx(299_792.458 * header["Z"])
    assert galaxy.cz_flow_kms == pytest.approx(299_792.458 * header["ZDIST"])
    assert galaxy.centre_offset == (0.0, 0.0)
    band_r = BANDS.index("r")
    np.testing.assert_allclose(nanomaggies(galaxy)[band_r], flux, rtol=3e-7)
    assert 14 < 22.5 - 2.5 * np.log10(flux.sum()) < 16.5
    peak = np.unravel_index(np.argmax(flux), flux.shape)
    assert np.abs(np.array(peak) - (np.array(flux.shape) - 1) / 2).max() <= 1.5


@pytest.mark.skipif(CUTOUTS == [None], reason=f"no genuine NSA images at {GENUINE}")
def test_beyond_6400_km_s_zdist_is_the_redshift_in_the_local_group():
    """What the docstring of `read_nsa` says of ZDIST, by Yahil et al. (1977)."""
    headers = [fits.getheader(path) for path in CUTOUTS]
    z, zdist, ra, dec = (np.array([h[key] for h in headers]) for key in ("Z", "ZDIST", "RA", "DEC"))
    apex = SkyCoord(105, -7, unit="deg", frame="galactic")
    angle = SkyCoord(ra, dec, unit="deg").separation(apex)
    solar, flow = 308 * np.cos(angle), 299_792.458 * (zdist - z)
    far = 299_792.458 * z + solar > 6400
    assert (far.sum(), (~far).sum()) == (16, 8)
    np.testing.assert_allclose(flow[far], solar[far], atol=0.2)
    assert (np.abs(flow[~far] - solar[~far]) > 9).all()


def test_the_wcs_of_the_tests_is_as_documented():
    header = fits.Header(wcs_cards(3.0, 4.0))
    x, y = WCS(header).world_to_pixel_values(RA, DEC)
    assert (float(x), float(y)) == pytest.approx((3.0, 4.0))
