"""Measure whether the stated errors of velocities hold on fresh galaxies, seed by seed.

    python -m experiments.standin.calibration WORK OUT --galaxies 4642 --seeds 4 5 6 7 8

Make two sets of stand-ins in the folder WORK, those of `experiments.standin.ablation`: one to learn
from, and one of 1,000 other galaxies, each of whose 4 cameras has a distance and a velocity of its
own. Train our network for each seed and compare the velocities of the 4,000 fresh images with their
posteriors. Each seed is kept in WORK/runs: if interrupted, rerun the same command to resume;
results of other parameters, data or code there are refused. OUT/table.csv and OUT/table.md have a
row for each seed. Errors are over bootstrap samples of galaxies. z = (v - mean) / deviation of the
posterior; its rms is also given for the thirds of the images with the narrowest, middle and widest
posteriors: if they differ, one sharpness is not enough.
"""

import argparse
import csv
import json
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from experiments.datasets import make_dataset
from experiments.kept import read_kept
from experiments.standin.ablation import JUDGE_SEED, OURS, identity, judged
from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.params import load
from peculiar.networks.params import NetworkSection
from peculiar.training.params import Train
from peculiar.training.predictions import grid_of, predict_split, predictions_of
from peculiar.training.train import train_calibrated
from peculiar.velocity.metrics import bootstrap_rows, coverage, l2

BOOTSTRAP = 1000
THIRDS = ("narrow", "middle", "wide")
NOMINAL = {
    **{"coverage_68": 0.683, "coverage_95": 0.954, "mean_pit": 0.5},
    **dict.fromkeys(("rms_z", *(f"rms_z_{name}" for name in THIRDS)), 1.0),
}
Predicted = dict[str, NDArray[np.float64]]


def datasets(work: Path, galaxies: int, judges: int) -> tuple[Observed, Observed]:
    """Fetch and observe both sets, where they are not there yet: to learn from, and to judge by."""
    shipped = yaml.safe_load(Path("params.yaml").read_text())
    seeds = shipped["fetch"]["standin"]["seed"], shipped["observe"]["seed"]
    sets = {"learn": (galaxies, *seeds), "judge": (judges, JUDGE_SEED, JUDGE_SEED)}
    made = []
    for name, (size, fetch_seed, observe_seed) in sets.items():
        params = deepcopy(shipped)
        params["fetch"] |= {"source": "standin"}
        params["fetch"]["standin"] |= {"seed": fetch_seed, "galaxies": size}
        params["observe"] |= {"seed": observe_seed}
        made.append(make_dataset(work / name, params, sections=("fetch", "observe")))
    return made[0], judged(made[1])


def calibration_of(predicted: Predicted) -> dict[str, float]:
    """Measure how well posteriors of velocities hold.

    Parameters
    ----------
    predicted : dict of str to ndarray, (n,)
        `peculiar.training.predictions.prediction_columns`.

    Returns
    -------
    dict of str to float
        coverage_68, coverage_95; rms_z, and rms_z_narrow, rms_z_middle, rms_z_wide for thirds by
        the width of the posterior; mean_pit. All without unit.
    """
    v, width = predicted["v_kms"], predicted["v_error_kms"]
    z = (v - predicted["v_hat_kms"]) / width
    measured = {
        f"coverage_{k}": coverage(v, predicted[f"v_low{k}_kms"], predicted[f"v_high{k}_kms"])
        for k in (68, 95)
    }
    thirds = np.array_split(z[np.argsort(width, kind="stable")], len(THIRDS))
    return {
        **measured,
        "rms_z": l2(z, 0),
        **{f"rms_z_{name}": l2(third, 0) for name, third in zip(THIRDS, thirds, strict=True)},
        "mean_pit": float(predicted["pit"].mean()),
    }


def with_errors(predicted: Predicted, rng: np.random.Generator) -> dict[str, float]:
    """`calibration_of`, and the standard deviation of each over bootstrap samples of galaxies."""
    samples = [
        calibration_of({name: column[rows] for name, column in predicted.items()})
        for rows in bootstrap_rows(predicted["galaxy"].astype(np.int64), BOOTSTRAP, rng)
    ]
    measured = calibration_of(predicted)
    errors = {f"{k}_error": float(np.std([s[k] for s in samples], ddof=1)) for k in measured}
    return measured | errors


def run(
    work: Path, spec: NetworkSection, seed: int, learn: Observed, judge: Observed
) -> dict[str, float]:
    """Train with one seed and judge, or read what it gave before."""
    path, key = work / "runs" / f"seed {seed}.json", identity(learn, spec, seed, work)
    before = read_kept(path, key)
    if before is not None:
        found: dict[str, float] = before["row"]
        return found
    start = time.monotonic()
    raw = work / "learn/data/fetch"
    network, sharpness = train_calibrated(learn, spec, seed, lambda *_: None, raw=raw)
    seconds = time.monotonic() - start
    if sharpness is None:
        raise InputError(f"params.yaml: train.specs.{OURS} has head point, which states no errors")
    output, grid = predict_split(network, judge, "judge"), grid_of(network)
    predicted = predictions_of(judge, "judge", output, float("nan"), grid)
    row = {
        "seed": seed,
        "sharpness": sharpness.value,
        "sharpness_error": sharpness.error,
        "l2_d_mpc": l2(predicted["D_mpc"], predicted["D_p_mpc"]),
        "posterior_rms_kms": l2(predicted["v_kms"], predicted["v_hat_kms"]),
        **with_errors(predicted, np.random.default_rng(seed)),
        "seconds": seconds,
    }
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps({"identity": key, "row": row}))
    partial.rename(path)
    return row


def table(rows: list[dict[str, float]]) -> str:
    """Rows as Markdown, the nominal values last."""
    columns = ["sharpness", *NOMINAL]
    lines = [f"| seed | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for row in rows:
        cells = [f"{row[name]:.3f} ± {row[f'{name}_error']:.3f}" for name in columns]
        lines.append(f"| {row['seed']} | {' | '.join(cells)} |")
    nominal = [f"{NOMINAL[name]:.3f}" if name in NOMINAL else "" for name in columns]
    lines.append(f"| nominal | {' | '.join(nominal)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the data; train, judge and tabulate each seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder for data and runs")
    parser.add_argument("output", type=Path, help="folder for the tables")
    parser.add_argument("--galaxies", type=int, default=500, help="to learn from, before the split")
    parser.add_argument("--judges", type=int, default=1000, help="galaxies to judge by")
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5, 6, 7, 8])
    parser.add_argument("--folds", type=int, help="in place of calibration_folds of params.yaml")
    options = parser.parse_args()
    with one_sentence():
        spec = load(Train).specs[OURS]
        if options.folds is not None:
            changed = spec.model_dump() | {"calibration_folds": options.folds}
            spec = NetworkSection.model_validate(changed)
        learn, judge = datasets(options.work, options.galaxies, options.judges)
        options.output.mkdir(parents=True, exist_ok=True)
        rows = []
        for seed in options.seeds:
            rows.append(run(options.work, spec, seed, learn, judge))
            print(", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()), flush=True)
            (options.output / "table.md").write_text(table(rows))
            with (options.output / "table.csv").open("w", newline="") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
