"""Outputs never replace an input, or an image."""

import os
import re

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from builders.standin import small_standin
from peculiar.cli.main import main
from peculiar.galaxies.standin.simulation import make_broadband


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An image, a catalogue of it, and a table that is no input."""
    monkeypatch.chdir(tmp_path)
    make_broadband(tmp_path / "broadband_0.fits", 0, small_standin())
    (tmp_path / "c.csv").write_text("id,cz_kms,distance_mpc\n0,5250,75\n")
    Table({"distance_mpc": [50.0, 100], "density": [1.0, 1]}).write(tmp_path / "prior.csv")
    Table({"NSAID": [1]}).write(tmp_path / "atlas.fits")
    os.link(tmp_path / "c.csv", tmp_path / "linked.csv")
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "output", "what"),
    [
        (["broadband_0.fits", "--at", "60"], "broadband_0.fits", "is an input"),
        (["broadband_0.fits", "--at", "60"], "./broadband_0.fits", "is an input"),
        (["c.csv"], "c.csv", "is an input"),
        (["c.csv"], "linked.csv", "is an input"),
        (["c.csv"], "broadband_0.fits", "holds an image"),
        (["c.csv", "--prior", "prior.csv"], "prior.csv", "is an input"),
        (["c.csv", "--atlas", "atlas.fits"], "atlas.fits", "is an input"),
    ],
)
def test_predict_keeps_its_inputs_and_all_images(folder, arguments, output, what):
    before = contents(folder)
    reason = rf"--output {re.escape(output.removeprefix('./'))} {what}, which would be lost: name"
    with pytest.raises(SystemExit, match=reason):
        main(["predict", *arguments, "--output", output])
    assert contents(folder) == before


def test_an_earlier_table_may_be_replaced(folder):
    """The command goes on, to the missing registry."""
    Table({"D_p": [60.0]}).write(folder / "out.fits")
    (folder / "out.csv").write_text("no table")
    for output in ("out.fits", "out.csv"):
        with pytest.raises(SystemExit) as stopped:
            main(["predict", "c.csv", "--output", output])
        assert "lost" not in str(stopped.value)


def test_stand_ins_replace_stand_ins_alone(folder, capsys):
    main(["standin", str(folder), "--pixels", "16"])
    assert "wrote" in capsys.readouterr().out
    fits.PrimaryHDU(np.ones((4, 4))).writeto(folder / "broadband_1.fits")
    before = contents(folder)
    reason = "broadband_1.fits is no stand-in and would be lost: name another folder"
    with pytest.raises(SystemExit, match=reason):
        main(["standin", str(folder), "--galaxies", "2", "--pixels", "16"])
    assert contents(folder) == before
