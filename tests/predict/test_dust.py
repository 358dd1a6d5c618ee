"""Dust of the Milky Way: exactly as given, once, in its own band, and never guessed."""

import sys
from dataclasses import replace
from math import nan
from types import ModuleType

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st

from builders import champions, nsa
from builders.surveys import MEASURED
from peculiar.core.errors import InputError
from peculiar.core.photometry import BANDS, magnitudes
from peculiar.galaxies.formats import read_galaxy
from peculiar.galaxies.galaxy import Galaxy
from peculiar.galaxies.nsa import read_catalogue, read_nsa
from peculiar.predict.batch import Job, predict_catalogue
from peculiar.predict.catalogue import chunks
from peculiar.predict.dust import PER_EBV, extinction_mag
from peculiar.predict.dust_maps import load_sfd, with_sfd
from peculiar.predict.files import predict_galaxy, predict_real
from peculiar.predict.images import Files
from peculiar.predict.notebook import predict_velocity
from peculiar.predict.server import Served
from peculiar.predict.units import BRIGHTNESS
from peculiar.predict.view import view_galaxy, view_images

SPEED = u.km / u.s
UGRIZ = {"bands": BANDS, "pixels": 8}
amounts = st.lists(st.floats(0, 5), min_size=5, max_size=5).map(np.array)


def real(side=8, **changes):
    images = np.random.default_rng(3).random((1, 5, side, side), dtype=np.float32) + 1
    known = {"source": "nsa:x", "pixel_scale_arcsec": 0.396} | changes
    return Galaxy(1, images, np.array([nan]), **known)


def simulated():
    return Galaxy(1, real().images, np.array([0.5]), "tng:x")


@given(amounts, st.sampled_from([8, 13]))
def test_a_band_s_magnitude_moves_by_its_extinction(A, side):
    """Also where the image is resampled; each band by its own."""
    model = champions.mean_champion(**UGRIZ)
    before = view_galaxy(model, real(side), 0, nan, extinction_mag=np.zeros(5))
    after = view_galaxy(model, real(side), 0, nan, extinction_mag=A)
    moved = [magnitudes(view.image[None], BANDS, 0.396)[0] for view in (before, after)]
    np.testing.assert_allclose(moved[0] - moved[1], A, atol=2e-6)
    np.testing.assert_array_equal(after.extinction_mag, A)


def test_none_changes_nothing_and_two_add_up():
    model = champions.mean_champion(**UGRIZ)
    untouched = view_galaxy(model, real(), 0, nan)
    assert untouched.extinction_mag is None
    none = view_galaxy(model, real(), 0, nan, extinction_mag=np.zeros(5))
    np.testing.assert_array_equal(none.image, untouched.image)
    one, two = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([1.0, 0, 0.5, 0, 0.25])
    first = view_galaxy(model, real(), 0, nan, extinction_mag=one).image
    again = view_images(model, first[None], 0.396, two[None])[0].image
    both = view_galaxy(model, real(), 0, nan, extinction_mag=one + two).image
    np.testing.assert_allclose(again, both, rtol=1e-6)


def test_reddenings_have_the_coefficients_of_schlafly_and_finkbeiner():
    assert list(PER_EBV) == list(BANDS)
    np.testing.assert_allclose(extinction_mag(0.1, "ri"), [0.2285, 0.1698])
    A = extinction_mag([0.0, 1.0], BANDS)
    np.testing.assert_allclose(A, [[0] * 5, [4.239, 3.303, 2.285, 1.698, 1.263]])
    with pytest.raises(InputError, match=r"^E\(B-V\) has no coefficient in band J: give its ext"):
        extinction_mag(0.1, "rJ")


def test_an_image_without_the_milky_way_s_dust_is_not_corrected():
    model, A = champions.mean_champion(**UGRIZ), np.full(5, 0.3)
    for galaxy, at, words in [
        (
            simulated(),
            70.0,
            "tng:x is of a simulated galaxy, behind no dust of the Milky Way: give",
        ),
        (real(dust_removed=True), nan, "nsa:x has DUSTCORR = T: its dust is removed already: give"),
    ]:
        with pytest.raises(InputError, match=f"^{words} no extinction"):
            view_galaxy(model, galaxy, 0, at, extinction_mag=A)
        view = view_galaxy(model, galaxy, 0, at)
        assert not view.extinction_mag.any()
    with pytest.raises(InputError, match="is of a simulated galaxy"):  # placed by observe
        view_galaxy(model, real(), 0, nan, extinction_mag=A, simulated=True)
    # nothing is to be removed where 0 is given
    view_galaxy(model, real(dust_removed=True), 0, nan, extinction_mag=np.zeros(5))
    dusty = champions.mean_champion(**UGRIZ, distances=MEASURED)
    with pytest.raises(InputError, match="is for version 1, trained on images with dust in them"):
        view_galaxy(dusty, real(), 0, nan, extinction_mag=A)
    seen = view_galaxy(dusty, real(extinction_mag=A), 0, nan)
    np.testing.assert_array_equal(seen.image, real().images[0])
    assert "dust" not in predict_real(dusty, real(), 5000.0)["flags"][0].split(", ")


