"""The 32 CNN rows of Table A2 at the paper's size, by the paper's reading and as the files say.

    python -m experiments.paper.paper_size WORK results/paper_size --processes 2

4,642 stand-in galaxies are photographed in frames of ten half-mass radii, and observed four times:
uniform and normal distances, with the paper's reading (`paper-uniform`, `paper-normal`) and as the
files say (`uniform`, `normal`). Each of the paper's CNNs is trained by its recipe on D and on D_z,
normalised and not, and judged by the test split, as in the paper; it chooses nothing here. Every
row has a seed of its own, or all networks would err on the same order of images.

A process trains the rows of one dataset, with one thread. Raw images (24 GB) stay in WORK, and so
do observed ones (6 GB a dataset) until all their rows are there. If interrupted, rerun the same
command to resume; the table shows the rows that are there.
"""

import argparse
import multiprocessing
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from filelock import FileLock

from experiments.datasets import make_dataset, make_raw
from experiments.kept import identity_of, read_kept
from experiments.paper.judged import train_and_judge
from experiments.paper.size_shown import Found, write_tables
from experiments.paper.table import CNNS, DISTANCES, Row, rows
from experiments.paper.which_reading import CODE, Reading, raw_folder
from experiments.paper.which_reading import parameters as parameters_of_reading
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.params import PARAMS, load
from peculiar.core.processes import end_with_parent
from peculiar.core.provenance import imported_code_digest
from peculiar.networks.params import NetworkSection
from peculiar.training.params import Train
from peculiar.training.train import share_images

GALAXIES = 4642  # the paper's; with four images each 18,568
READINGS = {"paper": "paper-", "files": ""}  # and how names of their datasets begin
# how a row is trained, and what that changes of the paper's recipe
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "best epoch": {"patience": 20},  # the weights of the best of all epochs
    "averaged weights": {"ema": 0.999},  # over about a thousand steps, an epoch or two
    "cosine": {"schedule": "cosine"},
}


@dataclass(frozen=True)
class Training:
    """One row, of one reading, recipe and seed.

    Attributes
    ----------
    reading, distances, recipe : str
        One of `READINGS`, of `DISTANCES` and of `RECIPES`.
    row : Row
        Row of Table A2.
    seed : int
        As given; see `own_seed`.
    """

    reading: str
    distances: str
    row: Row
    recipe: str
    seed: int

    @property
    def dataset(self) -> str:
        """The dataset of `params.yaml`."""
        return READINGS[self.reading] + self.distances

    @property
    def name(self) -> str:
        """Name of the files of its result."""
        return f"{self.dataset}-{self.row.name}, {self.recipe}, seed {self.seed}"

    @property
    def own_seed(self) -> int:
        """Seed of its training: the same for all recipes, another for each row."""
        key = zlib.crc32(f"{self.dataset}-{self.row.name}".encode())
        return int(np.random.SeedSequence([self.seed, key]).generate_state(1)[0])

    def spec(self, train: Train, epochs: int | None) -> NetworkSection:
        """The network of `params.yaml` with label, normalisation and recipe of the row."""
        changes = {"label": self.row.label, "normalise": self.row.normalised}
        changes |= dict(RECIPES[self.recipe]) | ({} if epochs is None else {"epochs": epochs})
        return train.specs[self.row.network].model_copy(update=changes)


def planned(
    readings: Sequence[str], distances: Sequence[str], recipes: Sequence[str], seeds: Sequence[int]
) -> Iterator[Training]:
    """All trainings: normalised rows first, and of other recipes only these, on D_z."""
    ordered = sorted((row for row in rows() if row.network in CNNS), key=lambda r: not r.normalised)
    for seed in seeds:
        for reading in readings:
            for law in distances:
                for recipe in recipes:
                    for row in ordered:
                        if recipe == "paper" or (row.normalised and row.label == "D_z"):
                            yield Training(reading, law, row, recipe, seed)


def parameters(shipped: Mapping[str, Any], dataset: str, galaxies: int) -> dict[str, Any]:
    """`params.yaml` for one dataset, of stand-ins in frames of ten half-mass radii."""
    params = parameters_of_reading(shipped, Reading(), galaxies)
    return {
        "fetch": params["fetch"],
        "observe": dict(shipped["observe"]) | {"datasets": [dataset]},
    }


