"""The API of notebooks: its examples run, Quantities in and out, refusals in one sentence."""

import doctest

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.cosmology import FlatLambdaCDM
from scipy.optimize import brentq

from builders import champions
from builders.pipeline import inside
from peculiar.core.errors import InputError
from peculiar.core.photometry import surface_brightness
from peculiar.predict import notebook
from peculiar.predict.units import BRIGHTNESS

pytestmark = pytest.mark.xdist_group("pipeline")
SPEED = u.km / u.s


def test_its_examples_run(pipeline):
    with inside(pipeline):
        done = doctest.testmod(notebook)
    assert done.attempted >= 10
    assert done.failed == 0


@pytest.fixture
def model():
    return champions.mean_champion(
        network=champions.brightness_distribution, grid_mpc=champions.GRID, pixels=8
    )


def images(n, side=8):
    rng = np.random.default_rng(1)
    return rng.random((n, 1, side, side)) * surface_brightness(20, "r") * BRIGHTNESS


def test_units_are_converted_and_bad_images_lose_no_good_ones(model):
    given, cz = images(3), [5000, 5100, np.nan] * SPEED
    table = notebook.predict_velocity(given, cz, model)
    same = notebook.predict_velocity(
        given.to(u.erg / u.s / u.cm**2 / u.angstrom / u.sr), cz.to(u.m / u.s), model
    )
    np.testing.assert_allclose(same["D_p"].value, table["D_p"].value, rtol=1e-6)
    assert np.isfinite(table["v_hat"].value).tolist() == [True, True, False]
    given[1, 0, 2, 3] = np.nan * BRIGHTNESS
    broken = notebook.predict_velocity(given, cz, model)
    assert broken["flags"][1] == "nan_pixels"
    assert np.isnan(broken["D_p"][1].value)
    np.testing.assert_allclose(broken["v_hat"][0].value, table["v_hat"][0].value, rtol=1e-12)


def test_redshifts_are_converted_with_frame_and_position_or_flagged(model):
    apex = SkyCoord(264.021, 48.253, unit="deg", frame="galactic")
    cz = 5000 * SPEED
    told = {"frame": "heliocentric", "position": apex, "cosmology": "hubble"}
    there = notebook.predict_velocity(images(1), cz, model, **told)
    assert there["frame"][0] == there.meta["frame"] == "cmb"
    assert there["D_z"][0].to_value("Mpc") == pytest.approx((5000 + 369.8 * 1.0167) / 70, abs=0.02)
    assert "frame" not in there["flags"][0].split(", ")
    for known in ({}, {"frame": "heliocentric"}, {"position": apex}):
        table = notebook.predict_velocity(images(1), cz, model, cosmology="hubble", **known)
        assert table["D_z"][0].to_value("Mpc") == pytest.approx(5000 / 70)
        assert table["frame"][0] == known.get("frame", "unknown")
        assert "frame" in table["flags"][0].split(", ")
    words = "frame 'lsr' is not known: give heliocentric, lg, cmb"
    with pytest.raises(InputError, match=words):
        notebook.predict_velocity(images(1), cz, model, frame="lsr")
    two = SkyCoord([1, 2], [3, 4], unit="deg")
    with pytest.raises(InputError, match="position must have one value for each of 1 images"):
        notebook.predict_velocity(images(1), cz, model, position=two)


