"""What each switch gains, from the paper's networks to ours, and how accuracy grows with galaxies.

    python scripts/ablation.py WORK results/ablation

makes two sets of stand-ins in the folder WORK, of other seeds: one to learn from (`params.yaml`'s
own, its training and validation splits), and one of 1,000 galaxies that nothing is learnt from, by
whose 4,000 images everything is judged; the test split of the first is not touched. Each network is
trained for each seed, logged to WORK/mlruns, and kept in WORK/runs: an interrupted script goes on.
`table.md` and `table.csv` give means over the seeds and their deviations.
"""

import argparse
import contextlib
import csv
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.table import Table
from safetensors.torch import save_file

from peculiar import fetch, observe, tracking
from peculiar.errors import one_sentence
from peculiar.experiment import train_network
from peculiar.galaxies import Observed
from peculiar.judgement import (
    expected_mpc,
    grid_of,
    measures,
    predict_split,
    predictions,
    validate,
    velocity_of,
)
from peculiar.params import load
from peculiar.params_networks import NetworkSection, Train

JUDGE_SEED, JUDGE_GALAXIES = 11, 1000
OURS = "pyramid"
PAPER = ("cnn2", "cnn3", "cnn4", "cnn5")
SHOWN = {
    "l2_d_mpc": 2,
    "velocity_rms_kms": 0,
    "posterior_rms_kms": 0,
    "coverage_68": 3,
    "coverage_95": 3,
    "seconds": 0,
}


def switches(train: Train) -> Iterator[tuple[str, NetworkSection]]:
    """Names and networks: the paper's, then ours built up from their recipe switch by switch."""
    for name in PAPER:
        yield f"{name}, paper's recipe", train.specs[name]
    ours, spec = train.specs[OURS], train.specs["cnn2"]
    steps: list[tuple[str, tuple[str, ...]]] = [
        ("pyramid", ("family", "layers", "hidden", "batch_norm")),
        ("+ rotations and reflections", ("augment",)),
        (
            "+ AdamW, one cycle, running mean of weights",
            ("batch_size", "schedule", "learning_rate", "weight_decay", "ema"),
        ),
        ("+ likelihood of D_z", ("head",)),
        ("+ only the middle", ("crop", "softening_mag_arcsec2")),
        ("+ fresh distances", ("fresh",)),
        ("+ more epochs: ours", ("epochs", "members")),
    ]
    for name, keys in steps:
        spec = spec.model_copy(update={key: getattr(ours, key) for key in keys})
        yield name, spec
    yield "ours, mean over eight turns", ours.model_copy(update={"average_turns": True})
    yield "ours, binned head", ours.model_copy(update={"head": "binned"})
    # as many steps, of a quarter of the images
    yield "ours, one image a galaxy", ours.model_copy(update={"epochs": 4 * ours.epochs})
    yield "ours, trained on D", ours


def prepare(work: Path, galaxies: int | None) -> None:
    """Fetch and observe both sets, where they are not there yet."""
    shipped = yaml.safe_load(Path("params.yaml").read_text())
    seeds = {"learn": shipped["fetch"]["standin"]["seed"], "judge": JUDGE_SEED}
    sizes = {"learn": galaxies, "judge": JUDGE_GALAXIES}
    for name, seed in seeds.items():
        params = json.loads(json.dumps(shipped))
        params["fetch"] |= {"source": "standin"}
        params["fetch"]["standin"] |= {"seed": seed}
        if sizes[name] is not None:
            params["fetch"]["standin"] |= {"galaxies": sizes[name]}
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        with contextlib.chdir(folder):
            if not Path("data/fetch").exists():
                fetch.main()
            if not Path("data/observe/uniform").exists():
                observe.main(["--dataset", "uniform"])


def learning_set(observed: Observed, galaxies: int | None, cameras: int) -> Observed:
    """The set with fewer training galaxies or cameras; what is left out is in no split."""
    table = observed.table.copy()
    train = observed.rows("train")
    ids = np.unique(table["galaxy"][train])[:galaxies]
    kept = np.isin(table["galaxy"][train], ids) & (np.asarray(table["camera"])[train] < cameras)
    split = np.asarray(table["split"]).astype("U10")
    split[train[~kept]] = "unused"
    table["split"] = split
    return Observed(observed.images, table)


