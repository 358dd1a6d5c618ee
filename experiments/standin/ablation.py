"""What each switch gains from the paper's networks to ours, and accuracy against galaxies.

    python -m experiments.standin.ablation WORK results/ablation

Make two sets of stand-ins with different seeds in the folder WORK: one to learn from (that of
`params.yaml`, its training and validation splits), and one of 1,000 galaxies, whose 4,000 images
judge everything and decide nothing. The test split of the first is not touched. Each network is
trained for each seed, logged to WORK/mlruns, and kept in WORK/runs: if interrupted, rerun the same
command to resume; results of other parameters, data or code there are refused. `table.md` and
`table.csv` give means over the seeds and their standard deviations.
"""

import argparse
import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.table import Table
from safetensors.torch import save_file

from experiments.datasets import make_dataset
from experiments.kept import identity_of, read_kept
from experiments.spread import spread
from peculiar.core.dataset import Observed
from peculiar.core.errors import one_sentence
from peculiar.core.params import load
from peculiar.core.provenance import code_digest
from peculiar.networks.params import NetworkSection
from peculiar.runs import tracking
from peculiar.training.params import Train
from peculiar.training.predictions import (
    baselines,
    column_mpc,
    grid_of,
    predict_split,
    predictions_of,
    validate,
)
from peculiar.training.train import train_network
from peculiar.velocity.metrics import measures

JUDGE_SEED, JUDGE_GALAXIES = 13, 1000  # not 11, by which the networks were chosen
OURS = "apertures"
PAPER = ("cnn2", "cnn3", "cnn4", "cnn5")
SHOWN = {
    "l2_d_mpc": 2,
    "velocity_rms_kms": 0,
    "posterior_rms_kms": 0,
    "coverage_68": 3,
    "coverage_95": 3,
    "seconds": 0,
}


OPTIMISER = ("batch_size", "schedule", "learning_rate", "weight_decay", "ema")
EPOCHS = ("epochs", "members", "average_turns", "patience")
STEPS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "starlet": [
        ("starlet, paper's recipe", ("family", "layers", "hidden", "batch_norm", "crop")),
        ("+ softening", ("softening_mag_arcsec2",)),
        ("+ AdamW, one cycle, running mean of weights", (*OPTIMISER, "augment")),
        ("+ likelihood of D_z", ("head",)),
        ("+ more epochs", EPOCHS),
        ("+ dropout", ("dropout",)),
        ("+ fresh distances: starlet", ("fresh", "views")),
    ],
    "apertures": [
        ("apertures, paper's recipe", ("family", "layers", "hidden", "batch_norm", "crop")),
        ("apertures + softening", ("softening_mag_arcsec2",)),
        ("apertures + AdamW, one cycle, running mean of weights", (*OPTIMISER, "augment")),
        ("apertures + likelihood of D_z", ("head",)),
        ("apertures + other epochs", EPOCHS),
        ("apertures + dropout", ("dropout",)),
        ("apertures + fresh distances", ("fresh", "views")),
        ("apertures + from a wider range", ("fresh_mpc",)),
        ("apertures + calibration by folds: ours", ("calibration_folds",)),
    ],
    "pyramid": [
        ("pyramid, paper's recipe", ("family", "layers", "hidden", "batch_norm", "dropout")),
        ("pyramid + rotations and reflections", ("augment",)),
        ("pyramid + AdamW, one cycle, running mean of weights", OPTIMISER),
        ("pyramid + likelihood of D_z", ("head",)),
        ("pyramid + only the middle", ("crop",)),
        ("pyramid + softening", ("softening_mag_arcsec2",)),
        ("pyramid + more epochs", EPOCHS),
        ("pyramid + fresh distances", ("fresh", "views")),
    ],
}


