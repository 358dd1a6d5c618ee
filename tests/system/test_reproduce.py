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


@pytest.mark.slow
@pytest.mark.xdist_group("dvc")
@pytest.mark.parametrize("kind", ["local", "s3"])
def test_an_empty_machine_pulls_data_and_champion_and_predicts(dvc_folder, tmp_path, kind):
    """Without training anything: `dvc push` and `pull`, `peculiar export` and `import`."""
    from moto.server import ThreadedMotoServer

    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(dvc_folder, here, symlinks=True)
    python(here, "peculiar", "registry", "export", "registry")
    dvc(here, "add", "registry")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    if kind == "local":
        dvc(here, "remote", "add", "--default", "shared", str(tmp_path / "remote"))
    else:
        server.start()
        url = "http://{}:{}".format(*server.get_host_and_port())
        import boto3

        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(
            Bucket="peculiar"
        )
        dvc(here, "remote", "add", "--default", "shared", "s3://peculiar/dvc")
        options = {"endpointurl": url, "access_key_id": "test", "secret_access_key": "test"}
        for key, value in options.items():
            dvc(here, "remote", "modify", "shared", key, value)
    try:
        dvc(here, "push")
        git(here, "add", "-A")
        git(here, "commit", "-qm", "share")
        git(tmp_path, "clone", "-q", str(here), str(there))
        assert not (there / ".dvc/cache").exists()
        dvc(there, "pull")
    finally:
        if kind == "s3":
            server.stop()
    assert (there / "data/observe/uniform/table.ecsv").exists()
    python(there, "peculiar", "registry", "import", "registry")
    python(there, "peculiar", "standin", "galaxies")
    table = [
        python(
            folder,
            "peculiar",
            "predict",
            str(there / "galaxies/broadband_0.fits"),
            "--at",
            "60",
            "--cz",
            "5000",
        ).stdout
        for folder in (here, there)
    ]
    assert table[0] == table[1]
    assert "v_hat" in table[0]
