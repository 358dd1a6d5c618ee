"""The same galaxy has the same numbers and flags, whichever way it is predicted."""

from math import nan

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from builders import champions, nsa
from builders.standin import small_standin
from peculiar.galaxies.formats import read_galaxy
from peculiar.galaxies.galaxy import Galaxy
from peculiar.predict.catalogue import chunks
from peculiar.predict.columns import COLUMNS, EXTINCTION, FLAGS, NUMBERS
from peculiar.predict.estimate import predict_images
from peculiar.predict.files import predict_galaxy, predict_real
from peculiar.predict.images import Files
from peculiar.predict.notebook import predict_velocity
from peculiar.predict.rows import Job, predict_rows
from peculiar.predict.server import Served
from peculiar.predict.units import BRIGHTNESS
from peculiar.predict.view import View, view_galaxy
from peculiar.runs.validity import Validity

SPEED = u.km / u.s
VALIDITY = Validity(distance_mpc=(50, 100), mag_ab={"r": (0, 9)}, half_light_arcsec=(0, 9))
CHAMPIONS = {
    "distances": {},
    "distributions": {"network": champions.brightness_distribution, "grid_mpc": champions.GRID},
}


def champion_of(kind):
    return champions.mean_champion(pixels=16, validity=VALIDITY, **CHAMPIONS[kind])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return nsa.cutout(tmp_path_factory.mktemp("one") / "nsa_1.fits")


def catalogue_row(champion, path, cz_kms, cz_error_kms=30.0):
    catalogue = path.with_name("catalogue.csv")
    cz = "" if np.isnan(cz_kms) else cz_kms
    catalogue.write_text(f"path,cz_kms,cz_error_kms\n{path.name},{cz},{cz_error_kms}\n")
    job = Job("m", "1", "", Files(path.parent), nan, None)
    (rows,) = chunks(catalogue, 9)
    return predict_rows(champion, job, rows).to_pylist()[0]


@pytest.mark.parametrize("kind", CHAMPIONS)
@pytest.mark.parametrize(("cz_kms", "flag"), [(5250, ""), (20000, "distance"), (nan, "no_cz")])
def test_four_ways_agree(path, kind, cz_kms, flag):
    champion, galaxy = champion_of(kind), read_galaxy(path, "r")
    row = catalogue_row(champion, path, cz_kms)
    from_file = predict_real(champion, galaxy, cz_kms, 30.0)[0]
    scale = galaxy.pixel_scale_arcsec * u.arcsec
    images = galaxy.images * BRIGHTNESS
    at = SkyCoord(galaxy.ra_deg, galaxy.dec_deg, unit="deg")  # a file knows it
    options = {"cz_error": 30 * SPEED, "pixel_scale": scale, "position": at}
    notebook = predict_velocity(images, cz_kms * SPEED, champion, **options)[0]
    for name in (name for name in NUMBERS if name in notebook.colnames):
        assert notebook[name].unit == from_file[name].unit == u.Unit(NUMBERS[name].unit)
        np.testing.assert_array_equal(notebook[name].value, from_file[name].value, name)
        np.testing.assert_array_equal(notebook[name].value, row[name], name)
    assert notebook["flags"] == from_file["flags"] == row["flags"]
    assert flag in row["flags"]
    assert ("cz_beyond" in row["flags"]) == (kind == "distributions" and cz_kms == 20000)
    image = view_galaxy(champion, galaxy, 0, nan).image
    (served,) = Served(champion).predict(image[None])
    of_image = {*("saturated", "prior", "brightness", "size", "noise", "psf")}
    assert {name: served[name] for name in ("D_p", "D_error")} == {
        name: row[name] for name in ("D_p", "D_error")
    }
    assert {*served["flags"].split(", ")} & of_image == {*row["flags"].split(", ")} & of_image


