"""Placing on the sky: light, size and centre, against PIL, splines and closed forms."""

import numpy as np
import pytest
import torch
from astropy.cosmology import FlatLambdaCDM
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.special import erf

from peculiar.core.device import best_device
from peculiar.core.photometry import ARCSEC_RAD, GAUSSIAN_FWHM
from peculiar.mock import resample
from peculiar.mock.kernels import Kernels, keys_cubic, taps
from peculiar.mock.resample import (
    PIECE,
    _by_matrices,
    arcsec_per_pixel,
    kpc_per_arcsec,
    place,
)

KPC = 84.4 / 256
SCALE = 1.36

distances = st.floats(20, 200)


def column(values):
    return torch.as_tensor(np.atleast_1d(values), dtype=torch.float64)


def placed(
    image, kpc, mpc, pixels=128, dimming="physical", kernel=None, box=False, psf=None, z=None
):
    """One image (y, x) of one band, placed, perhaps with a kernel (slope, width), PSF, redshift."""
    images = torch.as_tensor(np.ascontiguousarray(image))[None, None]
    return place(
        images,
        column(kpc),
        column(mpc),
        pixels=pixels,
        pixel_scale_arcsec=SCALE,
        dimming=dimming,
        psf_fwhm_arcsec=psf,
        redshift=None if z is None else column(z),
        kernels=kernel and Kernels(*map(column, kernel), torch.tensor([box])),
    )[0, 0].numpy()


def ratio(kpc, mpc):
    """Input pixels per output pixel."""
    return SCALE / float(arcsec_per_pixel(column(kpc), column(mpc))[0])


def grid(n):
    return np.arange(n) - (n - 1) / 2


def blob(n, sigma):
    g = np.exp(-0.5 * (grid(n) / sigma) ** 2)
    return np.outer(g, g)


def noise(*shape):
    return np.random.default_rng(0).random(shape)


def moments(image):
    """Sum, centre (y, x) and deviation along x of the light."""
    image = image.astype(float)
    y, x, total = grid(image.shape[0])[:, None], grid(image.shape[1]), image.sum()
    centre = (image * y).sum() / total, (image * x).sum() / total
    return total, centre, np.sqrt((image * x**2).sum() / total)


def test_pixel_scale_of_the_paper():
    assert float(arcsec_per_pixel(column(KPC), column(50))) == pytest.approx(1.36, abs=0.005)


def test_kernel_is_keys_cubic():
    x = torch.arange(-2.0, 3.0)
    torch.testing.assert_close(keys_cubic(x), torch.tensor([0.0, 0, 1, 0, 0]))
    torch.testing.assert_close(
        keys_cubic(torch.tensor([0.5, 1.5])), torch.tensor([0.5625, -0.0625])
    )
    x = torch.linspace(-3, 3, 25)
    torch.testing.assert_close(keys_cubic(x), keys_cubic(-x))


@given(r=st.floats(0.3, 4))
def test_weights_of_a_wide_input_sum_to_one(r):
    _, weights = taps(column(r), 200, 30)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-12)


@given(
    mpc=distances,
    x=st.floats(-3, 3),
    size=st.sampled_from([(40, 56), (61, 33)]),
    pixels=st.sampled_from([15, 16, 24, 33]),
)
def test_blocks_and_complete_matrices_give_the_same(mpc, x, size, pixels):
    """What a CPU does and what a GPU does."""
    images = torch.as_tensor(noise(2, 3, *size))
    scales = (column([KPC, 2 * KPC]), column([mpc, 1.5 * mpc]))
    settings = {
        "pixels": pixels,
        "pixel_scale_arcsec": SCALE,
        "dimming": "physical",
        "psf_fwhm_arcsec": None,
        "centre_offset": torch.tensor([[x, -x], [0.0, x]]),
    }
    blocks = place(images, *scales, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            resample,
            "resample_images",
            lambda images, axes, _: _by_matrices(images, *axes(slice(None))),
        )
        matrices = place(images, *scales, **settings)
    assert blocks.is_contiguous()
    np.testing.assert_allclose(blocks, matrices, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_number_of_threads_does_not_touch_a_bit(dtype):
    images = torch.as_tensor(noise(2 * PIECE + 3, 2, 40, 40), dtype=dtype)
    n = len(images)
    scales = torch.full((n,), KPC, dtype=torch.float64), column(np.linspace(30, 120, n))
    settings = {
        "pixels": 32,
        "pixel_scale_arcsec": SCALE,
        "dimming": "physical",
        "psf_fwhm_arcsec": None,
    }
    before, placed = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            placed.append(place(images, *scales, **settings))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*placed)


