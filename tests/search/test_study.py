import math
import warnings

import optuna
import pytest
from optuna.trial import TrialState

from builders.studies import opened, plan, suggesting
from peculiar.core.errors import InputError
from peculiar.search import space, storage
from peculiar.search import study as studies

pytestmark = pytest.mark.filterwarnings("error")


ONE_DEPTH = {"depth": [2]}
GRID = {"depth": [1], "filters": [4, 8], "kernel": [3, 5], "learning_rate": [1e-3]}


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc"])
def test_each_sampler_runs_the_trials_that_are_left_and_no_more(tmp_path, sampler):
    for total in (12, 14):
        study, params = opened(tmp_path, sampler=sampler, trials=total, in_space=ONE_DEPTH)
        studies.run_trials(study, suggesting(params), studies.left(study, params))
        assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * total
    assert studies.left(study, params) == 0
    studies.run_trials(study, suggesting(params), 0)
    assert len(study.trials) == 14
    drawn = {str(trial.params) for trial in study.trials}
    assert len(drawn) > 10  # a study that goes on does not repeat its first suggestions
    assert studies.best(study).number == 0


def test_a_grid_is_run_once_in_any_number_of_goes(tmp_path):
    points = space.grid(plan(tmp_path, sampler="grid", in_space=GRID).params.space)
    assert len(points) == 8
    for trials in (3, 100, 100):
        study, params = opened(tmp_path, sampler="grid", trials=trials, in_space=GRID)
        studies.queue_grid(study, points, refused=2)
        studies.run_trials(study, suggesting(params), studies.left(study, params))
        assert len(studies.finished(study)) == min(trials, 8)
    networks = [trial.user_attrs["searched"] for trial in study.trials]
    assert networks == [space.network(point, params.space) for point in points]
    assert studies.refusals(study) == 2


def test_a_grid_that_another_process_has_emptied_repeats_nothing(tmp_path):
    study, params = opened(tmp_path, sampler="grid", in_space=GRID)
    studies.run_trials(study, suggesting(params), 3)
    (trial,) = study.trials
    assert trial.user_attrs == {"refused": "the grid is at its end"}
    assert studies.finished(study) == []


def test_a_trial_whose_process_died_is_run_again_with_the_same_parameters(tmp_path):
    study, params = opened(tmp_path, sampler="grid", trials=100, in_space=GRID)
    points = space.grid(params.space)
    studies.queue_grid(study, points, refused=0)
    died, alive = study.ask(), study.ask()
    died.set_user_attr("process", "x")
    drawn = space.suggest(died, params.space)
    storage.requeue_dead(study, lambda trial: trial.number == died.number)
    studies.run_trials(study, suggesting(params), studies.left(study, params))
    states = [trial.state.name for trial in study.trials]
    assert states[died.number] == "FAIL"
    assert states[alive.number] == "RUNNING"
    assert states.count("COMPLETE") == 7
    again = [t for t in studies.finished(study) if t.user_attrs["searched"] == drawn]
    assert len(again) == 1
    assert "process" not in again[0].user_attrs


def test_a_trial_that_kills_its_process_is_given_up(tmp_path):
    study, _ = opened(tmp_path)
    study.ask()
    for _ in range(storage.TRIAL_RETRIES):
        storage.requeue_dead(study, lambda _: True)
        assert study.trials[-1].state == TrialState.WAITING
        study.ask()
    storage.requeue_dead(study, lambda _: True)
    assert len(study.trials) == 1 + storage.TRIAL_RETRIES
    assert {trial.state for trial in study.trials} == {TrialState.FAIL}


def test_refused_networks_do_not_count_and_are_counted(tmp_path):
    study, params = opened(tmp_path, trials=5, sampler="random")

    def objective(trial):
        odd = trial.number % 2 == 1
        studies.constrain(trial, {"odd": 1.0 if odd else -1.0}, "it is odd" if odd else "")
        return float(trial.number)

    studies.run_trials(study, objective, studies.left(study, params))
    assert [t.number for t in studies.finished(study)] == [0, 2, 4, 6, 8]
    assert studies.refusals(study) == 4
    assert study.trials[1].constraints == {"odd": 1.0}
    with pytest.raises(studies.PrunedError, match="it is odd"):
        studies.constrain(study.ask(), {"odd": 1.0}, "it is odd")


def test_a_space_in_which_all_is_refused_is_given_up(tmp_path):
    study, _ = opened(tmp_path)

    def objective(trial):
        studies.constrain(trial, {"x": 1.0}, "no")

    studies.run_trials(study, objective, 1)
    assert len(study.trials) == studies.TRIES
    assert studies.best(study) is None


