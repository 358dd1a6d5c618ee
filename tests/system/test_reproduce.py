import json
import shutil
import subprocess

import pytest

from builders.pipeline import dvc, python, tiny_params, write_params
from builders.records import HISTORY, SAID, make_run, trained_network
from peculiar.registry.reproduce import compare
from peculiar.runs import record


def git(folder, *arguments):
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True)


@pytest.fixture
def folders(tmp_path):
    """The same network twice."""
    run = make_run()
    for name in ("before", "again"):
        (tmp_path / name).mkdir()
        said = {"galaxy": SAID["galaxy"], "D_p_mpc": SAID["galaxy"] * 7.0}
        record.write(tmp_path / name, trained_network(run), HISTORY, said, run)
    return tmp_path / "before", tmp_path / "again"


def test_the_same_is_equal(folders):
    found = compare(*folders)
    assert found.equal
    assert found.text().startswith("equal")


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (
            {"validation": {"l2_d_mpc": 0.15, "velocity_slope": 1.0}},
            "l2_d_mpc: 0.1, now 0.15",
        ),
        (
            {"data": {"data/observe/uniform": "ffff.dir"}},
            "uniform: 0a1b.dir, now ffff",
        ),
    ],
)
def test_a_difference_is_named(folders, changes, wanted):
    (folders[1] / record.RUN).write_text(make_run(**changes).model_dump_json())
    found = compare(*folders)
    assert not found.equal
    assert wanted in found.text()


def test_metrics_that_are_not_known_are_equal(folders):
    for folder in folders:
        run = make_run(validation={"l2_d_mpc": float("nan")})
        (folder / record.RUN).write_text(run.model_dump_json())
    assert compare(*folders).equal


def test_other_predictions_are_not_equal(folders):
    path = folders[1] / record.VALIDATION
    path.write_text(path.read_text().replace("63.0", "63.5"))
    found = compare(*folders)
    assert found.D_p_mpc == 0.5
    assert "predicted distances differ by up to 0.5 Mpc" in found.text()


@pytest.mark.slow
@pytest.mark.xdist_group("dvc")
def test_a_version_is_trained_again_from_its_records(dvc_folder, tmp_path):
    """With the parameters of that time, though others stand in the tree by now."""
    params = tiny_params()
    params["train"]["seed"] = 99
    write_params(params, dvc_folder)
    try:
        kept = tmp_path / "worktree"
        arguments = ["registry", "reproduce", "champion", "--keep", str(kept)]
        done = python(dvc_folder, "peculiar", *arguments)
    finally:
        write_params(tiny_params(), dvc_folder)
    assert done.stdout == "equal: data, every validation metric and every predicted distance\n"
    (again,) = (kept / "results/train").iterdir()
    before, now = (
        json.loads((folder / "results/train" / again.name / "run.json").read_text())
        for folder in (dvc_folder, kept)
    )
    assert before["run_id"] != now["run_id"]  # it was trained, and not taken from a cache
    assert (kept / "mlruns/mlflow.db").exists()  # in a store of its own


@pytest.mark.slow
@pytest.mark.xdist_group("dvc")
def test_what_cannot_be_reproduced_is_said(dvc_folder):
    """A version that there is not, and one whose source was never committed."""
    done = python(dvc_folder, "peculiar", "registry", "reproduce", "77", check=False)
    assert "has no version '77': take one of 1" in done.stderr
    assert done.returncode == 1


@pytest.fixture(scope="module")
def exporting(dvc_folder, tmp_path_factory):
    """A copy of the clone, with its registry exported and under DVC."""
    folder = tmp_path_factory.mktemp("exporting") / "here"
    shutil.copytree(dvc_folder, folder, symlinks=True)
    dvc(folder, "checkout")  # what another test has removed
    python(folder, "peculiar", "registry", "export", "registry")
    dvc(folder, "add", "registry")
    return folder


def pulled(exporting, tmp_path, url, **options):
    """An empty machine after `dvc push` here, and `git clone` and `dvc pull` there."""
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(exporting, here, symlinks=True)
    dvc(here, "remote", "add", "--default", "shared", url)
    for key, value in options.items():
        dvc(here, "remote", "modify", "shared", key, value)
    dvc(here, "push")
    git(here, "add", "-A")
    git(here, "commit", "-qm", "share")
    git(tmp_path, "clone", "-q", str(here), str(there))
    assert not (there / ".dvc/cache").exists()
    dvc(there, "pull")
    return there


def shared_files(folder):
    """What DVC carries from one machine to another: relative path and bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in ("data", "registry", "results/search", "results/train", "results/evaluate")
        for path in (folder / name).rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.xdist_group("dvc")
def test_an_empty_machine_pulls_data_and_champion_and_predicts(exporting, tmp_path):
    """Without training anything: `dvc push` and `pull`, `peculiar export` and `import`."""
    there = pulled(exporting, tmp_path, str(tmp_path / "remote"))
    assert shared_files(there) == shared_files(exporting)
    python(there, "peculiar", "registry", "import", "registry")
    python(there, "peculiar", "standin", "galaxies")
    galaxy = str(there / "galaxies/broadband_0.fits")
    predict = ("peculiar", "predict", galaxy, "--at", "60", "--cz", "5000")
    table = [python(folder, *predict).stdout for folder in (exporting, there)]
    assert table[0] == table[1]
    assert "v_hat" in table[0]


@pytest.mark.slow
@pytest.mark.xdist_group("dvc")
def test_an_object_store_gives_an_empty_machine_the_same_files(exporting, tmp_path):
    """From which it imports and predicts as the test above does."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(
            Bucket="peculiar"
        )
        options = {"endpointurl": url, "access_key_id": "test", "secret_access_key": "test"}
        there = pulled(exporting, tmp_path, "s3://peculiar/dvc", **options)
    finally:
        server.stop()
    files = shared_files(there)
    assert "data/observe/uniform/table.ecsv" in files
    assert files == shared_files(exporting)
