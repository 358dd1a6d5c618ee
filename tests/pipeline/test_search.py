from datetime import datetime, timedelta

import mlflow
import optuna
import pytest
import yaml

from builders.pipeline import inside, tiny_params, write_params
from peculiar.core import processes
from peculiar.core.errors import InputError
from peculiar.core.params import load
from peculiar.core.provenance import digests
from peculiar.pipeline import search
from peculiar.pipeline.paths import Paths
from peculiar.runs import tracking
from peculiar.search import storage, study
from peculiar.search.params import Search
from peculiar.training.params import Train

pytestmark = pytest.mark.xdist_group("pipeline")


def sections(folder, **changes):
    params = tiny_params()
    params["search"] |= changes
    write_params(params, folder)
    return load(Search, folder / "params.yaml"), load(Train, folder / "params.yaml")


@pytest.mark.parametrize(
    ("storage", "age_s", "dead"),
    [
        ("journal", 1, True),
        ("postgresql://me@db/x", 1, False),
        ("postgresql://me@db/x", storage.GRACE_S + 60, True),
    ],
)
def test_a_trial_whose_worker_died_before_it_said_who_it_is(tmp_path, storage, age_s, dead):
    params, _ = sections(tmp_path, storage=storage)
    begun = datetime.now() - timedelta(seconds=age_s)
    trial = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
    trial.datetime_start = begun
    assert search.dead(trial, params) is dead
    trial.set_user_attr(search.PROCESS, processes.this_worker())
    assert search.dead(trial, params) is False
    trial.set_user_attr(search.PROCESS, processes.this_worker().replace("@", "@1", 1))
    assert search.dead(trial, params) is True


def test_best_yaml_holds_only_the_searched_keys_of_the_best_trial(pipeline):
    best = yaml.safe_load((pipeline / "results/search/best.yaml").read_text())
    assert set(best) == {"layers", "learning_rate"}
    with inside(pipeline):
        found = search.open_study(load(Search), load(Train), Paths())
    assert best == found.best_trial.user_attrs["searched"]
    assert found.best_value == min(trial.value for trial in study.finished(found))


def test_every_trial_is_a_finished_child_of_one_study_run(pipeline):
    with inside(pipeline):
        experiment = tracking.connect()
        found = search.open_study(load(Search), load(Train), Paths())
    client = mlflow.MlflowClient()
    parent = found.user_attrs["run_id"]
    query = f"tags.mlflow.parentRunId = '{parent}'"
    children = client.search_runs([experiment], query)
    finished = found.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert {run.info.run_id for run in children} == {t.user_attrs["run_id"] for t in finished}
    assert {run.info.status for run in children} == {"FINISHED"}
    for run in children:
        assert len(client.get_metric_history(run.info.run_id, "validation_l2_mpc")) == 1
        assert run.inputs.dataset_inputs
        assert run.outputs.model_outputs


@pytest.mark.slow
def test_an_interrupted_study_goes_on_and_a_finished_one_trains_nothing(pipeline, tmp_path):
    folder = tmp_path
    (folder / "data").symlink_to(pipeline / "data")
    sections(folder, trials=2, epochs=1, seed=99)
    with inside(folder):
        params, train = load(Search), load(Train)
        found = search.open_study(params, train, Paths())
        left_running = found.ask()  # as a killed process leaves it
        search.search_networks(params, train, Paths())
        states = [trial.state.name for trial in search.open_study(params, train, Paths()).trials]
        assert states[left_running.number] == "FAIL"
        assert states.count("COMPLETE") == 2
        best = (folder / "results/search/best.yaml").read_text()
        search.search_networks(params, train, Paths())
        assert [t.state.name for t in search.open_study(params, train, Paths()).trials] == states
        assert (folder / "results/search/best.yaml").read_text() == best
        more, _ = sections(folder, trials=3, epochs=1, seed=99)
        search.search_networks(more, train, Paths())
        states = [trial.state.name for trial in search.open_study(more, train, Paths()).trials]
        assert states.count("COMPLETE") == 3


def study_name(params, train):
    return search.plan(params, train, digests(search.inputs(params, train, Paths())), Paths()).name


def test_a_study_is_not_continued_with_other_data_settings_or_code(pipeline, monkeypatch):
    with inside(pipeline):
        params, train = load(Search), load(Train)
        name = study_name(params, train)
        assert study_name(params.model_copy(update={"trials": 99}), train) == name
        assert study_name(params.model_copy(update={"epochs": 9}), train) != name
        assert study_name(params, train.model_copy(update={"seed": 99})) != name
        for change in (
            {"label": "D"},
            {"softening_mag_arcsec2": 26},
            {"batch_size": 4},
            {"head": "binned"},
        ):
            best = train.best.model_copy(update=change)
            assert study_name(params, train.model_copy(update={"best": best})) != name
        monkeypatch.setattr(search, "imported_code_digest", lambda _: "other")
        assert study_name(params, train) != name


@pytest.mark.slow
def test_networks_that_give_distributions_can_be_searched(pipeline, tmp_path):
    """With a crop, which is what layers must leave something of: others are refused."""
    (tmp_path / "data").symlink_to(pipeline / "data")
    params = tiny_params()
    params["search"] |= {"trials": 3, "epochs": 1, "seed": 5}
    params["train"]["best"] |= {"head": "gaussian", "crop": 16, "fresh": True}
    params["search"]["space"] |= {"depth": [3], "kernel": [3, 7], "stride": [1, 2]}
    write_params(params, tmp_path)
    with inside(tmp_path):
        search.search_networks(load(Search), load(Train), Paths())
        found = search.open_study(load(Search), load(Train), Paths())
    finished = found.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert len(finished) == 3
    assert all(trial.value < 40 for trial in finished)  # Mpc, of 50 to 100


def test_an_empty_space_is_refused(pipeline, tmp_path):
    (tmp_path / "data").symlink_to(pipeline / "data")
    params = tiny_params()
    params["search"]["space"]["max_multiply_adds"] = 1
    write_params(params, tmp_path)
    with (
        inside(tmp_path),
        pytest.raises(InputError, match=r"search\.space: every network .* widen"),
    ):
        search.search_networks(load(Search), load(Train), Paths())
    assert not (tmp_path / "results/search").exists()
