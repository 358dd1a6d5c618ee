import json
import math

import mlflow
import pytest
from test_evaluate import as_measured
from tiny import inside

from peculiar import promote, tracking, trained
from peculiar.errors import InputError
from peculiar.galaxies import Observed
from peculiar.metrics import METRICS
from peculiar.params import load
from peculiar.params_networks import Train

pytestmark = pytest.mark.xdist_group("pipeline")
GOOD = dict.fromkeys(METRICS, 1.0)


@pytest.fixture
def run(pipeline):
    return trained.read_run(pipeline / "results/train/uniform-cnn2")


def with_rms(run, rms, **changes):
    metrics = run.validation | {"posterior_rms_kms": rms}
    return run.model_copy(update={"validation": metrics, "zero_rms_kms": 400.0, **changes})


def champion(run, rms, **changes):
    values = {"run_id": "0" * 32, "version": "1", "data": promote.data_digest(run)}
    return promote.Champion(**{**values, "score": rms, **changes})


def test_a_sound_network_is_not_refused(run):
    assert promote.refusal(with_rms(run, 300.0), GOOD) is None


@pytest.mark.parametrize("key", METRICS)
def test_missing_metrics_are_refused(run, key):
    lacking = {name: value for name, value in GOOD.items() if name != key}
    assert promote.refusal(with_rms(run, 300.0), lacking) == f"its test metrics lack {key}"
    lacking = run.model_copy(update={"validation": lacking})
    assert promote.refusal(lacking, GOOD) == f"its validation metrics lack {key}"
    assert "test metrics lack" in promote.refusal(with_rms(run, 300.0), None)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_metrics_that_are_not_finite_are_refused(run, value):
    reason = promote.refusal(with_rms(run, value), GOOD)
    assert reason == "its validation metrics posterior_rms_kms are not finite"
    reason = promote.refusal(with_rms(run, 300.0), GOOD | {"l1_d_mpc": value})
    assert reason == "its test metrics l1_d_mpc are not finite"


def test_a_network_must_beat_v_equal_zero(run):
    assert "does not beat v = 0" in promote.refusal(with_rms(run, 400.0), GOOD)
    assert promote.refusal(with_rms(run, 399.9), GOOD) is None


def measured(run, rms):
    """A network of real galaxies, whose `true` velocities are the Sun's motion."""
    unknown = {key: math.nan for key in METRICS if not key.startswith(("l1_", "l2_", "shift_"))}
    metrics = GOOD | unknown | {"l2_dz_mpc": rms}
    return run.model_copy(update={"distribution": "measured", "zero_rms_kms": 0.1,
                                  "validation": metrics}), metrics  # fmt: skip


def test_a_network_of_measured_distances_must_beat_their_deviation(pipeline, run):
    observed = Observed.read(pipeline / "data/observe/uniform")
    D_z = observed.table["distance_z_mpc"].value[observed.rows("validation")]
    with inside(pipeline):
        assert promote.refusal(*measured(run, D_z.std() - 0.01)) is None
        reason = promote.refusal(*measured(run, D_z.std() + 0.01))
        assert reason.startswith("its l2_dz_mpc ")
        assert reason.endswith(f"does not beat a constant distance, {D_z.std():.1f}")
        reason = promote.refusal(*measured(run, math.nan))
        assert reason == "its validation metrics l2_dz_mpc are not finite"
    candidate, _ = measured(run, 9.0)
    assert promote.kept(candidate, champion(run, 9.1)) is None
    assert "its l2_dz_mpc 9.0 is not better" in promote.kept(candidate, champion(run, 9.0))


def test_networks_of_measured_distances_reach_promotion(pipeline, tmp_path, capsys):
    folder = tmp_path / "real"
    as_measured(pipeline, folder)
    with inside(folder):
        tracking.connect()
        mlflow.MlflowClient().delete_registered_model_alias("peculiar-velocity", tracking.CHAMPION)
        promote.main()
        found = promote.present_champion("peculiar-velocity", "l2_dz_mpc")
    decision = json.loads((folder / "results/promote/decision.json").read_text())
    assert decision["promoted"] is True
    assert decision["criterion"] == "l2_dz_mpc"
    assert decision["baseline"] == "a constant distance"
    assert found.score == decision["validation_l2_dz_mpc"] < decision["baseline_score"]
    assert not {"zero_rms_kms", "validation_posterior_rms_kms"} & decision.keys()
    assert decision["candidates"]["measured-cnn2"] == found.score
    assert "does not beat a constant distance" in decision["candidates"]["measured-best"]
    printed = capsys.readouterr().out
    assert f"L2 on D_z {found.score:.1f} Mpc on validation; a constant distance gives" in printed


