import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from builders.measured import as_measured
from builders.pipeline import inside
from peculiar.core.errors import InputError
from peculiar.core.params import load
from peculiar.pipeline import promote
from peculiar.pipeline.paths import Paths
from peculiar.registry import models
from peculiar.registry.params import Promote
from peculiar.registry.rollback import roll_back
from peculiar.runs import exported, record, tracking
from peculiar.training.params import Train

pytestmark = pytest.mark.xdist_group("pipeline")


@pytest.fixture
def run(pipeline):
    return record.read_run(pipeline / "results/train/uniform-cnn2")


def test_networks_of_measured_distances_reach_promotion(pipeline, tmp_path, capsys):
    folder = tmp_path / "real"
    as_measured(pipeline, folder)
    with inside(folder):
        tracking.connect()
        mlflow.MlflowClient().delete_registered_model("peculiar-velocity")
        promote.main([])
        champion = tracking.aliased("peculiar-velocity")
        assert champion.aliases == ["champion", "champion-measured-stand-in"]
    decision = json.loads((folder / "results/promote/decision.json").read_text())
    assert decision["promoted"] is True
    score = float(champion.tags["validation_l2_dz_mpc"])
    assert decision["criterion"] == "l2_dz_mpc"
    assert decision["baseline"] == "a constant distance"
    assert score == decision["validation_l2_dz_mpc"] < decision["baseline_score"]
    assert not {"zero_rms_kms", "validation_posterior_rms_kms"} & decision.keys()
    assert decision["candidates"]["measured-cnn2"]["score"] == score
    assert "does not beat a constant distance" in decision["candidates"]["measured-best"]["against"]
    printed = capsys.readouterr().out
    assert f"L2 on D_z {score:.1f} Mpc on validation; a constant distance gives" in printed


def test_the_best_on_validation_is_champion(pipeline):
    decision = json.loads((pipeline / "results/promote/decision.json").read_text())
    runs = [record.read_run(path.parent) for path in pipeline.glob("results/train/*/run.json")]
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
        before = promote.holder_of("peculiar-velocity", "champion")
        kept = (pipeline / "results/promote/decision.json").read_text()
        promote.main([])
        after = promote.holder_of("peculiar-velocity", "champion")
    assert (after.version, after.run_id) == (before.version, before.run_id)
    printed = capsys.readouterr().out
    assert "of the bootstrap samples" in printed  # the table
    assert "the champion stays" in printed
    decision = json.loads((pipeline / "results/promote/decision.json").read_text())
    assert decision["promoted"] is False
    assert decision["why"] == f"it is version {before.version} already"
    (pipeline / "results/promote/decision.json").write_text(kept)


@pytest.fixture
def copy(pipeline, tmp_path):
    """The results of the pipeline, and an empty registry beside the same runs."""
    folder = tmp_path / "copy"
    (folder / "results").mkdir(parents=True)
    for name in ("params.yaml", "data", "results/train", "results/evaluate"):
        (folder / name).symlink_to(pipeline / name)
    shutil.copytree(pipeline / "mlruns", folder / "mlruns")
    with inside(folder):
        tracking.connect()
        mlflow.MlflowClient().delete_registered_model("peculiar-velocity")
        yield folder


def versions():
    return models.versions("peculiar-velocity")


def only(*networks):
    """`train` of params.yaml with these networks alone (and `best`)."""
    return load(Train).model_copy(update={"networks": networks})


@pytest.mark.usefixtures("copy")
def test_a_dry_run_changes_nothing(capsys):
    promote.promote_best(load(Promote), load(Train), Paths(), dry_run=True)
    assert "the next version would be champion" in capsys.readouterr().out
    assert versions() == []
    assert not Paths().promoted.exists()


