import argparse
import subprocess
import sys

import pytest
from astropy.table import QTable

from builders import champions, nsa
from builders.pipeline import ROOT, inside
from builders.standin import small_standin
from peculiar.cli import predict as predict_command
from peculiar.cli.main import main
from peculiar.core.cosmography import COSMOLOGIES
from peculiar.core.frames import FRAMES
from peculiar.galaxies.standin.simulation import make_broadband
from peculiar.predict.columns import EXTINCTION, USED

pytestmark = pytest.mark.xdist_group("pipeline")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "broadband_5.fits"
    make_broadband(path, 5, small_standin())
    return path


def test_predict_prints_and_writes_the_same_table(pipeline, file, tmp_path, capsys):
    output = tmp_path / "out.ecsv"
    with inside(pipeline):
        main(["predict", str(file), "--at", "60", "90", "--cz", "5000", "--output", str(output)])
    printed = capsys.readouterr().out
    assert "champion version 1, trained on stand-in, bands griz" in printed
    table = QTable.read(output)
    assert len(table) == 8
    assert f"{table['D_p'][0].value:.1f}" in printed
    assert set(USED) < set(table.colnames)
    assert set(USED).isdisjoint(printed.split())  # what is printed fits a terminal
    assert str(table["v_hat"].unit) == "km / s"


def test_predict_leaves_a_real_galaxy_where_it_is(pipeline, file, tmp_path, capsys):
    real = nsa.parent(tmp_path / f"{nsa.SOUTH}-parent-40.fits.gz")
    catalogue = str(nsa.write_catalogue(tmp_path / "nsa_v0_1_2.fits"))
    output = tmp_path / "out.ecsv"
    with inside(pipeline):
        main(["predict", str(real), "--atlas", catalogue, "--output", str(output)])
        printed = capsys.readouterr().out
        assert "errors were measured on its training data (stand-in) and do not" in printed
        table = QTable.read(output)
        assert table["D_flow"][0].to_value("Mpc") == pytest.approx(
            299792.458 * 0.0001 / 70, rel=1e-4
        )
        ends = ["v_low68", "v_high68", "v_low95", "v_high95"]
        assert table.colnames[2:] == [
            *(name for name in table.colnames if name in USED or name in EXTINCTION),
            "D_p",
            "D_error",
            "D_z",
            "eta",
            "eta_error",
            "v_p",
            "v_hat",
            "v_error",
            *ends,
            "frame",
            "flags",
            "D_flow",
        ]
        assert "placed_at" not in table.colnames
        for arguments, message in [
            ([str(real), "--atlas", catalogue, "--at", "60"], "real galaxy, .* drop --at"),
            ([str(file)], "simulated galaxy: give its distances with --at"),
            (
                [str(file), "--at", "60", "--ebv", "0.1"],
                "simulated .*, behind no dust: drop --ebv",
            ),
            (
                [str(file), "--at", "60", "--dust", "sfd"],
                "simulated .*, behind no dust: drop --dust",
            ),
            ([str(real)], "catalogue"),
        ]:
            with pytest.raises(SystemExit, match=message):
                main(["predict", *arguments])
        cutout = nsa.cutout(tmp_path / "nsa_1.fits")
        with pytest.raises(SystemExit, match=r"of a real galaxy, which cannot be moved"):
            main(["place", str(cutout), "--bands", "r", "--output", str(tmp_path / "a.png")])


@pytest.mark.parametrize(
    ("source", "told"),
    [("NASA-Sloan Atlas", False), ("stand-in, seen with sdss", True), ("Illustris", True)],
)
def test_a_champion_is_warned_of_unless_trained_on_the_atlas(
    pipeline, tmp_path, capsys, monkeypatch, source, told
):
    """Whether it has seen noise does not matter: its errors hold for what it was trained on."""
    cutout = nsa.cutout(tmp_path / "nsa_1.fits")
    champion = champions.mean_champion(source=source, pixels=16)
    monkeypatch.setattr("peculiar.registry.champion.load_champion", lambda *_: champion)
    with inside(pipeline):
        main(["predict", str(cutout)])
    warned = f"({source}) and do not hold for real images: see docs/results/real_galaxies"
    assert (warned in capsys.readouterr().out) == told


