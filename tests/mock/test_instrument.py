"""A camera's blur and noise: against astropy, closed forms, statistics and real SDSS images."""

import numpy as np
import pytest
from astropy.convolution import convolve_fft
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import convolve as direct_convolve
from scipy.ndimage import uniform_filter
from scipy.stats import chi2, kurtosis, poisson

from conftest import ROOT
from peculiar.core.params import load
from peculiar.core.photometry import ARCSEC_RAD, BANDS, flux_density, surface_brightness
from peculiar.core.survey import Instrument
from peculiar.mock.instrument import (
    LIGHT_BEYOND_KERNEL,
    convolve,
    dark_electrons,
    electrons_per_brightness,
    observe_through,
    photograph,
    psf_kernel,
    sky_electrons,
    sky_noise,
)
from peculiar.mock.params import Observe

SDSS = load(Observe, ROOT / "params.yaml").instruments["sdss"]
NATIVE, PAPER = 0.396, 1.36  # pixel scales [arcsec]
SEEING = {"u": 1.53, "g": 1.44, "r": 1.32, "i": 1.26, "z": 1.29}  # median psfWidth [arcsec]
COMPLETE = {"u": 22.0, "g": 22.2, "r": 22.2, "i": 21.3, "z": 20.5}  # to 95 %, SDSS DR8 [mag]

PROFILES = [
    {"psf": "moffat", "moffat_beta": 4.765},
    {"psf": "moffat", "moffat_beta": 2.5},
    {"psf": "gaussian"},
]
profiles = pytest.mark.parametrize("profile", PROFILES, ids=["moffat", "wings", "gaussian"])
scales = pytest.mark.parametrize("scale", [NATIVE, PAPER])


def generators(n, seed=0):
    return [np.random.default_rng([seed, number]) for number in range(n)]


def nanomaggies(brightness, band, scale):
    """Surface brightness as nanomaggies (22.5 AB mag) in a pixel."""
    return brightness * (scale * ARCSEC_RAD) ** 2 / float(flux_density(22.5, band))


def flat(brightness, *shape):
    return np.full(shape, brightness, dtype=np.float32)


def replace(instrument, **changes):
    """The instrument with other values, which are not validated."""
    return instrument.model_copy(update=changes)


def grid(n):
    return np.arange(n) - (n - 1) / 2


# the kernel


@profiles
@pytest.mark.parametrize("scale", [0.05, NATIVE, PAPER, 3.0])
def test_kernel_is_odd_symmetric_and_sums_to_one(profile, scale):
    kernel = psf_kernel(replace(SDSS, **profile), "r", scale)
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2 == 1
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    assert (kernel >= 0).all()
    for turned in (kernel[::-1], kernel[:, ::-1], kernel.T):
        np.testing.assert_allclose(kernel, turned, atol=1e-14)