def test_what_fails_in_a_thread_is_raised(monkeypatch):
    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(resample, "_by_blocks", fail)
    with pytest.raises(MemoryError, match="no room"):
        placed(blob(32, 5), KPC, 60)


@pytest.mark.parametrize(("dimming", "power"), [("physical", -2), ("literal", -4)])
@pytest.mark.parametrize("mpc", [50, 63.7, 75, 99])
def test_flux_falls_with_distance(dimming, power, mpc):
    image = blob(256, 10).astype(np.float32)
    flux = placed(image, KPC, mpc, dimming=dimming).sum(dtype=float)
    near = image.sum(dtype=float) * (float(arcsec_per_pixel(column(KPC), column(50))) / SCALE) ** 2
    assert flux / near == pytest.approx((mpc / 50) ** power, rel=5e-3)


@pytest.mark.parametrize("psf", [None, 4.08])
@given(z=st.floats(0.005, 0.1))
def test_redshifted_images_have_astropy_s_angles_and_fluxes(psf, z):
    """A size by the angular diameter distance, a flux by the luminosity distance, of one D."""
    theirs = FlatLambdaCDM(H0=70, Om0=0.3, Tcmb0=0)
    D = theirs.comoving_distance(z).value
    image = blob(128, 6).astype(np.float32)
    side = int(3 * 128 / ratio(KPC, D)) + 8
    flux, _, size = moments(placed(image, KPC, D, side, psf=psf, z=z))
    angle = KPC * 1e-3 / theirs.angular_diameter_distance(z).value / ARCSEC_RAD / SCALE
    broad = 0 if psf is None else psf / GAUSSIAN_FWHM / SCALE
    assert size == pytest.approx(np.hypot(6 * angle, broad), rel=0.03)
    light = image.sum(dtype=float) * (KPC * 1e-3 / ARCSEC_RAD / SCALE) ** 2
    assert flux == pytest.approx(light / theirs.luminosity_distance(z).value ** 2, rel=5e-3)


def test_no_redshift_changes_nothing():
    image = blob(64, 5).astype(np.float32)
    np.testing.assert_array_equal(placed(image, KPC, 60, z=0.0), placed(image, KPC, 60))


@given(mpc=st.floats(60, 150))
def test_size_on_the_sky_falls_with_distance_and_the_centre_stays(mpc):
    _, centre, size = moments(placed(blob(256, 10), KPC, mpc))
    assert size == pytest.approx(10 / ratio(KPC, mpc), rel=1e-3)
    assert np.abs(centre).max() < 0.01


@given(mpc=distances, n=st.integers(30, 61), pixels=st.integers(20, 61))
def test_centre_stays_for_even_and_odd_sizes(mpc, n, pixels):
    _, centre, _ = moments(placed(blob(n, 3), 70 * KPC / n, mpc, pixels))
    assert np.abs(centre).max() < 0.01


@pytest.mark.parametrize("mpc", [50, 51, 63, 77, 99, 200])
@pytest.mark.parametrize(("kpc", "pixels"), [(4.5 * KPC, 128), (KPC, 40)], ids=["up", "down"])
def test_agrees_with_pillow_inside_the_field(kpc, pixels, mpc):
    image = noise(256, 256).astype(np.float32)
    half = pixels / 2 * ratio(kpc, mpc)
    box = (128 - half, 128 - half, 128 + half, 128 + half)
    theirs = Image.fromarray(image).resize((pixels, pixels), Image.Resampling.BICUBIC, box=box)
    assert theirs.mode == "F"
    np.testing.assert_allclose(placed(image, kpc, mpc, pixels), np.asarray(theirs), atol=1e-4)


@pytest.mark.parametrize("mpc", [30, 51, 63, 77, 99])
def test_the_other_bicubic_is_that_of_torch(mpc):
    """`grid_sample` has a = -0.75 and never widens; neither do we, at half the width."""
    image, r = noise(256, 256).astype(np.float32), ratio(KPC, mpc)
    x, y = np.meshgrid(grid(120) * r / 128, grid(120) * r / 128)
    at = torch.as_tensor(np.stack([x, y], axis=-1), dtype=torch.float32)[None]
    images = torch.as_tensor(image)[None, None]
    theirs = torch.nn.functional.grid_sample(images, at, mode="bicubic", align_corners=False)
    ours = placed(image, KPC, mpc, 120, kernel=(-0.75, 0.5))
    np.testing.assert_allclose(ours, theirs[0, 0], atol=1e-3)
    assert np.abs(ours - placed(image, KPC, mpc, 120)).max() > 0.02


