"""Commands in an empty folder: they work, or say in one sentence why not, and write nothing."""

import hashlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from astropy.table import QTable

from builders.pipeline import ROOT, inside
from builders.standin import small_standin
from peculiar.cli.main import main
from peculiar.core import params
from peculiar.core.errors import InputError
from peculiar.galaxies.standin.simulation import make_broadband
from peculiar.mock.params import Observe

pytestmark = pytest.mark.xdist_group("pipeline")
ABSENT = (
    r"^peculiar: there is no champion: .*mlruns holds no models; run `make repro`.* --store or PE"
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "broadband_5.fits"
    make_broadband(path, 5, small_standin())
    return path


@pytest.fixture
def empty(tmp_path):
    """An empty working folder, which must stay empty."""
    folder = tmp_path / "empty"
    folder.mkdir()
    with inside(folder):
        yield folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "--at", "60"],
        ["serve"],
        ["registry", "list"],
        ["registry", "export", "out"],
        ["registry", "rollback", "--why", "a test"],
        ["registry", "reproduce", "champion"],
    ],
    ids="-".join,
)
@pytest.mark.usefixtures("empty")
def test_without_a_store_there_is_no_champion_and_no_file(command, file):
    arguments = [command[0], str(file), *command[1:]] if command[0] == "predict" else command
    with pytest.raises(SystemExit, match=ABSENT) as stop:
        main(arguments)
    assert "\n" not in str(stop.value)


@pytest.mark.usefixtures("empty")
def test_a_missing_input_is_named_before_a_missing_champion():
    for name in ("nothing.fits", "nothing.csv"):
        with pytest.raises(SystemExit, match=rf"^peculiar: {name} is missing: check the path"):
            main(["predict", name, "--output", "out.csv"])


@pytest.mark.usefixtures("empty")
def test_results_are_missing_in_one_sentence():
    with pytest.raises(SystemExit, match=r"there are no results here: .*run `peculiar evaluate`"):
        main(["results"])


def test_a_database_that_is_none_is_named(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database, but long enough to be looked at twice" * 9)
    with pytest.raises(SystemExit, match=r"mlflow\.db cannot be read .*: restore it from a copy"):
        main(["registry", "list", "--store", str(tmp_path)])
    (tmp_path / "mlflow.db").write_bytes(b"")
    with pytest.raises(SystemExit, match="was not finished by the process that made it"):
        main(["registry", "list", "--store", str(tmp_path)])
    assert (tmp_path / "mlflow.db").read_bytes() == b""


def state(folder):
    """What is in a folder, to the bit and the moment."""
    return {
        path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.usefixtures("empty")
def test_reading_leaves_the_store_as_it_is(pipeline, file, tmp_path, capsys):
    store = pipeline / "mlruns"
    before = state(store)
    option = ["--store", str(store)]
    main(["predict", str(file), "--at", "60", *option])
    main(["registry", "list", *option])
    main(["registry", "export", str(tmp_path / "out"), *option])
    assert state(store) == before
    assert "champion version 1" in capsys.readouterr().out


@pytest.mark.usefixtures("empty")
def test_peculiar_home_names_the_folder_of_the_store(pipeline, capsys, monkeypatch):
    monkeypatch.setenv("PECULIAR_HOME", str(pipeline))
    monkeypatch.setenv("DVC_ROOT", "/nowhere")
    main(["registry", "list"])
    assert f"peculiar-velocity in {pipeline / 'mlruns'}" in capsys.readouterr().out


@pytest.mark.usefixtures("empty")
def test_a_folder_without_parameters_has_the_packaged_ones():
    assert params.load(Observe, params.params_or_defaults()) == params.load(
        Observe, ROOT / "params.yaml"
    )


def test_the_parameters_of_the_folder_come_first_and_a_broken_file_is_an_error(tmp_path, file):
    (tmp_path / "params.yaml").write_text("observe: [")
    with inside(tmp_path):
        assert params.params_or_defaults() == params.PARAMS
        with pytest.raises(SystemExit, match=r"params\.yaml is not valid YAML"):
            main(["inspect", str(file)])
        with pytest.raises(InputError, match=r"params\.yaml is not valid YAML"):
            params.load(Observe, params.params_or_defaults())


def test_a_catalogue_is_predicted_from_elsewhere(pipeline, file, tmp_path):
    catalogue = tmp_path / "galaxies.csv"
    catalogue.write_text(f"path,cz_kms\n{file},5000\n")
    output = tmp_path / "out.ecsv"
    with inside(tmp_path):
        store = ["--store", str(pipeline / "mlruns")]
        main(["predict", str(catalogue), "--at", "70", "--output", str(output), *store])
    assert np.isfinite(QTable.read(output)["D_p"].value).all()


@pytest.mark.slow
def test_the_wheel_ships_the_parameters(tmp_path):
    """As a file: in the repository it is a link, so that each value has one home."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "src", source / "src", symlinks=True)
    for name in ("params.yaml", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    shipped = zipfile.ZipFile(wheel).read("peculiar/params.yaml")
    assert shipped == (source / "params.yaml").read_bytes()
    assert (ROOT / "src/peculiar/params.yaml").is_symlink()