def test_predict_removes_dust_that_it_is_told_of(pipeline, tmp_path, monkeypatch):
    cutout, output = nsa.cutout(tmp_path / "nsa_1.fits"), tmp_path / "out.ecsv"
    champion = champions.mean_champion(pixels=16)
    monkeypatch.setattr("peculiar.registry.champion.load_champion", lambda *_: champion)
    found = {}
    with inside(pipeline):
        for ebv in ([], ["--ebv", "0"], ["--ebv", "0.1"]):
            main(["predict", str(cutout), "--output", str(output), *ebv])
            found[" ".join(ebv)] = QTable.read(output)
        (tmp_path / "one.csv").write_text("path,cz_kms\nnsa_1.fits,5000\n")
        given = [str(tmp_path / "one.csv"), "--output", str(output), "--ebv", "0.1"]
        with pytest.raises(SystemExit, match="--ebv is a column of a catalogue: ebv"):
            main(["predict", *given])
    assert ["dust" in table["flags"][0] for table in found.values()] == [True, False, False]
    unknown, none, some = (table["D_p"][0].value for table in found.values())
    assert unknown == none
    assert some / none == pytest.approx(10 ** (0.4 * 0.2285), rel=1e-5)  # of the brightness
    assert [table["A_r"][0].value for table in found.values()] == [0, 0, pytest.approx(0.2285)]


@pytest.mark.parametrize(
    "options",
    [["--frame", "cmb"], ["--ra", "10", "--dec", "20"], ["--frame", "lg", "--cz", "5000"]],
)
def test_a_simulated_galaxy_has_no_place_on_the_sky(pipeline, file, options):
    words = r"broadband_5\.fits is of a simulated galaxy, .*: drop --frame, --ra and --dec$"
    with inside(pipeline), pytest.raises(SystemExit, match=words):
        main(["predict", str(file), "--at", "60", *options])


def test_an_error_or_a_frame_of_no_redshift_is_refused(pipeline, file, tmp_path, monkeypatch):
    words = r"broadband_5\.fits has no redshift: give --cz too, or drop --cz-error$"
    with inside(pipeline), pytest.raises(SystemExit, match=words):
        main(["predict", str(file), "--at", "60", "--cz-error", "30"])
    cutout = nsa.cutout(tmp_path / "nsa_1.fits")
    champion = champions.mean_champion(pixels=16)
    monkeypatch.setattr("peculiar.registry.champion.load_champion", lambda *_: champion)
    words = r"redshift in .*nsa_1\.fits is known: give --cz too, or drop --frame$"
    with inside(pipeline), pytest.raises(SystemExit, match=words):
        main(["predict", str(cutout), "--frame", "cmb"])
    with inside(pipeline):
        main(["predict", str(cutout), "--frame", "cmb", "--cz", "5000"])


def test_predict_takes_another_version_than_the_champion(pipeline, file, tmp_path, capsys):
    with inside(tmp_path):
        store = ["--store", str(pipeline / "mlruns"), "--at", "60"]
        main(["predict", str(file), *store, "--model", "champion-uniform-stand-in"])
        assert capsys.readouterr().out.startswith("version 1, trained on stand-in, bands griz")
        with pytest.raises(SystemExit, match="has no version '7': take one of 1, champion"):
            main(["predict", str(file), *store, "--model", "7"])


def test_predict_names_both_sets_of_bands(pipeline, tmp_path):
    cutout = nsa.cutout(tmp_path / "nsa_1.fits")
    words = r"nsa_1\.fits has the bands r, but the champion or --bands requires"
    with inside(pipeline), pytest.raises(SystemExit, match=words):
        main(["predict", str(cutout)])


def test_place_draws_a_picture(pipeline, file, tmp_path):
    output = tmp_path / "galaxy.png"
    with inside(pipeline):
        main(["place", str(file), "--bands", "gi", "--at", "50", "90", "--output", str(output)])
    assert output.read_bytes().startswith(b"\x89PNG")


def test_standin_writes_files(pipeline, tmp_path):
    with inside(pipeline):
        main(["standin", str(tmp_path / "new"), "--galaxies", "2"])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "broadband_0.fits",
        "broadband_1.fits",
    ]


def test_inspect_prints_a_block_a_file_and_draws_them(file, tmp_path, capsys):
    picture = tmp_path / "galaxies.png"
    with inside(ROOT):
        main(["inspect", str(file), str(file), "--png", str(picture)])
    lines = capsys.readouterr().out.splitlines()
    assert lines.count(str(file)) == 2
    assert lines.count("  layout            sunrise, a stand-in made by peculiar") == 2
    assert lines[-1] == f"wrote {picture}"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_inspect_takes_redshifts_and_magnitudes_from_the_atlas_catalogue(tmp_path, capsys):
    path = nsa.parent(tmp_path / f"{nsa.SOUTH}-parent-40.fits.gz")
    catalogue = nsa.write_catalogue(tmp_path / "nsa_v0_1_2.fits")
    picture = tmp_path / "atlas.png"
    with inside(ROOT):
        main(["inspect", str(path), "--atlas", str(catalogue), "--png", str(picture)])
    printed = capsys.readouterr().out
    assert "  galaxy            13\n" in printed
    assert "  other filters     2: NUV FUV\n" in printed
    assert "  flow redshift     0.000100\n" in printed
    assert f"  {'0 stated':<18}" + "   22.500" * 5 in printed


