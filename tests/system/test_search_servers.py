"""Searches on real servers; `experiments/search/faults.py` and `slurm.py` are the full ones."""

import json
import subprocess
import threading

import pytest

from builders.processes import started
from experiments.search import faults
from experiments.search.faults import BIN, audit, driven, open_study, write_params

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]


@pytest.mark.skipif(not (BIN / "initdb").is_file(), reason=f"no PostgreSQL server in {BIN}")
def test_a_search_survives_its_workers_its_database_and_its_driver(tmp_path):
    # in a process of its own: connections that are broken and left are no fault of later tests
    command = ["-m", "experiments.search.faults", str(tmp_path / "faults"), "--trials", "15"]
    command += ["--workers", "2", "--epoch-s", "0.1"]
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(*command, cwd=faults.ROOT, **said) as process:
        limit = threading.Timer(560, process.terminate)  # it ends its drivers and its server then
        limit.start()
        try:
            out, err = process.communicate()
        finally:
            limit.cancel()
    assert process.returncode == 0, out + err
    found = json.loads(out.splitlines()[-1])
    assert found["trials"]["COMPLETE"] == found["runs"]["FINISHED"] == 15


def test_workers_share_a_journal_and_a_grid_is_run_once(tmp_path):
    space = {
        "depth": [1],
        "filters": [4, 8],
        "kernel": [3, 5],
        "stride": [1],
        "same_stride": True,
        "learning_rate": [1e-3, 1e-2],
    }
    write_params(tmp_path, trials=432, workers=2, sampler="grid", space=shipped_space() | space)
    with driven(tmp_path, 0.0, None) as driver:
        assert driver.wait(faults.PATIENCE_S) == 0
    study = open_study(tmp_path)
    audit(study, f"sqlite:///{tmp_path}/mlruns/mlflow.db", 8)
    drawn = {json.dumps(trial.params, sort_keys=True) for trial in study.trials}
    assert len(drawn) == len(study.trials) == 8
    assert {trial.user_attrs["process"] for trial in study.trials}


def shipped_space():
    import yaml

    return yaml.safe_load((faults.ROOT / "params.yaml").read_text())["search"]["space"]
