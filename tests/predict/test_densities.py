"""p(D | image) is written with its grid, read back as it was, and refused where it is damaged."""

import sys

import numpy as np
import pytest
from astropy.table import QTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import champions
from builders.pipeline import inside
from builders.standin import small_standin
from builders.surveys import NORMAL
from peculiar.cli.main import main
from peculiar.core.errors import InputError
from peculiar.galaxies.standin.simulation import make_broadband
from peculiar.predict.batch import predict_catalogue
from peculiar.predict.densities import FORMATS, as_qp, describe_grid, read_densities
from peculiar.predict.estimate import predict_images
from peculiar.predict.images import Files
from peculiar.predict.priors import distance_grid, prior_named
from peculiar.predict.rows import Job
from peculiar.predict.tables import write_table
from peculiar.predict.view import View
from peculiar.runs.validity import Validity
from peculiar.velocity.grid import moments

VALIDITY = Validity(distance_mpc=(50, 100), mag_ab={"r": (0, 99)}, half_light_arcsec=(0, 99))
CHAMPIONS = {
    "distributions": {"network": champions.brightness_distribution, "grid_mpc": champions.GRID},
    "distances": {
        "network": lambda images: 70 + champions.brightness(images),
        "validity": VALIDITY,
    },
}


def champion_of(kind, **changes):
    return champions.mean_champion(pixels=32, pixel_scale_arcsec=5.44, **CHAMPIONS[kind] | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A catalogue of three rows, the second without an image."""
    made = tmp_path_factory.mktemp("galaxies")
    make_broadband(made / "broadband_3.fits", 3, small_standin())
    names = ["broadband_3.fits", "gone.fits", "broadband_3.fits"]
    lines = [f"{name},5250,70,{camera}" for camera, name in enumerate(names)]
    (made / "three.csv").write_text("\n".join(["path,cz_kms,distance_mpc,camera", *lines]))
    return made


@pytest.mark.parametrize("kind", CHAMPIONS)
@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("prior", ["uniform", "volume"])
def test_a_catalogue_s_densities_have_its_moments(folder, tmp_path, kind, ending, prior):
    champion, output = champion_of(kind), tmp_path / f"o{ending}"
    job = Job(*("m", "1", "", Files(folder), np.nan, None), prior=prior_named(prior), density=True)
    predict_catalogue(champion, job, folder / "three.csv", output, rows_at_once=2)
    table, grid, p = read_densities(output)
    np.testing.assert_allclose(grid, distance_grid(champion), rtol=1e-12)
    assert np.isnan(p).all(axis=1).tolist() == [False, True, False]
    np.testing.assert_allclose(p[[0, 2]].sum(axis=1), 1)
    D_p, D_error = moments(p, grid)
    # a champion of one distance has a normal error with a uniform prior; a grid rounds it
    close = 2e-3 if kind == "distances" and prior == "uniform" else 1e-5
    np.testing.assert_allclose(D_p, table["D_p"].to_value("Mpc"), rtol=close)
    np.testing.assert_allclose(D_error, table["D_error"].to_value("Mpc"), rtol=close)
    assert {key.lower() for key in table.meta} >= {"d_first", "d_step", "d_cells", "prior"}
    assert table["p_D"].dtype.newbyteorder("=") == np.float32
    if ending == ".fits":
        assert table["p_D"].shape == (3, len(grid))


def test_images_give_the_same_densities(tmp_path):
    champion = champion_of("distributions")
    image = np.random.default_rng(1).random((1, 32, 32), dtype=np.float32)
    views = [View(image), View(None, ("unusable",))]
    table = predict_images(champion, views, 5000.0, density=True)
    plain = predict_images(champion, views, 5000.0)
    assert table.colnames == [*plain.colnames, "p_D"]
    write_table(table, tmp_path / "o.parquet")
    _, _, p = read_densities(tmp_path / "o.parquet")
    np.testing.assert_allclose(p, table["p_D"], rtol=1e-5)
    none = predict_images(champion, [], 5000.0, density=True)
    assert none["p_D"].shape == (0, len(champions.GRID))


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_the_command_writes_densities_of_images(folder, tmp_path, monkeypatch, capsys, form):
    champion = champion_of("distributions")
    monkeypatch.setattr("peculiar.registry.champion.load_champion", lambda *_: champion)
    image = str(folder / "broadband_3.fits")
    output = tmp_path / f"o.{form}"
    with inside(tmp_path):
        main(["predict", image, "--at", "70", "--density", "--output", str(output)])
        assert "p_D" not in capsys.readouterr().out
        with pytest.raises(SystemExit, match="--density is for tables in files: name one with"):
            main(["predict", image, "--at", "70", "--density"])
    table, _, p = read_densities(output)
    assert len(table) == len(p) == 4


def test_a_champion_without_a_grid_is_refused(folder, tmp_path):
    champion = champion_of("distances", validity=None, distances=NORMAL)
    job = Job("m", "1", "", Files(folder), np.nan, None, density=True)
    with pytest.raises(InputError, match="version 1 gives one distance and does not record its"):
        predict_catalogue(champion, job, folder / "three.csv", tmp_path / "o.csv")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(
    rows=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=4),
    first=st.floats(1, 100),
    step=st.floats(0.01, 2),
    ending=st.sampled_from(list(FORMATS)),
)
def test_any_densities_come_back(tmp_path, rows, first, step, ending):
    p = np.array(rows, float)
    with np.errstate(invalid="ignore"):
        p = p / p.sum(axis=1, keepdims=True)  # a row of zeros has none
    grid = first + step * np.arange(3)
    table = QTable({"p_D": p.astype(np.float32)}, meta=describe_grid(grid))
    write_table(table, tmp_path / f"o{ending}")
    _, read_grid, read_p = read_densities(tmp_path / f"o{ending}")
    np.testing.assert_allclose(read_grid, grid, rtol=1e-9)
    np.testing.assert_allclose(read_p, p, rtol=1e-5, atol=1e-7)


GOOD = {"p_D": [[0.25, 0.75], [0.5, 0.5]]}
META = {"D_first": 50.5, "D_step": 1.0, "D_cells": 2}


@pytest.mark.parametrize(
    ("columns", "meta", "message"),
    [
        ({"D_p": [1.0, 2.0]}, META, "has no column p_D: predict it again with --density"),
        ({"p_D": [1.0, 2.0]}, META, "has p_D of one number a row: predict"),
        (GOOD, META | {"D_cells": 3}, "has 2 cells in p_D, which D_first = 50.5, D_step = 1 and"),
        (GOOD, META | {"D_step": -1.0}, "has 2 cells in p_D, which"),
        (GOOD, META | {"D_first": 0.2}, "has 2 cells in p_D, which"),
        (GOOD, META | {"D_step": "wide"}, "has no number D_step in its metadata"),
        (GOOD, {"D_first": 50.5, "D_step": 1.0}, "has no number D_cells in its metadata"),
        ({"p_D": [[0.5, 0.5], [0.5, 0.4]]}, META, r"has p_D in row 1 that is no .*\(sum 0.9\)"),
        ({"p_D": [[1.5, -0.5], [0.5, 0.5]]}, META, "has p_D in row 0 that is no distribution"),
        ({"p_D": [[1.0, np.nan], [0.5, 0.5]]}, META, "has p_D in row 0 that is no distribution"),
    ],
)
def test_what_is_no_density_is_refused(tmp_path, columns, meta, message):
    write_table(QTable(columns, meta=meta), tmp_path / "o.parquet")
    with pytest.raises(InputError, match=message) as stop:
        read_densities(tmp_path / "o.parquet")
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("o.txt", b"", r"o\.txt: unsupported extension: give \.ecsv, \.csv, \.fits, \.parquet"),
        ("gone.fits", None, r"gone\.fits is missing: fix the path"),
        ("o.parquet", b"PAR1", r"o\.parquet cannot be read \("),
        ("o.csv", b"a,b\n1,2\n", r"o\.csv cannot be read \("),
    ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as stop:
        read_densities(tmp_path / name)
    assert "\n" not in str(stop.value)


def test_qp_gives_the_same_probabilities():
    pytest.importorskip("qp", reason="the optional extra qp is not installed")
    p = np.random.default_rng(2).dirichlet(np.ones(50), size=3)
    ensemble = as_qp(p, champions.GRID)
    edges = np.append(champions.GRID - 0.5, champions.GRID[-1] + 0.5)
    np.testing.assert_allclose(np.diff(ensemble.cdf(edges), axis=1), p, atol=1e-12)
    np.testing.assert_allclose(ensemble.pdf(champions.GRID), p / 1.0, rtol=1e-9)
    with pytest.raises(InputError, match=r"row 1 has no p\(D \| image\): leave out such rows"):
        as_qp([[0.5, 0.5], [np.nan, np.nan]], [1.0, 2.0])


def test_without_qp_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "qp", None)
    with pytest.raises(InputError, match=r"as_qp needs qp, an optional extra: install qp-prob"):
        as_qp([[0.5, 0.5]], [1.0, 2.0])