def test_inspect_prints_the_good_files_before_a_damaged_one(file, tmp_path, capsys):
    damaged = tmp_path / "broadband_6.fits"
    damaged.write_bytes(file.read_bytes()[:-2880])
    with inside(ROOT), pytest.raises(SystemExit, match=r"broadband_6\.fits is truncated") as stop:
        main(["inspect", str(file), str(damaged)])
    assert "\n" not in str(stop.value)
    assert capsys.readouterr().out.startswith(str(file))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "gone.fits"], r"gone\.fits is missing"),
        (["inspect", "README.md"], r"README\.md is not a FITS file"),
        (
            ["inspect", "x.fits", "--png", "a.jpg"],
            r"--png a\.jpg: unsupported extension: use \.png or \.pdf",
        ),
        (["inspect", "x.fits", "--png", "no/a.png"], r"--png no/a\.png: make the folder no first"),
        (["inspect", "x.fits", "--atlas", "none.fits"], r"none\.fits is missing"),
    ],
)
def test_faults_of_inspect_are_one_sentence(arguments, message):
    with inside(ROOT), pytest.raises(SystemExit, match=message) as stop:
        main(arguments)
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "gone.fits", "--at", "60"], r"gone\.fits is missing"),
        (["predict", "x.fits", "--at", "-1"], r"--at -1: a distance must be positive and finite"),
        (["predict", "x.fits", "--at", "nan"], r"--at nan: a distance must be positive and finite"),
        (
            ["predict", "x.fits", "--at", "1", "--output", "a.txt"],
            r"--output a\.txt: unsupported extension: use",
        ),
        (
            ["place", "x.fits", "--bands", "gq", "--output", "a.png"],
            r"--bands gq: use letters of ugriz",
        ),
        (["predict", "x.fits", "--at", "1", "--output", "no/a.csv"], "make the folder no first"),
        (["predict", "x.fits", "--at", "1", "--cz", "nan"], r"--cz nan: give a speed in km/s"),
        (["predict", "x.fits", "--ra", "400", "--dec", "1"], r"--ra 400: give degrees from 0 to"),
        (["predict", "x.fits", "--ra", "4", "--dec", "-91"], r"--dec -91: give degrees from -90"),
        (["predict", "x.fits", "--ebv", "6"], r"--ebv 6: give magnitudes from 0 to 5"),
        (["predict", "x.fits", "--ra", "4"], r"--ra and --dec make one position: give both"),
        (
            ["place", "x.fits", "--output", "a.gif"],
            r"--output a\.gif: unsupported extension: use \.png",
        ),
        (["standin", "x", "--galaxies", "0"], r"--galaxies 0: ask for at least one"),
        (["standin", "x", "--seed", "-1"], r"--seed -1: a seed must not be negative"),
        (["standin", "x", "--pixels", "4"], r"standin.pixels: .* greater than or equal to 16"),
        (["standin", "x", "--field-of-view", "0"], r"standin.field_of_view_kpc: .* greater than 0"),
    ],
)
def test_faults_are_one_sentence(pipeline, arguments, message):
    with inside(pipeline), pytest.raises(SystemExit, match=message) as stop:
        main(arguments)
    assert "\n" not in str(stop.value)


def test_frames_and_laws_are_those_of_the_package():
    """The command names them itself, since `--help` does not wait for numpy."""
    commands = argparse.ArgumentParser().add_subparsers()
    predict_command.add(commands)
    offered = {action.dest: action.choices for action in commands.choices["predict"]._actions}
    assert offered["frame"] == FRAMES
    assert offered["cosmology"] == COSMOLOGIES


def test_cameras_are_checked(pipeline, file, tmp_path):
    output = str(tmp_path / "a.png")
    with inside(pipeline), pytest.raises(SystemExit, match=r"--camera 4: .* has cameras 0 to 3"):
        main(["place", str(file), "--camera", "4", "--output", output])


@pytest.mark.slow
def test_the_installed_command_answers(tmp_path):
    command = [sys.executable, "-m", "peculiar", "place", "gone.fits", "--output", "a.png"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "peculiar: gone.fits is missing: check the path\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_the_metadata_of_several_files_are_of_all(pipeline, tmp_path, monkeypatch, names):
    nsa.cutout(tmp_path / "a.fits")
    nsa.cutout(tmp_path / "b.fits", RA=None, DEC=None)  # its redshift stays the Sun's
    champion = champions.mean_champion(pixels=16)
    monkeypatch.setattr("peculiar.registry.champion.load_champion", lambda *_: champion)
    output = tmp_path / "o.ecsv"
    with inside(pipeline):
        files = [str(tmp_path / f"{name}.fits") for name in names]
        main(["predict", *files, "--ebv", "0.1", "--output", str(output)])
    assert QTable.read(output).meta["frame"] == "cmb, heliocentric"
