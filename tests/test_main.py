import subprocess
import sys

import pytest
from astropy.table import QTable
from tiny import ROOT, inside

from peculiar.__main__ import main
from peculiar.standin import StandIn, make_broadband

pytestmark = pytest.mark.xdist_group("pipeline")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "broadband_5.fits"
    make_broadband(path, 5, 7, StandIn(pixels=32, particle_mass_msun=2e7, log10_mass_max=10.5))
    return path


def test_predict_prints_and_writes_the_same_table(pipeline, file, tmp_path, capsys):
    output = tmp_path / "out.ecsv"
    with inside(pipeline):
        main(["predict", str(file), "--at", "60", "90", "--cz", "5000", "--output", str(output)])
    printed = capsys.readouterr().out
    assert "champion version 1, bands griz" in printed
    table = QTable.read(output)
    assert len(table) == 8
    assert f"{table['D_p'][0].value:.1f}" in printed
    assert str(table["v_hat"].unit) == "km / s"


def test_place_draws_a_picture(pipeline, file, tmp_path):
    output = tmp_path / "galaxy.png"
    with inside(pipeline):
        main(["place", str(file), "--bands", "gi", "--at", "50", "90", "--output", str(output)])
    assert output.read_bytes().startswith(b"\x89PNG")


def test_standin_writes_files(pipeline, tmp_path):
    with inside(pipeline):
        main(["standin", str(tmp_path / "new"), "--galaxies", "2"])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "broadband_0.fits", "broadband_1.fits",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "gone.fits", "--at", "60"], r"gone\.fits is missing"),
        (["predict", "x.fits", "--at", "-1"], r"--at -1: a distance must be positive"),
        (["predict", "x.fits", "--at", "nan"], r"--at nan: a distance must be positive"),
        (["predict", "x.fits", "--at", "1", "--output", "a.txt"], r"--output a\.txt: end its name"),
        (["place", "x.fits", "--bands", "gq", "--output", "a.png"], r"--bands gq: take letters"),
        (["predict", "x.fits", "--at", "1", "--output", "no/a.csv"], "make the folder no first"),
        (["predict", "x.fits", "--at", "1", "--cz", "nan"], r"--cz nan: give a speed in km/s"),
        (["place", "x.fits", "--output", "a.gif"], r"--output a\.gif: end its name in \.png"),
        (["standin", "x", "--galaxies", "0"], r"--galaxies 0: ask for at least one"),
        (["standin", "x", "--seed", "-1"], r"--seed -1: a seed must not be negative"),
    ],
)
def test_faults_are_one_sentence(pipeline, arguments, message):
    with inside(pipeline), pytest.raises(SystemExit, match=message) as stop:
        main(arguments)
    assert "\n" not in str(stop.value)


def test_cameras_are_checked(pipeline, file, tmp_path):
    output = str(tmp_path / "a.png")
    with inside(pipeline), pytest.raises(SystemExit, match="has cameras 0 to 3"):
        main(["place", str(file), "--camera", "4", "--output", output])


@pytest.mark.slow
def test_the_installed_command_answers(tmp_path):
    command = [sys.executable, "-m", "peculiar", "place", "gone.fits", "--output", "a.png"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "peculiar: gone.fits is missing: fetch it, or mend the path\n"
    assert list(tmp_path.iterdir()) == []