def test_the_extinction_of_the_atlas_is_in_the_order_of_its_bands(tmp_path):
    rows = nsa.ROWS | {
        "EXTINCTION": [np.arange(1, 8) / 10, [nan, 0, -1, 0.2, 0.1, 0.1, 0.1], [0] * 7]
    }
    path = nsa.write_catalogue(tmp_path / "atlas.fits", rows, EXTINCTION="7E")
    atlas = read_catalogue(path)
    galaxy = read_nsa(nsa.parent(tmp_path / f"{nsa.NORTH}-parent-3.fits"), "ugriz", atlas)
    np.testing.assert_allclose(galaxy.extinction_mag, [0.3, 0.4, 0.5, 0.6, 0.7])
    reverse = read_nsa(nsa.parent(tmp_path / f"{nsa.NORTH}-parent-3.fits"), "zg", atlas)
    np.testing.assert_allclose(reverse.extinction_mag, [0.7, 0.4])
    other = read_nsa(nsa.parent(tmp_path / f"{nsa.SOUTH}-parent-3.fits"), "ug", atlas)
    np.testing.assert_allclose(other.extinction_mag, [nan, 0.2])
    model = champions.mean_champion(bands=("z", "g"), pixels=8)
    table = predict_real(model, reverse, None)
    np.testing.assert_allclose(table["A_z"].value, 0.7)
    np.testing.assert_allclose(table["A_g"].value, 0.4)
    assert "dust" not in table["flags"][0].split(", ")
    assert table.meta["dust"].startswith("A_b of each row removed; A_b / E(B-V) = u 4.239, g 3.303")
    ours = predict_real(model, reverse, None, ebv_mag=0.1)  # in place of the file's
    np.testing.assert_allclose(ours["A_g"].value, 0.3303)
    nsa.write_catalogue(path, nsa.ROWS | {"EXTINCTION": np.ones((3, 5))}, EXTINCTION="5E")
    with pytest.raises(InputError, match="does not have 7 values per row in EXTINCTION"):
        read_catalogue(path)


def test_a_file_says_that_its_dust_is_removed(tmp_path):
    galaxy = read_galaxy(nsa.cutout(tmp_path / "nsa_1.fits", DUSTCORR=True), "r")
    assert galaxy.dust_removed
    assert not read_galaxy(nsa.cutout(tmp_path / "nsa_2.fits"), "r").dust_removed
    table = predict_real(champions.mean_champion(pixels=8), galaxy, 5000.0)
    assert "dust" not in table["flags"][0].split(", ")
    assert table.meta["dust"] == "none removed"


CATALOGUE = """path,cz_kms,EBV,extinction_r,extinction_g,removed
nsa_1.fits,5250,0.1,,,0.2285
nsa_1.fits,5250,,0.3,0.4,0.3
nsa_1.fits,5250,0,,,0
nsa_1.fits,5250,,,,
nsa_1.fits,5250,,,0.4,
nsa_1.fits,5250,-0.1,,,
nsa_1.fits,5250,50,,,
nsa_1.fits,5250,none of it,,,
nsa_1.fits,5250,0.1,0.3,,
nsa_1.fits,5250,,30,,
"""


@pytest.mark.parametrize("rows_at_once", [256, 3])
def test_columns_of_a_catalogue_are_removed_or_the_row_is_flagged(tmp_path, rows_at_once):
    nsa.cutout(tmp_path / "nsa_1.fits")
    (tmp_path / "one.csv").write_text(CATALOGUE)
    wanted = [line.split(",")[-1] for line in CATALOGUE.splitlines()[1:]]
    model, output = champions.mean_champion(pixels=8), tmp_path / "out.ecsv"
    job = Job("m", "1", "", Files(tmp_path), nan, None)
    predict_catalogue(model, job, tmp_path / "one.csv", output, rows_at_once=rows_at_once)
    table = QTable.read(output)
    flagged = [not amount for amount in wanted]
    assert ["dust" in flags.split(", ") for flags in table["flags"]] == flagged
    assert ["dust is left in its image" in str(why) for why in table["reason"]] == flagged
    removed = [float(amount or 0) for amount in wanted]
    np.testing.assert_allclose(table["A_r"].value, removed, atol=1e-12)
    assert table["A_r"].unit == u.mag
    # the network is the mean of the image
    bare = table["D_p"][2].value
    np.testing.assert_allclose(table["D_p"].value, bare * 10 ** (0.4 * np.array(removed)), 1e-5)
    assert table.meta["dust"].startswith("A_b of each row removed")
    for row, words in [
        (5, "its ebv '-0.1' cannot be used"),
        (8, "it has both ebv and extinctions"),
    ]:
        assert words in table["reason"][row]