@pytest.mark.parametrize("mpc", [30, 51, 63, 77.3, 99])
def test_boxes_are_those_of_pillow(mpc):
    image = noise(256, 256).astype(np.float32)
    half = 25 * ratio(KPC, mpc)
    corners = (128 - half, 128 - half, 128 + half, 128 + half)
    theirs = Image.fromarray(image).resize((50, 50), Image.Resampling.BOX, box=corners)
    ours = placed(image, KPC, mpc, 50, kernel=(-0.5, 0.5), box=True)
    np.testing.assert_allclose(ours, np.asarray(theirs), atol=1e-4)


@given(mpc=distances, slope=st.floats(-1, 0), width=st.floats(0.4, 3))
@example(mpc=50.6, slope=0.0, width=0.4)
@example(mpc=49.0, slope=0.0, width=1.0)
def test_cubic_kernels_keep_light_and_centre(mpc, slope, width):
    """Worst where output pixels are whole input ones, and a galaxy sees one phase of the kernel."""
    image = np.roll(blob(256, 12), 3, axis=1)
    usual, other = (moments(placed(image, KPC, mpc, 200, kernel=k)) for k in (None, (slope, width)))
    wide = ratio(KPC, mpc)
    whole = abs(wide - round(wide)) < 0.06
    assert other[0] == pytest.approx(usual[0], rel=1.2e-2 if whole else 5e-3)
    assert other[1] == pytest.approx(usual[1], abs=0.02)


def test_wider_kernels_blur_and_steeper_ones_sharpen():
    def grain(kernel, mpc=90):
        return placed(noise(256, 256), KPC, mpc, 60, kernel=kernel).std()

    blurred = [grain((-0.5, width)) for width in (0.6, 1, 1.25, 2.5)]
    assert all(np.diff(blurred) < -0.05 * blurred[0])
    assert all(np.diff([grain((slope, 1)) for slope in (0, -0.5, -1)]) > 0)
    assert grain((-0.5, 0.6), 40) == grain(None, 40)  # none is narrower than an input pixel


def test_each_image_has_its_own_kernel():
    images, kpc, mpc = torch.as_tensor(noise(3, 2, 40, 40)), column([0.3, 2, 0.9]), column([60] * 3)
    boxes = torch.tensor([False, False, True])
    kernels = Kernels(column([-0.5, -1, 0]), column([1, 2, 0.7]), boxes)
    settings = {
        "pixels": 32,
        "pixel_scale_arcsec": SCALE,
        "dimming": "physical",
        "psf_fwhm_arcsec": None,
    }
    together = place(images, kpc, mpc, **settings, kernels=kernels)
    for i in range(3):
        own = Kernels(*(k[i : i + 1] for k in (kernels.slope, kernels.width, boxes)))
        alone = place(images[i : i + 1], kpc[i : i + 1], mpc[:1], **settings, kernels=own)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)
    usual = place(images[:1], kpc[:1], mpc[:1], **settings)
    torch.testing.assert_close(together[:1], usual, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mpc", [30, 41.3, 49])
def test_enlarging_agrees_with_a_cubic_spline(mpc):
    image, r = blob(256, 8), ratio(KPC, mpc)
    assert r < 1
    at = grid(128) * r + 127.5
    spline = map_coordinates(image, np.meshgrid(at, at, indexing="ij"), order=3)
    np.testing.assert_allclose(placed(image, KPC, mpc), spline, atol=2e-4)


@pytest.mark.parametrize(("sigma", "within"), [(6, 3e-3), (12, 1.5e-3), (20, 8e-4)])
@pytest.mark.parametrize("mpc", [50, 60, 75.3, 99])
def test_samples_a_smooth_galaxy_at_the_pixel_centres(sigma, within, mpc):
    at = grid(128) * ratio(KPC, mpc) / sigma
    expected = np.exp(-0.5 * (at**2 + at[:, None] ** 2))
    np.testing.assert_allclose(placed(blob(256, sigma), KPC, mpc), expected, atol=within)


@pytest.mark.parametrize("dimming", ["physical", "literal"])
def test_an_image_does_not_depend_on_its_batch(dimming):
    images = torch.as_tensor(noise(5, 2, 40, 40), dtype=torch.float32)
    kpc, mpc = column([0.3, 2.0, 0.9, 0.5, 1.1]), column([31, 90, 55, 200, 74])
    settings = {
        "pixels": 32,
        "pixel_scale_arcsec": SCALE,
        "dimming": dimming,
        "psf_fwhm_arcsec": None,
    }
    together = place(images, kpc, mpc, **settings)
    assert together.shape == (5, 2, 32, 32)
    assert together.dtype == torch.float32
    for i in range(5):
        alone = place(images[i : i + 1], kpc[i : i + 1], mpc[i : i + 1], **settings)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-6)


