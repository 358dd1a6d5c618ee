"""Which stages an edit of our code makes stale, by `dvc status`; no stage is run."""

import json

import pytest

from builders.pipeline import dvc, inside

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dvc")]

TRAININGS = {"search", "train", "train-best"}
STALE = {
    "cli/main.py": set(),
    "cli/figures.py": set(),
    "predict/estimate.py": set(),
    "predict/figures.py": set(),
    "pipeline/figures.py": {"evaluate"},
    "pipeline/evaluate.py": {"evaluate"},
    "search/params.py": {"search"},
    "search/cluster.py": {"search"},
    # the study then repeats no trial: its identity is the code that a trial imports
    "search/figures.py": {"search"},
    "galaxies/params.py": {"fetch", "nulls"},
    "nulls/scenes.py": {"nulls"},
    "registry/card.py": {"promote"},
    "networks/bodies.py": {*TRAININGS, "evaluate", "nulls", "promote"},
}


def status(folder):
    """What `dvc status` says, without a process for each time."""
    from dvc.repo import Repo

    with inside(folder), Repo() as repo:
        return repo.status()


def stale(folder):
    """Stages with changed code; those that only follow by their data are not among them."""
    return {
        stage.split("@")[0]
        for stage, changes in status(folder).items()
        for change in changes
        if any(dep.startswith("src/") for dep in change.get("changed deps", {}))
    }


def test_nothing_is_stale_after_repro(dvc_folder):
    assert stale(dvc_folder) == set()


def test_status_is_that_of_the_command(dvc_folder):
    path = dvc_folder / "src/peculiar/nulls/scenes.py"
    text = path.read_text()
    path.write_text(f"{text}# edited\n")
    try:
        said = status(dvc_folder)
        assert said == json.loads(dvc(dvc_folder, "status", "--json").stdout)
        assert said
    finally:
        path.write_text(text)


@pytest.mark.parametrize("name", STALE)
def test_an_edited_docstring_makes_only_its_own_stages_stale(dvc_folder, name):
    path = dvc_folder / "src/peculiar" / name
    text = path.read_text()
    path.write_text(text.replace('"""', '"""Edited. ', 1))
    try:
        assert stale(dvc_folder) == STALE[name]
    finally:
        path.write_text(text)
