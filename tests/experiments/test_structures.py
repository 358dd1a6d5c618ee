"""Galaxies in structures: one distance, like looks, splits; a tiny run is taken up again."""

import contextlib

import astropy.units as u
import numpy as np
import pytest
import yaml
from astropy.table import QTable

from builders.pipeline import tiny_params
from experiments.paper import structures as structures_of_galaxies
from experiments.paper.structures import SETTINGS, Setting, clustered_table, structures
from peculiar.core.params import validate
from peculiar.mock.params import Observe

ALIKE = Setting(10, 0.9)


@pytest.fixture
def galaxies():
    rng = np.random.default_rng(1)
    table = QTable({"id": np.arange(200) + 7})
    table["absolute_mag"] = rng.normal(size=(200, 5)) * u.mag
    table.meta["bands"] = list("ugriz")
    return table


def colour(galaxies):
    return (galaxies["absolute_mag"][:, 1] - galaxies["absolute_mag"][:, 3]).to_value(u.mag)


def table_of(shipped, galaxies, setting):
    observe = validate(Observe, shipped["observe"], "observe")
    return clustered_table(observe, observe.distances["uniform"], galaxies, 4, setting)


def spread_within(values, structure):
    return np.mean([values[structure == one].std() for one in np.unique(structure)])


def test_structures_have_their_members_and_are_as_alike_as_asked(galaxies):
    rng = np.random.default_rng(2)
    seen = [structures(colour(galaxies), Setting(10, likeness), rng) for likeness in (0, 0.9, 1)]
    for structure in seen:
        assert (np.bincount(structure) == 10).all()
    random, alike, same = (spread_within(colour(galaxies), structure) for structure in seen)
    assert same < alike < 0.7 * random


@pytest.mark.parametrize("split_by", ["galaxy", "structure"])
def test_a_structure_has_one_distance_and_many_velocities(shipped, galaxies, split_by):
    table = table_of(shipped, galaxies, Setting(10, 0.9, split_by))
    D = table["distance_mpc"].to_value(u.Mpc).reshape(-1, 4)
    _, structure, members = np.unique(D[:, 0], return_inverse=True, return_counts=True)
    assert (members == 10).all()
    for one in range(len(members)):
        assert (np.ptp(D[structure == one], axis=0) == 0).all()
    assert len(np.unique(D[0])) == 4  # each view is another structure
    v = table["velocity_kms"].to_value(u.km / u.s)
    assert len(np.unique(v)) == len(v)
    D_z = table["distance_z_mpc"].to_value(u.Mpc)
    np.testing.assert_allclose(D_z, D.ravel() + v / 70)
    split = np.asarray(table["split"]).reshape(-1, 4)
    assert (split == split[:, :1]).all()  # views stay together
    kinds = [len(np.unique(split[structure == one])) for one in range(len(members))]
    assert (max(kinds) == 1) == (split_by == "structure")
    assert set(split.ravel()) == {"train", "validation", "test"}


def test_without_structures_it_is_the_table_of_the_pipeline(shipped, galaxies):
    table = table_of(shipped, galaxies, Setting())
    assert len(np.unique(table["distance_mpc"])) == len(table)


@pytest.mark.slow
def test_a_tiny_run_is_taken_up_again(tmp_path, monkeypatch):
    params = tiny_params("ugriz")
    params["train"]["specs"]["cnn3"] = params["train"]["specs"]["cnn2"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setattr(
        structures_of_galaxies, "SETTINGS", {"none": Setting(), "alike": Setting(4, 0.9)}
    )
    command = ["work", "out", "--galaxies", "16", "--use", "14", "--epochs", "1", "--seeds", "4"]
    with contextlib.chdir(tmp_path):
        structures_of_galaxies.main(command)
        text = (tmp_path / "out/structures.md").read_text()
        assert [line.split(" | ")[0] for line in text.splitlines()[2:4]] == ["| none", "| alike"]

        def not_again(*_, **__):
            raise AssertionError("trained again")

        monkeypatch.setattr(structures_of_galaxies, "train_and_judge", not_again)
        structures_of_galaxies.main(command)
        assert (tmp_path / "out/structures.md").read_text() == text
        with pytest.raises(SystemExit, match=r"--use: .* has 16 galaxies, not 17: take fewer"):
            structures_of_galaxies.main([*command, "--use", "17"])


def test_settings_differ_in_one_thing_from_one_to_the_next():
    members = [(one.members, one.likeness, one.split_by) for one in SETTINGS.values()]
    assert members == [
        (1, 0, "galaxy"),
        (10, 0, "galaxy"),
        (10, 0.9, "galaxy"),
        (10, 0.9, "structure"),
    ]