@given(mpc=distances, flips=st.booleans(), turns=st.integers(0, 3))
def test_turning_the_galaxy_turns_the_image(mpc, flips, turns):
    def turned(image):
        return np.rot90(image[:, ::-1] if flips else image, turns)

    image = noise(64, 64)
    expected = turned(placed(image, 1.0, mpc, pixels=40))
    np.testing.assert_allclose(placed(turned(image), 1.0, mpc, pixels=40), expected, atol=1e-9)


def test_single_precision_is_good_to_a_hundred_thousandth():
    image = noise(256, 256)
    for mpc in (50, 77, 99):
        single = placed(image.astype(np.float32), KPC, mpc)
        np.testing.assert_allclose(single, placed(image, KPC, mpc), atol=2e-5)


def test_beyond_the_field_the_sky_is_dark():
    image = placed(np.ones((64, 64)), KPC, 75)
    r = ratio(KPC, 75)
    outside = np.abs(grid(128)) * r > 32 + 2 * r
    assert outside.sum() > 60
    assert not image[outside].any()
    assert not image[:, outside].any()
    inside = np.abs(grid(128)) * r < 32 - 2 * r
    np.testing.assert_allclose(image[np.ix_(inside, inside)], 1, rtol=1e-9)


def test_a_constant_is_preserved():
    image = np.full((256, 256), 3.5, dtype=np.float32)
    np.testing.assert_allclose(placed(image, 4.5 * KPC, 77), 3.5, rtol=1e-6)


def test_input_need_not_be_square():
    tall = blob(128, 5)[:, 20:-20]
    np.testing.assert_allclose(placed(tall, KPC, 80), placed(blob(128, 5), KPC, 80), atol=1e-6)
    np.testing.assert_allclose(placed(tall.T, KPC, 80), placed(tall, KPC, 80).T, atol=1e-12)


@given(x=st.floats(-9, 9), y=st.floats(-9, 9), mpc=distances)
def test_a_galaxy_off_the_middle_comes_to_the_middle(x, y, mpc):
    """The same light, shifted in the input by the stated offset, gives the same image."""
    sigma = 6.0

    def shifted(dx, dy):
        gx, gy = (np.exp(-0.5 * ((grid(128) - d) / sigma) ** 2) for d in (dx, dy))
        return torch.as_tensor(np.outer(gy, gx))[None, None]

    settings = {
        "pixels": 64,
        "pixel_scale_arcsec": SCALE,
        "dimming": "physical",
        "psf_fwhm_arcsec": None,
    }
    scales = column(KPC), column(mpc)
    centred = place(shifted(0, 0), *scales, **settings)
    offset = torch.tensor([[x, y]], dtype=torch.float64)
    moved = place(shifted(x, y), *scales, **settings, centre_offset=offset)
    # the input's own edge cuts the shifted galaxy at 64 - 9 pixels, 9 sigma out
    # (half a pixel would be 0.05); between pixels, the cubic is off by up to 0.007
    # (4,000 random and half-pixel offsets, 20-200 Mpc)
    np.testing.assert_allclose(moved, centred, atol=0.012)
    nowhere = place(shifted(0, 0), *scales, **settings, centre_offset=torch.zeros(1, 2))
    np.testing.assert_array_equal(nowhere, centred)


@given(mpc=distances, arcsec=st.floats(0.1, 5))
def test_kpc_and_arcsec_are_inverse(mpc, arcsec):
    kpc = kpc_per_arcsec(np.array([mpc])) * arcsec
    assert float(arcsec_per_pixel(column(kpc), column(mpc))[0]) == pytest.approx(arcsec)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["distance_mpc", "kpc_per_pixel"])
