"""One trial of a search: train a network for a few epochs in an MLflow child run."""

import math
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from peculiar.core import processes
from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError
from peculiar.core.provenance import loaded_code
from peculiar.networks.heads import Network
from peculiar.networks.inference import Scaled
from peculiar.networks.params import MEASURED, Label, NetworkSection
from peculiar.networks.scaling import check_crop
from peculiar.runs import logged, tracking
from peculiar.runs.blueprint import Blueprint
from peculiar.search.params import Search
from peculiar.search.space import constraints, corners, reasons, suggest
from peculiar.search.spool import Logbook
from peculiar.search.study import (
    SEARCHED,
    PrunedError,
    Trial,
    Value,
    check_queued,
    constrain,
    report,
)
from peculiar.training.params import Train
from peculiar.training.predictions import validate
from peculiar.training.train import share_images, train_network

RAW, DATA = Path("data/fetch"), Path("data/observe")
# MLflow's own retries would cost a trial minutes when the server is down
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
VALIDATION_L2: dict[Label, str] = {"D": "l2_d_mpc", "D_z": "l2_dz_mpc"}
PROCESS, RUN = "process", "run_id"  # attributes of trials


def seed_of(seed: int, number: int) -> int:
    """Seed of a trial's training number `number`; the first uses `train.seed` itself."""
    return seed if number == 0 else int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


@lru_cache(maxsize=1)
def settle(root: Path, store: str, code: str) -> None:
    """Set up a worker process for this study: its folder, its MLflow store, and its code.

    Raises
    ------
    InputError
        When the worker's machine does not have the folder, or the worker runs other code.
    """
    worker = f"worker {socket.gethostname()}"
    if not root.is_dir():
        raise InputError(f"{worker} has no {root}: start workers where they see the same files")
    if loaded_code() != code:
        raise InputError(f"{worker} runs other code than the search: restart it")
    for variable, value in IMPATIENT.items():
        os.environ.setdefault(variable, value)
    if tracking.address() != store:
        tracking.attach(store)


@lru_cache(maxsize=1)
def open_dataset(folder: Path, _digest: str) -> Observed:
    """Open an observed dataset, once per process."""
    return Observed.read(folder)


@lru_cache(maxsize=1)
def scaled_dataset(folder: Path, digest: str, softening: float, crop: int | None) -> Scaled:
    """Scale a dataset's images once for all trials of a process with the same scaling."""
    return share_images(open_dataset(folder, digest), softening, crop)