def test_a_better_network_takes_the_place_and_the_history_is_complete(copy, monkeypatch):
    params = load(Promote)
    monkeypatch.setattr(Train, "items", lambda train: [("uniform", n) for n in train.networks])
    promote.promote_best(params, only("starlet"), Paths())
    sure = params.model_copy(update={"confidence": 0.99})  # 20 galaxies are too few for that
    promote.promote_best(sure, only("cnn2"), Paths())
    assert len(versions()) == 1
    bold = params.model_copy(update={"confidence": 0.8})
    promote.promote_best(bold, only("cnn2"), Paths())
    aliases = {"champion": "2", "previous": "1", "champion-uniform-stand-in": "2"}
    assert models.aliases_of("peculiar-velocity") == aliases
    first, second = models.history("peculiar-velocity")
    assert first["before"] == {"champion": None, "champion-uniform-stand-in": None}
    assert second["before"]["champion"] == "1"
    assert second["after"] == aliases
    assert "of bootstrap samples of galaxies" in second["why"]
    two = versions()[1]
    run = record.read_run(Path("results/train/uniform-cnn2"))
    assert two.tags["model_sha256"] == run.model_sha256
    assert json.loads(two.tags["candidates"])["uniform-cnn2"]["better"] > 0.8
    assert two.description.startswith("# peculiar-velocity 2: uniform-cnn2")
    card = models.artifact(two.run_id, "cards", copy) / "version-2.md"
    assert card.read_text() == two.description

    assert "version 1 is champion again" in roll_back("peculiar-velocity", "a test")
    swapped = {"champion": "1", "previous": "2", "champion-uniform-stand-in": "1"}
    assert models.aliases_of("peculiar-velocity") == swapped
    assert models.history("peculiar-velocity")[2]["what"] == "rollback"
    promote.promote_best(bold, only("cnn2"), Paths())
    decision = json.loads((Paths().promoted / "decision.json").read_text())
    assert decision["why"] == "it was rolled back: --allow withdrawn"
    roll_back("peculiar-velocity", "it was right")
    assert models.aliases_of("peculiar-velocity") == aliases
    assert "withdrawn" not in models.find("peculiar-velocity", "2").tags
    assert "withdrawn" in models.find("peculiar-velocity", "1").tags


@pytest.mark.usefixtures("copy")
def test_the_second_of_two_promotions_is_refused_with_the_reason():
    """Both compare with no champion; the second to act finds one."""
    params = load(Promote)
    tested = promote.read_tested(Paths())
    networks = promote.candidates(load(Train), tested, Paths())
    chosen = [promote.choices(networks, params, ()) for _ in range(2)]
    decisions = [promote.describe(c[0], c[1:]) for c in chosen]
    promote.move_aliases(params.model, chosen[0], decisions[0], tested)
    with pytest.raises(InputError, match=r"champion is now version 1, not None .* run the same"):
        promote.move_aliases(params.model, chosen[1], decisions[1], tested)
    assert len(versions()) == len(models.history(params.model)) == 1


RACE = """
import sys, time
from pathlib import Path
from peculiar.pipeline import promote
move_aliases = promote.move_aliases
def together(*arguments):
    Path(sys.argv[1]).touch()
    while not all(Path(f"ready{i}").exists() for i in range(2)):
        time.sleep(0.01)
    move_aliases(*arguments)
promote.move_aliases = together
promote.main([])
"""


@pytest.mark.usefixtures("copy")
@pytest.mark.slow
def test_two_processes_promote_at_the_same_time():
    source = Path(promote.__file__).parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, f"ready{i}"],
            env=os.environ | {"PYTHONPATH": str(source)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    said = [process.communicate(timeout=100) for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 1], said
    assert "nothing is promoted: champion is now version 1" in said[codes.index(1)][1]
    assert len(versions()) == len(models.history("peculiar-velocity")) == 1


@pytest.mark.usefixtures("copy")
def test_a_model_that_changed_since_training_is_not_promoted(monkeypatch):
    monkeypatch.setattr(exported, "model_sha256", lambda _: "0" * 64)
    with pytest.raises(InputError, match=r"changed since cnn2 was trained: restore"):
        promote.promote_best(load(Promote), load(Train), Paths())
    assert versions() == []


def test_nothing_to_promote_ends_with_the_reason(pipeline, tmp_path, monkeypatch):
    for name in ("params.yaml", "results"):
        (tmp_path / name).symlink_to(pipeline / name)
    monkeypatch.setattr(promote, "refusal", lambda *_: "it is no good")
    with inside(tmp_path), pytest.raises(SystemExit) as stop:
        promote.main([])
    assert "no network can be promoted; the best, cnn2: it is no good" in str(stop.value)


def test_a_run_that_mlflow_lost_is_named(pipeline, tmp_path):
    for name in ("params.yaml", "results"):
        (tmp_path / name).symlink_to(pipeline / name)
    with inside(tmp_path), pytest.raises(SystemExit, match=r"MLflow has no run .* train again"):
        promote.main([])


def test_the_stage_that_trains_a_network_is_named(run):
    assert promote.stage_of(run) == "train@uniform-cnn2"
    best = run.model_copy(update={"network": "best"})
    assert promote.stage_of(best) == "train-best@uniform"


def test_evaluate_must_have_run(tmp_path, pipeline):
    (tmp_path / "params.yaml").symlink_to(pipeline / "params.yaml")
    with inside(tmp_path), pytest.raises(InputError, match=r"metrics\.json is missing: run `dvc"):
        promote.read_tested(Paths())
