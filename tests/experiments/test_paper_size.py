"""The CNN rows of Table A2 at the paper's size: what is planned, the tables, and a tiny run."""

import contextlib
import csv

import numpy as np
import pytest
import yaml

from builders.pipeline import tiny_params
from experiments.paper import paper_size, size_shown
from experiments.paper.claims import published
from experiments.paper.paper_size import READINGS, planned
from peculiar.core.params import load, validate
from peculiar.galaxies.params import Fetch
from peculiar.mock.params import Observe
from peculiar.training.params import Train

ALL = list(planned(list(READINGS), ["uniform", "normal"], ["paper"], [4]))


def test_all_cnn_rows_are_planned_once_with_seeds_of_their_own():
    assert len({one.name for one in ALL}) == len(ALL) == 64
    keys = {size_shown.key_of(one) for one in ALL}
    theirs = published().table
    assert keys == {tuple(row[size_shown.KEY]) for row in theirs if "CNN" in row["network"]}
    assert len({one.own_seed for one in ALL}) == 64
    assert {one.dataset for one in ALL} == {"paper-uniform", "paper-normal", "uniform", "normal"}
    of_uniform = [one.row.normalised for one in ALL if one.dataset == "paper-uniform"]
    assert of_uniform == [True] * 8 + [False] * 8  # what the paper leads with comes first


def test_other_recipes_have_the_same_seed_and_change_one_thing(params_file):
    train = load(Train, params_file)
    recipes = list(paper_size.RECIPES)
    of_cnn3 = {
        one.recipe: one
        for one in planned(["paper"], ["uniform"], recipes, [4])
        if one.row.name == "cnn3_Dz"
    }
    assert list(of_cnn3) == recipes
    assert len({one.own_seed for one in of_cnn3.values()}) == 1
    plain = of_cnn3["paper"].spec(train, None)
    shipped = train.specs["cnn3"]
    assert plain == shipped.model_copy(update={"label": "D_z", "normalise": True})
    for recipe, change in paper_size.RECIPES.items():
        assert of_cnn3[recipe].spec(train, None) == plain.model_copy(update=dict(change))
    assert of_cnn3["paper"].spec(train, 3).epochs == 3


@pytest.mark.parametrize("dataset", ["paper-uniform", "normal"])
def test_parameters_are_the_shipped_ones_but_for_the_galaxies(shipped, dataset):
    params = paper_size.parameters(shipped, dataset, 40)
    standin = validate(Fetch, params["fetch"], "fetch").standin
    assert (standin.galaxies, standin.pixels, standin.field_of_view_radii) == (40, 256, 10)
    observe = validate(Observe, params["observe"], "observe")
    assert observe.datasets == (dataset,)
    assert params["observe"] == shipped["observe"] | {"datasets": [dataset]}
    expected = "paper" if dataset.startswith("paper") else "header"
    assert observe.reading(dataset).scale == expected


def results(scale: float) -> size_shown.Found:
    """All rows, each with the published errors times `scale`."""
    theirs = {tuple(row[size_shown.KEY]): row for row in published().table}
    found: size_shown.Found = {}
    for one in ALL:
        row = theirs[size_shown.key_of(one)]
        measures = {metric: scale * float(row[metric]) for metric in ("l1_d_mpc", "l2_d_mpc")}
        zero = dict.fromkeys(("l1_dz_mpc", "l2_dz_mpc", "velocity_rms_kms", "velocity_slope"), 1.0)
        found[one] = {"measures": measures | zero, "history": [9.0, 7.0, 8.0]}
    return found


def test_tables_have_ours_beside_the_published_rows(tmp_path):
    text = "\n".join(size_shown.report(results(1.05), 40))
    line = next(line for line in text.splitlines() if line.startswith("| uniform | yes | D_z | 3-"))
    assert line == (
        "| uniform | yes | D_z | 3-Layer CNN | 4.90 | 5.15 | 5.15 | 6.23 | 6.54 | 6.54 "
        "| 1.05 | 1.05 | 1.05 | 1.05 |"
    )
    assert "As the paper takes its images: 8 of 8 normalised CNN rows" in text
    assert "0 of 8" in "\n".join(size_shown.report(results(1.2), 40))
    assert "| paper | uniform | cnn3 | paper | 6.54 | 7.00 | 2 | 8.00 |" in text
    assert text.count("| least L2(D) [Mpc] |") == 2  # claims of both readings
    assert "not measured" in text  # the ResNets'
    size_shown.write_tables(results(1.0), 40, tmp_path / "out")
    with (tmp_path / "out/table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 64
    assert {(row["best_epoch"], row["last_validation_l2_mpc"]) for row in rows} == {("2", "8.0")}


def test_rows_that_are_not_there_yet_are_left_out(tmp_path):
    one, kept = next(iter(results(1.0).items()))
    text = "\n".join(size_shown.report({one: kept}, 40))
    assert "## Claims" not in text  # they are about the whole table
    assert text.count("| uniform |") == 1
    assert "1 of 1 normalised CNN rows" in text
    size_shown.write_tables({}, 40, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_of_a_seed_are_in_the_order_of_the_published_table():
    found = [(one, kept) for one, kept in results(1.0).items() if one.reading == "files"]
    rows = size_shown.rows_of(reversed(found))
    theirs = published().table
    cnns = theirs[["CNN" in network for network in theirs["network"]]]
    np.testing.assert_allclose(rows.table["l2_d_mpc"], cnns["l2_d_mpc"])


def test_no_process_is_refused(params_file, tmp_path):
    with (
        contextlib.chdir(params_file.parent),
        pytest.raises(SystemExit, match="--processes: 0 processes train nothing: take 1"),
    ):
        paper_size.main([str(tmp_path), str(tmp_path / "out"), "--processes", "0"])


@pytest.mark.slow
def test_a_tiny_run_goes_on_where_it_was(tmp_path, monkeypatch, capfd):
    params = tiny_params("ugriz")
    specs = params["train"]["specs"]
    specs["cnn4"] = specs["cnn2"]
    params["observe"]["readings"] = {
        "paper-uniform": {"scale": "paper", "dimming": "literal", "psf_fwhm_arcsec": None}
    }
    params["observe"]["distances"]["paper-uniform"] = params["observe"]["distances"]["uniform"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paper_size, "CNNS", ["cnn4"])  # four rows of each reading
    command = ["work", "out", "--galaxies", "16", "--epochs", "1", "--distances", "uniform"]
    command += ["--processes", "2"]
    paper_size.main(command)
    assert capfd.readouterr().out.count("s\n") == 8
    assert list((tmp_path / "work/observed").glob("*galaxies")) == []
    gone = next((tmp_path / "work/runs").glob("paper-uniform-cnn4_Dz,*.json"))
    before = gone.read_bytes()
    gone.unlink()
    paper_size.main([*command, "--kept"])
    with (tmp_path / "out/table.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 7
    paper_size.main(command)
    lines = [line for line in capfd.readouterr().out.splitlines() if "Mpc" in line]
    assert [line.split(",")[0] for line in lines] == ["paper-uniform-cnn4_Dz"]

    def numbers(text: bytes) -> list[bytes]:
        return text.split(b'"seconds"')[:1]

    assert numbers(gone.read_bytes()) == numbers(before)  # the same training again
