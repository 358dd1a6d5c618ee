import json
import logging

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from peculiar.runs import tracking
from peculiar.search import spool

pytestmark = pytest.mark.xdist_group("mlflow")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return tracking.connect(tmp_path_factory.mktemp("store") / "mlruns")


@pytest.fixture
def outage(monkeypatch):
    """Switches every call of MLflow's client off, and on again."""
    real = {name: getattr(tracking, name) for name in ("run", "log_curves", "log_metrics")}

    class Outage:
        def begin(self):
            def refuse(*_, **__):
                raise MlflowException("connection refused\nat length")

            for name in real:
                monkeypatch.setattr(tracking, name, refuse)

        def end(self):
            for name, function in real.items():
                monkeypatch.setattr(tracking, name, function)

    return Outage()


def read(run_id):
    return mlflow.MlflowClient().get_run(run_id)


def curve(run_id):
    history = mlflow.MlflowClient().get_metric_history(run_id, "l2")
    return sorted((m.step, m.value) for m in history)


PARAMS = {"network": {"layers": ({"filters": 3},), "seed": 1}}


def book(tmp_path, experiment):
    return spool.Logbook(
        tmp_path / "spool",
        experiment,
        "trial-7",
        params=PARAMS,
        tags={"trial": "7"},
        system_metrics=False,
    )


def test_what_mlflow_hears_needs_no_spool(experiment, tmp_path):
    with book(tmp_path, experiment) as told:
        told.curves({"epoch": 1, "l2": 3.0})
        told.metrics({"slope": 1.0}, prefix="validation_")
        told.tags({"pruned": "at step 1"})
    run = read(told.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"l2": 3.0, "validation_slope": 1.0}
    assert run.data.tags["pruned"] == "at step 1"
    assert not (tmp_path / "spool").exists()
    assert spool.deliver(tmp_path / "spool") == 0


@pytest.mark.parametrize("heard", [False, True], ids=["never-begun", "begun"])
def test_an_outage_costs_a_warning_and_the_numbers_come_later(
    experiment, tmp_path, outage, caplog, heard
):
    caplog.set_level(logging.WARNING)
    if not heard:
        outage.begin()
    with book(tmp_path, experiment) as told:
        told.curves({"epoch": 1, "l2": 3.0})
        outage.begin()
        told.curves({"epoch": 2, "l2": 2.0})
        told.metrics({"best": 2.0})
        told.attempt(lambda: pytest.fail("nothing is asked of a server that is down"))
    assert (told.run_id is not None) == heard
    assert caplog.text.count("MLflow does not answer (connection refused): trial-7 goes to") == 1
    assert spool.deliver(tmp_path / "spool") == 1
    assert "1 runs stay in" in caplog.text
    outage.end()
    assert spool.deliver(tmp_path / "spool") == 0
    assert list((tmp_path / "spool").glob("*.json")) == []
    (run,) = mlflow.MlflowClient().search_runs(
        [experiment], "tags.peculiar.spooled_ms != ''", order_by=["start_time DESC"], max_results=1
    )
    assert not heard or run.info.run_id == told.run_id
    assert run.info.status == "FINISHED"
    assert run.data.tags["trial"] == "7"
    assert run.data.params == {"network.layers": "({'filters': 3},)", "network.seed": "1"}
    assert curve(run.info.run_id) == [(1, 3.0), (2, 2.0)]  # each once
    assert run.data.metrics["best"] == 2.0


def test_a_trial_that_fails_in_an_outage_is_delivered_as_failed(experiment, tmp_path, outage):
    outage.begin()
    with pytest.raises(ZeroDivisionError), book(tmp_path, experiment):
        _ = 1 / 0
    outage.end()
    (path,) = (tmp_path / "spool").glob("*.json")
    assert json.loads(path.read_text())["status"] == "FAILED"
    assert spool.deliver(tmp_path / "spool") == 0


def test_a_fault_of_the_body_is_no_outage(experiment, tmp_path):
    with pytest.raises(OSError, match="of the body"), book(tmp_path, experiment) as told:
        raise OSError("of the body")
    assert read(told.run_id).info.status == "FAILED"
    assert not (tmp_path / "spool").exists()
