"""The same galaxy in other renderings, and placed by other resamplers of the same PSF."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.nulls import LIMITS
from builders.standin import small_standin
from builders.surveys import make_survey
from peculiar.core.cosmography import COSMOLOGIES
from peculiar.core.errors import InputError
from peculiar.core.params import load
from peculiar.galaxies.standin.simulation import Stars, simulate
from peculiar.mock.images import views
from peculiar.mock.params import Observe
from peculiar.nulls import resamplers
from peculiar.nulls.params import Nulls
from peculiar.nulls.renderings import (
    REFERENCE,
    galaxy_renderings,
    light_galaxies,
    rendered,
    thinned,
)

STANDIN = small_standin()
PARAMS = Nulls(
    seed=1,
    scenes=8,
    unseen=10,
    epochs=1,
    galaxies=2,
    distances=2,
    log10_mass_max=10.3,
    pixels=(32, 48),
    limits=LIMITS,
)
SURVEY = make_survey(pixels=16, pixel_scale_arcsec=10.88, bands="gr")


@given(number=st.integers(1, 60), seed=st.integers(0, 99))
def test_thinning_conserves_the_light_of_each_band_and_halves_the_particles(number, seed):
    rng = np.random.default_rng(seed)
    position, light = rng.normal(size=(number, 3)), rng.lognormal(0, 3, (5, number))
    half = thinned(Stars(10, False, 1.0, position, light), rng)
    assert half.light.shape == (5, (number + 1) // 2)
    np.testing.assert_allclose(half.light.sum(axis=1), light.sum(axis=1))
    assert {tuple(row) for row in half.position_kpc} <= {tuple(row) for row in position}


def test_young_stars_keep_the_light_of_young_stars():
    """A tenth is a hundred times as bright in u, and sits elsewhere."""
    rng = np.random.default_rng(0)
    young = np.arange(1000) < 100
    position = np.where(young[:, None], 5.0, -5.0) + rng.normal(size=(1000, 3))
    light = np.where(young, 100.0, 1.0) * rng.lognormal(0, 0.3, (5, 1000))
    half = thinned(Stars(10, False, 1.0, position, light), rng)
    there = half.position_kpc[:, 0] > 0
    assert there.sum() == 50
    np.testing.assert_allclose(
        half.light[:, there].sum(axis=1), light[:, young].sum(axis=1), rtol=1e-12
    )


def test_thinning_keeps_places_at_random():
    """Means of many thinnings are the galaxy's: no place is preferred."""
    stars = simulate(np.random.default_rng(3), STANDIN)
    rng = np.random.default_rng(0)
    radius = [np.linalg.norm(thinned(stars, rng).position_kpc, axis=1).mean() for _ in range(60)]
    all_of_it = np.linalg.norm(stars.position_kpc, axis=1).mean()
    assert np.mean(radius) == pytest.approx(all_of_it, abs=4 * np.std(radius) / 60**0.5)


def test_renderings_of_a_galaxy_in_its_own_frame_share_that_frame():
    own = small_standin(field_of_view_radii=10.0)
    stars = simulate(np.random.default_rng(3), light_galaxies(own, 10.3))
    kpc = {
        name: kpc * images.shape[-1]
        for name, images, kpc in rendered(stars, own, PARAMS, np.random.default_rng(0))
    }
    side_kpc = kpc[REFERENCE]
    assert side_kpc == pytest.approx(10 * stars.half_mass_sphere_kpc, rel=0.05)
    wider = kpc.pop(f"field of {1.5 * side_kpc:.1f} kpc")
    assert wider == pytest.approx(1.5 * side_kpc)
    assert set(kpc.values()) == {side_kpc}


def test_what_the_paper_s_scale_makes_of_another_field_is_seen():
    """It takes the wider field for the same 84.4 kpc, so the galaxy shrinks."""
    paper = make_survey(pixels=16, pixel_scale_arcsec=10.88, bands="gr", scale="paper")
    ours, theirs = (galaxy_renderings(0, STANDIN, PARAMS, [one])[0][1] for one in (SURVEY, paper))
    (wider,) = (name for name in ours if name.startswith("field of"))
    # the stand-in's own field is that of the paper
    np.testing.assert_allclose(theirs[REFERENCE], ours[REFERENCE], rtol=1e-5)
    assert theirs[wider].sum() < 0.7 * ours[wider].sum()