def test_tpe_learns_to_avoid_refused_networks(tmp_path):
    study, params = opened(tmp_path, trials=40, in_space=ONE_DEPTH)

    def objective(trial):
        searched = space.suggest(trial, params.space)
        strides = sum(layer["stride"] for layer in searched["layers"])
        studies.constrain(trial, {"strides": strides - 2.5}, "too long" if strides > 2.5 else "")
        return searched["learning_rate"]

    studies.run_trials(study, objective, studies.left(study, params))
    refused = [studies.REFUSED in trial.user_attrs for trial in study.trials]
    assert sum(refused[-20:]) < 10  # at random three of four are


@pytest.mark.parametrize(
    ("pruner", "changes"),
    [
        ("median", {"epochs": 9}),
        ("hyperband", {"epochs": 9}),
        ("wilcoxon", {"seeds": 9}),
    ],
)
def test_each_pruner_ends_bad_trials_early_and_never_the_best(tmp_path, pruner, changes):
    study, params = opened(tmp_path, pruner=pruner, trials=30, sampler="random", **changes)

    def objective(trial):
        level = 1 + (trial.number * 7 % 30)  # trial 0 is the best
        for step in range(1, 10):
            studies.report(trial, level * (1 + 0.01 * math.sin(step)), step)
        return float(level)

    studies.run_trials(study, objective, studies.left(study, params))
    pruned = [trial for trial in studies.finished(study) if trial.state == TrialState.PRUNED]
    assert len(studies.finished(study)) == 30
    assert 5 < len(pruned) < 30
    assert studies.best(study).number == 0


def test_two_objectives_have_a_front_and_the_best_is_the_most_accurate(tmp_path):
    study, params = opened(tmp_path, trials=12, objectives=["l2", "parameters"])
    run = suggesting(params, lambda trial: (float(trial.number % 5), -float(trial.number)))
    studies.run_trials(study, run, studies.left(study, params))
    assert studies.best(study).values[0] == 0
    front = {trial.number for trial in study.best_trials}
    assert front == {10, 11}
    studies.write_trials(study, tmp_path / "trials.csv")
    assert "values_1" in (tmp_path / "trials.csv").read_text().splitlines()[0]


def test_diverged_trainings_are_results(tmp_path):
    study, params = opened(tmp_path, trials=3, sampler="random")
    studies.run_trials(
        study, suggesting(params, lambda trial: math.inf if trial.number else 3.0), 3
    )
    assert len(studies.finished(study)) == 3
    assert studies.best(study).values == [3.0]


def test_optuna_still_calls_nothing_else_experimental():
    """Warnings are errors study, so that the tests above would fail if `_calm` missed one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(optuna.exceptions.ExperimentalWarning):
            optuna.samplers.QMCSampler()


def test_a_task_that_is_begun_again_goes_on_with_what_its_worker_left(tmp_path):
    planned = plan(tmp_path, trials=2)
    first = storage.open_study(planned)
    lost = first.ask()
    lost.set_user_attr(studies.TASK, "one")
    drawn = space.suggest(lost, planned.params.space)
    studies.run_task(planned, suggesting(planned.params), "two", 1)  # of another worker
    studies.run_task(planned, suggesting(planned.params), "one", 0)
    states = [trial.state.name for trial in first.trials]
    assert states == ["FAIL", "COMPLETE", "COMPLETE"]
    assert first.trials[2].user_attrs["searched"] == drawn
    assert first.trials[2].user_attrs[studies.TASK] == "one"
    studies.run_task(planned, suggesting(planned.params), "three", 2)
    assert len(first.trials) == 3  # nothing is left


def test_a_task_that_raised_runs_its_network_again(tmp_path):
    planned = plan(tmp_path, name="raised", trials=1)

    def broken(trial):
        space.suggest(trial, planned.params.space)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        studies.run_task(planned, broken, "one", 0)
    studies.run_task(planned, suggesting(planned.params), "one", 0)
    trials = storage.open_study(planned).trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]
    assert trials[0].params == trials[1].params


def test_a_database_that_is_not_there_is_one_sentence(tmp_path):
    planned = plan(tmp_path)
    nowhere = storage.Plan("x", "postgresql://me:secret@127.0.0.1:9/optuna", planned.params)
    with pytest.raises(InputError, match=r"database at 127\.0\.0\.1:9/optuna cannot") as told:
        storage.open_study(nowhere)
    assert "secret" not in str(told.value)
