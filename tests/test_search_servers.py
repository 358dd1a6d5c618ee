"""Searches on real servers; `scripts/search_faults.py` and `search_slurm.py` are the full ones."""

import json

import pytest
import search_faults
from search_faults import BIN, audit, open_study, start_driver, write_params

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]


@pytest.mark.skipif(not BIN.is_dir(), reason=f"no PostgreSQL in {BIN}")
def test_a_search_survives_its_workers_its_database_and_its_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(search_faults, "WORKERS", 2)
    found = search_faults.faults(tmp_path, trials=15, epoch_s=0.1)
    assert found["trials"]["COMPLETE"] == found["runs"]["FINISHED"] == 15


def test_workers_share_a_journal_and_a_grid_is_run_once(tmp_path):
    space = {"depth": [1], "filters": [4, 8], "kernel": [3, 5], "stride": [1], "same_stride": True,
             "learning_rate": [1e-3, 1e-2]}  # fmt: skip
    write_params(tmp_path, trials=432, workers=2, sampler="grid", space=shipped_space() | space)
    assert start_driver(tmp_path, 0.0, None).wait() == 0
    study = open_study(tmp_path)
    audit(study, f"sqlite:///{tmp_path}/mlruns/mlflow.db", 8)
    drawn = {json.dumps(trial.params, sort_keys=True) for trial in study.trials}
    assert len(drawn) == len(study.trials) == 8
    assert {trial.user_attrs["process"] for trial in study.trials}


def shipped_space():
    import yaml

    return yaml.safe_load((search_faults.ROOT / "params.yaml").read_text())["search"]["space"]
