"""The reader of SUNRISE files: what was written comes back; what is wrong is refused clearly."""

import numpy as np
import pytest
from astropy.io import fits

from builders.standin import small_standin
from peculiar.core.errors import InputError
from peculiar.core.photometry import BANDS, SUNRISE_FILTERS
from peculiar.galaxies.standin import simulation
from peculiar.galaxies.sunrise import bands_in, read_broadband, read_masses, recognises

PIXELS = 16
IMAGES = np.random.default_rng(0).random((4, 5, PIXELS, PIXELS), dtype=np.float32)
CUBE = "CAMERA2-BROADBAND-NONSCATTER"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "broadband_7.fits"
    simulation.write_broadband(path, 7, 10.5, IMAGES, fov_kpc=80.0)
    return path


def edit(path, change):
    """Rewrite a file after `change(hdus)`."""
    with fits.open(path, memmap=False) as hdus:
        for hdu in hdus:
            assert hdu.data is None or hdu.data.size
        change(hdus)
        hdus.writeto(path, overwrite=True)


def test_what_was_written_comes_back(file):
    galaxy = read_broadband(file, BANDS)
    assert (galaxy.id, galaxy.log10_stellar_mass) == (7, 10.5)
    assert galaxy.source == "stand-in:broadband_7.fits"
    assert galaxy.images.dtype == np.float32
    assert galaxy.images.flags.c_contiguous
    np.testing.assert_array_equal(galaxy.images, IMAGES)
    np.testing.assert_allclose(galaxy.kpc_per_pixel, [5.0] * 4)
    np.testing.assert_allclose(galaxy.mag_ab, simulation.image_mag(IMAGES, 5.0), rtol=1e-12)
    assert np.isnan([*galaxy.absolute_mag, galaxy.half_mass_radius_kpc]).tolist() == [True] * 6
    assert bands_in(file) == BANDS
    with fits.open(file) as hdus:
        assert recognises(hdus)


def test_the_subhalos_own_numbers_come_along(file):
    def add(hdus):
        hdus[0].header.update({"HALFMASS": 6.5, "ABSMAG_G": -20.25, "ABSMAG_Z": -22.0})
        hdus["FILTERS"].data["AB_mag_nonscatter1"][3] = np.inf  # no light in i

    edit(file, add)
    galaxy = read_broadband(file, "zrgi")
    assert galaxy.half_mass_radius_kpc == 6.5
    np.testing.assert_array_equal(galaxy.absolute_mag, [-22.0, np.nan, -20.25, np.nan])
    expected = simulation.image_mag(IMAGES, 5.0)[:, [4, 2, 1, 3]]
    expected[1, 3] = np.nan
    np.testing.assert_allclose(galaxy.mag_ab, expected, rtol=1e-12)


def test_a_simulated_galaxy_comes_back(tmp_path):
    parameters = small_standin(seed=1)
    path = tmp_path / "broadband_3.fits"
    simulation.make_broadband(path, 3, parameters)
    stars = simulation.simulate(np.random.default_rng([1, 3]), parameters)
    galaxy = read_broadband(path, BANDS)
    np.testing.assert_array_equal(galaxy.images, simulation.render(stars, parameters))
    assert galaxy.log10_stellar_mass == stars.log10_mass


@pytest.mark.parametrize("bands", ["r", "zu", "gri"])
def test_bands_come_in_the_order_asked_for(file, bands):
    images = read_broadband(file, tuple(bands)).images
    np.testing.assert_array_equal(images, IMAGES[:, [BANDS.index(band) for band in bands]])


