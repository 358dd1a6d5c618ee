"""Priors integrate as stated, replace that of training exactly, and are refused in one sentence."""

import re

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from builders.champions import GRID, brightness_distribution, mean_champion
from builders.surveys import MEASURED, NORMAL
from peculiar.core.errors import InputError
from peculiar.predict.estimate import estimates, outputs, predict_images
from peculiar.predict.flux_limit import BOUNDS, FluxLimit, limit_named
from peculiar.predict.notebook import predict_velocity
from peculiar.predict.priors import (
    NAMES,
    DistancePrior,
    default_prior,
    density_on,
    distance_grid,
    distances_given_image,
    prior_named,
    prior_ratio,
)
from peculiar.predict.units import BRIGHTNESS
from peculiar.predict.view import View
from peculiar.runs.validity import Validity
from peculiar.velocity.grid import moments

WIDE = np.arange(3.5, 150)
VOLUME = {"distribution": "volume", "min_mpc": 50, "max_mpc": 100}
FILE = DistancePrior("virgo.csv", (10.0, 16.5, 60.0), (0.0, 1.0, 0.5))


def normal_p(mean, sigma=10.0, grid=WIDE):
    p = np.exp(-0.5 * ((grid - np.asarray(mean).reshape(-1, 1)) / sigma) ** 2)
    return p / p.sum(axis=1, keepdims=True)


def champion(**changes):
    return mean_champion(**({"grid_mpc": WIDE} | changes))


@pytest.mark.parametrize("law", [{}, {"distances": VOLUME}, {"distances": NORMAL}])
def test_priors_have_the_moments_that_integrals_say(law):
    model = champion(**law)
    grid = distance_grid(model)

    def mean_of(density, low, high):
        return quad(lambda D: D * density(D), low, high)[0] / quad(density, low, high)[0]

    low, high = 3, 150
    fraction = lambda D: float(FluxLimit().fraction(np.array([D]), 70)[0])  # noqa: E731
    expected = {
        "uniform": mean_of(lambda _: 1.0, low, high),
        "volume": mean_of(lambda D: D**2, low, high),
        "flux-limited": mean_of(lambda D: D**2 * fraction(D), low, high),
    }
    match law.get("distances", {}).get("distribution"):
        case "volume":
            expected["training"] = mean_of(lambda D: D**2, 50, 100)
        case "normal":
            expected["training"] = mean_of(
                lambda D: np.exp(-0.5 * ((D - 75) / 14.5) ** 2), 5, 147.5
            )
        case _:
            expected["training"] = 75.0
    assert expected.keys() == set(NAMES)
    for name, mean in expected.items():
        density = density_on(prior_named(name), model, grid)
        assert density @ grid / density.sum() == pytest.approx(mean, rel=1e-3), name


limits = st.builds(
    FluxLimit,
    st.floats(12, 20),
    st.floats(-22, -19),
    st.one_of(st.sampled_from([-1.0, -1 + 1e-9, 0.0]), st.floats(-1.8, 1)),
)


@given(D=st.floats(5, 500), H0=st.floats(50, 100), limit=limits)
def test_the_fraction_seen_is_the_integral_of_schechter_s_function(D, H0, limit):
    """Between the faintest luminosity seen and 30 L*, against the same at 50 Mpc."""
    M_star = limit.M_star + 5 * np.log10(H0 / 100)

    def seen(D):
        faintest = 10 ** (-0.4 * (limit.limit - 5 * np.log10(D * 1e5) - M_star))
        if faintest > 10:
            return 0.0
        # in ln L, in which the integrand is smooth
        ends = np.log([faintest, 40])
        return quad(lambda t: np.exp((limit.alpha + 1) * t - np.exp(t)), *ends, epsrel=1e-10)[0]

    found = limit.fraction(np.array([D, 50.0]), H0)
    assert (found >= 0).all()
    expected = np.array([seen(D), seen(50.0)])
    if (expected > 1e-5).all():
        np.testing.assert_allclose(found[0] / found[1], expected[0] / expected[1], rtol=1e-5)


@given(limits)
def test_a_limit_describes_itself_in_full(limit):
    prior = prior_named(limit.describe())
    assert prior.flux_limit == limit
    assert prior.describe(champion()) == limit.describe()


