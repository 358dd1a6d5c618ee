"""Images in all units that astronomers have them in are the same images."""

import astropy.units as u
import numpy as np
import pytest
from astropy.utils.masked import Masked
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from builders import champions
from peculiar.core.errors import InputError
from peculiar.core.photometry import PIVOT_WAVELENGTH_M
from peculiar.predict.notebook import predict_velocity
from peculiar.predict.units import BRIGHTNESS, brightness_images, unmasked

SPEED = u.km / u.s
BANDS, SCALE = "gr", 0.4
C, ARCSEC2 = 299792458.0, (np.pi / 180 / 3600) ** 2  # m/s, sr
AB = u.mag(u.AB / u.arcsec**2)


def f_nu(image):
    """W/m^2/Hz/sr of W/m^2/m/sr: f_nu = f_lambda lambda^2 / c."""
    pivot = np.array([PIVOT_WAVELENGTH_M[band] for band in BANDS])
    return image * pivot[:, None, None] ** 2 / C


def in_units(image):
    """An image (band, y, x) in W/m^3/sr in other units, by formulas of our own."""
    janskys_arcsec2 = f_nu(image) * ARCSEC2 / 1e-26
    magnitudes = -2.5 * np.log10(janskys_arcsec2 / 3631)
    nanomaggies = janskys_arcsec2 * SCALE**2 / 3.631e-6
    return [
        image * u.W / u.m**3 / u.sr,
        image * 1e-7 * ARCSEC2 * u.erg / u.s / u.cm**2 / u.AA / u.arcsec**2,
        f_nu(image) / 1e-20 * u.MJy / u.sr,
        janskys_arcsec2 * u.Jy / u.arcsec**2,
        nanomaggies * u.nmgy,
        nanomaggies * u.nmgy / u.pix,
        nanomaggies / SCALE**2 * u.nmgy / u.arcsec**2,
        nanomaggies * 1e-9 * u.mgy,
        magnitudes * AB,
        magnitudes * u.mag / u.arcsec**2,
    ]


@given(seed=st.integers(0, 99), scale=st.floats(1e-3, 1e3))
def test_all_units_of_one_image_give_equal_predictions(seed, scale):
    image = scale * np.random.default_rng(seed).uniform(0.1, 1, (2, 8, 8))
    model = champions.mean_champion(
        bands=BANDS,
        pixels=8,
        pixel_scale_arcsec=SCALE,
        network=champions.brightness_distribution,
        grid_mpc=champions.GRID,
    )
    expected, *others = (
        predict_velocity(given, 5250 * SPEED, model, pixel_scale=SCALE * u.arcsec)
        for given in in_units(image)
    )
    for table in others:
        assert table["flags"].tolist() == expected["flags"].tolist()
        for name in ("D_p", "D_error", "v_hat", "v_low95"):
            assert_allclose(table[name].value, expected[name].value, rtol=1e-4, atol=1e-3)


def test_formulas():
    """Against numbers computed by hand, not by astropy."""
    nmgy = brightness_images(np.ones((1, 2, 1, 1)) * u.nmgy, BANDS, SCALE)
    pivot = np.array([4.7014e-7, 6.1772e-7])
    assert_allclose(
        nmgy[0, :, 0, 0], 3.631e-6 * 1e-26 * C / pivot**2 / (ARCSEC2 * SCALE**2), rtol=1e-6
    )
    ab = brightness_images(np.full((1, 2, 1, 1), 20.0) * AB, BANDS, None)
    assert_allclose(ab[0, :, 0, 0], 3631e-26 * 1e-8 * C / pivot**2 / ARCSEC2, rtol=1e-6)
    mjy = brightness_images(np.ones((1, 2, 1, 1)) * u.MJy / u.sr, BANDS, None)
    assert_allclose(mjy[0, :, 0, 0], 1e-20 * C / pivot**2, rtol=1e-6)