def test_files_and_catalogues_see_the_same_noise(tmp_path, params_file):
    """A simulated galaxy's noise is drawn with the number of the row."""
    from peculiar.core.params import load
    from peculiar.galaxies.standin.simulation import make_broadband
    from peculiar.mock.params import Observe

    path = tmp_path / "broadband_3.fits"
    make_broadband(path, 3, small_standin())
    sdss = load(Observe, params_file).instruments["sdss"]
    champion = champions.mean_champion(pixels=32, pixel_scale_arcsec=1.0, instrument=sdss)
    table = predict_galaxy(champion, read_galaxy(path, "r"), [70.0], 5250.0)
    catalogue = tmp_path / "catalogue.csv"
    lines = [f"{path.name},5250,70,{camera}" for camera in range(len(table))]
    catalogue.write_text("\n".join(["path,cz_kms,distance_mpc,camera", *lines]))
    (rows,) = chunks(catalogue, 9)
    job = Job("m", "1", "", Files(tmp_path), nan, None)
    found = predict_rows(champion, job, rows).to_pydict()
    for name in (name for name in NUMBERS if name in table.colnames):
        np.testing.assert_array_equal(table[name].value, found[name], name)
    assert table["flags"].tolist() == found["flags"]


def test_a_bad_image_has_no_numbers_and_a_flag_in_files_and_notebooks():
    champion, images = champion_of("distributions"), np.ones((1, 1, 16, 16), np.float32)
    images[0, 0, 3, 3] = np.nan
    galaxy = Galaxy(0, images, np.array([nan]), "x", pixel_scale_arcsec=0.396)
    tables = (
        predict_real(champion, galaxy, 5000.0),
        predict_velocity(images * BRIGHTNESS, 5000 * SPEED, champion),
    )
    for table in tables:
        assert table["flags"].tolist() == ["nan_pixels"]
        assert all(np.isnan(table[name].value).all() for name in COLUMNS)


def test_every_column_has_unit_description_and_format():
    champion = champion_of("distributions")
    table = predict_images(champion, [View(np.ones((1, 16, 16), np.float32))], 5250.0)
    of_band = [name for name in NUMBERS if name not in EXTINCTION or name == "A_r"]
    assert table.colnames == [*of_band, "frame", "flags"]
    some = {"eta": ".4f", "eta_error": ".4f", "ra": ".5f", "dec": ".5f", "A_r": ".3f"}
    for name, column in ((name, NUMBERS[name]) for name in of_band):
        info = table[name].info
        digits = some.get(name, ".1f")
        assert (info.unit, info.format) == (u.Unit(column.unit), digits)
        assert info.description == column.description
    assert "problems" in table["flags"].info.description
    assert table.meta["training"] == "stand-in"
    empty = predict_images(champion, [], 5250.0)
    assert (len(empty), empty.colnames) == (0, table.colnames)


@pytest.mark.parametrize(
    ("cz", "error", "flag", "numbers"),
    [
        (nan, 0, "no_cz", ["D_p"]),
        (np.inf, 0, "bad_cz", ["D_p"]),
        (3e5, 0, "bad_cz", ["D_p"]),
        (5000, nan, "bad_cz", ["D_p", "D_z", "v_p"]),
        (5000, -1, "bad_cz", ["D_p", "D_z", "v_p"]),
        (5000, 30, "", ["D_p", "D_z", "v_p", "v_hat", "v_low95"]),
    ],
)
def test_a_redshift_that_cannot_be_used_is_flagged(cz, error, flag, numbers):
    champion = champion_of("distributions")
    image = np.random.default_rng(1).random((1, 16, 16), dtype=np.float32)
    table = predict_images(champion, [View(image, ("saturated",))], cz, error)
    known = [name for name in COLUMNS if np.isfinite(table[name].value).all()]
    assert [name for name in ("D_p", "D_z", "v_p", "v_hat", "v_low95") if name in known] == numbers
    flags = table["flags"][0].split(", ")
    assert [f for f in flags if f in ("no_cz", "bad_cz")] == ([flag] if flag else [])
    assert flags == [f for f in FLAGS if f in flags]
    assert "saturated" in flags