def test_the_grid_of_a_distribution_reaches_the_registry(pipeline):
    """As a tag, which MLflow cuts at 100,000 characters; a point head's is empty."""
    runs = {
        name: trained.read_run(pipeline / f"results/train/uniform-{name}")
        for name in ("cnn2", "pyramid")
    }
    tags = {
        name: str(promote.describe(run, None, None, [(run, None)])["grid_mpc"])
        for name, run in runs.items()
    }
    assert tags["cnn2"] == ""
    assert tuple(json.loads(tags["pyramid"])) == runs["pyramid"].grid_mpc
    cells = len(runs["pyramid"].grid_mpc)
    assert cells == math.ceil(50 / 0.8)
    assert len(tags["pyramid"]) / cells < 100_000 / 4000  # room for 3,200 Mpc


def test_a_champion_stays_unless_beaten_on_the_same_data(run):
    candidate = with_rms(run, 300.0)
    assert promote.kept(candidate, None) is None
    assert "not better than the champion's 300.0" in promote.kept(candidate, champion(run, 300.0))
    assert promote.kept(candidate, champion(run, 300.1)) is None
    assert promote.kept(candidate, champion(run, 200.0, data="other")) is None
    same = champion(run, 300.0, run_id=run.run_id)
    assert promote.kept(candidate, same) == "it is the champion already"


def test_the_best_on_validation_is_champion(pipeline):
    decision = json.loads((pipeline / "results/promote/decision.json").read_text())
    runs = [trained.read_run(path.parent) for path in pipeline.glob("results/train/*/run.json")]
    best = min(runs, key=lambda run: run.validation["posterior_rms_kms"])
    with inside(pipeline):
        tracking.connect()
        version = tracking.aliased("peculiar-velocity")
    assert version.run_id == decision["run_id"] == best.run_id
    assert decision["promoted"] is True
    for key in ("who", "when", "why", "data", "git_commit"):
        assert version.tags[key] == str(decision[key])
    assert version.tags["data_source"] == "stand-in"
    logged = mlflow.MlflowClient().search_runs(
        [mlflow.get_experiment_by_name(tracking.EXPERIMENT).experiment_id],
        "tags.stage = 'promote'",
    )
    assert "decision.json" in {
        file.path for file in mlflow.MlflowClient().list_artifacts(logged[-1].info.run_id)
    }


def test_promoting_again_keeps_the_champion(pipeline, capsys):
    with inside(pipeline):
        before = promote.present_champion("peculiar-velocity", "posterior_rms_kms")
        assert before.score > 0
        kept = (pipeline / "results/promote/decision.json").read_text()
        promote.main()
        assert promote.present_champion("peculiar-velocity", "posterior_rms_kms") == before
    assert "the champion stays" in capsys.readouterr().out
    decision = json.loads((pipeline / "results/promote/decision.json").read_text())
    assert decision["promoted"] is False
    assert decision["why"] == "it is the champion already"
    (pipeline / "results/promote/decision.json").write_text(kept)


def test_nothing_to_promote_ends_with_the_reason(pipeline, tmp_path, monkeypatch):
    for name in ("params.yaml", "results"):
        (tmp_path / name).symlink_to(pipeline / name)
    monkeypatch.setattr(promote, "refusal", lambda *_: "it is no good")
    with inside(tmp_path), pytest.raises(SystemExit) as stop:
        promote.main()
    assert "no network can be promoted; the best, cnn2: it is no good" in str(stop.value)


def test_a_run_that_mlflow_lost_is_named(pipeline, tmp_path):
    for name in ("params.yaml", "results"):
        (tmp_path / name).symlink_to(pipeline / name)
    with inside(tmp_path), pytest.raises(SystemExit, match=r"MLflow has no run .* train again"):
        promote.main()


def test_the_stage_that_trains_a_network_is_named(run):
    assert promote.stage_of(run) == "train@uniform-cnn2"
    best = run.model_copy(update={"network": "best"})
    assert promote.stage_of(best) == "train-best@uniform"


def test_a_user_without_a_name_has_a_number(monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(promote.getpass, "getuser", nameless)
    assert promote.who() == str(promote.os.getuid())


def test_evaluate_must_have_run(tmp_path, pipeline):
    (tmp_path / "params.yaml").symlink_to(pipeline / "params.yaml")
    with inside(tmp_path), pytest.raises(InputError, match=r"metrics\.json is missing: run `dvc"):
        promote.candidates(load(Train))