@pytest.mark.usefixtures("maps")
@pytest.mark.parametrize("known_by", ["atlas", "map"])
def test_nothing_stands_in_for_what_a_row_gives(tmp_path, known_by):
    """Only the row whose cells are all empty, the fourth, gets what the Atlas or a map knows."""
    A, atlas = 0.457, None  # of E(B-V) = 0.2, in r
    if known_by == "atlas":
        rows = nsa.ROWS | {"EXTINCTION": np.full((3, 7), A)}
        atlas = nsa.write_catalogue(tmp_path / "atlas.fits", rows, EXTINCTION="7E")
    nsa.cutout(tmp_path / "nsa_1.fits")
    names, *lines = CATALOGUE.splitlines()
    catalogue = "\n".join([f"{names},ra,dec", *(f"{line},9,5" for line in lines)])
    (tmp_path / "one.csv").write_text(catalogue)
    files = Files(tmp_path, atlas=atlas)
    job = Job("m", "1", "", files, nan, None, sfd=known_by == "map")
    output = tmp_path / "out.ecsv"
    predict_catalogue(champions.mean_champion(pixels=8), job, tmp_path / "one.csv", output)
    table = QTable.read(output)
    wanted = [line.split(",")[-1] for line in lines]
    wanted[3] = str(A)
    removed = np.array([float(amount or 0) for amount in wanted])
    np.testing.assert_allclose(table["A_r"].value, removed, rtol=1e-6)
    flagged = [not amount for amount in wanted]
    assert ["dust" in flags.split(", ") for flags in table["flags"]] == flagged
    assert ["dust is left in its image" in str(why) for why in table["reason"]] == flagged
    bare = table["D_p"][2].value
    np.testing.assert_allclose(table["D_p"].value, bare * 10 ** (0.4 * removed), 1e-5)


def test_a_catalogue_s_simulated_galaxies_have_no_dust(tmp_path):
    from builders.standin import small_standin
    from peculiar.galaxies.standin.simulation import make_broadband

    make_broadband(tmp_path / "broadband_3.fits", 3, small_standin())
    lines = [
        "path,cz_kms,distance_mpc,ebv",
        "broadband_3.fits,5250,70,0.1",
        "broadband_3.fits,5250,70,",
    ]
    (tmp_path / "one.csv").write_text("\n".join(lines))
    job = Job("m", "1", "", Files(tmp_path), nan, None)
    output = tmp_path / "out.parquet"
    predict_catalogue(champions.mean_champion(pixels=8), job, tmp_path / "one.csv", output)
    table = QTable.read(output)
    assert "unusable" in table["flags"][0]
    assert "is of a simulated galaxy, behind no dust of the Milky Way" in table["reason"][0]
    assert not {"unusable", "dust"} & {*table["flags"][1].split(", ")}
    assert table.meta["dust"] == "none removed"
    galaxy = read_galaxy(tmp_path / "broadband_3.fits", "r")
    placed = predict_galaxy(champions.mean_champion(pixels=8), galaxy, [70.0], 5250.0)
    assert not placed["A_r"].value.any()


def test_units_of_columns_are_converted_and_a_lone_band_is_no_misspelling(tmp_path):
    table = QTable({"path": ["x"], "cz_kms": [5000] * SPEED, "extinction_r": [300] * u.mmag})
    table.write(tmp_path / "one.ecsv")
    ((row,),) = chunks(tmp_path / "one.ecsv", 9)
    np.testing.assert_allclose(row.extinction_mag, [nan, nan, 0.3, nan, nan])
    (tmp_path / "two.csv").write_text("path,cz_kms,extinction\nx,5000,0.1\n")
    with pytest.raises(InputError, match="has a column extinction and none extinction_"):
        next(chunks(tmp_path / "two.csv", 9))


