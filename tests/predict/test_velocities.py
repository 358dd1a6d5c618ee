"""Priors on velocities: direct integrals, the same flags, and the numbers of before without one."""

from math import nan

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st

from builders import champions, nsa
from peculiar.core.cosmography import COSMOLOGIES, Cosmography
from peculiar.core.errors import InputError
from peculiar.predict.batch import Job, predict_catalogue
from peculiar.predict.catalogue import chunks
from peculiar.predict.columns import COLUMNS
from peculiar.predict.estimate import estimates, predict_images
from peculiar.predict.images import Files
from peculiar.predict.notebook import predict_velocity
from peculiar.predict.priors import prior_named
from peculiar.predict.units import BRIGHTNESS
from peculiar.predict.velocities import VelocityPriors, velocity_priors
from peculiar.predict.view import View
from peculiar.runs.validity import Validity
from peculiar.velocity.grid import gaussian, moments, split_cells

C_KMS = 299792.458
WIDE = np.arange(20.25, 140, 0.5)
UNIFORM = prior_named("uniform")
SPEED = u.km / u.s
VALIDITY = Validity(distance_mpc=(50, 100), mag_ab={"r": (0, 9)}, half_light_arcsec=(0, 9))
POSTERIOR = [name for name in COLUMNS if name.startswith(("v_hat", "v_error", "v_low", "v_high"))]


def of_distributions(grid=WIDE, **changes):
    return champions.mean_champion(pixels=16, grid_mpc=grid, **changes)


def one(mean, deviation):
    return VelocityPriors(np.array([mean]), np.array([deviation]))


def normal(x, mean, deviation):
    return np.exp(-0.5 * ((x - mean) / deviation) ** 2)


@pytest.mark.parametrize("name", COSMOLOGIES)
@pytest.mark.parametrize(("m", "s", "error"), [(600, 150, 0), (-900, 250, 80), (300, 40, 120)])
def test_a_posterior_is_the_direct_integral_over_distance_and_velocity(name, m, s, error):
    law, cz = Cosmography(name, 70), 6500.0
    p = gaussian([88.0], 9.0, WIDE)
    found = estimates(
        of_distributions(), p, np.array([cz]), np.array([error]), UNIFORM, law, one(m, s)
    )
    D = np.repeat(WIDE, 20) + np.tile((np.arange(20) - 9.5) / 40, len(WIDE))
    v = m + s * np.linspace(-6, 6, 1201)[:, None]
    if error:
        moved = v * (1 if name == "hubble" else 1 + law.cosmological_cz_kms(D) / C_KMS)
        q = normal(law.cosmological_cz_kms(D) + moved, cz, error) * normal(v, m, s)
    else:  # the redshift gives the velocity at each distance
        v = law.velocity_kms(cz, D)[None]
        q = normal(v, m, s)
    q = q * np.repeat(p[0], 20)
    q /= q.sum()
    mean = (q * v).sum()
    # v^2 / 2c is what linearity costs
    assert found["v_hat"][0] == pytest.approx(mean, abs=1 + m**2 / 2 / C_KMS)
    assert found["v_error"][0] == pytest.approx(np.sqrt((q * (v - mean) ** 2).sum()), rel=0.02)
    order = np.argsort(v, axis=None)
    below = np.cumsum((q * np.ones_like(v)).ravel()[order] if error == 0 else q.sum(axis=1))
    at = np.interp([0.158655, 0.841345], below, np.sort(v, axis=None))
    np.testing.assert_allclose([found["v_low68"][0], found["v_high68"][0]], at, atol=4)


@given(m=st.floats(-2000, 2000), s=st.floats(1, 900), error=st.floats(0, 200))
def test_an_image_that_says_nothing_leaves_the_prior(m, s, error):
    """Also one much narrower than a cell of the grid, which is 35 km/s wide."""
    grid = np.arange(0.25, 400, 0.5)
    flat = np.full((1, len(grid)), 1 / len(grid))
    found = estimates(
        of_distributions(grid),
        flat,
        np.array([14000.0]),
        np.array([error]),
        UNIFORM,
        None,
        one(m, s),
    )
    assert found["v_hat"][0] == pytest.approx(m, abs=0.02 * s)
    assert found["v_error"][0] == pytest.approx(s, rel=0.02)
    assert found["v_high95"][0] - m == pytest.approx(2 * s, rel=0.03)