def test_genuine_layout_of_36_filters_with_a_field_of_view_per_camera(tmp_path):
    path = tmp_path / "broadband_123.fits"
    names = [f"filter_{k}.res" for k in range(36)]
    names[2:7] = [SUNRISE_FILTERS[band] for band in BANDS]
    cubes = np.random.default_rng(1).random((4, 36, 8, 8), dtype=np.float32)
    column = fits.Column("filter", "40A", array=[f"{name:40}" for name in names])
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([column], name="FILTERS")]
    for camera in range(4):
        parameters = fits.ImageHDU(name=f"CAMERA{camera}-PARAMETERS")
        parameters.header["HIERARCH linear_fov"] = 40.0 + camera
        image = fits.ImageHDU(cubes[camera], name=f"CAMERA{camera}-BROADBAND-NONSCATTER")
        image.header["IMUNIT"] = "W/m/m^2/sr"
        hdus += [parameters, fits.ImageHDU(name=f"CAMERA{camera}-AUX"), image]
    fits.HDUList(hdus).writeto(path)
    galaxy = read_broadband(path, "ri")
    assert galaxy.id == 123
    assert np.isnan(galaxy.log10_stellar_mass)
    assert galaxy.source == "illustris:broadband_123.fits"
    np.testing.assert_array_equal(galaxy.images, cubes[:, [4, 5]])
    np.testing.assert_allclose(galaxy.kpc_per_pixel, np.arange(40, 44) / 8)
    assert np.isnan(galaxy.mag_ab).tolist() == [[True, True]] * 4
    assert bands_in(path) == BANDS


def test_pixel_scale_from_the_image_where_no_field_of_view_is_given(file):
    def without_field(hdus):
        for camera in range(4):
            del hdus[f"CAMERA{camera}-PARAMETERS"].header["linear_fov"]
            hdus[f"CAMERA{camera}-BROADBAND-NONSCATTER"].header["CD1_1"] = 0.25 + camera

    edit(file, without_field)
    np.testing.assert_allclose(read_broadband(file, "r").kpc_per_pixel, 0.25 + np.arange(4))


def set_header(name, key, value):
    def change(hdus):
        hdus[name].header[key] = value

    return change


def set_pixels(values):
    def change(hdus):
        hdus[CUBE].data[3, 0, : len(values)] = values

    return change


def drop(*names):
    def change(hdus):
        for name in names:
            del hdus[name]

    return change


def drop_scale(hdus):
    del hdus["CAMERA2-PARAMETERS"].header["linear_fov"]
    del hdus[CUBE].header["CD1_1"]


def fewer_planes(hdus):
    hdus[CUBE].data = hdus[CUBE].data[:4]


def fewer_pixels(hdus):
    hdus[CUBE].data = hdus[CUBE].data[:, :8, :8].copy()


def rename_filter(hdus):
    hdus["FILTERS"].data["filter"][3] = "i_other.res"


REFUSALS = {
    "no camera": (drop(CUBE), f"has no {CUBE}"),
    "no filters": (drop("FILTERS"), "has no FILTERS"),
    "missing band": (rename_filter, "has no filter i_SDSS.res"),
    "nan": (set_pixels([np.nan, 1, np.nan]), "2 pixels that are not finite in camera 2, band i"),
    "infinite": (set_pixels([np.inf]), "1 pixels that are not finite in camera 2, band i"),
    "negative": (set_pixels([-1e-9]), "negative surface brightness in camera 2, band i"),
    "no radius": (set_header(0, "HALFMASS", -1.0), r"usable HALFMASS \(-1.0"),
    "odd magnitude": (set_header(0, "ABSMAG_R", "bright"), "usable ABSMAG_R"),
    "unit": (set_header(CUBE, "IMUNIT", "Jy"), f"IMUNIT 'Jy' in {CUBE}, not 'W/m/m"),
    "planes": (
        fewer_planes,
        r"cube of shape \(4, 16, 16\) in CAMERA2-BROADBAND-NONSCATTER, not \(5, N, N\)",
    ),
    "pixels": (fewer_pixels, "cameras of different sizes"),
    "no scale": (drop_scale, "neither linear_fov in CAMERA2-PARAMETERS nor CD1_1"),
    "zero scale": (set_header("CAMERA2-PARAMETERS", "linear_fov", 0.0), r"usable linear_fov \(0.0"),
    "odd scale": (set_header("CAMERA2-PARAMETERS", "linear_fov", "wide"), "usable linear_fov"),
}


OF_ANOTHER_KIND = ["unit", "planes", "pixels", "no scale"]


@pytest.mark.parametrize("what", REFUSALS)
def test_errors_name_the_file_and_the_fix(file, what):
    change, words = REFUSALS[what]
    edit(file, change)
    with pytest.raises(InputError, match=words) as refusal:
        read_broadband(file, BANDS)
    assert str(refusal.value).startswith(str(file))
    if what in OF_ANOTHER_KIND:
        advice = "give a SUNRISE broadband file of Illustris"
    else:
        advice = {
            "missing band": "remove band i",
            "nan": "set those without data to 0, or cut them off",
            "infinite": "set those without data to 0, or cut them off",
        }.get(what, "delete it and fetch it again")
    assert advice in str(refusal.value)
    assert ("fetch it again" in str(refusal.value)) == ("fetch" in advice)
    assert "\n" not in str(refusal.value)


