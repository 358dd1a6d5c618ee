"""Stage `evaluate`: measure every trained network, and three baselines, on the test split.

The only reader of the test split.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt
from tqdm import tqdm

from peculiar.core.dataset import Observed
from peculiar.core.errors import one_sentence
from peculiar.core.files import whole_folder
from peculiar.core.params import Section, load
from peculiar.core.provenance import digests
from peculiar.pipeline.figures import (
    calibration_figure,
    redshift_distances_figure,
    velocities_figure,
)
from peculiar.runs import record, tracking
from peculiar.training.curves import distances_figure
from peculiar.training.params import Train
from peculiar.training.predictions import baselines, column_mpc, predict_split, predictions_of
from peculiar.velocity.metrics import METRICS, bootstrap_errors, measures

DATA, TRAINED, OUT = Path("data/observe"), Path("results/train"), Path("results/evaluate")
SPLIT = "test"

Predicted = dict[str, NDArray[np.float64]]


class Evaluate(Section):
    """Stage `evaluate`."""

    bootstrap: Annotated[int, Field(ge=10)]
    seed: NonNegativeInt


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stage from `params.yaml`."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with one_sentence():
        evaluate(load(Evaluate), load(Train), OUT)


def leak(observed: Observed) -> float:
    """Fraction of test images whose galaxy is in the training split too; 0 if split by galaxy."""
    galaxy = np.asarray(observed.table["galaxy"])
    return float(np.isin(galaxy[observed.rows(SPLIT)], galaxy[observed.rows("train")]).mean())


def row(
    name: Mapping[str, str | float], predicted: Predicted, H0_kms_mpc: float, params: Evaluate
) -> dict[str, Any]:
    """One row of the table: names, metrics, and the bootstrap deviation of each metric."""
    metrics = measures(predicted, H0_kms_mpc)
    rng = np.random.default_rng(params.seed)  # the same samples for every row
    spread = bootstrap_errors(predicted, H0_kms_mpc, params.bootstrap, rng)
    errors = {f"{key}_err": error for key, error in spread.items()}
    return {**name, **metrics, **errors}


def draw(folder: Path, name: str, predicted: Predicted, sigma_z_mpc: float, source: str) -> None:
    """The paper's figures 3, 4 and 5 of one network, as PNG files in `folder`."""
    title = f"{name}, {source}, test split"
    pictures = {
        "distances": distances_figure(predicted, title),
        "redshift_distances": redshift_distances_figure(predicted, sigma_z_mpc, title),
    }
    if not np.isnan(predicted["v_kms"]).all():
        pictures["velocities"] = velocities_figure(predicted, title)
        pictures["calibration"] = calibration_figure(predicted, title)
    for kind, figure in pictures.items():
        path = folder / f"{name}_{kind}.png"
        figure.savefig(path, dpi=120)
        tracking.log_file(path, "figures")


def evaluate(params: Evaluate, train: Train, folder: Path) -> None:
    """Write table, metrics, predictions and figures of all networks into `folder`."""
    table: list[dict[str, Any]] = []
    experiment = tracking.connect()
    items = train.items()
    inputs = digests([DATA / d for d in train.datasets] + [TRAINED / f"{d}-{n}" for d, n in items])
    with (
        tracking.run(
            experiment,
            "evaluate",
            params=params.model_dump(),
            tags={"stage": "evaluate"},
            data=inputs,
        ),
        whole_folder(folder) as partial,
    ):
        for kind in ("predictions", "figures"):
            (partial / kind).mkdir()
        for dataset in train.datasets:
            observed = Observed.read(DATA / dataset)
            meta = observed.table.meta
            H0, sigma_z = meta["H0_kms_mpc"], meta["sigma_v_kms"] / meta["H0_kms_mpc"]
            common = {
                "dataset": dataset,
                "source": meta["source"],
                "dimming": meta["dimming"],
                "split_by": meta["split_by"],
                "leak": leak(observed),
            }
            prior_mpc = column_mpc(observed, "distance_mpc")[observed.rows("train")]
            for network, predicted in baselines(observed, SPLIT, prior_mpc).items():
                names = {**common, "network": network, "label": "-", "kind": "baseline"}
                table.append(row(names, predicted, H0, params))
            for network in tqdm(
                [n for d, n in items if d == dataset], desc=f"evaluate ({dataset})"
            ):
                name = f"{dataset}-{network}"
                run = record.read_run(TRAINED / name)
                output = predict_split(record.read_network(TRAINED / name, run), observed, SPLIT)
                predicted = predictions_of(observed, SPLIT, output, run.sigma_D_mpc, run.grid_mpc)
                names = {**common, "network": network, "label": run.spec.label, "kind": "network"}
                table.append(row(names, predicted, H0, params))
                Table(predicted).write(partial / "predictions" / f"{name}.csv", format="ascii.csv")
                if np.isfinite(predicted["D_p_mpc"]).all():
                    draw(partial / "figures", name, predicted, sigma_z, meta["source"])
                if tracking.run_exists(run.run_id):
                    final = {key: table[-1][key] for key in METRICS}
                    tracking.log_metrics(run.run_id, final, prefix="test_")
        write_results(table, partial)
        for path in (partial / "table.csv", partial / "metrics.json"):
            tracking.log_file(path)


def markdown(table: list[dict[str, Any]]) -> str:
    """The main columns of the table for people, value +- bootstrap deviation; "-" for NaN."""
    columns = {
        "L1(D) [Mpc]": ("l1_d_mpc", 2),
        "L2(D) [Mpc]": ("l2_d_mpc", 2),
        "L2(D_z) [Mpc]": ("l2_dz_mpc", 2),
        "slope": ("velocity_slope", 2),
        "velocity rms [km/s]": ("velocity_rms_kms", 0),
        "posterior rms [km/s]": ("posterior_rms_kms", 0),
        "68% coverage": ("coverage_68", 3),
        "95% coverage": ("coverage_95", 3),
    }
    lines = [f"| {' | '.join(['data', 'network', *columns])} |", "|---" * (2 + len(columns)) + "|"]
    for entry in table:
        cells = [f"{entry['dataset']} ({entry['source']})", entry["network"].replace("|", "\\|")]
        cells += [
            "-" if np.isnan(entry[k]) else f"{entry[k]:.{n}f} ± {entry[f'{k}_err']:.{n}f}"
            for k, n in columns.values()
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_results(table: list[dict[str, Any]], folder: Path) -> None:
    """`table.csv`, a row a network, `table.md`, and `metrics.json`, by name for `dvc metrics`."""
    Table(rows=table).write(folder / "table.csv", format="ascii.csv")
    (folder / "table.md").write_text(markdown(table))
    named = {
        f"{entry['dataset']}-{entry['network']}": {
            key: entry[key] for key in (*METRICS, *(f"{m}_err" for m in METRICS))
        }
        for entry in table
    }
    (folder / "metrics.json").write_text(json.dumps(named, indent=2) + "\n")


if __name__ == "__main__":
    main()
