"""The stage `nulls`: a result for every network, real galaxies without renderings."""

import shutil

import pytest
import yaml

from builders.pipeline import tiny_params, write_params
from builders.surveys import MEASURED, make_survey
from peculiar.core.errors import InputError
from peculiar.core.params import load
from peculiar.galaxies.params import Fetch
from peculiar.nulls.params import Nulls
from peculiar.nulls.scenes import KINDS
from peculiar.pipeline import nulls
from peculiar.pipeline.paths import Paths
from peculiar.runs import record
from peculiar.runs.nulls import read_null_tests
from peculiar.training.params import Train


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_every_network_has_its_result_and_the_table(pipeline):
    paths = Paths(pipeline)
    names = [f"{d}-{n}" for d, n in load(Train, paths.params).items()]
    assert sorted(path.stem for path in paths.nulls.glob("*.json")) == sorted(names)
    shown = set()
    for name in names:
        tests = read_null_tests(paths.nulls / f"{name}.json")
        assert tests.run_id == record.read_run(paths.trained(name)).run_id
        assert [test.name for test in tests.scenes] == [*KINDS, "all scenes"]
        assert not tests.not_applicable
        shown.add(tuple(test.name for test in tests.renderings))
    (renderings,) = shown  # the same for all
    assert {"48 raw pixels", "particle mass x 2", "32 neighbours"} <= set(renderings)
    table = (paths.nulls / "table.md").read_text()
    assert all(f"| {test} |" in table for test in (*KINDS, *renderings))
    assert not (pipeline / "data/.nulls").exists()


def test_real_galaxies_and_files_are_not_rendered_again(params_file):
    fetch = load(Fetch, params_file)
    assert nulls.not_applicable(make_survey(), fetch) == ""
    real = make_survey(distances=MEASURED)
    assert "the galaxies are real" in nulls.not_applicable(real, fetch)
    files = fetch.model_copy(update={"source": "files"})
    assert "the images are from files" in nulls.not_applicable(make_survey(), files)


def test_what_is_written_half_is_removed(tmp_path):
    folder = tmp_path / "work"
    (folder / "old").mkdir(parents=True)

    def fail():
        with nulls.scratch(folder) as work:
            assert list(work.iterdir()) == []
            (work / "new").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not folder.exists()


def test_a_network_that_is_not_trained_is_named_at_once(tmp_path, observed_folder):
    params = tiny_params()
    params["train"]["networks"] = ["cnn2"]
    write_params(params, tmp_path)
    shutil.copytree(observed_folder, tmp_path / "data/observe/uniform")
    sections = (load(section, tmp_path / "params.yaml") for section in (Nulls, Train, Fetch))
    with pytest.raises(InputError, match=r"uniform-cnn2/run\.json is missing: run `dvc repro`"):
        nulls.test_networks(*sections, Paths(tmp_path))


def test_the_shipped_sizes_decide(params_file):
    """Three errors of r are within the limit of 0.1."""
    shipped = yaml.safe_load(params_file.read_text())["nulls"]
    assert (shipped["unseen"] - 1) ** -0.5 <= 0.033