def test_every_rendering_shows_the_same_light():
    stars = simulate(np.random.default_rng(3), light_galaxies(STANDIN, 10.3))
    shown = {
        name: images.sum(axis=(-2, -1), dtype=float) * kpc**2
        for name, images, kpc in rendered(stars, STANDIN, PARAMS, np.random.default_rng(0))
    }
    assert list(shown) == [
        REFERENCE,
        "48 raw pixels",
        "field of 126.6 kpc",
        "particle mass x 0.5",
        "particle mass x 2",
        "8 neighbours",
        "32 neighbours",
    ]
    for flux in shown.values():
        np.testing.assert_allclose(flux, shown[REFERENCE], rtol=0.15)


def test_renderings_are_paired_and_drawn_once():
    (D, seen), (again, same) = (galaxy_renderings(4, STANDIN, PARAMS, [SURVEY])[0] for _ in "ab")
    np.testing.assert_array_equal(D, again)
    assert len(D) == 8
    assert 50 <= D.min() < D.max() <= 100
    for name, images in seen.items():
        assert images.shape == (8, 2, 16, 16)
        np.testing.assert_array_equal(images, same[name])
        flux = [one.sum(axis=(-2, -1), dtype=float) for one in (images, seen[REFERENCE])]
        np.testing.assert_allclose(*flux, rtol=0.15)
    other, _ = galaxy_renderings(5, STANDIN, PARAMS, [SURVEY])[0]
    assert not np.array_equal(D, other)


def test_with_an_instrument_only_another_seed_changes_the_noise(params_file):
    sdss = load(Observe, params_file).instruments["sdss"]
    survey = SURVEY.model_copy(update={"instrument": sdss, "pixel_scale_arcsec": 5.44})
    _, seen = galaxy_renderings(4, STANDIN, PARAMS, [survey])[0]
    noisier = seen["another seed of the noise"] - seen[REFERENCE]
    coarser = seen["8 neighbours"] - seen[REFERENCE]
    corner = (..., slice(0, 3), slice(0, 3))  # sky: the same noise
    # light of the galaxy reaches some corners
    same, other = (np.median(np.abs(change[corner])) for change in (coarser, noisier))
    assert same < 0.3 * other


def test_no_galaxy_is_light_enough():
    with pytest.raises(InputError, match=r"^params\.yaml: nulls\.log10_mass_max: 9\.5 must be "):
        light_galaxies(STANDIN, 9.5)


KPC, D_MPC = np.array([84.4 / 256] * 2), np.array([55.0, 90.0])
WIDE = make_survey(pixels=48, bands="gr")


def blob(sigma=4.0, side=192):
    x = np.arange(side) - (side - 1) / 2
    line = np.exp(-0.5 * (x / sigma) ** 2)
    return np.outer(line, line)[None, None].repeat(2, 0).repeat(2, 1).astype(np.float32)


def test_the_psf_of_a_box_is_that_of_a_pixel():
    """Of the mean of the raw pixels inside an output pixel: ratio^2 / 12, in raw pixels^2."""
    found = resamplers.psf_variance(KPC[1], D_MPC[1], WIDE, box=True)
    assert found == pytest.approx(1 / 12, abs=0.03)


def test_keys_cubic_adds_no_variance():
    assert resamplers.psf_variance(KPC[0], D_MPC[0], WIDE, box=False) == pytest.approx(0, abs=0.02)


def test_other_resamplers_reach_a_gaussian_psf():
    """Gaussians of the same variance after the cubic and before the spline show one picture."""
    variance = np.array([1.0, 0.8])
    raw = blob()
    cubic = resamplers.bare(raw, KPC, D_MPC, WIDE, resamplers.kernels_of(2, box=False))
    smooth = resamplers.then_gaussian(cubic, variance)(48)
    spline = resamplers.by_spline(raw, KPC, D_MPC, WIDE, variance)(48)
    np.testing.assert_allclose(smooth, spline, atol=0.01 * raw.max())
    assert smooth.shape == cubic(48).shape
    assert smooth.max() < 0.97 * cubic(48).max()


@pytest.mark.parametrize("cosmology", COSMOLOGIES)
def test_the_resamplers_of_the_suite_show_what_views_shows(cosmology):
    raw, survey = blob(), WIDE.model_copy(update={"cosmology": cosmology})
    seen = views(raw, KPC, D_MPC, np.zeros((2, 2)), 48, survey, [], resamplers.DEVICE).numpy()
    found = dict(resamplers.resampled(raw, KPC, D_MPC, survey, list))
    assert "resampler: cubic" in found
    for images in found.values():
        np.testing.assert_allclose(images, seen, atol=0.02 * seen.max())