def test_the_law_of_distance_and_redshift_is_chosen_and_said(model):
    cz = [7000.0] * SPEED
    real, paper = (
        notebook.predict_velocity(images(1), cz, model, frame="cmb", cosmology=law)
        for law in (None, "hubble")
    )
    assert paper["D_z"][0].to_value("Mpc") == pytest.approx(100)
    assert real["D_z"][0].to_value("Mpc") == pytest.approx(100 - 36.96 / 70, abs=1e-3)
    H0, D_p = 70, paper["D_p"][0].to_value("Mpc")
    assert paper["v_p"][0].value == pytest.approx(7000 - H0 * D_p)
    theirs = FlatLambdaCDM(H0=70, Om0=0.3, Tcmb0=0)
    z_cos = brentq(lambda z: theirs.comoving_distance(z).value - D_p, 1e-4, 0.1)
    c = 299792.458
    assert real["v_p"][0].value == pytest.approx((7000 - c * z_cos) / (1 + z_cos), abs=0.1)
    assert real["eta"][0].value < paper["eta"][0].value
    assert real["eta"][0].value == pytest.approx(np.log10(99.47 / D_p), abs=0.01)
    assert real.meta["law"] == "flat_lambda_cdm, H0 = 70, Om0 = 0.3; of simulated galaxies hubble"
    assert paper.meta["law"] == "hubble, H0 = 70"
    words = "cosmology 'planck' is not known: give hubble or flat_lambda_cdm"
    with pytest.raises(InputError, match=words):
        notebook.predict_velocity(images(1), cz, model, cosmology="planck")


@pytest.mark.parametrize("cosmology", [None, "hubble"])
def test_a_redshift_far_beyond_the_model_is_flagged_by_each_law(model, cosmology):
    cz = [30000, 170000, 290000] * SPEED
    table = notebook.predict_velocity(images(3), cz, model, frame="cmb", cosmology=cosmology)
    assert np.isfinite(table["D_z"].value).all()
    assert all("cz_beyond" in flags for flags in table["flags"])
    assert np.isnan(table["v_hat"].value).all()


def test_an_error_of_the_redshift_is_used_and_images_are_resampled(model):
    sharp = notebook.predict_velocity(images(1)[0], 5000 * SPEED, model)
    wide = notebook.predict_velocity(images(1)[0], 5000 * SPEED, model, cz_error=300 * SPEED)
    assert wide["v_error"][0] != sharp["v_error"][0]
    fine = notebook.predict_velocity(
        images(1, 16), 5000 * SPEED, model, pixel_scale=0.198 * u.arcsec
    )
    coarse = notebook.predict_velocity(
        images(1, 6), 5000 * SPEED, model, pixel_scale=0.8 * u.arcsec
    )
    per_pixel = notebook.predict_velocity(
        images(1, 16), 5000 * SPEED, model, pixel_scale=0.198 * u.arcsec / u.pix
    )
    assert per_pixel["D_p"][0] == fine["D_p"][0]
    assert "coarse_pixels" not in fine["flags"][0]
    assert "coarse_pixels" in coarse["flags"][0]
    small = notebook.predict_velocity(images(1, 6), 5000 * SPEED, model)
    assert "small_field" in small["flags"][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.ones((1, 1, 8, 8))}, "images must be a Quantity: multiply"),
        ({"images": images(1).value * u.Jy}, "images is in Jy, which is none of W / m3 / sr, erg"),
        ({"images": images(1)[0, 0]}, r"images must be \(n, 1, y, x\) for the bands r, not"),
        ({"images": images(0)}, "images must be"),
        ({"cz": [1, 2] * SPEED}, "one value for each of 1 images"),
        ({"cz": 5 * u.Mpc}, "cz is in Mpc, not in km / s"),
        ({"cz_error": -1 * SPEED}, "cz_error must not be negative"),
        ({"cz": 5000}, "cz must be a Quantity in km / s: multiply it by its unit"),
        ({"pixel_scale": [1, 2] * u.arcsec}, "pixel_scale must be one value for all images"),
        ({"pixel_scale": 1 * u.km}, "pixel_scale is in km, not in arcsec"),
        ({"pixel_scale": 0 * u.arcsec}, "pixel_scale must be positive, not 0 arcsec"),
    ],
)
def test_faults_are_one_sentence(model, changes, message):
    given = {"images": images(1), "cz": 5000 * SPEED, "model": model}
    with pytest.raises(InputError, match=message):
        notebook.predict_velocity(**(given | changes))