def test_impossible_scales_are_refused(name, bad):
    scales = {"kpc_per_pixel": column([1, 1]), "distance_mpc": column([50, 50])}
    scales[name][1] = bad
    with pytest.raises(ValueError, match=f"{name} must be positive and finite"):
        place(
            torch.ones(2, 1, 8, 8),
            **scales,
            pixels=8,
            pixel_scale_arcsec=SCALE,
            dimming="physical",
            psf_fwhm_arcsec=None,
        )


@pytest.mark.parametrize("there", [True, False])
def test_the_gpu_is_taken_where_there_is_one(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert str(best_device()) == ("cuda:3" if there else "cpu")


PSF = 2.72


def blob_at(mpc, sigma_out, at_out=0.3):
    """A Gaussian of a fixed angle and place, output pixels, integrated over input pixels."""
    sigma, at = sigma_out * ratio(KPC, mpc), at_out * ratio(KPC, mpc)
    below = erf((np.arange(257) - 128 - at) / np.sqrt(2) / sigma) / 2
    return np.outer(np.diff(below), np.diff(below)).astype(np.float32)


@given(st.floats(46, 120))
@settings(max_examples=20)
def test_a_point_has_the_same_psf_at_every_distance(mpc):
    """Its flux, and the second moment of a PSF of two pixels, on average over places in a pixel."""
    moment, x = [], grid(64)
    for at in np.linspace(0, 1 / ratio(KPC, mpc), 16, endpoint=False):
        along = placed(blob_at(mpc, 0.02, at), KPC, mpc, pixels=64, psf=PSF).sum(axis=0)
        assert along.sum() == pytest.approx(1 / ratio(KPC, mpc) ** 2, rel=5e-3)
        moment.append(along @ (x - at) ** 2 / along.sum())
    assert np.mean(moment) == pytest.approx((PSF / SCALE / 2.3548) ** 2, rel=0.01)


@given(st.floats(46, 200), st.sampled_from([128, 90]))
def test_with_a_psf_a_flat_field_is_flat_to_its_edge_and_dark_beyond(mpc, pixels):
    """No rim, no moire: decision 0040."""
    image = np.ones((256, 256), dtype=np.float32)
    seen = placed(image, KPC, mpc, pixels=pixels, psf=PSF)
    inside = np.abs(grid(pixels)) * ratio(KPC, mpc) <= 128
    np.testing.assert_allclose(seen[np.ix_(inside, inside)], 1, rtol=1e-5)
    assert not seen[~inside].any()
    assert not seen[:, ~inside].any()


@given(st.floats(46, 110))
def test_with_a_psf_nothing_is_negative(mpc):
    image = (np.random.default_rng(1).random((64, 64)) ** 20).astype(np.float32)
    assert (placed(image, 4 * KPC, mpc / 4, pixels=64, psf=PSF) >= 0).all()


@pytest.mark.parametrize(("sigma_out", "most", "cubic"), [(0.5, 0.05, 0.1), (1.0, 2e-3, 0.02)])
def test_what_has_a_fixed_angle_looks_the_same_from_everywhere(sigma_out, most, cubic):
    """With a PSF the peak of a blob hardly tells its distance; by cubic resampling it does."""
    distances = np.linspace(50, 100, 26)

    def change(psf):
        images = [placed(blob_at(D, sigma_out), KPC, D, psf=psf) for D in distances]
        peaks = np.array([image.max() / image.sum() for image in images])
        return np.ptp(peaks) / peaks.mean()

    assert change(PSF) < most
    assert change(None) > cubic


def test_noise_of_the_raw_image_changes_smoothly_with_distance():
    """By cubic resampling its variance fell from 0.98 at 50.0 to 0.61 at 50.5 Mpc."""
    white = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    distances = np.linspace(48, 54, 25)
    spread = np.array([placed(white, KPC, D, psf=PSF).std() for D in distances])
    assert abs(np.diff(np.log(spread))).max() < 0.02
    cubic = np.array([placed(white, KPC, D).std() for D in distances])
    assert abs(np.diff(np.log(cubic))).max() > 0.1


def test_coarse_input_pixels_are_not_undersampled():
    """A flat field stays flat where the PSF is narrower than the input pixels."""
    seen = placed(np.ones((64, 64), dtype=np.float32), 4 * KPC, 60, pixels=100, psf=PSF)
    np.testing.assert_allclose(seen, 1, rtol=1e-5)


def test_kernels_and_a_psf_exclude_each_other():
    with pytest.raises(ValueError, match="kernels are for images without a PSF"):
        placed(np.ones((8, 8), dtype=np.float32), KPC, 50, psf=PSF, kernel=(-0.5, 1.0))