def test_other_files_are_not_recognised(file):
    for name in ("FILTERS", "CAMERA0-BROADBAND-NONSCATTER"):
        with fits.open(file) as hdus:
            del hdus[name]
            assert not recognises(hdus)
    edit(file, rename_filter)
    assert bands_in(file) == ("u", "g", "r", "z")


def test_a_bad_plane_that_is_not_asked_for_does_no_harm(file):
    edit(file, set_pixels([np.nan]))
    assert read_broadband(file, "gr").images.shape == (4, 2, PIXELS, PIXELS)


@pytest.mark.parametrize("part", [0, 0.0004, 0.03, 0.2, 0.3, 0.5, 0.77, 0.9, 0.9999])
def test_truncated_files_are_refused_wherever_they_end(file, part):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(InputError, match=r"broadband_7.fits (is|has) .*fetch it again"):
        read_broadband(file, BANDS)


def test_every_truncation_to_complete_blocks_is_refused(file):
    whole = file.read_bytes()
    for end in range(0, len(whole), 2880):
        file.write_bytes(whole[:end])
        with pytest.raises(InputError, match="fetch it again"):
            read_broadband(file, BANDS)


def test_random_bytes_are_refused(file):
    for head, words in (
        (b"", "is not a FITS file"),
        (b"SIMPLE  = ", "is not a complete FITS file"),
    ):
        file.write_bytes(head + np.random.default_rng(0).bytes(20_000))
        with pytest.raises(InputError, match=words):
            read_broadband(file, BANDS)


@pytest.mark.parametrize("content", [b"fetch:\n  source: standin\n", b"<html>", b"S", b"\x1f-"])
def test_a_file_that_is_not_fits_differs_from_a_damaged_one(file, content):
    file.write_bytes(content)
    damaged = content == b"S"  # may be the begin of one
    words = "delete it and fetch it again" if damaged else "is not a FITS file: give a FITS file"
    with pytest.raises(InputError, match=words):
        read_broadband(file, BANDS)


def test_damaged_headers_are_read_or_refused_never_a_traceback(file):
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = np.frombuffer(whole, dtype=np.uint8).copy()
        damaged[rng.integers(0, len(whole) // 2, 30)] = rng.integers(0, 256, 30)
        file.write_bytes(damaged.tobytes())
        try:
            read_broadband(file, BANDS)
        except InputError:
            refused += 1
    assert refused > 10


def test_a_missing_file_and_a_name_without_a_number_are_refused(file, tmp_path):
    with pytest.raises(InputError, match="is missing"):
        read_broadband(tmp_path / "broadband_8.fits", BANDS)
    nameless = tmp_path / "galaxy.fits"
    edit(file, lambda hdus: hdus[0].header.remove("SUBHALO"))
    assert read_broadband(file, "r").id == 7
    file.rename(nameless)
    with pytest.raises(InputError, match=r"name it broadband_ID\.fits"):
        read_broadband(nameless, BANDS)


def test_catalogue_gives_the_masses(tmp_path):
    path = tmp_path / "directory_catalog_135.txt"
    path.write_text("000      25       11.0457    \n001      26       10.7663    \n")
    assert read_masses(path) == {25: 11.0457, 26: 10.7663}
    path.write_text("000 25 11.0457\n001 26\n")
    with pytest.raises(InputError, match="'001 26' in line 2"):
        read_masses(path)
    for mass in ("1_1", "١١", "nan", "11x"):
        path.write_text(f"000 25 {mass}\n")
        with pytest.raises(InputError, match="in line 1, not a folder, a subhalo number and"):
            read_masses(path)
    path.write_text("000 25 11\n000 25 10\n")
    with pytest.raises(InputError, match="has two masses of subhalo 25, line 2: keep one"):
        read_masses(path)
    for wrong in (tmp_path / "none.txt", tmp_path, path / "below"):
        with pytest.raises(InputError, match="is not a catalogue of subhaloes: correct the path"):
            read_masses(wrong)
