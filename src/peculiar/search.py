"""Stage `search`: an Optuna study over networks, on the training and validation splits only.

The study stands in `mlruns/`, outside DVC's outputs (which DVC removes before it runs a stage), so
that an interrupted study goes on.
"""

import hashlib
import json
import shutil
from pathlib import Path

import yaml
from tqdm import tqdm

from peculiar import study as studies
from peculiar import tracking
from peculiar.errors import InputError, one_sentence
from peculiar.galaxies import whole_folder
from peculiar.lineage import code_digest, digests
from peculiar.params import load
from peculiar.params_networks import Search, Train
from peculiar.space import grid, network
from peculiar.study import FrozenTrial, Plan, Study
from peculiar.trials import DATA, PROCESS, RAW, Objective

OUT = Path("results/search")
JOURNAL = tracking.STORE / "optuna.journal"
BEST = "best.yaml"


def main() -> None:
    """Run the stage from `params.yaml`."""
    with one_sentence():
        search(load(Search), load(Train))


def inputs(params: Search, train: Train) -> list[Path]:
    """Folders that the trials learn from."""
    return [DATA / params.dataset, *([RAW] if train.best.fresh else [])]


def plan(params: Search, train: Train, data: dict[str, str]) -> Plan:
    """Where the study is, and a name that changes with everything but the number of trials.

    Raising `trials` goes on with the study; other data, other code or another space starts one.
    """
    identity = [
        params.model_dump(exclude={"trials"}),
        train.seed,
        train.best.model_dump(exclude={"epochs"}),
        data,
        code_digest(),
    ]
    text = json.dumps(identity, sort_keys=True)
    name = f"{params.dataset}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    JOURNAL.parent.mkdir(parents=True, exist_ok=True)
    return Plan(name, str(JOURNAL.resolve()), params)


def open_study(params: Search, train: Train) -> Study:
    """The study; trials whose process was killed are marked failed and queued again."""
    study = studies.open_study(plan(params, train, digests(inputs(params, train))))
    studies.requeue_dead(study, dead)
    return study


def dead(trial: FrozenTrial) -> bool:
    """Whether the process of a running trial, of this machine, is no more."""
    return tracking.gone(trial.user_attrs.get(PROCESS, ""))


def search(params: Search, train: Train) -> None:
    """Run what is left of the study and write `best.yaml` and the table of trials."""
    experiment = tracking.connect()
    data = digests(inputs(params, train))
    study = open_study(params, train)
    begun = study.user_attrs.get("run_id")
    with (
        tracking.run(
            experiment,
            f"search {study.study_name}",
            params={"search": params.model_dump(exclude={"trials"})},
            tags={"stage": "search", "study": study.study_name},
            data=data,
            run_id=begun if begun and tracking.run_exists(begun) else None,
        ) as parent,
        whole_folder(OUT) as partial,
    ):
        study.set_user_attr("run_id", parent)
        objective = Objective(params, train, experiment, parent, Path.cwd(), data)
        run(study, params, objective)
        write(partial, study)
        log(parent, partial, study)


def run(study: Study, params: Search, objective: Objective) -> None:
    """Run the trials that are left."""
    objective.check()
    if params.sampler == "grid":
        points = grid(params.space)
        worth = [
            point for point in points if not objective.refused(network(point, params.space))[1]
        ]
        studies.queue_grid(study, worth, refused=len(points) - len(worth))
    left = studies.left(study, params)
    total = left + len(studies.finished(study))
    with tqdm(total=total, initial=total - left, desc="search", unit="trial") as bar:

        def watch(_: FrozenTrial) -> None:
            best = studies.best(study)
            bar.set_postfix({} if best is None else {"best_mpc": f"{best.values[0]:.2f}"})
            bar.update()

        studies.run_trials(study, objective, left, watch)
    if studies.best(study) is None:
        raise InputError(
            "params.yaml: search.space: every network shrinks the image to nothing or costs more "
            "than max_multiply_adds: widen the space"
        )


def write(folder: Path, study: Study) -> None:
    """Write `best.yaml` and `trials.csv`; the best of several objectives is the lowest L2's.

    An equal best.yaml that is there keeps its time of writing.
    """
    best = studies.best(study)
    assert best is not None
    text = yaml.safe_dump(best.user_attrs[studies.SEARCHED], sort_keys=False)
    before = OUT / BEST
    if before.exists() and before.read_text() == text:
        shutil.copy2(before, folder / BEST)
    else:
        (folder / BEST).write_text(text)
    studies.write_table(study, folder / "trials.csv")


def log(run_id: str, folder: Path, study: Study) -> None:
    """Log what `write` wrote, and the study's numbers."""
    best = studies.best(study)
    assert best is not None
    numbers = {
        "best_validation_l2_mpc": best.values[0],
        "trials": float(len(studies.finished(study))),
        "refused": float(studies.refusals(study)),
    }
    tracking.log_metrics(run_id, numbers)
    for path in sorted(folder.iterdir()):
        tracking.log_file(path)


if __name__ == "__main__":
    main()
