"""What is odd of an image is flagged, and what cannot be seen is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from builders import champions
from builders.surveys import NORMAL
from peculiar.core.cosmography import COSMOLOGIES
from peculiar.core.errors import InputError
from peculiar.core.params import load
from peculiar.core.photometry import fine_structure, pixel_noise_w_m3_sr, surface_brightness
from peculiar.galaxies.galaxy import Galaxy
from peculiar.mock.images import views
from peculiar.mock.instrument import observe_through, sky_noise
from peculiar.mock.params import Observe
from peculiar.predict.estimate import predict_images
from peculiar.predict.limits import WIDENED_NOISE
from peculiar.predict.priors import prior_named
from peculiar.predict.view import View, view_galaxy
from peculiar.runs.validity import Validity

NAN = np.array([np.nan])


def real(image, scale=0.396, **changes):
    return Galaxy(7, image[None].astype(np.float32), NAN, "x", pixel_scale_arcsec=scale, **changes)


def champion(**changes):
    return champions.mean_champion(pixels=16, **changes)


def image(side=16):
    return np.random.default_rng(2).random((1, side, side))


def test_the_network_s_own_pixels_are_left_as_they_are():
    seen = view_galaxy(champion(), real(image()), 0, np.nan)
    np.testing.assert_array_equal(seen.image, image().astype(np.float32))
    assert seen.flags == ()


def test_pixels_fields_and_saturation_are_flagged():
    assert view_galaxy(champion(), real(image(8), 0.9), 0, np.nan).flags == ("coarse_pixels",)
    assert view_galaxy(champion(), real(image(12)), 0, np.nan).flags == ("small_field",)
    off = real(image(20), centre_offset=(0.0, 5.0))
    assert view_galaxy(champion(), off, 0, np.nan).flags == ("small_field",)
    full = image()
    full[0, 5, 5:8] = 2
    assert view_galaxy(champion(), real(full), 0, np.nan).flags == ()
    full[0, 5, 8] = 2
    assert view_galaxy(champion(), real(full), 0, np.nan).flags == ("saturated",)
    dark = np.zeros((1, 16, 16))
    assert view_galaxy(champion(), real(dark), 0, np.nan).flags == ()


def test_what_cannot_be_seen_is_refused():
    simulated = replace(real(image()), kpc_per_pixel=np.array([0.1]))
    for galaxy, distance, message in [
        (real(image()), 60.0, "real galaxy, which cannot be moved: give no distance"),
        (
            simulated,
            np.nan,
            "simulated galaxy: give the distance to place it at, in distance_mpc or w",
        ),
        (simulated, 1e9, "is smaller than a pixel"),
        (real(image(), 1e-9), np.nan, "is smaller than a pixel"),
    ]:
        with pytest.raises(InputError, match=message):
            view_galaxy(champion(), galaxy, 0, distance)
    broken = image()
    broken[0, 3, 3] = np.inf
    view = view_galaxy(champion(), real(broken), 0, np.nan)
    assert (view.image, view.flags) == (None, ("nan_pixels",))
    assert view.reason == "x has pixels that are not finite: mask or fix them"


def test_a_network_of_the_paper_s_scale_sees_frames_as_it_did_in_training():
    stated, taken = np.array([0.1]), np.array([84.4 / 16])
    told, taught = (replace(real(image()), kpc_per_pixel=kpc) for kpc in (stated, taken))
    seen = view_galaxy(champion(scale="paper"), told, 0, 1e4)
    np.testing.assert_array_equal(seen.image, view_galaxy(champion(), taught, 0, 1e4).image)
    untouched = view_galaxy(champion(scale="paper"), real(image()), 0, np.nan)
    np.testing.assert_array_equal(untouched.image, image().astype(np.float32))


def test_what_training_did_not_span_is_flagged():
    images = np.stack([image(), 1e-20 * image(), np.zeros((1, 16, 16))]).astype(np.float32)
    some = champion(network=lambda x: 60 + 40 * x.mean(dim=(1, 2, 3)), distances=NORMAL)

    def flags(champion, images, cz_kms, cz_error_kms=0.0):
        views = [View(image, extinction_mag=np.zeros(1)) for image in images]
        table = predict_images(champion, views, cz_kms, cz_error_kms, frame="cmb")
        return table["flags"].tolist()

    # it does not say; but 129 Mpc by the redshift does not go with 60 +- 5 by the image
    assert flags(some, images, [5600, 5000, 9000]) == ["ok", "ok", "tension"]
    known = replace(
        some,
        validity=Validity(
            distance_mpc=(50, 100), mag_ab={"r": (-99, 30)}, half_light_arcsec=(0, 9)
        ),
    )
    expected = ["ok", "brightness", "tension, brightness, size"]
    assert flags(known, images, [5600, 5000, 9000]) == expected
    assert known.range_mpc == (50, 100)
    assert some.range_mpc is None
    # D_p is 80 +- 5, sigma_v / H0 5.7: the image and the redshift together
    assert flags(known, images[:1], 7000.0) == ["ok"]
    assert flags(known, images[:1], 7300.0) == ["tension"]
    assert flags(known, images[:1], 7300.0, 600.0) == ["ok"]
    far = replace(known, network=lambda x: 112 + 0 * x.mean(dim=(1, 2, 3)))
    assert flags(far, images[:1], np.nan) == ["no_cz, distance"]
    assert flags(far, images[:1], 7350.0) == ["distance"]
    assert flags(far, images[:1], 6300.0) == ["ok"]  # the redshift says that it is nearer
    # a prior within the range does not make up for an image that is not
    views = [View(image) for image in images[:1]]
    of_training = predict_images(far, views, 7350.0, prior=prior_named("training"))
    assert "distance" in of_training["flags"][0]
    assert of_training["D_p"][0].value < 110


@pytest.mark.parametrize("cosmology", COSMOLOGIES)
def test_a_simulated_galaxy_is_placed_as_the_training_images_were(cosmology):
    some = champion(cosmology=cosmology, pixel_scale_arcsec=1.36)
    kpc, mpc, middle = np.array([0.3]), np.array([90.0]), np.zeros((1, 2))
    one = replace(real(galaxy(5.0)), kpc_per_pixel=kpc)
    there = views(one.images, kpc, mpc, middle, 16, some.survey, [], torch.device("cpu"))
    np.testing.assert_array_equal(view_galaxy(some, one, 0, 90.0).image, there[0].numpy())


def galaxy(scale, sharp=1.0):
    """A smooth exponential galaxy of one band, of 64 pixels; `sharp` is its softened core."""
    y, x = np.mgrid[:64, :64] - 31.5
    return np.exp(-np.sqrt(x**2 + y**2 + sharp**2) / scale)[None].astype(np.float32)


def test_noise_and_sharpness_unlike_those_of_training_are_flagged():
    rng = np.random.default_rng(4)
    clean = np.stack([galaxy(scale) for scale in np.linspace(4, 9, 30)])
    noisy = clean + rng.normal(0, 0.01, clean.shape).astype(np.float32)

    def known(images):
        noise, structure = pixel_noise_w_m3_sr(images)[:, 0], fine_structure(images)
        validity = Validity(
            distance_mpc=(50, 100),
            mag_ab={"r": (-99, 99)},
            half_light_arcsec=(0, 99),
            pixel_noise_w_m3_sr={"r": (noise.min(), noise.max())},
            fine_structure=(structure.min(), structure.max()),
            prior="flat",
        )
        point = lambda x: 75 + 0 * x.mean(dim=(1, 2, 3))  # noqa: E731
        return champions.mean_champion(pixels=64, network=point, validity=validity)

    def flags(champion, images):
        views = [View(image, extinction_mag=np.zeros(1)) for image in images]
        return set(predict_images(champion, views, 5250.0, frame="cmb")["flags"].tolist())

    others = np.stack([galaxy(scale) for scale in np.linspace(4.2, 8.8, 17)])
    assert flags(known(clean), others) == {"ok"}
    assert all("noise" in flag for flag in flags(known(clean), noisy))
    again = others + rng.normal(0, 0.01, others.shape).astype(np.float32)
    assert flags(known(noisy), again) == {"ok"}
    assert all("noise" in flag for flag in flags(known(noisy), others))
    blurred = gaussian_filter(others, (0, 0, 2, 2))
    assert all("psf" in flag for flag in flags(known(clean), blurred))
    sharpened = others + 5 * (others - gaussian_filter(others, (0, 0, 1, 1)))
    assert all("psf" in flag for flag in flags(known(clean), sharpened))


def test_one_sdss_exposure_is_noise_to_a_champion_that_saw_none(params_file):
    """Galaxies of 20 to 22 mag/arcsec^2 at their peak."""
    sdss = load(Observe, params_file).instruments["sdss"]
    clean = np.stack([galaxy(scale) for scale in np.linspace(4, 9, 20)])
    peaks = surface_brightness(np.linspace(20, 22, 20), "r")[:, None, None, None]
    clean = (clean * peaks).astype(np.float32)
    rngs = [np.random.default_rng(k) for k in range(20)]
    seen = observe_through(clean, "r", 1.36, sdss, rngs)
    highest = pixel_noise_w_m3_sr(clean).max()
    found = pixel_noise_w_m3_sr(np.asarray(seen, dtype=np.float32))
    assert (found > 10 * WIDENED_NOISE * highest).all()
    np.testing.assert_allclose(found, sky_noise(sdss, "r", 1.36), rtol=0.25)