@dataclass(frozen=True)
class Task:
    """The rows of one dataset.

    Attributes
    ----------
    work : Path
        Folder for data and results.
    galaxies : int
        Number of stand-ins.
    epochs : int or None
        Of a trial; None for the recipe's.
    trainings : tuple of Training
        All of one dataset.
    """

    work: Path
    galaxies: int
    epochs: int | None
    trainings: tuple[Training, ...]

    def parts(self) -> Iterator[tuple[Training, NetworkSection, Path, str]]:
        """Each training with its network, the file of its result and what decides that."""
        params, train = self.parameters(), load(Train)
        code = [imported_code_digest(module) for module in CODE]
        for one in self.trainings:
            spec = one.spec(train, self.epochs)
            identity = identity_of(params, spec.model_dump(), one.own_seed, *code)
            path = self.work / "runs" / f"{one.name}, {self.galaxies} galaxies.json"
            yield one, spec, path, identity

    def parameters(self) -> dict[str, Any]:
        """`params.yaml` for this dataset."""
        shipped = yaml.safe_load(PARAMS.read_text())
        return parameters(shipped, self.trainings[0].dataset, self.galaxies)

    def kept(self) -> Found:
        """The results that are there."""
        read = {one: read_kept(path, identity) for one, _, path, identity in self.parts()}
        return {one: kept for one, kept in read.items() if kept is not None}


def train_dataset(task: Task, threads: int) -> None:
    """Train the rows of one dataset that are not kept yet, in so many threads."""
    torch.set_num_threads(threads)
    kept = task.kept()
    left = [part for part in task.parts() if part[0] not in kept]
    if not left:
        return
    dataset, params = task.trainings[0].dataset, task.parameters()
    folder = task.work / "observed" / f"{dataset}-{task.galaxies}-galaxies"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # or another process would remove them too
        raw = make_raw(raw_folder(task.work, Reading(), task.galaxies), params)
        observed = make_dataset(folder, params, dataset, raw)
        scaled = share_images(observed, left[0][1].softening_mag_arcsec2, left[0][1].crop)
        for one, spec, path, identity in left:
            found = train_and_judge(observed, spec, one.own_seed, scaled, path, identity)
            print(f"{one.name}: {said(found['measures'])}", flush=True)
        shutil.rmtree(folder)


def said(measured: Mapping[str, float]) -> str:
    """The main numbers of a row."""
    return (
        f"L1(D) {measured['l1_d_mpc']:.2f}, L2(D) {measured['l2_d_mpc']:.2f} Mpc, "
        f"{measured['seconds']:.0f} s"
    )


def tabulate(tasks: Sequence[Task], output: Path) -> None:
    """Write the tables of all results that are there."""
    found: Found = {}
    for task in tasks:
        found |= task.kept()
    write_tables(found, tasks[0].galaxies, output)


def command_line() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder for data and results of trainings")
    parser.add_argument("output", type=Path, help="folder for tables")
    parser.add_argument("--galaxies", type=int, default=GALAXIES, help="stand-in galaxies")
    parser.add_argument("--seeds", type=int, nargs="+", default=[4], help="of training")
    parser.add_argument("--readings", nargs="+", default=list(READINGS), choices=READINGS)
    parser.add_argument("--distances", nargs="+", default=["uniform", "normal"], choices=DISTANCES)
    parser.add_argument("--recipes", nargs="+", default=["paper"], choices=RECIPES)
    parser.add_argument("--epochs", type=int, help="for a trial (the paper's 20)")
    parser.add_argument("--processes", type=int, default=1, help="datasets at once")
    parser.add_argument("--kept", action="store_true", help="train nothing, tabulate what is there")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, judge and tabulate."""
    chosen = command_line().parse_args(arguments)
    with one_sentence():
        if chosen.processes < 1:
            raise InputError(f"--processes: {chosen.processes} processes train nothing: take 1")
        by_dataset: dict[str, list[Training]] = {}
        for one in planned(chosen.readings, chosen.distances, chosen.recipes, chosen.seeds):
            by_dataset.setdefault(one.dataset, []).append(one)
        tasks = [
            Task(chosen.work, chosen.galaxies, chosen.epochs, tuple(trainings))
            for trainings in by_dataset.values()
        ]
        if not chosen.kept:
            threads = max(1, torch.get_num_threads() // chosen.processes)
            # spawned, not forked: a fork copies locks that other threads hold
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(chosen.processes, context, end_with_parent) as pool:
                done = [pool.submit(train_dataset, task, threads) for task in tasks]
                for future in as_completed(done):
                    future.result()
                    tabulate(tasks, chosen.output)
        tabulate(tasks, chosen.output)


if __name__ == "__main__":
    main()