@given(
    D=st.floats(40, 120),
    cz=st.floats(2000, 9000),
    m=st.floats(-1500, 1500),
    s=st.floats(1, 900),
    error=st.floats(0, 300),
)
def test_normal_errors_have_their_closed_form(D, cz, m, s, error):
    model = champions.mean_champion(sigma_D_mpc=6.0)
    found = estimates(
        model, np.array([D]), np.array([cz]), np.array([error]), UNIFORM, None, one(m, s)
    )
    image = 1 / (420**2 + error**2)  # of v = cz - 70 D
    mean = (m / s**2 + (cz - 70 * D) * image) / (1 / s**2 + image)
    assert found["v_hat"][0] == pytest.approx(mean, abs=1e-6)
    assert found["v_error"][0] == pytest.approx((1 / s**2 + image) ** -0.5)


@pytest.mark.parametrize("cosmology", COSMOLOGIES)
@pytest.mark.parametrize("grid", [None, champions.GRID])
def test_the_usual_prior_given_for_each_is_the_usual_prior(cosmology, grid):
    network = champions.brightness if grid is None else champions.brightness_distribution
    model = champions.mean_champion(network=network, grid_mpc=grid, pixels=16, validity=VALIDITY)
    images = np.random.default_rng(1).random((5, 1, 16, 16), dtype=np.float32) * 60
    views, cz = [View(image) for image in images], [4000, 5250, 20000, nan, 6000]
    error = [0, 30, 0, 0, nan]
    before, given = (
        predict_images(model, views, cz, error, cosmology=cosmology, **prior)
        for prior in ({}, {"v_prior_kms": 0.0, "v_prior_error_kms": [400] * 5})
    )
    for name in COLUMNS:
        np.testing.assert_array_equal(before[name].value, given[name].value, name)
    assert before["flags"].tolist() == given["flags"].tolist()
    assert before.meta == given.meta
    assert before.meta["v_prior"] == "N(0, 400 km/s)"
    assert before["v_prior"].value.tolist() == [0] * 5
    assert before["v_prior_error"].value.tolist() == [400] * 5


@pytest.mark.parametrize(
    ("mean", "error"),
    [(300, nan), (nan, 150), (300, 0), (300, -5), (300, 0.5), (np.inf, 150), (2e4, 150), (0, 2e4)],
)
def test_half_a_prior_and_one_that_cannot_be_used_are_flagged(mean, error):
    model = of_distributions(champions.GRID, network=champions.brightness_distribution)
    views = [View(np.ones((1, 16, 16), np.float32))] * 2
    table = predict_images(
        model, views, 5250.0, v_prior_kms=[mean, 300], v_prior_error_kms=[error, 150]
    )
    assert ["bad_prior" in flags.split(", ") for flags in table["flags"]] == [True, False]
    for name in [*POSTERIOR, "v_prior", "v_prior_error"]:
        assert np.isfinite(table[name].value).tolist() == [False, True], name
    for name in ("D_p", "D_z", "v_p", "eta"):
        assert np.isfinite(table[name].value).all()
    assert table.meta["v_prior"] == "N(v_prior, v_prior_error) of each row"


@pytest.mark.parametrize("grid", [None, champions.GRID])
def test_flags_expect_the_galaxy_where_its_prior_does(grid):
    """A galaxy at 73 Mpc that moves by 4000 km/s, and one at rest that is said to."""
    network = champions.brightness if grid is None else champions.brightness_distribution
    model = champions.mean_champion(network=network, grid_mpc=grid, pixels=16, validity=VALIDITY)
    level = 73 if grid is None else 0.5
    views = [View(np.full((1, 16, 16), level, np.float32))] * 2
    cz = [70 * 73 + 4000, 70 * 73]
    wanted = {"tension"} if grid is None else {"tension", "cz_beyond", "distance"}

    def flags(**prior):
        table = predict_images(model, views, cz, cosmology="hubble", **prior)
        return [{*row.split(", ")} & {"tension", "cz_beyond", "distance"} for row in table["flags"]]

    usual = flags()
    assert wanted <= usual[0]
    assert not usual[1]
    moving = flags(v_prior_kms=4000, v_prior_error_kms=150)
    assert not moving[0]
    assert wanted <= moving[1]


CATALOGUE = """path,cz_kms,v_prior_kms,v_prior_error_kms,reason
{0},5250,300,150,
{0},5250,,,
{0},5250,300,,given
{0},5250,,150,given
{0},5250,300,-1,given
{0},5250,fast,150,given
{0},5250,0,400,
"""