@profiles
@pytest.mark.parametrize("band", ["u", "i"])
def test_kernel_has_the_asked_width(profile, band):
    kernel = psf_kernel(replace(SDSS, **profile), band, 0.02)
    row = kernel[len(kernel) // 2, len(kernel) // 2 :]
    half = np.interp(-row[0] / 2, -row, np.arange(len(row)))
    assert 2 * half * 0.02 == pytest.approx(SDSS.fwhm_arcsec[band], rel=2e-3)


@profiles
def test_kernel_of_wide_pixels_is_the_binned_fine_one(profile):
    instrument, bins = replace(SDSS, **profile), 17
    kernel = psf_kernel(instrument, "r", PAPER)
    fine = psf_kernel(instrument, "r", PAPER / bins)
    size = len(kernel) * bins
    cut = (size - len(fine)) // 2
    assert cut >= 0
    binned = np.pad(fine, cut).reshape(len(kernel), bins, len(kernel), bins).sum((1, 3))
    np.testing.assert_allclose(kernel, binned, atol=2 * LIGHT_BEYOND_KERNEL * kernel.max())


def test_a_thousandth_of_the_light_lies_beyond_the_kernel():
    alpha = 1.0 / (2 * np.sqrt(2 ** (1 / 3) - 1))
    instrument = replace(SDSS, moffat_beta=3.0, fwhm_arcsec={"r": 1.0})
    radius = len(psf_kernel(instrument, "r", 0.05)) * 0.05 / 2
    # by the midpoint rule, out to 300 alpha
    r = np.linspace(0, 300 * alpha, 2_000_001)
    r = (r[1:] + r[:-1]) / 2
    light = r * (1 + (r / alpha) ** 2) ** -3
    beyond = light[r > radius].sum() / light.sum()
    assert 0.8 * LIGHT_BEYOND_KERNEL < beyond <= LIGHT_BEYOND_KERNEL


def test_kernels_are_kept_and_cannot_be_changed():
    kernel = psf_kernel(SDSS, "r", NATIVE)
    assert psf_kernel(SDSS, "r", NATIVE) is kernel
    with pytest.raises(ValueError, match="read-only"):
        kernel[0, 0] = 1


def test_the_widest_wings_allowed_fit_into_a_frame():
    widest = SDSS.model_dump() | {"moffat_beta": 2.0}
    kernel = psf_kernel(Instrument(**widest), "u", PAPER)
    assert len(kernel) < 128
    with pytest.raises(ValidationError, match="moffat_beta"):
        Instrument(**widest | {"moffat_beta": 1.9})


# blur


@profiles
@scales
def test_convolution_agrees_with_astropy_and_a_direct_sum(profile, scale):
    instrument = replace(SDSS, **profile)
    images = np.random.default_rng(1).random((2, 2, 33, 40), dtype=np.float32)
    ours = convolve(images, ["g", "z"], scale, instrument)
    for (n, b), image in np.ndenumerate(np.empty((2, 2))):
        kernel = psf_kernel(instrument, "gz"[b], scale)
        image = images[n, b].astype(float)
        theirs = convolve_fft(image, kernel, boundary="fill", fill_value=0)
        np.testing.assert_allclose(ours[n, b], theirs, atol=1e-12)
        direct = direct_convolve(image, kernel, mode="constant")
        np.testing.assert_allclose(ours[n, b], direct, atol=1e-12)


@scales
def test_flux_and_place_of_a_source_in_the_middle_stay(scale):
    image = np.zeros((1, 1, 65, 65))
    image[0, 0, 32, 32] = 7.0
    blurred = convolve(image, ["u"], scale, SDSS)[0, 0]
    assert blurred.sum() == pytest.approx(7)
    assert (blurred * grid(65)).sum() == pytest.approx(0, abs=1e-9)
    assert np.unravel_index(blurred.argmax(), blurred.shape) == (32, 32)


def test_beyond_the_frame_the_sky_is_dark():
    blurred = convolve(np.ones((1, 1, 41, 41)), ["r"], NATIVE, SDSS)[0, 0]
    columns = psf_kernel(SDSS, "r", NATIVE).sum(0)
    assert blurred[20, 20] == pytest.approx(1)
    assert blurred[20, 0] == pytest.approx((1 + columns[len(columns) // 2]) / 2)
    assert blurred[0, 0] < blurred[20, 0] < 1


def test_bands_are_blurred_each_by_its_own_seeing():
    images = np.zeros((1, 2, 33, 33))
    images[..., 16, 16] = 1
    u, i = convolve(images, ["u", "i"], NATIVE, SDSS)[0]
    assert i.max() > 1.3 * u.max()


@given(a=st.floats(-3, 3), b=st.floats(-3, 3), seed=st.integers(0, 99))
def test_convolution_is_linear(a, b, seed):
    f, g = np.random.default_rng(seed).normal(size=(2, 1, 1, 20, 24))
    both = convolve(a * f + b * g, ["r"], PAPER, SDSS)
    apart = a * convolve(f, ["r"], PAPER, SDSS) + b * convolve(g, ["r"], PAPER, SDSS)
    np.testing.assert_allclose(both, apart, atol=1e-12)


# noise


@scales
@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("times_sky", [0, 0.1, 3, 100])
def test_noise_has_mean_zero_and_the_variance_of_its_electrons(scale, band, times_sky):
    """Written out in counts of SDSS' own error formula, not in the electrons of the code."""
    n, pixels, margin = 4, 128, 24
    sky = float(surface_brightness(SDSS.sky_mag_arcsec2[band], band))
    source = np.float32(times_sky * sky)
    # within a margin the blur of a flat image is the flat image
    images = flat(source, n, 1, pixels, pixels)
    seen = observe_through(images, [band], scale, SDSS, generators(n, seed=BANDS.index(band)))
    noise = (seen.astype(float) - float(source))[..., margin:-margin, margin:-margin]
    per_count = 10 ** (-0.4 * (SDSS.count_mag[band] - 22.5))
    area = (scale / NATIVE) ** 2
    counts = nanomaggies(float(source) + sky, band, scale) / per_count
    variance = counts / SDSS.gain[band] + SDSS.dark_variance[band] * area
    noise_counts = nanomaggies(noise, band, scale) / per_count
    assert abs(noise_counts.mean()) < 4 * np.sqrt(variance / noise.size)
    low, high = chi2.ppf([1e-5, 1 - 1e-5], noise.size - 1) / (noise.size - 1)
    assert low < noise_counts.var(ddof=1) / variance < high


@scales
def test_noise_of_an_empty_pixel_is_the_sky_noise(scale):
    seen = observe_through(flat(0, 2, 5, 200, 200), BANDS, scale, SDSS, generators(2))
    for column, band in enumerate(BANDS):
        assert seen[:, column].std() == pytest.approx(sky_noise(SDSS, band, scale), rel=0.015)


def test_noise_is_poisson_where_there_is_no_dark_noise():
    faint = replace(SDSS, dark_variance={"u": 0.0}, sky_mag_arcsec2={"u": 26.0})
    mean = sky_electrons(faint, "u", NATIVE)
    assert mean < 2
    seen = observe_through(flat(0, 1, 1, 300, 300), ["u"], NATIVE, faint, generators(1))
    electrons = seen.astype(float) * electrons_per_brightness(faint, "u", NATIVE) + mean
    np.testing.assert_allclose(electrons, electrons.round(), atol=1e-4)
    for count in range(4):
        share = (electrons.round() == count).mean()
        assert share == pytest.approx(poisson.pmf(count, mean), abs=0.01)


def test_dark_noise_is_gaussian_and_stands_without_sky():
    dark = replace(SDSS, sky_mag_arcsec2={"r": 60.0})
    seen = observe_through(flat(0, 1, 1, 300, 300), ["r"], PAPER, dark, generators(1))
    electrons = seen * electrons_per_brightness(dark, "r", PAPER)
    assert electrons.std() == pytest.approx(dark_electrons(dark, "r", PAPER), rel=0.01)
    assert abs(kurtosis(electrons.ravel())) < 0.1


@pytest.mark.parametrize("band", BANDS)
def test_noise_of_a_pixel_is_that_of_the_native_pixels_in_it(band):
    """Four times the area: twice the noise in flux, half the noise in surface brightness."""
    one, four = sky_noise(SDSS, band, NATIVE), sky_noise(SDSS, band, 2 * NATIVE)
    assert nanomaggies(four, band, 2 * NATIVE) == pytest.approx(2 * nanomaggies(one, band, NATIVE))
    assert four == pytest.approx(one / 2)


def test_neighbouring_pixels_have_noise_of_their_own():
    seen = observe_through(flat(0, 1, 2, 256, 256), ["g", "r"], NATIVE, SDSS, generators(1))[0]
    g, r = seen / seen.std((1, 2), keepdims=True)
    for a, b in ((g, r), (g[1:], g[:-1]), (g[:, 1:], g[:, :-1])):
        assert abs((a * b).mean()) < 4 / 256


def test_brighter_pixels_are_noisier():
    sky = float(surface_brightness(20.94, "r"))
    images = flat(0, 1, 1, 128, 128)
    images[..., 64:] = 50 * sky
    noise = observe_through(images, ["r"], NATIVE, SDSS, generators(1)) - convolve(
        images, ["r"], NATIVE, SDSS
    )
    dark, bright = noise[..., 20:50].std(), noise[..., 80:110].std()
    assert 5 < bright / dark < np.sqrt(51)


def test_ringing_below_zero_keeps_its_mean_and_makes_no_nan():
    """A brightness below minus the sky has no photon noise, but is not cut off."""
    sky = float(surface_brightness(20.94, "r"))
    images = flat(-3 * sky, 1, 1, 128, 128)
    seen = observe_through(images, ["r"], NATIVE, SDSS, generators(1))
    inside = seen[..., 24:-24, 24:-24] * electrons_per_brightness(SDSS, "r", NATIVE)
    dark = dark_electrons(SDSS, "r", NATIVE)
    assert np.isfinite(seen).all()
    assert inside.std() == pytest.approx(dark, rel=0.05)
    assert inside.mean() == pytest.approx(-3 * sky_electrons(SDSS, "r", NATIVE), abs=dark / 10)


@given(n=st.integers(1, 5), first=st.integers(0, 4))
def test_an_image_does_not_depend_on_its_batch(n, first):
    images = np.abs(np.random.default_rng(2).normal(0, 1e-7, (5, 2, 40, 36))).astype(np.float32)
    together = observe_through(images, ["g", "r"], PAPER, SDSS, generators(5))
    part = observe_through(
        images[first : first + n], ["g", "r"], PAPER, SDSS, generators(5)[first : first + n]
    )
    assert together.dtype == np.float32
    assert together.shape == images.shape
    assert part.tobytes() == together[first : first + n].tobytes()


def test_other_generators_give_other_noise():
    images = flat(0, 2, 1, 16, 16)
    one, two = observe_through(images, ["r"], NATIVE, SDSS, generators(2))
    assert (one != two).all()
    again = observe_through(images, ["r"], NATIVE, SDSS, generators(2))
    np.testing.assert_array_equal(again[0], one)


def test_the_images_given_are_left_alone():
    images = flat(1e-8, 1, 1, 16, 16)
    observe_through(images, ["r"], NATIVE, SDSS, generators(1))
    assert (images == np.float32(1e-8)).all()
    images = images.astype(np.float64)
    observe_through(images, ["r"], NATIVE, SDSS, generators(1))
    assert len(np.unique(images)) == 1


# faults


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, 16, 16))}, r"\(n, 2, y, x\) for the bands r, z"),
        ({"images": np.zeros((3, 1, 16, 16))}, r"not \(3, 1, 16, 16\)"),
        ({"rngs": generators(2)}, "rngs must hold 3 generators, one per image, not 2"),
        ({"pixel_scale_arcsec": 0.0}, "pixel_scale_arcsec must be positive, not 0"),
        ({"pixel_scale_arcsec": np.nan}, "pixel_scale_arcsec must be positive, not nan"),
        ({"images": np.full((3, 2, 16, 16), np.nan)}, "images must be finite"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {
        "images": np.zeros((3, 2, 16, 16)),
        "bands": ["r", "z"],
        "pixel_scale_arcsec": NATIVE,
        "instrument": SDSS,
        "rngs": generators(3),
    }
    observe_through(**arguments)
    with pytest.raises(ValueError, match=message):
        observe_through(**arguments | change)


# the rim


@scales
def test_a_flat_sky_is_flat_to_the_rim(scale):
    """Without photons or readout, only the blur is left; blurred alone, the rim loses light."""
    bright = replace(
        SDSS, count_mag=dict.fromkeys(BANDS, 60.0), dark_variance=dict.fromkeys(BANDS, 0)
    )
    sides = []

    def placed(pixels):
        sides.append(pixels)
        return flat(7, 2, 5, pixels, pixels)

    seen = photograph(placed, 32, BANDS, scale, bright, generators(2))
    assert seen.shape == (2, 5, 32, 32)
    np.testing.assert_allclose(seen, 7, rtol=1e-5)
    widest = max(len(psf_kernel(SDSS, band, scale)) for band in BANDS)
    assert sides == [32 + widest - 1]
    cropped_first = observe_through(placed(32), BANDS, scale, bright, generators(2))
    assert cropped_first[..., 0].max() < 0.9 * 7


def test_without_an_instrument_images_stay_as_placed():
    images = flat(1, 1, 1, 8, 8)
    assert photograph({8: images}.__getitem__, 8, "r", NATIVE, None, []) is images


def test_without_noise_an_instrument_smooths_and_no_more():
    images = np.random.default_rng(0).random((2, 5, 24, 24)).astype(np.float32)
    quiet = replace(SDSS, noise=False)
    seen = observe_through(images, BANDS, NATIVE, quiet, generators(2), margin=3)
    expected = convolve(images, BANDS, NATIVE, SDSS)[..., 3:-3, 3:-3]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_noise_is_drawn_for_the_frame_without_its_margin():
    def placed(pixels):
        return flat(0, 2, 2, pixels, pixels)

    seen = photograph(placed, 40, "gr", NATIVE, SDSS, generators(2))
    alone = observe_through(placed(40), "gr", NATIVE, SDSS, generators(2))
    np.testing.assert_array_equal(seen, alone)


# SDSS as it was


def effective_pixels(band):
    """Noise-equivalent area of a point source, native pixels (SDSS: nEff)."""
    return 1 / (psf_kernel(SDSS, band, NATIVE) ** 2).sum()


@pytest.mark.parametrize("band", BANDS)
def test_point_sources_are_as_wide_as_in_sdss(band):
    width = NATIVE * np.sqrt(8 * np.log(2) * effective_pixels(band) / (4 * np.pi))
    assert width == pytest.approx(SEEING[band], rel=0.01)


@pytest.mark.parametrize("band", BANDS)
def test_depth_is_that_of_sdss(band):
    """Found to 95 % are sources a little brighter than five deviations."""
    noise = nanomaggies(sky_noise(SDSS, band, NATIVE), band, NATIVE)
    five_sigma = 22.5 - 2.5 * np.log10(5 * noise * np.sqrt(effective_pixels(band)))
    assert COMPLETE[band] < five_sigma < COMPLETE[band] + 1.25


def corner_noise(image):
    """Deviation of the sky pixels in the corners, and correlation of neighbours along x and y."""
    side = max(20, len(image) // 6)
    sky = np.zeros(image.shape, dtype=bool)
    sky[:side, :side] = sky[:side, -side:] = sky[-side:, :side] = sky[-side:, -side:] = True
    for _ in range(6):
        median = np.median(image[sky])
        sigma = 1.4826 * np.median(np.abs(image[sky] - median))
        smooth = uniform_filter(image - median, 5)
        sky &= (np.abs(image - median) < 4 * sigma) & (smooth < sigma)
    rest = image - np.median(image[sky])
    pairs = (
        (rest[:, 1:], rest[:, :-1], sky[:, 1:] & sky[:, :-1]),
        (rest[1:], rest[:-1], sky[1:] & sky[:-1]),
    )
    return sigma, [(a[both] * b[both]).mean() / rest[sky].var() for a, b, both in pairs]


def block_noise(image, bins=4):
    """Deviation of the sums of blocks of pixels in the corners, over `bins`: that of white noise
    whatever neighbours share, but for the blocks' edges."""
    side = max(20, len(image) // 6) // bins * bins
    corners = (
        image[y, x]
        for y in (slice(side), slice(-side, None))
        for x in (slice(side), slice(-side, None))
    )
    shape = (side // bins, bins, side // bins, bins)
    sums = np.concatenate([corner.reshape(shape).sum((1, 3)).ravel() for corner in corners])
    return 1.4826 * np.median(np.abs(sums - np.median(sums))) / bins


@pytest.fixture(scope="module")
def real_images():
    paths = sorted((ROOT.parent / "shared/data/nsa_r").glob("*.fits"))
    if not paths:
        pytest.skip("no SDSS images at ../shared/data/nsa_r")
    return [fits.getdata(path).astype(float) for path in paths]


def test_noise_of_real_pixels_is_ours_less_what_resampling_smooths(real_images):
    noise, correlation = zip(*map(corner_noise, real_images), strict=True)
    ratio = np.array(noise) / nanomaggies(sky_noise(SDSS, "r", NATIVE), "r", NATIVE)
    sharp = np.max(correlation, axis=1) < 0.1
    assert sharp.sum() >= 5
    assert 0.8 < np.median(ratio[sharp]) < 1.15
    assert np.median(ratio[~sharp]) < np.median(ratio[sharp])
    assert 0.3 < ratio.min() <= ratio.max() < 1.3


def test_noise_of_real_blocks_is_ours(real_images):
    """Resampling moves noise between neighbours, which a block of 4 x 4 does not see."""
    ours = nanomaggies(sky_noise(SDSS, "r", NATIVE), "r", NATIVE)
    ratio = np.array([block_noise(image) for image in real_images]) / ours
    assert 0.85 < np.median(ratio) < 1.15
