import json
import os
import shutil
import subprocess
from pathlib import Path

import mlflow
import pytest

from builders.measured import as_measured, resurvey
from builders.nulls import failing_nulls, make_nulls, write_nulls
from builders.pipeline import inside
from builders.processes import started
from peculiar.core.errors import InputError
from peculiar.core.params import load
from peculiar.pipeline import promote
from peculiar.pipeline.paths import Paths
from peculiar.registry import exchange, ledger, models
from peculiar.registry.params import Promote
from peculiar.registry.rollback import roll_back
from peculiar.registry.selection import ALLOWABLE
from peculiar.registry.spending import Round
from peculiar.runs import record, tracking
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
        champion = models.aliased("peculiar-velocity")
        aliases = models.aliases_of("peculiar-velocity")
        assert aliases == {"champion": "1", "champion-measured-stand-in": "1"}
    decision = json.loads((folder / "results/promote/decision.json").read_text())
    assert decision["promoted"] is True
    score = float(champion.tags["validation_l2_dz_mpc"])
    assert decision["criterion"] == "l2_dz_mpc"
    assert decision["baseline"] == "a constant distance"
    assert score == decision["validation_l2_dz_mpc"] < decision["baseline_score"]
    assert not {"zero_rms_kms", "validation_posterior_rms_kms"} & decision.keys()
    assert decision["null_tests"] == "not applicable: the galaxies are real"
    assert champion.tags["null_tests"] == decision["null_tests"]
    assert "## Null tests\nnot applicable: the galaxies are real" in champion.description
    assert decision["candidates"][f"measured-{decision['network']}"]["score"] == score
    for verdict in decision["candidates"].values():
        beats = verdict["score"] < decision["baseline_score"]
        assert beats or "does not beat a constant distance" in verdict["against"]
    printed = capsys.readouterr().out
    assert f"L2 on D_z {score:.1f} Mpc on validation; a constant distance gives" in printed


def test_the_best_on_validation_is_champion(pipeline):
    decision = json.loads((pipeline / "results/promote/decision.json").read_text())
    runs = [record.read_run(path.parent) for path in pipeline.glob("results/train/*/run.json")]
    best = min(runs, key=lambda run: run.validation["posterior_rms_kms"])
    with inside(pipeline):
        tracking.connect()
        version = models.aliased("peculiar-velocity")
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


@pytest.fixture
def copied(pipeline, tmp_path):
    """The results of the pipeline, and a copy of its runs and registry."""
    folder = tmp_path / "copy"
    (folder / "results").mkdir(parents=True)
    for name in ("params.yaml", "data", "results/train", "results/evaluate", "results/nulls"):
        (folder / name).symlink_to(pipeline / name)
    shutil.copytree(pipeline / "mlruns", folder / "mlruns")
    with inside(folder):
        tracking.connect()
        yield folder


def test_promoting_again_keeps_the_champion(copied, capsys):
    before = promote.holder_of("peculiar-velocity", "champion")
    promote.main([])
    after = promote.holder_of("peculiar-velocity", "champion")
    assert (after.version, after.run_id) == (before.version, before.run_id)
    printed = capsys.readouterr().out
    assert "of the bootstrap samples" in printed  # the table
    assert "the champion stays" in printed
    decision = json.loads((copied / "results/promote/decision.json").read_text())
    assert decision["promoted"] is False
    assert decision["why"] == f"it is version {before.version} already"


@pytest.fixture
def copy(copied):
    """The results of the pipeline, and an empty registry beside the same runs."""
    mlflow.MlflowClient().delete_registered_model("peculiar-velocity")
    return copied


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
    compared = json.loads(two.tags["candidates"])["uniform-cnn2"]
    assert compared["better"] > compared["required"] > 0.9  # half of what one may spend, at first
    assert compared["null_tests"] == "13 of 13 passed"
    # its first comparison, at 0.99, counts as this one: they are the same two networks
    assert [one.number for one in ledger.read("peculiar-velocity")] == [1]
    assert two.tags["comparison"] == two.tags["compared_together"] == "1"
    assert float(two.tags["required_share"]) == compared["required"]
    assert "comparison 1 on these images, more than 9" in two.tags["why"]
    assert "## Null tests\n13 of 13 passed" in two.description
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
    assert [one.number for one in ledger.read("peculiar-velocity")] == [1]


