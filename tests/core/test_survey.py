"""What images have in common is read as it was written, also by earlier versions."""

import shutil

import pytest

from builders.surveys import MEASURED, NORMAL, UNIFORM, make_survey, survey_meta
from peculiar.core.dataset import OBSERVED_COLUMNS, TABLE, Observed, read_table, write_table
from peculiar.core.errors import InputError
from peculiar.core.params import validate
from peculiar.core.survey import Survey

VOLUME = {"distribution": "volume", "min_mpc": 50, "max_mpc": 100}


@pytest.mark.parametrize("distances", [UNIFORM, NORMAL, VOLUME, MEASURED])
def test_a_survey_comes_back_from_json(distances):
    survey = make_survey(distances=distances)
    assert Survey.model_validate_json(survey.model_dump_json()) == survey
    assert survey.distribution == distances["distribution"]
    assert survey.measured == (distances is MEASURED)
    ends = (50, 100) if "max_mpc" in distances else None
    assert survey.range_mpc == ends
    assert survey.sigma_z_mpc == pytest.approx(400 / 70)


def test_tables_before_the_survey_are_read(tmp_path, observed_folder):
    """They had the law's name and range beside the law, and no pixels."""
    folder = rewritten(observed_folder, tmp_path, distribution="uniform", range_mpc=[50, 100])
    table = read_table(folder, OBSERVED_COLUMNS)
    del table.meta["pixels"]
    replace(table, folder)
    assert Observed.read(folder).survey == make_survey()


def test_runs_before_the_survey_are_read_as_far_as_they_say():
    before = survey_meta() | {"distribution": "volume", "range_mpc": [50, 100]}
    del before["distances"]
    survey = Survey.model_validate(before)
    assert (survey.distribution, survey.range_mpc, survey.measured) == ("volume", (50, 100), False)
    assert Survey.model_validate(before | {"distribution": "measured"}).measured


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": ()}, "bands: .*at least 1 item"),
        ({"bands": ("g", "g")}, "a band is listed twice in gg"),
        ({"bands": ("g", "q")}, r"bands\.1: "),
        ({"H0_kms_mpc": 0}, "H0_kms_mpc: "),
        ({"sigma_v_kms": -3}, "sigma_v_kms: "),
        ({"pixel_scale_arcsec": float("nan")}, "pixel_scale_arcsec: "),
        ({"dimming": "cubic"}, "dimming: "),
        ({"colour": "red"}, "colour: unknown key"),
        ({"distances": UNIFORM | {"max_mpc": 20}}, "min_mpc must be below max_mpc"),
        ({"distances": NORMAL | {"min_mpc": 80}}, "min_mpc must be below mean_mpc"),
    ],
)
def test_what_no_survey_can_be_is_refused(changes, message):
    with pytest.raises(InputError, match=message) as refusal:
        validate(Survey, survey_meta() | changes, "x")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("changes", [{"pixels": 64}, {"bands": ["g"]}])
def test_a_table_that_is_not_of_its_images_is_refused(tmp_path, observed_folder, changes):
    folder = rewritten(observed_folder, tmp_path, **changes)
    with pytest.raises(InputError, match=r"table\.ecsv states images .* but the shards hold \(2, "):
        Observed.read(folder)


def rewritten(observed_folder, tmp_path, **changes):
    """A copy of an observed dataset with changes of its table's meta."""
    folder = shutil.copytree(observed_folder, tmp_path / "changed")
    table = read_table(folder, OBSERVED_COLUMNS)
    table.meta |= changes
    replace(table, folder)
    return folder


def replace(table, folder):
    (folder / TABLE).unlink()
    write_table(table, folder, OBSERVED_COLUMNS)
