"""Stage `search`: an Optuna study over networks, on the training and validation splits only.

The study is kept in `mlruns/` and not among DVC's outputs, which DVC removes before it runs a
stage. An interrupted study therefore continues.
"""

import argparse
import functools
import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import yaml
from tqdm import tqdm

from peculiar.core import processes
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.files import replace_folder
from peculiar.core.params import load
from peculiar.core.provenance import code_digest, digests, git_state, imported_code_digest
from peculiar.pipeline.paths import Paths
from peculiar.runs import tracking
from peculiar.runs.store import store_folder
from peculiar.search import cluster, figures, storage
from peculiar.search import study as studies
from peculiar.search.objective import PROCESS, Objective
from peculiar.search.params import Search
from peculiar.search.space import grid, network
from peculiar.search.spool import Logbook, deliver
from peculiar.search.storage import FrozenTrial, Plan, Study
from peculiar.training.params import Train

JOURNAL, SPOOL = "optuna.journal", "spool"  # in MLflow's store
POLL_S = 1  # interval at which trials of other drivers are checked


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> None:
    """Run the stage from `params.yaml`."""
    argparse.ArgumentParser(prog="peculiar search", description=__doc__).parse_args(arguments)
    paths = Paths(root)
    with one_sentence():
        search_networks(load(Search, paths.params), load(Train, paths.params), paths)


def inputs(params: Search, train: Train, paths: Paths) -> list[Path]:
    """Folders that the trials learn from."""
    return [paths.observed(params.dataset), *([paths.fetched] if train.best.fresh else [])]


def plan(params: Search, train: Train, data: dict[str, str], paths: Paths) -> Plan:
    """Name and storage of the study.

    The name depends on all that influences a trial. A study continues with more `trials` or on
    another cluster; other data, code or search space start a new study.
    """
    identity = [
        params.model_dump(exclude=Search.ENGINE),
        train.seed,
        train.best.model_dump(exclude={"epochs"}),
        data,
        imported_code_digest("peculiar.search.objective"),
    ]
    text = json.dumps(identity, sort_keys=True)
    name = f"{params.dataset}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    journal = store_folder(paths.store) / JOURNAL
    journal.parent.mkdir(parents=True, exist_ok=True)
    address = str(journal.resolve()) if params.storage == "journal" else params.storage
    return Plan(name, address, params)


def open_study(params: Search, train: Train, paths: Paths) -> Study:
    """Open the study; trials whose process was killed are marked failed and queued again."""
    data = digests(inputs(params, train, paths), paths.root)
    study = storage.open_study(plan(params, train, data, paths))
    storage.requeue_dead(study, lambda trial: dead(trial, params))
    return study


def dead(trial: FrozenTrial, params: Search) -> bool:
    """Whether a trial that is not complete has lost its process.

    A journal is used by one machine only. With PostgreSQL, trials also run on other machines and
    have heartbeats; a worker that dies before its first heartbeat is recognised by its age.
    """
    if trial.state.is_finished():
        return True
    process = trial.user_attrs.get(PROCESS)
    if process is None:
        begun = trial.datetime_start
        silent = begun is not None and datetime.now() - begun > timedelta(seconds=storage.GRACE_S)
        return params.storage == "journal" or silent
    return processes.gone(process)


def search_networks(params: Search, train: Train, paths: Paths) -> None:
    """Run the remaining trials of the study, and write `best.yaml` and the table of trials.

    Parameters
    ----------
    params : Search
        Section `search` of `params.yaml`.
    train : Train
        Section `train`, which has the fixed parameters of the network.
    paths : Paths
        Files of the stages.

    Raises
    ------
    InputError
        When the dataset is missing, MLflow does not answer, or no network can be trained.
    """
    data = digests(inputs(params, train, paths), paths.root)
    experiment = tracking.connect(paths.store)
    study = open_study(params, train, paths)
    begun = study.user_attrs.get("run_id")
    spool = (store_folder(paths.store) / SPOOL).resolve()
    deliver(spool)
    with (
        Logbook(
            spool,
            experiment,
            f"search {study.study_name}",
            params={"search": params.model_dump(exclude=Search.ENGINE)},
            tags={"stage": "search", "study": study.study_name},
            data=data,
            root=str(paths.root),
            run_id=begun if begun and _continued(begun) else None,
        ) as book,
        replace_folder(paths.searched) as partial,
    ):
        if book.run_id is None:
            raise InputError("MLflow does not answer: start its server, or correct its address")
        parent = book.run_id
        study.set_user_attr("run_id", parent)
        objective = Objective(
            params=params,
            train=train,
            experiment=experiment,
            parent=parent,
            root=paths.root.resolve(),
            data=data,
            store=tracking.address(),
            code=code_digest(),
            spool=spool,
            git=git_state(),
        )
        run(study, plan(params, train, data, paths), objective)
        write(partial, study, paths.best)
        log(book, partial, study)
        book.attempt(lambda: end_orphans(parent, study))
    if not deliver(spool):
        end_orphans(parent, study)


