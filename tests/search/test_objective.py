"""A trial: what it refuses, what it logs and what it returns."""

import math

import mlflow
import pytest

from builders.pipeline import inside, tiny_params
from builders.studies import plan
from peculiar.core.errors import InputError
from peculiar.core.params import validate
from peculiar.core.provenance import loaded_code
from peculiar.runs import tracking
from peculiar.search import objective as objectives
from peculiar.search import storage, study
from peculiar.search.objective import Objective, seed_of, settle
from peculiar.search.spool import Logbook
from peculiar.training.params import Train

pytestmark = pytest.mark.xdist_group("mlflow")

SMALL = {"depth": [1], "filters": [4], "kernel": [3], "stride": [2]}  # for images of 8 pixels


def train(**best):
    section = tiny_params()["train"]
    section["best"] |= {"batch_size": 16, "fresh": False, "views": None} | best
    return validate(Train, section, "train")


@pytest.fixture(autouse=True)
def _fresh_process():
    """A process belongs to one study; these tests play several."""
    for cached in (settle, objectives.open_dataset, objectives.scaled_dataset):
        cached.cache_clear()


@pytest.fixture
def root(tmp_path, observed_folder):
    """A repository of one dataset, of 60 galaxies at 8 pixels."""
    (tmp_path / "data/observe").mkdir(parents=True)
    (tmp_path / "data/observe/uniform").symlink_to(observed_folder)
    with inside(tmp_path):
        yield tmp_path


def objective(root, in_space=None, best=None, experiment="", parent="", **changes):
    return Objective(
        plan(
            root, in_space=SMALL | (in_space or {}), epochs=1, **({"models": False} | changes)
        ).params,
        train(**(best or {})),
        experiment,
        parent,
        root,
        {"data/observe/uniform": "0a1b.dir"},
        tracking.address(),
        loaded_code(),
        root / "mlruns/spool",
        {"git_commit": "c0de"},
    )


def run_trial(root, **changes):
    """One trial of a study with its MLflow run, and the objective that ran it."""
    experiment = tracking.connect()
    with Logbook(root / "spool", experiment, "search", data={}) as book:
        todo = objective(root, experiment=experiment, parent=book.run_id, **changes)
        opened = storage.open_study(
            storage.Plan("trials", str(root / "optuna.journal"), todo.params)
        )
        study.run_trials(opened, todo, 1)
    trial = opened.trials[-1]
    return trial, mlflow.MlflowClient().get_run(trial.user_attrs["run_id"]), book.run_id


def test_the_first_training_has_the_seed_itself_and_others_their_own():
    seeds = [seed_of(3, number) for number in range(50)]
    assert seeds[0] == 3
    assert seeds == [seed_of(3, number) for number in range(50)]
    assert len({*seeds, *(seed_of(4, number) for number in range(50))}) == 100


def test_a_worker_without_the_study_s_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"worker .* has no .*nowhere: start workers where they"):
        settle(tmp_path / "nowhere", tracking.address(), loaded_code())


def test_a_worker_of_other_code_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"worker .* runs other code than the search: restart it"):
        settle(tmp_path, tracking.address(), "other")


def test_a_network_is_refused_for_what_it_leaves_of_the_crop(root):
    searched = {"layers": [{"filters": 4, "kernel": 5, "stride": 1}]}
    constraint, reason = objective(root).refused(searched)
    assert reason == ""
    assert constraint["shrinks the image to nothing"] == 1 - 4
    constraint, reason = objective(root, best={"crop": 4}).refused(searched)
    assert reason == "shrinks the image to nothing"
    assert constraint["shrinks the image to nothing"] > 0


def test_a_gaussian_process_needs_a_space_of_which_all_can_be_trained(root):
    too_large = {"kernel": [3, 9]}
    objective(root, in_space=too_large, sampler="tpe").check()
    objective(root, sampler="gp").check()
    with pytest.raises(
        InputError, match=r"search\.space: sampler gp needs a space .* 9.* to nothing"
    ):
        objective(root, in_space=too_large, sampler="gp").check()


def test_what_a_search_leaves_alone_has_to_go_with_its_families(root):
    searched = objective(root, in_space={"family": ["starlet"], "hidden": [8]})
    assert searched.train.best.augment
    with pytest.raises(InputError, match=r"train\.best with search\.space: starlet is the same"):
        searched.check()


def test_a_trial_returns_what_its_run_logs(root):
    trial, run, parent = run_trial(root)
    logged = run.data.metrics
    assert trial.value == logged["objective_l2"] == logged["validation_l2_dz_mpc"]
    assert 0 < trial.value < 100
    convolution, batch_norm, last = 3 * 3 * 2 * 4 + 4, 2 * 4, 3 * 3 * 4 + 1
    assert logged["objective_parameters"] == convolution + batch_norm + last
    assert logged["objective_seconds"] > 0
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["trial"] == "0"
    assert run.data.params["network.layers"] == str(tuple(trial.user_attrs["searched"]["layers"]))
    assert run.data.params["network.epochs"] == "1"
    assert "process" in trial.user_attrs


def test_the_same_network_has_the_same_loss(root):
    in_space = {"learning_rate": [1e-3]}
    (first, _, _), (second, _, _) = (run_trial(root, in_space=in_space) for _ in range(2))
    assert second.number == first.number + 1
    assert second.value == first.value


def test_several_seeds_are_averaged_and_the_second_objective_follows(root, monkeypatch):
    losses = iter([4.0, 6.0])
    monkeypatch.setattr(
        objectives, "validate", lambda *_: (None, None, {"l2_dz_mpc": next(losses)})
    )
    trial, run, _ = run_trial(root, seeds=2, objectives=["l2", "parameters"], pruner="none")
    assert trial.values == [5.0, run.data.metrics["objective_parameters"]]


def test_a_diverged_network_is_worse_than_any_other(root, monkeypatch):
    monkeypatch.setattr(objectives, "validate", lambda *_: (None, None, {"l2_dz_mpc": math.nan}))
    assert run_trial(root)[0].value == math.inf


def test_the_run_of_a_pruned_trial_is_tagged_and_has_not_failed(root, monkeypatch):
    def prune(_trial, _value, step):
        raise study.PrunedError(f"pruned at step {step}")

    monkeypatch.setattr(objectives, "report", prune)
    trial, run, _ = run_trial(root, pruner="wilcoxon", seeds=5)
    assert trial.state.name == "PRUNED"
    assert run.data.tags["pruned"] == "pruned at step 0"
    assert run.info.status == "FINISHED"