def test_notebooks_give_a_reddening_or_extinctions():
    model = champions.mean_champion(bands=("g", "r"), pixels=8)
    images, cz = np.ones((2, 2, 8, 8)) * BRIGHTNESS, 5000 * SPEED
    table = predict_velocity(images, cz, model, ebv=[100, nan] * u.mmag)
    np.testing.assert_allclose(table["A_g"].value, [0.3303, 0])
    assert ["dust" in flags.split(", ") for flags in table["flags"]] == [False, True]
    table = predict_velocity(images, cz, model, extinction=[0.4, 0.3] * u.mag)
    np.testing.assert_allclose(table["A_r"].value, 0.3)
    assert predict_velocity(images, cz, model).meta["dust"] == "none removed"
    for options, words in [
        ({"ebv": 0.1}, "ebv must be a Quantity in mag"),
        ({"ebv": 0.1 * SPEED}, "ebv is in km / s, not in mag"),
        ({"ebv": -0.1 * u.mag}, "ebv must be from 0 to 5 mag"),
        ({"extinction": [30, 0] * u.mag}, "extinction must be from 0 to 25 mag"),
        ({"ebv": [0.1] * 3 * u.mag}, "ebv must have one value for each of 2 images"),
        ({"extinction": [0.1] * 3 * u.mag}, "extinction must have 2 bands for each of 2 images"),
        ({"ebv": 0 * u.mag, "extinction": [0, 0] * u.mag}, "ebv and extinction say the same"),
    ]:
        with pytest.raises(InputError, match=f"^{words}"):
            predict_velocity(images, cz, model, **options)


class SFDQuery:
    """As dustmaps documents it: made without arguments, called with a SkyCoord, gives E(B-V)."""

    missing = False

    def __init__(self):
        if self.missing:
            raise FileNotFoundError("SFD_dust_4096_ngp.fits")

    def __call__(self, coords):
        assert coords.galactic.b.deg == pytest.approx(coords.icrs.galactic.b.deg)
        return np.float32(0.2 if coords.icrs.dec.deg > 0 else nan)


@pytest.fixture
def maps(monkeypatch):
    package, module = ModuleType("dustmaps"), ModuleType("dustmaps.sfd")
    module.SFDQuery, package.sfd = SFDQuery, module
    monkeypatch.setitem(sys.modules, "dustmaps", package)
    monkeypatch.setitem(sys.modules, "dustmaps.sfd", module)
    load_sfd.cache_clear()
    yield SFDQuery
    load_sfd.cache_clear()


@pytest.mark.usefixtures("maps")
def test_maps_say_what_files_and_rows_do_not(tmp_path):
    own = real(extinction_mag=np.full(5, 0.3), ra_deg=10.0, dec_deg=5.0)
    bare = replace(own, extinction_mag=np.array(nan))
    assert with_sfd(own, "ugriz", nan, nan) is own
    expected = extinction_mag(0.2, BANDS)
    found = with_sfd(bare, "ugriz", nan, nan).extinction_mag
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert with_sfd(bare, "ugriz", 10.0, -5.0) is bare  # the position given, of no value
    assert with_sfd(simulated(), "ugriz", 10.0, 5.0).extinction_mag.ndim == 0
    assert np.isnan(with_sfd(real(), "ugriz", nan, nan).extinction_mag)
    model = champions.mean_champion(**UGRIZ)
    table = predict_real(model, bare, 5000.0, sfd=True)
    np.testing.assert_allclose(table["A_z"].value, 0.2526, rtol=1e-6)
    nsa.cutout(tmp_path / "nsa_1.fits")  # at a declination below 0
    lines = [
        "path,cz_kms,ra,dec,ebv",
        *(f"nsa_1.fits,5000,{at}" for at in ("9,5,", "9,5,0.1", ",,")),
    ]
    (tmp_path / "one.csv").write_text("\n".join(lines))
    job = Job("m", "1", "", Files(tmp_path), nan, None, sfd=True)
    output = tmp_path / "out.ecsv"
    predict_catalogue(champions.mean_champion(pixels=8), job, tmp_path / "one.csv", output)
    table = QTable.read(output)
    np.testing.assert_allclose(table["A_r"].value, [0.457, 0.2285, 0], rtol=1e-6)
    assert ["dust" in flags.split(", ") for flags in table["flags"]] == [False, False, True]


def test_without_dustmaps_or_its_maps_what_to_do_is_said(maps, monkeypatch, tmp_path):
    (tmp_path / "one.csv").write_text("path,cz_kms\nx,5000\n")
    job = Job("m", "1", "", Files(tmp_path), nan, None, sfd=True)
    output, model = tmp_path / "out.ecsv", champions.mean_champion(pixels=8)
    monkeypatch.setattr(maps, "missing", True)
    with pytest.raises(
        InputError, match=r"dustmaps has no maps of SFD: run python -c 'import dust"
    ):
        predict_catalogue(model, job, tmp_path / "one.csv", output)
    monkeypatch.setitem(sys.modules, "dustmaps.sfd", None)
    with pytest.raises(
        InputError, match=r"--dust sfd needs dustmaps, an optional extra: install d"
    ):
        predict_catalogue(model, job, tmp_path / "one.csv", output)
    assert [path.name for path in tmp_path.iterdir()] == ["one.csv"]


def test_a_server_s_clients_remove_it_themselves():
    (served,) = Served(champions.mean_champion(pixels=8)).predict(np.ones((1, 1, 8, 8), np.float32))
    assert "dust" not in served["flags"].split(", ")
