"""What is odd of an image is flagged, and what cannot be seen is refused."""

from dataclasses import replace

import numpy as np
import pytest

from builders import champions
from peculiar.core.errors import InputError
from peculiar.galaxies.galaxy import Galaxy
from peculiar.predict.estimate import predict_images
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


def test_what_training_did_not_span_is_flagged():
    images = np.stack([image(), 1e-20 * image(), np.zeros((1, 16, 16))]).astype(np.float32)
    some = champion(network=lambda x: 60 + 40 * x.mean(dim=(1, 2, 3)))

    def flags(champion, images, cz_kms, cz_error_kms=0.0):
        views = [View(image) for image in images]
        return predict_images(champion, views, cz_kms, cz_error_kms)["flags"].tolist()

    assert flags(some, images, [5600, 5600, 9000]) == ["ok"] * 3  # it does not say
    known = replace(
        some,
        validity=Validity(
            distance_mpc=(50, 100), mag_ab={"r": (-99, 30)}, half_light_arcsec=(0, 9)
        ),
    )
    expected = ["ok", "brightness", "distance, brightness, size"]
    assert flags(known, images, [5600, 5600, 9000]) == expected
    assert known.range_mpc == (50, 100)
    assert some.range_mpc is None
    # within the error of a redshift, and not
    assert flags(known, images[:1], 7300.0) == ["ok"]
    assert flags(known, images[:1], 7500.0) == ["distance"]
    assert flags(known, images[:1], 7500.0, 600.0) == ["ok"]