@pytest.fixture
def held(copy, monkeypatch):
    """`starlet` is champion, and other networks follow."""
    monkeypatch.setattr(Train, "items", lambda train: [("uniform", n) for n in train.networks])
    promote.promote_best(load(Promote), only("starlet"), Paths())
    return copy


SURE = 0.9999  # a confidence with which nothing is promoted


def compare(*networks):
    params = load(Promote).model_copy(update={"confidence": SURE})
    promote.promote_best(params, only(*networks), Paths())
    return json.loads((Paths().promoted / "decision.json").read_text())


def rounds():
    """Number, and how many candidates, of each comparison in the registry."""
    found = ledger.read("peculiar-velocity")
    data = {record.read_run(Path("results/train/uniform-starlet")).data["data/observe/uniform"]}
    assert {one.data for one in found} <= data
    return [(one.number, len(one.candidates)) for one in found]


@pytest.mark.usefixtures("held")
def test_comparisons_are_counted_once_and_survive(tmp_path):
    assert rounds() == []  # the first champion was compared with none
    params = load(Promote)
    promote.promote_best(params, only("cnn2"), Paths(), dry_run=True)
    assert rounds() == []
    decision = compare("cnn2", "pyramid")
    assert rounds() == [(1, 2)]
    assert (decision["comparison"], decision["compared_together"]) == (1, 2)
    assert "comparison 1 on these images" in decision["why"]
    assert not {"version", "aliases"} & decision.keys()
    assert compare("cnn2", "pyramid")["required_share"] == decision["required_share"]
    assert compare("pyramid")["required_share"] == decision["required_share"]
    assert rounds() == [(1, 2)]
    new = compare("cnn2", "best", "pyramid")
    shares = {name: c["required"] for name, c in new["candidates"].items()}
    assert rounds() == [(1, 2), (2, 1)]
    assert shares["uniform-cnn2"] == decision["required_share"] < shares["uniform-best"]
    assert len(models.history("peculiar-velocity")) == 1  # no alias moved
    # in another registry they go on
    exchange.export("peculiar-velocity", tmp_path / "export")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with inside(elsewhere):
        for _ in range(2):
            exchange.adopt(tmp_path / "export")
            found = ledger.read("peculiar-velocity")
            assert [(one.number, len(one.candidates)) for one in found] == [(1, 2), (2, 1)]


@pytest.mark.usefixtures("held")
def test_a_registry_without_counts_goes_on_after_its_last_decision():
    compare("cnn2")
    client, (version,) = mlflow.MlflowClient(), versions()
    client.delete_registered_model_tag("peculiar-velocity", f"{ledger.TAG}0001")
    client.set_model_version_tag("peculiar-velocity", version.version, "comparison", "7")
    assert compare("cnn2")["comparison"] == 8
    assert rounds() == [(8, 1)]
    client.set_model_version_tag("peculiar-velocity", version.version, "comparison", "x")
    with pytest.raises(InputError, match="tag comparison is 'x', not a number: restore MLflow's"):
        ledger.read("peculiar-velocity")
    client.set_registered_model_tag("peculiar-velocity", f"{ledger.TAG}0001", '{"data": "d"}')
    with pytest.raises(InputError, match=r"tag comparison\.0001 of peculiar-velocity\.number: key"):
        ledger.read("peculiar-velocity")


@pytest.mark.usefixtures("held")
def test_of_two_that_compare_at_the_same_time_the_second_compares_again():
    """No alias moves, so the aliases cannot tell."""
    params = load(Promote).model_copy(update={"confidence": SURE})
    tested = promote.read_tested(Paths())
    chosen = []
    for names in (["cnn2"], ["pyramid"]):
        networks = promote.candidates(only(*names), tested, Paths())
        chosen.append(promote.choices(networks, params, ()))
    decisions = [promote.describe(c[0], c[1:]) for c in chosen]
    promote.move_aliases(params.model, chosen[0], decisions[0], tested)
    with pytest.raises(InputError, match=r"comparison 1 on the validation images of .* meanwhile"):
        promote.move_aliases(params.model, chosen[1], decisions[1], tested)
    assert rounds() == [(1, 1)]
    assert compare("pyramid")["comparison"] == 2