@dataclass(frozen=True)
class Objective:
    """Train a suggested network for a few epochs in an MLflow child run.

    Attributes
    ----------
    params, train : Search, Train
        What is searched, and what is fixed.
    experiment, parent : str
        MLflow experiment and run of the study.
    root : Path
        Folder of the repository, with the data.
    data : dict
        Digest of each data folder, by its path relative to `root`.
    store, code : str
        MLflow store, and digest of the code, which the worker must share.
    spool : Path
        Folder for runs that MLflow does not take.
    git : dict
        Commit of the code, from `git_state`.
    """

    params: Search
    train: Train
    experiment: str
    parent: str
    root: Path
    data: dict[str, str]
    store: str
    code: str
    spool: Path
    git: dict[str, str]

    @property
    def observed(self) -> Observed:
        """The observed dataset of the search."""
        return open_dataset(*self._dataset())

    def _dataset(self) -> tuple[Path, str]:
        path = DATA / self.params.dataset
        return self.root / path, self.data[str(path)]

    def refused(self, searched: dict[str, Any]) -> tuple[dict[str, float], str]:
        """Constraints of a network and the reason it is refused; see `peculiar.search.space`."""
        bands, pixels = self.observed.images.shape[1:3]
        side = check_crop(self.train.best.crop, pixels)
        constraint = constraints(searched, self.params.space, bands, side)
        return constraint, reasons(constraint)

    def check(self) -> None:
        """Refuse a space that cannot be searched.

        Raises
        ------
        InputError
            When `train.best` does not fit a family or head of the space, or when the sampler is a
            Gaussian process and some networks would be refused: they have no value from which it
            could learn, so it would suggest them again and again.
        """
        for corner in corners(self.params.space):
            self.train.best.complete(corner, where="params.yaml: train.best with search.space")
            reason = self.refused(corner)[1]
            if reason and self.params.sampler == "gp":
                raise InputError(
                    f"params.yaml: search.space: sampler gp needs a space of which every network "
                    f"can be trained, but {corner['layers']} {reason}: narrow it"
                )

    def __call__(self, trial: Trial) -> Value:
        """Train; return the L2 loss on the validation labels, Mpc, and any second objective."""
        settle(self.root, self.store, self.code)
        check_queued(trial, self.params)
        trial.set_user_attr(PROCESS, processes.this_worker())
        searched = suggest(trial, self.params.space)
        constrain(trial, *self.refused(searched))
        trial.set_user_attr(SEARCHED, searched)
        spec = self.train.best.complete(searched, self.params.epochs, "search.space")
        with Logbook(
            self.spool,
            self.experiment,
            f"trial-{trial.number}",
            params={"seed": self.train.seed, "network": spec.model_dump()},
            tags={"stage": "search", "trial": str(trial.number), **self.git},
            data=self.data,
            parent=self.parent,
            root=str(self.root),
            system_metrics=False,  # trials are short: the study's run watches the machine
        ) as book:
            trial.set_user_attr(RUN, book.run_id)
            try:
                values = self.values(trial, spec, book)
            except PrunedError as pruned:  # the run has ended, not failed
                book.tags({"pruned": str(pruned)})
                values = {}
        if not values:
            raise PrunedError("see its run")
        minimised = tuple(values[objective] for objective in self.params.objectives)
        return minimised if len(minimised) > 1 else minimised[0]

    def values(self, trial: Trial, spec: NetworkSection, book: Logbook) -> dict[str, float]:
        """Train with each seed and return the mean of each objective."""
        values: list[dict[str, float]] = []

        def on_epoch(epoch: int, curve: dict[str, float]) -> None:
            done = len(values) * spec.all_epochs
            book.curves({"epoch": done + epoch, **curve})
            if self.params.pruner in ("median", "hyperband"):
                report(trial, curve["validation_l2_mpc"], epoch)

        for number in range(self.params.seeds):
            trained, sigma_D, metrics, seconds = self._train(spec, number, on_epoch)
            # of the final network: the last epoch may differ, or be that of one member
            l2 = metrics[VALIDATION_L2[spec.label]]
            weights = sum(weight.numel() for weight in trained.parameters())
            values.append(
                {
                    "l2": l2 if math.isfinite(l2) else math.inf,  # diverged: worse than any other
                    "parameters": float(weights),
                    "seconds": seconds,
                }
            )
            if number == 0:
                book.metrics(metrics, prefix="validation_")
                if self.params.models:
                    survey, seed = self.observed.survey, self.train.seed
                    blueprint = Blueprint.of(trained, survey, spec, seed, sigma_D)
                    book.attempt(partial(logged.log_model, trained, blueprint))
            if self.params.pruner == "wilcoxon":
                report(trial, values[-1]["l2"], number)
        means = {name: float(np.mean([v[name] for v in values])) for name in values[0]}
        book.metrics(means, prefix="objective_")
        return means

    def _train(
        self, spec: NetworkSection, number: int, on_epoch: Callable[[int, dict[str, float]], None]
    ) -> tuple[Network, float, dict[str, float], float]:
        """Train with seed number `number`.

        Returns the network, sigma_D, Mpc, and its validation metrics, and the time, s.
        """
        start = time.monotonic()
        shared = None
        if spec.family not in MEASURED:  # whose inputs are not pixels
            shared = scaled_dataset(*self._dataset(), spec.softening_mag_arcsec2, spec.crop)
        trained = train_network(
            self.observed, spec, seed_of(self.train.seed, number), on_epoch, shared, self.root / RAW
        )
        seconds = time.monotonic() - start
        sigma_D, _, metrics = validate(trained, self.observed)
        return trained, sigma_D, metrics, seconds
