"""The pipeline as a user runs it: real `dvc repro`, restored, killed, and fed with faults."""

import json
import shutil
import sqlite3
import subprocess
import time

import psutil
import pytest
import yaml

from builders.pipeline import ENVIRONMENT, clone, dvc, tiny_params, write_params
from builders.processes import started, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dvc")]


def stages_run(done):
    return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running")]


def runs(folder, where="1"):
    with sqlite3.connect(folder / "mlruns/mlflow.db") as database:
        return database.execute(f"select run_uuid, name, status from runs where {where}").fetchall()


def champion(folder):
    with sqlite3.connect(folder / "mlruns/mlflow.db") as database:
        query = "select version from registered_model_aliases where alias = 'champion'"
        return database.execute(query).fetchall()


@pytest.fixture
def folder(dvc_folder):
    return dvc_folder


def test_one_command_leads_to_a_champion_with_all_tables_and_figures(folder):
    assert champion(folder) == [(1,)]
    results = folder / "results"
    for name in (
        "search/best.yaml",
        "search/trials.csv",
        "evaluate/table.csv",
        "evaluate/metrics.json",
        "promote/decision.json",
    ):
        assert (results / name).stat().st_size > 0
    assert len(list((results / "evaluate/figures").glob("*.png"))) == 24
    assert {status for _, _, status in runs(folder)} == {"FINISHED"}


def test_runs_carry_dvc_s_digest_stage_and_commit(folder):
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    (out,) = lock["observe@uniform"]["outs"]
    run = json.loads((folder / "results/train/uniform-cnn2/run.json").read_text())
    assert run["data"]["data/observe/uniform"] == out["md5"]
    with sqlite3.connect(folder / "mlruns/mlflow.db") as database:
        tags = dict(
            database.execute("select key, value from tags where run_uuid = ?", (run["run_id"],))
        )
        digests = [row[0] for row in database.execute("select digest from datasets")]
    assert tags["dvc.stage"] == "train@uniform-cnn2"
    assert len(tags["git_commit"]) == 40
    assert out["md5"] in digests


def test_a_second_repro_runs_no_stage(folder):
    start = time.monotonic()
    assert stages_run(dvc(folder, "repro")) == []
    assert time.monotonic() - start < 30  # 2 s on an idle machine, of the default pipeline 4 s


def test_deleted_outputs_come_back_from_the_cache_without_a_new_run(folder):
    work = "name not in ('promote')"
    before, table = runs(folder, work), (folder / "results/evaluate/table.csv").read_text()
    (folder / "dvc.lock").unlink()
    for name in ("data", "results"):
        shutil.rmtree(folder / name)
    assert stages_run(dvc(folder, "repro")) == ["promote"]  # it keeps the champion
    assert runs(folder, work) == before
    assert champion(folder) == [(1,)]
    assert (folder / "results/evaluate/table.csv").read_text() == table


def test_data_are_the_same_bytes_in_another_clone(folder, tmp_path):
    other = tmp_path / "again"
    clone(other)
    write_params(tiny_params(), other)
    dvc(other, "repro", "observe")
    first, again = (yaml.safe_load((f / "dvc.lock").read_text())["stages"] for f in (folder, other))
    for stage in ("fetch", "observe@uniform"):
        assert again[stage]["outs"] == first[stage]["outs"]


def test_editing_one_network_retrains_that_network_only(folder):
    params = tiny_params()
    params["train"]["specs"]["cnn2"]["epochs"] = 100
    write_params(params, folder)
    partial = folder / "results/train/.uniform-cnn2.partial"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with started("-m", "dvc", "repro", cwd=folder, env=ENVIRONMENT, **quiet) as process:
        wait_until(partial.exists, process)
        time.sleep(1.5)  # in mid-epoch
        assert partial.exists()
        training = psutil.Process(process.pid).children(recursive=True)
        assert any("peculiar.pipeline.train" in " ".join(child.cmdline()) for child in training)
    psutil.wait_procs(training, timeout=60)
    assert not any(process.is_running() for process in training)
    assert len(runs(folder, "status = 'RUNNING'")) == 1
    assert not (folder / "results/train/uniform-cnn2").exists()

    assert stages_run(dvc(folder, "repro")) == [
        "train@uniform-cnn2",
        "evaluate",
        "nulls",
        "promote",
    ]
    assert runs(folder, "status = 'RUNNING'") == []
    assert len(runs(folder, "status = 'KILLED'")) == 1
    assert not partial.exists()
    assert len(champion(folder)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("fetch", "colour", "red"), "params.yaml: fetch.colour: unknown key"),
        (("train", "networks", ["cnn22"]), "cnn22"),
        (("fetch", "bands", ["u", "q"]), "params.yaml: fetch.bands.1: "),
    ],
)
def test_faults_in_params_end_in_one_sentence(folder, change, message):
    section, key, value = change
    params = tiny_params()
    params[section][key] = value
    write_params(params, folder)
    done = dvc(folder, "repro", check=False)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    write_params(tiny_params(), folder)