def test_priors_of_other_surveys_are_given_in_one_string():
    usual = prior_named("flux-limited")
    assert usual.describe(champion()) == "flux-limited(limit=17.77, M_star=-20.44, alpha=-1.05)"
    assert prior_named("flux-limited()") == usual
    prior = prior_named("flux-limited( limit = 14.5 , M_star=-19.5,)")
    assert prior.flux_limit == FluxLimit(14.5, -19.5, -1.05)
    bright, faint = (density_on(one, champion(), WIDE) for one in (prior, usual))
    assert bright[100] / bright[20] < 0.5 * faint[100] / faint[20]  # it sees less far
    assert limit_named("cluster.csv") is None
    # so bright a limit that no galaxy is seen
    with pytest.raises(InputError, match="prior flux-limited is zero from 4 to 150 Mpc"):
        density_on(prior_named("flux-limited(limit=0, M_star=-10)"), champion(), WIDE)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("r=17", "write each of limit, M_star and alpha once, as NAME=X"),
        ("17.77", "write each of limit, M_star and alpha once, as NAME=X"),
        ("limit=17, limit=18", "write each of limit, M_star and alpha once, as NAME=X"),
        ("limit=faint", "limit must be a number from 0 to 40, not 'faint'"),
        ("limit=", "limit must be a number from 0 to 40, not ''"),
        ("M_star=20", "M_star must be a number from -30 to 0, not '20'"),
        ("alpha=-2", "alpha must be a number from -1.99 to 2, not '-2'"),
        ("alpha=nan", "alpha must be a number from -1.99 to 2, not 'nan'"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(given, words):
    text = f"flux-limited({given})"
    with pytest.raises(InputError, match="^" + re.escape(f"prior {text}: {words}")):
        prior_named(text)
    assert {"limit", "M_star", "alpha"} == {*BOUNDS}


@pytest.mark.parametrize(
    ("law", "said"),
    [
        ({}, "training (uniform, min_mpc=50.0, max_mpc=100.0)"),
        ({"distances": VOLUME}, "training (volume, min_mpc=50.0, max_mpc=100.0)"),
        ({"distances": NORMAL}, "training (normal, mean_mpc=75.0, sigma_mpc=14.5, min_mpc=5.0)"),
    ],
)
def test_the_law_of_training_is_said_in_full(law, said):
    assert prior_named("training").describe(champion(**law)) == said
    assert prior_named("volume").describe(champion(**law)) == "volume (D^2)"
    assert prior_named("uniform").describe(champion(**law)) == "uniform"


@given(st.floats(20, 130), st.sampled_from([prior_named(name) for name in NAMES] + [FILE]))
def test_a_prior_multiplies_the_likelihood_by_a_direct_sum(mean, prior):
    """And the redshift after it: distances, errors and velocities are of the same product."""
    model, p, cz = champion(), normal_p([mean]), 5250.0
    density = density_on(prior, model, WIDE)
    weights = p[0] * density
    found = estimates(model, p, np.array([cz]), np.zeros(1), prior)
    D_p = (weights * WIDE).sum() / weights.sum()
    assert found["D_p"][0] == pytest.approx(D_p, rel=1e-6)
    variance = (weights * (WIDE - D_p) ** 2).sum() / weights.sum() + 1 / 12
    assert found["D_error"][0] == pytest.approx(np.sqrt(variance), rel=1e-5)
    if np.isfinite(found["v_hat"][0]):
        weights = weights * np.exp(-0.5 * ((75 - WIDE) * 70 / 400) ** 2)
        v = 70 * (75 - (weights * WIDE).sum() / weights.sum())
        assert found["v_hat"][0] == pytest.approx(v, rel=1e-5, abs=1e-5)


def test_a_prior_replaces_that_of_training_exactly():
    """An older champion has the law of its training distances in p(D | image)."""
    grid = np.arange(50.5, 100)
    flat = normal_p([60, 95], grid=grid)
    with_law = flat * grid**2
    with_law /= with_law.sum(axis=1, keepdims=True)
    old = champion(grid_mpc=grid, distances=VOLUME, flat=False)
    new = champion(grid_mpc=grid, distances=VOLUME)
    for name in NAMES:
        prior = prior_named(name)
        np.testing.assert_allclose(
            distances_given_image(old, with_law, prior), distances_given_image(new, flat, prior)
        )
    assert (default_prior(old).name, default_prior(new).name) == ("training", "uniform")
    assert (prior_ratio(old, prior_named("training")) == 1).all()


def test_a_galaxy_outside_the_range_offered_has_a_posterior_that_reaches_it():
    model = champion()
    for true in (44.0, 106.0):
        found = estimates(
            model, normal_p([true]), np.array([70 * true]), np.zeros(1), prior_named("uniform")
        )
        assert found["D_p"][0] == pytest.approx(true, abs=0.1)
        assert found["v_low68"][0] < 0 < found["v_high68"][0]
        assert abs(found["v_hat"][0]) < 20
        cut = estimates(
            model, normal_p([true]), np.array([70 * true]), np.zeros(1), prior_named("training")
        )
        assert 50 < cut["D_p"][0] < 100


def test_a_champion_of_distances_takes_priors_with_its_one_error():
    model = mean_champion(pixels=16, sigma_D_mpc=6.0)
    D, cz, none = np.array([60.0, 90.0]), np.array([4500.0, 6000.0]), np.zeros(2)
    closed = estimates(model, D, cz, none, prior_named("uniform"))
    np.testing.assert_array_equal(closed["D_p"], D)
    np.testing.assert_array_equal(closed["D_error"], 6.0)
    grid = distance_grid(model)
    assert grid[0] < 50 - 3 * (400 / 70 + 6) + 2
    assert grid[-1] > 100 + 3 * (400 / 70 + 6) - 2
    # far from the grid's ends a wide file is flat too, and must give the closed form
    flat = DistancePrior("flat.csv", (1.0, 500.0), (1.0, 1.0))
    integrated = estimates(model, D, cz, none, flat)
    for name in ("D_p", "D_error", "v_hat", "v_error", "v_low68", "v_high95"):
        np.testing.assert_allclose(integrated[name], closed[name], rtol=1e-2, atol=2)
    volume = estimates(model, D, cz, none, prior_named("volume"))
    # of a normal likelihood, D^2 moves the mean by about 2 sigma^2 / D
    np.testing.assert_allclose(volume["D_p"] - D, 2 * 36 / D, rtol=0.05)
    nowhere = mean_champion(distances=NORMAL)
    with pytest.raises(InputError, match=r"does not record its training distances: take --prior u"):
        estimates(nowhere, D, cz, none, prior_named("volume"))


def test_an_image_that_no_distance_of_the_prior_fits_has_a_flag_and_no_distance():
    p = np.zeros((1, len(WIDE)))
    p[0, 60] = 1
    table = estimates(
        champion(), p, np.array([5250.0]), np.zeros(1), DistancePrior("x", (5, 9), (1, 1))
    )
    assert np.isnan(table["D_p"]).all()
    assert np.isnan(table["v_hat"]).all()
    assert table["D_z"][0] == 75

    def point(images):
        import torch

        return torch.from_numpy(np.repeat(p, len(images), axis=0))

    views = [View(np.ones((1, 8, 8), np.float32))]
    seen = champion(network=point)
    flags = predict_images(seen, views, 5250.0, prior=DistancePrior("x", (5, 9), (1, 1)))["flags"]
    assert flags[0].startswith("prior")


def test_a_file_is_linear_between_its_rows_and_zero_outside(tmp_path):
    path = tmp_path / "cluster.csv"
    path.write_text("distance_mpc,density\n60,0\n70,2\n90,0\n")
    prior = prior_named(path)
    density = density_on(prior, champion(), WIDE)
    expected = np.where(WIDE < 70, (WIDE - 60) / 5, (90 - WIDE) / 10)
    np.testing.assert_allclose(density, np.maximum(expected, 0), atol=1e-12)
    said = prior.describe(champion())
    assert re.fullmatch(r"cluster\.csv \(60 to 90 Mpc, zero outside; sha256 [0-9a-f]{12}\)", said)
    path.write_text("distance_mpc,density\n60,0\n70,3\n90,0\n")
    assert prior_named(path).describe(champion()) != said
    ecsv = tmp_path / "cluster.ecsv"
    from astropy.table import Table

    Table({"distance_mpc": [60.0, 70, 90], "density": [0.0, 2, 0]}).write(ecsv)
    assert prior_named(str(ecsv)).density == prior.density


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("distance_mpc\n60\n", "has no column density: add it"),
        ("D,density\n60,1\n", "has no column distance_mpc: add it"),
        ("distance_mpc,density\n60,1\n", "must be two or more positive, increasing numbers"),
        ("distance_mpc,density\n60,1\n60,1\n", "must be two or more positive, increasing"),
        ("distance_mpc,density\n0,1\n60,1\n", "must be two or more positive, increasing numbers"),
        ("distance_mpc,density\n50,1\n60,-1\n", "density must not be negative, nor zero every"),
        ("distance_mpc,density\n50,0\n60,0\n", "density must not be negative, nor zero every"),
        ("distance_mpc,density\n50,nan\n60,1\n", "density must have a finite number in every row"),
        ("distance_mpc,density\n50,\n60,1\n", "density must have a finite number in every row"),
        ("distance_mpc,density\nfar,1\n60,1\n", "distance_mpc must have a finite number in every"),
        ("distance_mpc,density\n5_0,1\n60,1\n", "distance_mpc must have a finite number in every"),
        ("distance_mpc,density\n50,1\n60\n", "distance_mpc must have a finite number in every row"),
        ("distance_mpc,density,density\n50,1,2\n60,1,2\n", "has the column density more than once"),
        ("# distance_mpc,density\n50,1\n60,1\n", "has its header in a comment, line 1"),
    ],
)
def test_a_file_that_is_no_density_is_refused(tmp_path, text, words):
    path = tmp_path / "prior.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}:? .*{words}"):
        prior_named(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "prior.ecsv"
    path.write_text("# %ECSV 1.0\n# ---\n# {datatype: [\ndistance_mpc,density\n60,1\n70,1\n")
    with pytest.raises(InputError, match=r"prior\.ecsv has a damaged header"):
        prior_named(path)


def test_distances_of_a_prior_are_converted(tmp_path):
    table = QTable({"distance_mpc": [60e3, 90e3] * u.kpc, "density": [1.0, 1.0]})
    table.write(tmp_path / "prior.ecsv")
    assert prior_named(tmp_path / "prior.ecsv").D_mpc == (60, 90)
    table["distance_mpc"] = [60, 90] * u.s
    table.write(tmp_path / "prior.ecsv", overwrite=True)
    with pytest.raises(InputError, match="distance_mpc in 's', which is not Mpc: correct the unit"):
        prior_named(tmp_path / "prior.ecsv")


def test_priors_that_cannot_be_are_refused():
    with pytest.raises(
        InputError, match="prior flat: give training, uniform, volume, flux-limited"
    ):
        prior_named("flat")
    far = DistancePrior("far.csv", (500.0, 600.0), (1.0, 1.0))
    with pytest.raises(InputError, match=r"prior far\.csv is zero from 4 to 150 Mpc, all that the"):
        density_on(far, champion(), WIDE)
    old = {"distances": {"distribution": "unrecorded", "was": "normal", "range_mpc": (50, 100)}}
    with pytest.raises(InputError, match="version 1 does not record the law of its training"):
        density_on(prior_named("training"), champion(**old), WIDE)


def test_measured_galaxies_have_a_flat_law_a_little_beyond_their_distances():
    validity = Validity(distance_mpc=(40, 110), mag_ab={"r": (0, 9)}, half_light_arcsec=(0, 9))
    model = champion(distances=MEASURED, validity=validity)
    density = density_on(prior_named("training"), model, WIDE)
    said = prior_named("training").describe(model)
    assert said == "training (measured, range_mpc=(40.0, 110.0))"
    by = 3 * 400 / 70
    assert density.sum() == pytest.approx(70 + 2 * by)
    assert (density[np.abs(WIDE - 75) < 34 + by] == 1).all()


def test_the_prior_is_in_the_table_and_reaches_the_notebook():
    model = mean_champion(
        pixels=16, network=brightness_distribution, grid_mpc=GRID, pixel_scale_arcsec=1.0
    )
    images = np.random.default_rng(3).random((2, 1, 16, 16)).astype(np.float32)
    cz = [5250, 5600] * u.km / u.s
    for name in NAMES:
        table = predict_velocity(images * BRIGHTNESS, cz, model, prior=name)
        assert table.meta["prior"] == prior_named(name).describe(model)
        assert table.meta["prior"].startswith(name)
        p = distances_given_image(model, outputs(model, images), prior_named(name))
        np.testing.assert_allclose(table["D_p"].value, moments(p, GRID)[0])
    assert predict_velocity(images * BRIGHTNESS, cz, model).meta["prior"] == "uniform"
    with pytest.raises(InputError, match="prior flat: give"):
        predict_velocity(images * BRIGHTNESS, cz, model, prior="flat")