def judged(judge: Observed) -> Observed:
    """A set all of whose images are judged by."""
    table = judge.table.copy()
    table["split"] = np.full(len(table), "judge")
    return Observed(judge.images, table)


def run(
    work: Path, name: str, spec: NetworkSection, params: Train, seed: int, learn: Observed
) -> dict[str, Any]:
    """Train and judge one network, or read what it gave before."""
    path = work / "runs" / f"{name}, seed {seed}.json".replace("/", " ")
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    label = "D" if name.endswith("on D") else "D_z"
    fit = params.fit.model_copy(update={"seed": seed, "label": label})
    judge = judged(Observed.read(work / "judge/data/observe/uniform"))
    meta = judge.table.meta
    with contextlib.chdir(work):
        experiment = tracking.connect()
        logged = {"fit": fit.model_dump(), "network": spec.model_dump(), "data": meta}
        with tracking.run(experiment, path.stem, params=logged) as run_id:
            start = time.monotonic()
            raw = Path("learn/data/fetch")
            network = train_network(learn, spec, fit, lambda *_: None, raw=raw)
            seconds = time.monotonic() - start
            output, grid = predict_split(network, judge, "judge"), grid_of(network)
            sigma_D, _, _ = validate(network, learn)
            v = velocity_of(judge, "judge", output, sigma_D, grid)
            predicted = predictions(judge, "judge", expected_mpc(output, grid), v)
            result = measures(predicted, meta["H0_kms_mpc"]) | {"seconds": seconds}
            tracking.log_metrics(run_id, result)
    path.parent.mkdir(exist_ok=True)
    Table(predicted).write(path.with_suffix(".ecsv"), overwrite=True)
    weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    save_file(weights, path.with_suffix(".safetensors"))
    path.write_text(json.dumps(result))
    return result


def plan(train: Train, galaxies: int) -> Iterator[tuple[str, NetworkSection, int, int]]:
    """Name, network, training galaxies and cameras of everything that is trained."""
    for name, spec in switches(train):
        yield name, spec, galaxies, 1 if "one image" in name else 4
    for share in (4, 2):
        # as many steps as with all galaxies
        for name, spec in (("cnn3", train.specs["cnn3"]), ("ours", train.specs[OURS])):
            longer = spec.model_copy(update={"epochs": share * spec.epochs})
            yield f"{name}, {galaxies // share} galaxies", longer, galaxies // share, 4


def summary(name: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and deviation over seeds of all that was measured."""
    row: dict[str, Any] = {"network": name, "seeds": len(results)}
    for key in results[0]:
        values = [result[key] for result in results]
        row |= {key: np.mean(values), f"{key}_sd": np.std(values, ddof=1 if len(values) > 1 else 0)}
    return row


def write(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """`table.csv` with everything and `table.md` with the main columns."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = [f"| network | seeds | {' | '.join(SHOWN)} |", "|---" * (2 + len(SHOWN)) + "|"]
    for row in rows:
        cells = [f"{row[key]:.{n}f} ± {row[f'{key}_sd']:.{n}f}" for key, n in SHOWN.items()]
        lines.append(f"| {row['network']} | {row['seeds']} | {' | '.join(cells)} |")
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
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose names contain one")
    chosen = parser.parse_args()
    with one_sentence():
        params = load(Train)
        prepare(chosen.work, chosen.galaxies)
        learn = Observed.read(chosen.work / "learn/data/observe/uniform")
        galaxies = len(np.unique(learn.table["galaxy"][learn.rows("train")]))
        results: dict[str, list[dict[str, Any]]] = {}
        for seed in chosen.seeds:
            for name, spec, number, cameras in plan(params, galaxies):
                if not any(part in name for part in chosen.only):
                    continue
                part = learning_set(learn, number, cameras)
                result = run(chosen.work, name, spec, params, seed, part)
                results.setdefault(name, []).append(result)
                print(f"seed {seed}: {name}: " + ", ".join(f"{k} {result[k]:.3f}" for k in SHOWN),
                      flush=True)  # fmt: skip
                write([summary(*item) for item in results.items()], chosen.output)


if __name__ == "__main__":
    main()
