"""Stage `evaluate`: measure every trained network, and the baselines, on the test split.

No other stage reads the test split. `results/evaluate` has `table.csv` and `table.md` (all metrics
with their bootstrap errors), `metrics.json` (the same by name, for `promote`), `metrics/` (the
headline metrics, one file a network, for `dvc metrics show`), `predictions/` and `figures/`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
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
    distances_figure,
    history_figure,
    redshift_distances_figure,
    velocities_figure,
)
from peculiar.pipeline.paths import Paths
from peculiar.runs import record, tracking
from peculiar.training.params import Train
from peculiar.training.predictions import baselines, column_mpc, predict_split, predictions_of
from peculiar.velocity.metrics import METRICS, bootstrap_errors, measures

SPLIT = "test"
# what `dvc metrics show` prints; with more of them its table is wider than 100 columns
HEADLINE = ("l2_d_mpc", "posterior_rms_kms", "coverage_68")
# file names of baselines; none can be a network's, which has no hyphen
BASELINES = {"v = 0": "v-0", "constant distance": "constant-D", "E[D | D_z]": "E-D-D_z"}

Predicted = dict[str, NDArray[np.float64]]


class Evaluate(Section):
    """Stage `evaluate`."""

    bootstrap: Annotated[int, Field(ge=10)]
    seed: NonNegativeInt


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> None:
    """Run the stage from `params.yaml`."""
    argparse.ArgumentParser(prog="peculiar evaluate", description=__doc__).parse_args(arguments)
    paths = Paths(root)
    with one_sentence():
        evaluate(load(Evaluate, paths.params), load(Train, paths.params), paths)


def leak(observed: Observed) -> float:
    """Fraction of test images whose galaxy is also in the training split; 0 if split by galaxy."""
    galaxy = np.asarray(observed.table["galaxy"])
    return float(np.isin(galaxy[observed.rows(SPLIT)], galaxy[observed.rows("train")]).mean())


def row(
    name: Mapping[str, str | float], predicted: Predicted, H0_kms_mpc: float, params: Evaluate
) -> dict[str, Any]:
    """One row of the table: names, metrics, and the bootstrap error of each metric."""
    metrics = measures(predicted, H0_kms_mpc)
    rng = np.random.default_rng(params.seed)  # the same samples for every row
    spread = bootstrap_errors(predicted, H0_kms_mpc, params.bootstrap, rng)
    errors = {f"{key}_err": error for key, error in spread.items()}
    return {**name, **metrics, **errors}


def training_figures(folder: Path, title: str) -> dict[str, Figure]:
    """History and validation distances of the network trained in `folder`."""
    history = Table.read(folder / record.HISTORY, format="ascii.csv")
    columns = {name: np.asarray(history[name]) for name in history.colnames}
    figures = {"history": history_figure(columns, title)}
    validation = record.read_validation(folder / record.VALIDATION)
    if np.isfinite(validation["D_p_mpc"]).all():
        figures["validation"] = distances_figure(validation, f"{title}, validation split")
    return figures


def predicted_figures(predicted: Predicted, sigma_z_mpc: float, title: str) -> dict[str, Figure]:
    """The paper's figures 3 to 5, and the calibration; none of a training that diverged."""
    if not np.isfinite(predicted["D_p_mpc"]).all():
        return {}
    title = f"{title}, {SPLIT} split"
    figures = {
        "distances": distances_figure(predicted, title),
        "redshift_distances": redshift_distances_figure(predicted, sigma_z_mpc, title),
    }
    if not np.isnan(predicted["v_kms"]).all():
        figures["velocities"] = velocities_figure(predicted, title)
        figures["calibration"] = calibration_figure(predicted, title)
    return figures


def save(figures: Mapping[str, Figure], folder: Path, name: str, run_id: str | None) -> None:
    """Write `NAME_KIND.png` into `folder`, and log it to the MLflow run of the training."""
    for kind, figure in figures.items():
        path = folder / f"{name}_{kind}.png"
        figure.savefig(path, dpi=120)
        if run_id is not None:
            tracking.log_file(path, "figures", run_id)


def evaluate(params: Evaluate, train: Train, paths: Paths) -> None:
    """Write the table, metrics, predictions and figures of all networks."""
    table: list[dict[str, Any]] = []
    experiment = tracking.connect(paths.store)
    items = train.items()
    folders = [paths.observed(d) for d in train.datasets]
    folders += [paths.trained(f"{d}-{n}") for d, n in items]
    inputs = digests(folders, paths.root)
    with (
        tracking.run(
            experiment,
            "evaluate",
            params=params.model_dump(),
            tags={"stage": "evaluate"},
            data=inputs,
            root=str(paths.root),
        ),
        whole_folder(paths.evaluated) as partial,
    ):
        for kind in ("predictions", "figures", "metrics"):
            (partial / kind).mkdir()
        for dataset in train.datasets:
            observed = Observed.read(paths.observed(dataset))
            survey = observed.survey
            H0, sigma_z = survey.H0_kms_mpc, survey.sigma_z_mpc
            common: dict[str, str | float] = {
                "dataset": dataset,
                "source": survey.source,
                "dimming": survey.dimming,
                "split_by": survey.split_by,
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
                run = record.read_run(paths.trained(name))
                output = predict_split(
                    record.read_network(paths.trained(name), run), observed, SPLIT
                )
                predicted = predictions_of(observed, SPLIT, output, run.sigma_D_mpc, run.grid_mpc)
                names = {**common, "network": network, "label": run.spec.label, "kind": "network"}
                table.append(row(names, predicted, H0, params))
                Table(predicted).write(partial / "predictions" / f"{name}.csv", format="ascii.csv")
                title = f"{name}, {survey.source}"
                figures = training_figures(paths.trained(name), title)
                figures |= predicted_figures(predicted, sigma_z, title)
                run_id = run.run_id if tracking.run_exists(run.run_id) else None
                save(figures, partial / "figures", name, run_id)
                if run_id is not None:
                    final = {key: table[-1][key] for key in METRICS}
                    tracking.log_metrics(run_id, final, prefix="test_")
        write_results(table, partial)
        for path in (partial / "table.csv", partial / "metrics.json"):
            tracking.log_file(path)


def markdown(table: list[dict[str, Any]]) -> str:
    """The main columns as a Markdown table, value ± bootstrap error; "-" for NaN."""
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


def headline(entry: Mapping[str, Any]) -> dict[str, float]:
    """The headline metrics of one row that are finite, to four significant digits.

    DVC would count a NaN as changed in every comparison; it shows a missing number as "-".
    """
    return {key: float(f"{entry[key]:.4g}") for key in HEADLINE if np.isfinite(entry[key])}


def write_results(table: list[dict[str, Any]], folder: Path) -> None:
    """Write `table.csv`, `table.md`, `metrics.json` and `metrics/DATASET-NETWORK.json`."""
    Table(rows=table).write(folder / "table.csv", format="ascii.csv")
    (folder / "table.md").write_text(markdown(table))
    named = {
        f"{entry['dataset']}-{entry['network']}": {
            key: entry[key] for key in (*METRICS, *(f"{m}_err" for m in METRICS))
        }
        for entry in table
    }
    (folder / "metrics.json").write_text(json.dumps(named, indent=2) + "\n")
    for entry in table:
        name = f"{entry['dataset']}-{BASELINES.get(entry['network'], entry['network'])}"
        text = json.dumps(headline(entry), indent=2) + "\n"
        (folder / "metrics" / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main()