@pytest.mark.usefixtures("held")
def test_comparisons_of_another_registry_are_numbered_on():
    compare("cnn2")
    (own,) = ledger.read("peculiar-velocity")
    others = [
        own,
        own.model_copy(update={"candidates": (*own.candidates, "else"), "holder": own.holder}),
        Round(data=own.data, number=1, holder="theirs", candidates=("a", "b")),
        Round(data="more", number=4, holder="theirs", candidates=("a",)),
    ]
    for _ in range(2):
        ledger.adopt("peculiar-velocity", others)
        found = ledger.read("peculiar-velocity")
        assert [(r.data == own.data, r.number, r.candidates) for r in found] == [
            (True, 1, own.candidates),
            (True, 2, ("else",)),
            (True, 3, ("a", "b")),
            (False, 4, ("a",)),
        ]


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (None, "its null tests are missing: run `dvc repro nulls` first"),
        (lambda _: make_nulls("0ther"), "its null tests are those of run 0ther"),
        (failing_nulls, "it fails the null test scenes 0: .* [(]and 1 more[)]"),
    ],
)
def test_networks_without_passing_null_tests_are_not_promoted(copy, build, reason):
    (copy / "results/nulls").unlink()
    if build is not None:
        write_nulls(copy, build)
    with pytest.raises(SystemExit, match=f"no network can be promoted; .*{reason}"):
        promote.main(["--allow", *ALLOWABLE])
    assert versions() == []


def test_networks_of_the_paper_s_scale_are_promoted_only_if_allowed(copy, pipeline):
    (copy / "results/train").unlink()
    shutil.copytree(pipeline / "results/train", copy / "results/train")
    for trained_at in copy.glob("results/train/*"):
        resurvey(trained_at, {"scale": "paper"})
    reason = r"take every frame as 84\.4 kpc, .* [(]scale: paper[)]: --allow paper-scale"
    with pytest.raises(SystemExit, match=f"no network can be promoted; .*{reason}"):
        promote.main([])
    assert versions() == []
    promote.main(["--allow", "paper-scale"])
    (version,) = versions()
    assert "all taken as 84.4 kpc (A RULER" in version.description


def test_the_best_network_that_passes_its_null_tests_is_promoted(copy):
    (copy / "results/nulls").unlink()
    best = min(
        (record.read_run(path.parent) for path in copy.glob("results/train/*/run.json")),
        key=lambda run: run.validation["posterior_rms_kms"],
    )
    write_nulls(
        copy, lambda run_id: (failing_nulls if run_id == best.run_id else make_nulls)(run_id)
    )
    promote.main([])
    decision = json.loads((copy / "results/promote/decision.json").read_text())
    assert decision["run_id"] != best.run_id
    failed = decision["candidates"][f"uniform-{best.network}"]
    assert failed["null_tests"] == "1 of 3 passed"
    assert failed["against"].startswith("it fails the null test")


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
    options = {"env": os.environ | {"PYTHONPATH": str(source)}, "text": True}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with (
        started("-c", RACE, "ready0", **options) as one,
        started("-c", RACE, "ready1", **options) as other,
    ):
        said = [process.communicate(timeout=240)[0] for process in (one, other)]
    codes = [process.returncode for process in (one, other)]
    assert sorted(codes) == [0, 1], said
    assert "nothing is promoted: champion is now version 1" in said[codes.index(1)]
    assert len(versions()) == len(models.history("peculiar-velocity")) == 1


@pytest.mark.usefixtures("copy")
def test_a_model_that_changed_since_training_is_not_promoted(monkeypatch):
    monkeypatch.setattr(promote, "files_sha256", lambda _: "0" * 64)
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
