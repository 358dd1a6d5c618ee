"""Readings of the paper: their parameters, their table, and a tiny run that is taken up again."""

import contextlib
import csv
from itertools import combinations

import pytest
import yaml

from builders.pipeline import tiny_params
from experiments.paper import reading_shown, which_reading
from experiments.paper.which_reading import Reading, parameters, raw_folder, readings
from peculiar.core.params import load, validate
from peculiar.galaxies.params import Fetch
from peculiar.mock.params import Observe
from peculiar.training.params import Train

PAPER, OURS = readings()[:2]


def test_readings_have_names_of_their_own_and_cross_what_the_images_depend_on():
    names = [one.name for one in readings()]
    assert len(set(names)) == len(names) == 20
    assert names[0] == "taken as 84.4 kpc, literal, cubic"
    assert names[1] == "own frame, physical, PSF"
    assert "own frame, physical, PSF, sizes scatter x 0.5" in names
    assert "taken as 84.4 kpc, literal, cubic, batches of 64" in names
    plain = {(one.frame, one.dimming, one.resampling) for one in readings()}
    assert len(plain) == 3 * 2 * 2


def test_each_reading_has_parameters_of_its_own(shipped):
    made = {}
    for one in readings():
        params = parameters(shipped, one.images, 40)
        standin = validate(Fetch, params["fetch"], "fetch").standin
        observe = validate(Observe, params["observe"], "observe")
        assert (standin.galaxies, standin.pixels) == (40, 256)
        assert (standin.field_of_view_radii is None) == (one.frame == "84.4 kpc in truth")
        assert (observe.scale == "paper") == (one.frame == "taken as 84.4 kpc")
        assert (observe.psf_fwhm_arcsec is None) == (one.resampling == "cubic")
        assert (observe.dimming, observe.split.by) == (one.dimming, one.split_by)
        made[one.images] = (standin, observe)
    for one, other in combinations(made, 2):
        assert made[one] != made[other]
    assert shipped["observe"]["scale"] == "header"  # a copy is changed


def test_raw_images_are_shared_by_readings_of_the_same_stars_and_frames(shipped, tmp_path):
    for one, other in combinations(readings(), 2):
        folders = {raw_folder(tmp_path, reading, 40) for reading in (one, other)}
        same = parameters(shipped, one, 40)["fetch"] == parameters(shipped, other, 40)["fetch"]
        assert (len(folders) == 1) == same
    assert len({raw_folder(tmp_path, one, 40) for one in readings()}) == 4


def test_the_published_rows_are_those_of_table_a2():
    rows = reading_shown.published()
    assert rows["cnn3"]["l2_d_mpc"] == 6.227
    assert rows["cnn2"]["l1_dz_mpc"] == 7.196
    assert rows["cnn3"]["velocity_rms_kms"] == pytest.approx(435.89)


def test_the_table_has_means_over_seeds_beside_the_paper():
    found = dict.fromkeys(reading_shown.SHOWN, 6.0)
    results = {(PAPER.name, "cnn3"): {4: found, 5: dict.fromkeys(found, 7.0)}}
    lines = list(reading_shown.table_lines(results, 40))
    row = next(line for line in lines if PAPER.name in line)
    assert row.startswith("| | taken as 84.4 kpc, literal, cubic | 2 | 6.50 ± 0.71 |")
    assert row.endswith("| 1.04 |")
    assert any("cnn3 | **the paper, Table A2** |" in line for line in lines)


def test_a_reading_that_is_not_there_is_refused(params_file, tmp_path):
    with (
        contextlib.chdir(params_file.parent),
        pytest.raises(SystemExit, match="--only: no reading has that name, take some of: taken"),
    ):
        which_reading.main([str(tmp_path), str(tmp_path / "out"), "--only", "own"])


@pytest.mark.slow
def test_a_tiny_run_is_taken_up_again(tmp_path, monkeypatch):
    params = tiny_params()
    params["train"]["networks"] = ["cnn2", "cnn3"]
    params["train"]["specs"]["cnn3"] = params["train"]["specs"]["cnn2"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(which_reading, "PIXELS", 48)
    command = ["work", "out", "--galaxies", "16", "--epochs", "1", "--seeds", "4", "--only"]
    which_reading.main([*command, PAPER.name, f"{PAPER.name}, batches*"])
    # raw images stay, observed ones go
    raw = raw_folder(tmp_path / "work", Reading(), 16) / "data/fetch"
    assert (raw / "table.ecsv").exists()
    assert list((tmp_path / "work/observed").iterdir()) == []
    assert (tmp_path / "out/frames.png").exists()

    def not_again(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(which_reading, "train_and_judge", not_again)
    which_reading.main([*command, f"{PAPER.name}*batches*", PAPER.name])
    with (tmp_path / "out/table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["reading"] for row in rows[:2]] == ["the paper, Table A2"] * 2
    assert sorted((row["reading"], row["network"]) for row in rows[2:]) == [
        (reading, network)
        for reading in (PAPER.name, f"{PAPER.name}, batches of 64")
        for network in ("cnn2", "cnn3")
    ]
    # other parameters are no reason to mix results
    params["observe"]["sigma_v_kms"] = 300
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(SystemExit, match="was made with other parameters, data or code"):
        which_reading.main([*command, PAPER.name])


def test_the_recipe_is_the_paper_s_but_for_the_batch(params_file):
    train = load(Train, params_file)
    of_64 = next(one for one in readings() if one.batch_size == 64)
    for one in which_reading.trainings(train, of_64, [4, 5], None):
        expected = train.specs[one.network].model_copy(update={"batch_size": 64})
        assert one.spec == expected
        assert (one.spec.epochs, one.spec.label, one.spec.normalise) == (20, "D_z", True)
