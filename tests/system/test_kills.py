"""Commands that are killed at random steps and run again write what an undisturbed run writes.

A step is a change of a file, or an SQL statement. The long form, `make torture`, kills every stage
and command until `KILLS_S` seconds are over; `KILLS_SEED` draws other kills. It prints how many
there were, and how many second runs gave the same.
"""

import csv
import json
import os
import random
import shutil
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builders.kills import NEVER, STATEMENTS, Killing, killing
from builders.standin import small_standin
from peculiar.galaxies.standin.simulation import make_broadband

MODEL = "peculiar-velocity"
IMPORTS = (
    STATEMENTS
    + """
import os
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store
from builders.pipeline import Here
from peculiar import parallel
from peculiar.cli.main import main
from peculiar.pipeline import evaluate, fetch, nulls, observe, promote, search, train
from peculiar.predict import batch
from peculiar.registry import exchange, models
from peculiar.registry.rollback import roll_back
from peculiar.runs import tracking

parallel.ProcessPoolExecutor = Here

def look():
    try:
        main(["registry", "list"])
    except SystemExit as stop:  # the first promotion was killed before it registered anything
        assert "has no version of" in str(stop), stop

def next_writer():
    tracking.connect()
    with models.locked("peculiar-velocity"):
        pass

RUN = {
    "fetch": lambda: fetch.main([]),
    "observe": lambda: observe.main(["--dataset", "uniform"]),
    "search": lambda: search.main([]),
    "train": lambda: train.main(["--dataset", "uniform", "--network", "cnn2"]),
    "evaluate": lambda: evaluate.main([]),
    "nulls": lambda: nulls.main([]),
    "promote": lambda: promote.main([]),
    "predict": lambda: main(["predict", "galaxies.csv", "--output", "out.ecsv"]),
    "export": lambda: main(["registry", "export", "exported"]),
    "import": lambda: main(["registry", "import", "given", "--store", "new"]),
    "rollback": lambda: main(["registry", "rollback", "--why", "a test"]),
    "list": look,
    "next": next_writer,
}
"""
)
CODE = """
name, folder = argument.split(" ", 1)
os.chdir(folder)
RUN[name]()
"""
VOLATILE = {  # of run.json, registry.json and decision.json
    *("run_id", "model_uri", "when", "code", "trained_by", "git_commit", "git_dirty"),
    *("duration_s", "seconds", "host"),
}


def without(value: Any) -> Any:
    """JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {key: without(below) for key, below in value.items() if key not in VOLATILE}
    return [without(below) for below in value] if isinstance(value, list) else value


def files(*names: str) -> Callable[[Path], dict[str, Any]]:
    """Contents of files and of all files in folders, by name."""

    def read(folder: Path) -> dict[str, Any]:
        paths = [path for name in names for path in (folder / name, *(folder / name).rglob("*"))]
        return {
            str(path.relative_to(folder)): without(json.loads(path.read_text()))
            if path.suffix == ".json"
            else path.read_bytes()
            for path in paths
            if path.is_file()
        }

    return read


def registry(store: str) -> Callable[[Path], dict[str, Any]]:
    """Versions, aliases and history of the registered model."""

    def read(folder: Path) -> dict[str, Any]:
        with closing(sqlite3.connect(folder / store / "mlflow.db")) as database:
            ask = database.execute
            tags = dict(ask("SELECT key, value FROM registered_model_tags").fetchall())
            return {
                "models": ask("SELECT name FROM registered_models").fetchall(),
                "pending": "pending" in tags,
                "history": [json.loads(tags[k])["what"] for k in sorted(tags) if "history." in k],
                "aliases": sorted(
                    ask("SELECT alias, version FROM registered_model_aliases").fetchall()
                ),
                "versions": sorted(
                    ask(
                        "SELECT version, key, value FROM model_version_tags WHERE key IN "
                        "('model_sha256', 'network', 'dataset', 'validation_posterior_rms_kms')"
                    ).fetchall()
                ),
                "withdrawn": ask(
                    "SELECT version FROM model_version_tags WHERE key = 'withdrawn'"
                ).fetchall(),
            }

    return read


def searched(folder: Path) -> dict[str, Any]:
    """How many trials ended; a search that was interrupted draws other ones.

    A trial that was killed stands beside them, failed.
    """
    with (folder / "results/search/trials.csv").open(newline="") as stream:
        ended = [row for row in csv.DictReader(stream) if row["state"] == "COMPLETE"]
    written = sorted(path.name for path in (folder / "results/search").rglob("*"))
    return {"trials": len(ended), "written": written}


def forget_registry(folder: Path) -> None:
    """Remove all versions, as before the first promotion."""
    with closing(sqlite3.connect(folder / "mlruns/mlflow.db")) as database, database:
        for table in (
            *("registered_model_aliases", "model_version_tags", "model_versions"),
            *("registered_model_tags", "registered_models"),
        ):
            database.execute(f"DELETE FROM {table}")


@dataclass(frozen=True)
class Command:
    """What is removed before a command runs, and what is compared after it."""

    removed: tuple[str, ...]
    read: Callable[[Path], dict[str, Any]]
    prepare: Callable[[Path], None] = lambda _: None


COMMANDS = {
    "fetch": Command(("data/fetch",), files("data/fetch")),
    "observe": Command(("data/observe/uniform",), files("data/observe/uniform")),
    "search": Command(("results/search", "mlruns/optuna.journal"), searched),
    "train": Command(("results/train/uniform-cnn2",), files("results/train/uniform-cnn2")),
    "evaluate": Command(("results/evaluate",), files("results/evaluate")),
    "nulls": Command(("results/nulls",), files("results/nulls")),
    "promote": Command(("results/promote",), registry("mlruns"), forget_registry),
    "predict": Command((), files("out.ecsv")),
    "export": Command((), files("exported")),
    "import": Command((), registry("new")),
    "rollback": Command((), registry("mlruns")),
}
SHORT = ("observe", "train", "nulls", "predict", "import")  # what takes a few seconds


@dataclass
class Torture:
    """Copies of a folder in which all stages have run, and commands that are killed in them."""

    whole: Path
    folder: Path
    killed: Killing

    def undisturbed(self, name: str) -> tuple[int, dict[str, Any]]:
        """Number of steps of a command, and what it writes."""
        work = self.fresh(name)
        assert not self.killed(NEVER, f"{name} {work}")
        return self.killed.steps, COMMANDS[name].read(work)

    def fresh(self, name: str) -> Path:
        """A copy as before the command."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.whole, work)
        for removed in COMMANDS[name].removed:
            path = work / removed
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        COMMANDS[name].prepare(work)
        return work

    def disturbed(self, name: str, steps: list[int]) -> tuple[int, dict[str, Any]]:
        """Kill a command at these steps, one after another, and run it to its end."""
        work = self.fresh(name)
        before = COMMANDS[name].read(work) if name == "rollback" else None
        kills = sum(self.killed(step, f"{name} {work}") for step in steps)
        self.killed(NEVER, f"list {work}")  # who looks changes nothing
        begun = before is not None and not self._unchanged(before, work)
        self.killed(NEVER, f"{'next' if begun else name} {work}")
        # a lock may stay, which hinders nobody
        partial = [path for path in work.rglob(".*") if path.suffix in (".partial", ".old")]
        left = [path.name for path in partial if ".lock" not in path.suffixes]
        assert not left
        return kills, COMMANDS[name].read(work)

    def _unchanged(self, before: dict[str, Any], work: Path) -> bool:
        """Whether a killed rollback was not begun; a second one would undo one that was."""
        now = COMMANDS["rollback"].read(work)
        return not now["pending"] and now["history"] == before["history"]