def test_magnitudes_of_no_light_and_of_no_number():
    magnitudes = np.array([20, np.inf, -np.inf, np.nan]).reshape(1, 1, 1, 4) * AB
    image = brightness_images(magnitudes, "r", None)[0, 0, 0]
    assert image[1] == 0
    assert np.isfinite(image).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    "unit",
    [
        *(u.Jy, u.m, u.adu, u.mag, u.dimensionless_unscaled, u.nmgy / u.pix**2, u.nmgy**2),
        *(u.mag(u.ST / u.arcsec**2), u.mag(u.AB), u.dex(u.W / u.m**3 / u.sr)),
    ],
    ids=str,
)
def test_other_units_are_refused_with_those_that_can_be_read(unit):
    words = "which is none of W / m3 / sr, .*MJy / sr, nmgy / pix with .*, or AB mag / arcsec2"
    with pytest.raises(InputError, match=words) as refusal:
        brightness_images(np.ones((1, 1, 2, 2)) * unit, "r", 0.4)
    assert "\n" not in str(refusal.value)
    assert f"images is in {str(unit) or 'no unit'}, " in str(refusal.value)


@pytest.mark.parametrize("unit", [u.nmgy, u.nmgy / u.pix, u.Jy / u.pix], ids=str)
def test_flux_per_pixel_needs_a_pixel_scale(unit):
    with pytest.raises(InputError, match=rf"images in {unit} are flux per pixel: give pixel_scale"):
        brightness_images(np.ones((1, 1, 2, 2)) * unit, "r", None)


def test_what_is_too_bright_for_a_float_is_not_finite():
    image = brightness_images(np.full((1, 1, 1, 1), 1e300) * BRIGHTNESS, "r", None)
    assert not np.isfinite(image).any()


def test_nothing_under_a_mask_is_used():
    model = champions.mean_champion(
        pixels=8, network=champions.brightness_distribution, grid_mpc=champions.GRID
    )
    image = np.random.default_rng(1).random((3, 1, 8, 8)) * BRIGHTNESS
    cz = np.array([5000.0, 5250, 5500])
    masked_cz = Masked(cz, mask=[False, True, False]) * SPEED
    table = predict_velocity(image, masked_cz, model)
    assert ["no_cz" in flags for flags in table["flags"]] == [False, True, False]
    assert np.isfinite(table["D_z"].value).tolist() == [True, False, True]
    masked_error = Masked(np.full(3, 30.0), mask=[False, False, True]) * SPEED
    nan_error = [30, 30, np.nan] * SPEED
    for error in (masked_error, nan_error):
        table = predict_velocity(image, cz * SPEED, model, cz_error=error)
        assert ["bad_cz" in flags for flags in table["flags"]] == [False, False, True]
        assert np.isfinite(table["v_hat"].value).tolist() == [True, True, False]
        assert np.isfinite(table["v_p"].value).all()
    mask = np.zeros(image.shape, bool)
    mask[0, 0, 2, 2] = True
    table = predict_velocity(Masked(image, mask=mask), cz * SPEED, model)
    assert table["flags"][0] == "nan_pixels"
    assert np.isfinite(table["D_p"].value).tolist() == [False, True, True]
    assert np.isnan(unmasked(masked_cz)).tolist() == [False, True, False]


def test_mirrored_images_are_read():
    model = champions.mean_champion(pixels=8)
    image = np.random.default_rng(1).random((1, 1, 16, 16)) * BRIGHTNESS
    table = predict_velocity(image[..., ::-1], 5250 * SPEED, model, pixel_scale=0.198 * u.arcsec)
    same = predict_velocity(image, 5250 * SPEED, model, pixel_scale=0.198 * u.arcsec)
    assert_allclose(table["D_p"].value, same["D_p"].value, rtol=1e-5)


@pytest.mark.parametrize("unit", [u.W / u.m**2 / u.sr, u.erg / u.s / u.cm**2 / u.arcsec**2])
def test_brightness_integrated_over_wavelength_is_refused(unit):
    with pytest.raises(InputError, match="integrated over wavelength: divide it by the band's w"):
        brightness_images(np.ones((1, 2, 3, 3)) * unit, BANDS, SCALE)