def _continued(run_id: str) -> bool:
    """Whether the study's run is there, and its files are not another store's."""
    return tracking.run_exists(run_id) and tracking.owns(run_id)


def end_orphans(parent: str, study: Study) -> None:
    """End as KILLED the MLflow runs of trials that are not among the finished trials."""
    good = {str(trial.number) for trial in studies.finished(study)}
    for run_id, (status, number) in tracking.children(parent).items():
        if number not in good and status in ("RUNNING", "FINISHED"):
            tracking.end_run(run_id, "KILLED")


def run(study: Study, plan: Plan, objective: Objective) -> None:
    """Run the remaining trials, on this machine or on a cluster.

    Raises
    ------
    InputError
        When no network of the search space can be trained.
    """
    params = plan.params
    objective.check()
    if params.sampler == "grid":
        points = grid(params.space)
        trainable = [
            point for point in points if not objective.refused(network(point, params.space))[1]
        ]
        studies.queue_grid(study, trainable, refused=len(points) - len(trainable))
    if cluster.where(params)[0] == "local" and params.workers == 1:
        left = studies.left(study, params)
        with bar(study, params) as progress:
            studies.run_trials(study, objective, left, lambda _: progress())
    else:
        run_on_cluster(study, plan, objective)
    if studies.best(study) is None:
        raise InputError(
            "params.yaml: search.space: every network shrinks the image to nothing or costs more "
            "than max_multiply_adds: widen the space"
        )


@contextmanager
def bar(study: Study, params: Search) -> Iterator[Callable[[], None]]:
    """Show a progress bar; yields a function that updates it from the study."""
    done = len(studies.finished(study))
    total = done + studies.left(study, params) + studies.running(study)
    with tqdm(total=total, initial=done, desc="search", unit="trial") as drawn:

        def progress() -> None:
            best = studies.best(study)
            drawn.set_postfix({} if best is None else {"best_mpc": f"{best.values[0]:.2f}"})
            drawn.update(len(studies.finished(study)) - drawn.n)

        yield progress


def run_on_cluster(study: Study, plan: Plan, objective: Objective) -> None:
    """Run one Dask task per remaining trial, until no trial remains or runs.

    Trials of other drivers' workers are waited for, and queued again if their worker died.
    """
    params, done = plan.params, -1
    with cluster.client(params) as client, bar(study, params) as progress:
        while studies.left(study, params) or studies.running(study):
            if tasks := studies.left(study, params):
                if len(studies.finished(study)) == done:
                    return  # no network of the last round could be trained
                done, first = len(studies.finished(study)), len(study.trials)
                names = [(f"{uuid.uuid4()}", first + n) for n in range(tasks)]
                jobs = [(plan, objective, name, number) for name, number in names]
                for _ in cluster.carry(client, studies.run_task, jobs):
                    progress()
            else:
                time.sleep(POLL_S)
            storage.requeue_dead(study, lambda trial: dead(trial, params))


def write(folder: Path, study: Study, before: Path) -> None:
    """Write `best.yaml`, `trials.csv` and figures into `folder`.

    With several objectives, the best network is the most accurate. If `before`, the present
    best.yaml, has the same content, its modification time is kept.
    """
    best = studies.best(study)
    assert best is not None
    text = yaml.safe_dump(best.user_attrs[studies.SEARCHED], sort_keys=False)
    path = folder / before.name
    if before.exists() and before.read_text() == text:
        shutil.copy2(before, path)
    else:
        path.write_text(text)
    studies.write_trials(study, folder / "trials.csv")
    figures.draw_study(study, folder / "figures")


def log(book: Logbook, folder: Path, study: Study) -> None:
    """Log the files that `write` wrote, and the metrics of the study."""
    best = studies.best(study)
    assert best is not None
    book.metrics(
        {
            "best_validation_l2_mpc": best.values[0],
            "trials": float(len(studies.finished(study))),
            "refused": float(studies.refusals(study)),
        }
    )
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        where = "figures" if path.parent != folder else None
        book.attempt(functools.partial(tracking.log_file, path, where))


if __name__ == "__main__":
    main()