def switches(train: Train) -> Iterator[tuple[str, NetworkSection]]:
    """Names and networks: the paper's, then each of ours from their recipe switch by switch."""
    for name in PAPER:
        yield f"{name}, paper's recipe", train.specs[name]
        half = train.specs[name].model_copy(update={"precision": "bfloat16"})
        yield f"{name}, bfloat16", half
    for family, steps in STEPS.items():
        spec = train.specs["cnn2"]
        for name, keys in steps:
            spec = spec.model_copy(update={key: getattr(train.specs[family], key) for key in keys})
            yield name, spec
        assert spec == train.specs[family], "a switch is missing"
    yield "pyramid, mean over eight turns", spec.model_copy(update={"average_turns": True})
    ours = train.specs[OURS]
    yield "ours, binned head", ours.model_copy(update={"head": "binned"})
    yield "ours, trained on D", ours.model_copy(update={"label": "D"})
    yield "ours, one velocity a galaxy", ours
    # as many steps, of a quarter of the images
    four = {"views": 4 * (ours.views or 1)}
    yield "ours, one image a galaxy", ours.model_copy(update=four)
    yield "ours, as a survey trains", train.specs["survey"]
    yield "ours, mean of four networks", ours.model_copy(update={"members": 4})


def prepare(work: Path, galaxies: int | None) -> None:
    """Fetch and observe both sets, where they are not there yet."""
    shipped = yaml.safe_load(Path("params.yaml").read_text())
    learn_seed, learn_size = (shipped["fetch"]["standin"][key] for key in ("seed", "galaxies"))
    sets = {
        "learn": (learn_seed, galaxies or learn_size, shipped["observe"]["seed"]),
        "judge": (JUDGE_SEED, JUDGE_GALAXIES, JUDGE_SEED),
    }
    for name, (seed, size, observe_seed) in sets.items():
        params = deepcopy(shipped)
        params["fetch"] |= {"source": "standin"}
        params["fetch"]["standin"] |= {"seed": seed, "galaxies": size}
        params["observe"] |= {"seed": observe_seed}
        make_dataset(work / name, params, sections=("fetch", "observe"))


def learning_set(observed: Observed, galaxies: int, name: str) -> Observed:
    """The set with fewer training galaxies, cameras or velocities, as a row's name says.

    What is left out is in no split. With one velocity a galaxy, its four images, each at its own
    distance, have the first one's.
    """
    table = observed.table.copy()
    train = observed.rows("train")
    ids = np.unique(table["galaxy"][train])[:galaxies]
    kept = np.isin(table["galaxy"][train], ids)
    if "one image" in name:
        kept &= np.asarray(table["camera"])[train] == 0
    split = np.asarray(table["split"]).astype("U10")
    split[train[~kept]] = "unused"
    table["split"] = split
    if "one velocity" in name:
        cameras = len(np.unique(table["camera"]))
        shift = (table["distance_z_mpc"] - table["distance_mpc"]).reshape(-1, cameras)[:, 0]
        table["distance_z_mpc"] = table["distance_mpc"] + np.repeat(shift, cameras)
    return Observed(observed.images, table)


def judged(judge: Observed) -> Observed:
    """A set all of whose images are judged by."""
    table = judge.table.copy()
    table["split"] = np.full(len(table), "judge")
    return Observed(judge.images, table)


def identity(learn: Observed, spec: NetworkSection, seed: int, work: Path) -> str:
    """What decides a result: data, network and code."""
    data = {name: (work / name / "params.yaml").read_text() for name in ("learn", "judge")}
    rows = {name: len(learn.rows(name)) for name in ("train", "validation")}
    return identity_of(data, rows, spec.model_dump(), seed, code_digest())