@pytest.fixture(scope="module")
def whole(pipeline, tmp_path_factory):
    """A copy of the pipeline's folder, with what the other commands read."""
    folder = tmp_path_factory.mktemp("kills") / "whole"
    shutil.copytree(pipeline, folder)
    prepare(folder)
    return folder


def prepare(folder: Path) -> None:
    """Add a catalogue of galaxies, an export, and a version before the champion."""
    make_broadband(folder / "broadband_3.fits", 3, small_standin())
    rows = [f"broadband_3.fits,{5000 + k},30,{50 + k % 50},{k % 4}" for k in range(600)]
    lines = ["path,cz_kms,cz_error_kms,distance_mpc,camera", *rows]
    (folder / "galaxies.csv").write_text("\n".join(lines))
    with killing(IMPORTS, CODE, folder) as killed:
        assert not killed(NEVER, f"export {folder}")
    (folder / "exported").rename(folder / "given")
    with closing(sqlite3.connect(folder / "mlruns/mlflow.db")) as database, database:
        for table in ("model_versions", "model_version_tags"):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            kept = ", ".join(name for name in columns if name != "version")
            database.execute(f"INSERT INTO {table} (version, {kept}) SELECT 2, {kept} FROM {table}")
        database.execute(
            "INSERT INTO registered_model_aliases (alias, version, name) VALUES "
            f"('previous', 2, '{MODEL}')"
        )


def torture(whole: Path, folder: Path, seed: int, names: tuple[str, ...], most_s: float) -> str:
    """Kill commands in turn until the time is over, each once at least; a summary."""
    rng, kills, same, faults = random.Random(seed), 0, 0, Counter[str]()
    begun, known = time.monotonic(), {}
    with killing(IMPORTS, CODE, whole) as killed:
        tortured = Torture(whole, folder, killed)
        turn = 0
        while turn < len(names) or time.monotonic() - begun < most_s:
            name = names[turn % len(names)]
            turn += 1
            if name not in known:
                known[name] = tortured.undisturbed(name)
            steps = [rng.randint(1, known[name][0]) for _ in range(rng.choice([1, 1, 2]))]
            try:
                done, written = tortured.disturbed(name, steps)
            except AssertionError as error:
                done, written = len(steps), {"fault": str(error).splitlines()[0]}
            kills += done
            if written == known[name][1]:
                same += 1
            else:
                faults[name] += 1
                print(f"{name}, killed at {steps}: {differing(written, known[name][1])}")
    said = f"seed {seed}: {kills} kills, {turn} reruns, {same} the same, {dict(faults)} not"
    print(said, {name: steps for name, (steps, _) in known.items()}, file=sys.stderr)
    assert same == turn, said
    return said


def differing(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Names of what differs."""
    keys = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
    return ", ".join(f"{key}: {one.get(key)!r:.80} not {other.get(key)!r:.80}" for key in keys[:5])


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_killed_commands_run_again_give_the_same(whole, tmp_path):
    torture(whole, tmp_path, seed=1, names=SHORT, most_s=0)


@pytest.mark.torture
@pytest.mark.xdist_group("pipeline")
def test_all_commands_killed_for_minutes_give_the_same(whole, tmp_path):
    seed = int(os.environ.get("KILLS_SEED", time.time()))
    torture(whole, tmp_path, seed, tuple(COMMANDS), float(os.environ.get("KILLS_S", 600)))