@pytest.mark.parametrize("rows_at_once", [256, 2])
def test_columns_of_a_catalogue_are_the_priors_of_its_rows(tmp_path, rows_at_once):
    nsa.cutout(tmp_path / "nsa_1.fits")
    text = CATALOGUE.format("nsa_1.fits")
    (tmp_path / "one.csv").write_text(text)
    model = of_distributions(champions.GRID, network=champions.brightness_distribution)
    job = Job("m", "1", "", Files(tmp_path), nan, None)
    output = tmp_path / "out.ecsv"
    predict_catalogue(model, job, tmp_path / "one.csv", output, rows_at_once=rows_at_once)
    table = QTable.read(output)
    assert table.meta["v_prior"] == "N(v_prior, v_prior_error) of each row"
    bad = [False, False, True, True, True, True, False]
    assert ["bad_prior" in flags.split(", ") for flags in table["flags"]] == bad
    assert ["both be given, or neither" in str(reason) for reason in table["reason"]] == bad
    assert np.isnan(table["v_hat"].value).tolist() == bad
    assert table["v_prior"][:2].value.tolist() == [300, 0]
    assert table["v_prior_error"][:2].value.tolist() == [150, 400]
    assert table["v_hat"][0] - table["v_hat"][1] > 20 * SPEED
    for name in COLUMNS:  # N(0, 400) in the file is the usual one
        np.testing.assert_allclose(table[name][6], table[name][1], rtol=1e-9)
    lines = [",".join(line.split(",")[:2]) for line in text.splitlines()]
    (tmp_path / "plain.csv").write_text("\n".join(lines))
    predict_catalogue(model, job, tmp_path / "plain.csv", output, rows_at_once=rows_at_once)
    plain = QTable.read(output)
    assert plain.meta["v_prior"] == "N(0, 400 km/s)"
    assert plain["v_hat"][0].value == pytest.approx(table["v_hat"][1].value, rel=1e-9)


def test_units_of_the_columns_are_converted(tmp_path):
    nsa.cutout(tmp_path / "nsa_1.fits")
    table = QTable({"path": ["nsa_1.fits"], "cz_kms": [5250] * SPEED})
    table["v_prior_kms"], table["v_prior_error_kms"] = [3e5] * u.m / u.s, [150] * SPEED
    table.write(tmp_path / "one.ecsv")
    model = of_distributions(champions.GRID, network=champions.brightness_distribution)
    job = Job("m", "1", "", Files(tmp_path), nan, None)
    predict_catalogue(model, job, tmp_path / "one.ecsv", tmp_path / "out.fits")
    found = QTable.read(tmp_path / "out.fits")
    assert found["v_prior"].value.tolist() == [300]
    assert found.meta["V_PRIOR"] == "N(v_prior, v_prior_error) of each row"


def test_a_column_without_its_unit_is_no_error_of_zero(tmp_path):
    (tmp_path / "one.csv").write_text("path,cz_kms,v_prior_kms,v_prior_error\nx,5250,300,150\n")
    with pytest.raises(InputError, match="has a column v_prior_error and none v_prior_error_kms"):
        next(chunks(tmp_path / "one.csv", 9))


def test_notebooks_give_them_as_quantities():
    model = of_distributions(champions.GRID, network=champions.brightness_distribution)
    images = np.ones((3, 1, 16, 16)) * BRIGHTNESS
    options = {"v_prior": [3e5, nan, 3e5] * u.m / u.s, "v_prior_error": [150, nan, nan] * SPEED}
    table = predict_velocity(images, 5250 * SPEED, model, **options)
    assert table["v_prior"].value[:2].tolist() == [300, 0]
    assert ["bad_prior" in flags.split(", ") for flags in table["flags"]] == [False, False, True]
    with pytest.raises(InputError, match="v_prior must be a Quantity in km / s"):
        predict_velocity(images, 5250 * SPEED, model, v_prior=300)
    with pytest.raises(InputError, match="v_prior_error is in Mpc, not in km / s"):
        predict_velocity(images, 5250 * SPEED, model, v_prior_error=3 * u.Mpc)
    with pytest.raises(InputError, match="v_prior must have one value for each of 3 images"):
        predict_velocity(images, 5250 * SPEED, model, v_prior=[1, 2] * SPEED)


def test_a_table_without_rows_has_the_usual_prior():
    model = champions.mean_champion()
    assert predict_images(model, [], 5250.0).meta["v_prior"] == "N(0, 400 km/s)"
    assert velocity_priors(model, [300.0], 150.0, 1).mean_kms.tolist() == [300]


@given(st.integers(1, 9))
def test_split_cells_are_the_same_distribution(parts):
    p = gaussian([60.0, 90.0], 7.0, WIDE)
    fine, grid = split_cells(p, WIDE, parts)
    assert len(grid) == parts * len(WIDE)
    np.testing.assert_allclose(np.diff(grid), 0.5 / parts)
    for found, expected in zip(moments(fine, grid), moments(p, WIDE), strict=True):
        np.testing.assert_allclose(found, expected)
    if parts == 1:
        assert (grid == WIDE).all()
        assert (fine == p).all()