def run(
    work: Path, name: str, spec: NetworkSection, seed: int, learn: Observed, judge: Observed
) -> dict[str, float]:
    """Train a network and judge it by the split "judge", or read what it gave before."""
    path, key = work / "runs" / f"{name}, seed {seed}.json", identity(learn, spec, seed, work)
    before = read_kept(path, key)
    if before is not None:
        found: dict[str, float] = before["measures"]
        return found
    experiment = tracking.connect(work / "mlruns")
    logged = {"seed": seed, "network": spec.model_dump(), "survey": judge.survey.model_dump()}
    with tracking.run(experiment, path.stem, params=logged) as run_id:
        start = time.monotonic()
        raw = work / "learn/data/fetch"
        network = train_network(learn, spec, seed, lambda *_: None, raw=raw)
        seconds = time.monotonic() - start
        output, grid = predict_split(network, judge, "judge"), grid_of(network)
        sigma_D, _, _ = validate(network, learn)
        predicted = predictions_of(judge, "judge", output, sigma_D, grid)
        result = measures(predicted, judge.survey.H0_kms_mpc) | {"seconds": seconds}
        tracking.log_metrics(run_id, result)
    path.parent.mkdir(exist_ok=True)
    Table(predicted).write(path.with_suffix(".ecsv"), overwrite=True)
    weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    save_file(weights, path.with_suffix(".safetensors"))
    kept = {"identity": key, "spec": spec.model_dump(), "measures": result}
    path.write_text(json.dumps(kept))
    return result


def without_images(learn: Observed, judge: Observed) -> dict[str, dict[str, float]]:
    """What the baselines measure on the judging set."""
    prior = column_mpc(learn, "distance_mpc")[learn.rows("train")]
    H0 = judge.survey.H0_kms_mpc
    return {
        name: measures(predicted, H0) | {"seconds": 0.0}
        for name, predicted in baselines(judge, "judge", prior).items()
    }


def plan(train: Train, galaxies: int) -> Iterator[tuple[str, NetworkSection, int]]:
    """Name, network and training galaxies of everything that is trained."""
    for name, spec in switches(train):
        yield name, spec, galaxies
    for share in (4, 2):
        # as many steps as with all galaxies
        for name in ("cnn3", OURS):
            spec = train.specs[name]
            longer = spec.model_copy(update={"epochs": share * spec.epochs})
            yield f"{name}, {galaxies // share} galaxies", longer, galaxies // share


def summary(name: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and deviation over seeds of all that was measured."""
    row: dict[str, Any] = {"network": name, "seeds": len(results)}
    for key in results[0]:
        values = [result[key] for result in results]
        deviation = np.std(values, ddof=1) if len(values) > 1 else np.nan
        row |= {key: np.mean(values), f"{key}_sd": deviation}
    return row


def write(results: Mapping[str, Sequence[dict[str, float]]], folder: Path) -> None:
    """`table.csv` with everything and `table.md` with the main columns, of what all seeds gave."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [summary(*item) for item in results.items()]
    with (folder / "table.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = [f"| network | seeds | {' | '.join(SHOWN)} |", "|---" * (2 + len(SHOWN)) + "|"]
    for name, found in results.items():
        cells = [spread([result[key] for result in found], n) for key, n in SHOWN.items()]
        escaped = name.replace("|", r"\|")
        lines.append(f"| {escaped} | {len(found)} | {' | '.join(cells)} |")
    (folder / "table.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Train, judge and tabulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder for data and runs")
    parser.add_argument("output", type=Path, help="folder for the tables")
    parser.add_argument("--galaxies", type=int, help="to learn from, before the split")
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose names begin so")
    chosen = parser.parse_args()
    with one_sentence():
        params = load(Train)
        prepare(chosen.work, chosen.galaxies)
        learn = Observed.read(chosen.work / "learn/data/observe/uniform")
        judge = judged(Observed.read(chosen.work / "judge/data/observe/uniform"))
        galaxies = len(np.unique(learn.table["galaxy"][learn.rows("train")]))
        results = {name: [found] for name, found in without_images(learn, judge).items()}
        for seed in chosen.seeds:
            for name, spec, number in plan(params, galaxies):
                if not name.startswith(tuple(chosen.only)):
                    continue
                part = learning_set(learn, number, name)
                result = run(chosen.work, name, spec, seed, part, judge)
                results.setdefault(name, []).append(result)
                print(
                    f"seed {seed}: {name}: " + ", ".join(f"{k} {result[k]:.3f}" for k in SHOWN),
                    flush=True,
                )
                write(results, chosen.output)


if __name__ == "__main__":
    main()
