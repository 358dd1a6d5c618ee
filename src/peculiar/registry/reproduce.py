"""Retrain a promoted version from the code, data and parameters that it records, and compare.

This happens in a clean worktree of git with this repository's DVC cache: data in the cache are
reused, the network is always trained.
"""

import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from peculiar.core.errors import InputError
from peculiar.core.params import PARAMS
from peculiar.core.provenance import code_digest
from peculiar.registry import models
from peculiar.runs import record, tracking

BEST = Path("results/search/best.yaml")


@dataclass(frozen=True)
class Comparison:
    """A version compared with the same network, retrained.

    Attributes
    ----------
    metrics : dict of str to (float, float)
        Of the validation split: recorded and retrained.
    D_p_mpc : float
        Greatest difference of a predicted distance on the validation split, Mpc.
    data : dict of str to (str, str)
        Digests of the training data, recorded and made again, where they differ.
    """

    metrics: dict[str, tuple[float, float]]
    D_p_mpc: float
    data: dict[str, tuple[str, str]]

    @property
    def equal(self) -> bool:
        """Whether every number is the same."""
        same = all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in self.metrics.values())
        return same and self.D_p_mpc == 0 and not self.data

    def text(self) -> str:
        """The result in words, a difference a line."""
        if self.equal:
            return "equal: data, every validation metric and every predicted distance"
        lines = [f"data {path}: {a}, now {b}" for path, (a, b) in self.data.items()]
        lines += [
            f"{key}: {a:.6g}, now {b:.6g} (difference {b - a:+.3g})"
            for key, (a, b) in self.metrics.items()
            if a != b
        ]
        lines.append(f"predicted distances differ by up to {self.D_p_mpc:.3g} Mpc")
        return "not equal:\n" + "\n".join(f"  {line}" for line in lines)


def retrain(model: str, number: str, folder: Path | None, store: Path | None = None) -> Comparison:
    """Retrain a version. The store is left as it is.

    Parameters
    ----------
    model : str
        Name in the registry.
    number : str
        Its number or an alias.
    folder : Path or None
        New folder for the worktree, which is kept; None for a temporary one.
    store : Path, optional
        Folder of the store; by default `peculiar.runs.store.store_folder()`.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        When the version lacks a record, its commit or source is missing, or a stage fails.
    """
    tracking.open_to_read(store)
    version = models.find(model, number)
    with tempfile.TemporaryDirectory() as temporary:
        records = Path(temporary)
        names = [record.RUN, record.VALIDATION, PARAMS.name, BEST.name]
        for name in names:
            models.artifact(str(version.run_id), name, records)
        if missing := [name for name in names[:3] if not (records / name).exists()]:
            raise InputError(
                f"the run of {models.name_of(version)} has no {missing[0]}: it was trained "
                "before this file was kept and cannot be reproduced"
            )
        run = record.read_run(records)
        if not re.fullmatch("[0-9a-f]{4,64}", commit := run.code.get("git_commit", "unknown")):
            raise InputError(
                f"the run of {models.name_of(version)} records no commit ({commit!r}): it cannot "
                "be reproduced"
            )
        with worktree(commit, folder or records / "worktree", folder is None) as at:
            _train_again(run, records, at)
            again = at / f"results/train/{run.survey.dataset}-{run.network}"
            return compare(records, again)


@contextmanager
def worktree(commit: str, folder: Path, remove: bool) -> Iterator[Path]:
    """A worktree of a commit of this repository, with its DVC cache."""
    top = Path(_run(Path(), "git", "rev-parse", "--show-toplevel"))
    _run(top, "git", "worktree", "add", "--detach", str(folder.resolve()), commit)
    try:
        cache = _run(top, sys.executable, "-m", "dvc", "cache", "dir")
        where = (top / cache).resolve()
        (folder / ".dvc/config.local").write_text(f"[cache]\n    dir = {where}\n")
        yield folder.resolve()
    finally:
        if remove:
            _run(top, "git", "worktree", "remove", "--force", str(folder.resolve()))


def _train_again(run: record.Run, records: Path, at: Path) -> None:
    """Put the recorded parameters into a worktree, make its data and train its network."""
    found = code_digest(at / "src/peculiar")
    if found != run.code["sha256"]:
        raise InputError(
            f"commit {run.code['git_commit'][:12]} does not hold the source that the version was "
            f"trained by (sha256 {run.code['sha256'][:12]}..., there {found[:12]}...): it was not "
            "committed and cannot be reproduced"
        )
    shutil.copy(records / PARAMS.name, at / PARAMS)
    stage, needed = f"train@{run.survey.dataset}-{run.network}", [f"observe@{run.survey.dataset}"]
    if run.network == "best":
        stage = f"train-best@{run.survey.dataset}"
        (at / BEST).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(records / BEST.name, at / BEST)
    dvc = [sys.executable, "-m", "dvc", "repro"]
    _run(at, *dvc, *needed)
    _run(at, *dvc, "--force", "--single-item", stage)


def compare(records: Path, again: Path) -> Comparison:
    """Compare `run.json` and `validation.ecsv` of two folders."""
    before, now = record.read_run(records), record.read_run(again)
    said = [record.read_validation(folder / record.VALIDATION) for folder in (records, again)]
    D_p = [predicted["D_p_mpc"] for predicted in said]
    far = D_p[0].shape != D_p[1].shape
    return Comparison(
        {key: (value, now.validation[key]) for key, value in before.validation.items()},
        math.inf if far else float(np.abs(D_p[0] - D_p[1]).max()),
        {
            path: (digest, now.data.get(path, "none"))
            for path, digest in before.data.items()
            if now.data.get(path) != digest
        },
    )


def _run(folder: Path, *command: str) -> str:
    """Run a program in a folder, with the package that is there, and return what it prints."""
    # would lead it to another repository or store
    hidden = ("GIT_", "DVC_", "MLFLOW_TRACKING_URI", "PECULIAR_HOME")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    environment["PYTHONPATH"] = "src"
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        name = " ".join([Path(command[0]).name, *command[1:]])
        last = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it printed nothing"]
        raise InputError(f"{name} failed in {folder}: {last[-1]}")
    return done.stdout.strip()
