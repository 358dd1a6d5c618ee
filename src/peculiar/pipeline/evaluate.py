"""Stage `evaluate`: measure every trained network, and the baselines, on the test split.

No other stage reads the test split. `results/evaluate` has `table.csv` and `table.md` (metrics with
their bootstrap errors), `metrics.json` (the same by name, for `promote`), `metrics/` (headline
metrics, one file per network, for `dvc metrics show`), `predictions/` and `figures/`.
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
from peculiar.core.files import replace_folder
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
# shown by `dvc metrics show`; with more, its table would be wider than 100 columns
HEADLINE = ("l2_d_mpc", "posterior_rms_kms", "coverage_68")
# file names of baselines; names of networks have no hyphen
BASELINES = {"v = 0": "v-0", "constant distance": "constant-D", "E[D | D_z]": "E-D-D_z"}

Predicted = dict[str, NDArray[np.float64]]


class Evaluate(Section):
    """Section `evaluate` of `params.yaml`: number and seed of the bootstrap samples."""

    bootstrap: Annotated[int, Field(ge=10)]
    seed: NonNegativeInt


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> None:
    """Run the stage from `params.yaml`."""
    argparse.ArgumentParser(prog="peculiar evaluate", description=__doc__).parse_args(arguments)
    paths = Paths(root)
    with one_sentence():
        evaluate_networks(load(Evaluate, paths.params), load(Train, paths.params), paths)


def leak(observed: Observed) -> float:
    """Fraction of test images with a galaxy of the training split; 0 if split by galaxy."""
    galaxy = np.asarray(observed.table["galaxy"])
    return float(np.isin(galaxy[observed.rows(SPLIT)], galaxy[observed.rows("train")]).mean())


def row(
    name: Mapping[str, str | float], predicted: Predicted, H0_kms_mpc: float, params: Evaluate
) -> dict[str, Any]:
    """Compute one row of the table.

    Parameters
    ----------
    name : mapping
        First columns: names of dataset and network, and properties of the dataset.
    predicted : dict of str to ndarray, (n,)
        From `peculiar.training.predictions.prediction_columns`.
    H0_kms_mpc : float
        Hubble constant, km/s/Mpc.
    params : Evaluate
        Bootstrap samples and seed.

    Returns
    -------
    dict
        `name`, all metrics, and the bootstrap error of each, with a key that ends in `_err`.
    """
    metrics = measures(predicted, H0_kms_mpc)
    rng = np.random.default_rng(params.seed)  # the same samples for every row
    spread = bootstrap_errors(predicted, H0_kms_mpc, params.bootstrap, rng)
    errors = {f"{key}_err": error for key, error in spread.items()}
    return {**name, **metrics, **errors}


def training_figures(folder: Path, title: str) -> dict[str, Figure]:
    """Figures of the training history, and of distances on the validation split.

    The distances of a diverged training are not drawn.
    """
    history = Table.read(folder / record.HISTORY, format="ascii.csv")
    columns = {name: np.asarray(history[name]) for name in history.colnames}
    figures = {"history": history_figure(columns, title)}
    validation = record.read_validation(folder / record.VALIDATION)
    if np.isfinite(validation["D_p_mpc"]).all():
        figures["validation"] = distances_figure(validation, f"{title}, validation split")
    return figures


def predicted_figures(predicted: Predicted, sigma_z_mpc: float, title: str) -> dict[str, Figure]:
    """Figures of the test split as in the paper (3 to 5), and calibration; none if diverged."""
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
    """Write `NAME_KIND.png` into `folder`, and log each to the run of the training, if any."""
    for kind, figure in figures.items():
        path = folder / f"{name}_{kind}.png"
        figure.savefig(path, dpi=120)
        if run_id is not None:
            tracking.log_file(path, "figures", run_id)


def evaluate_networks(params: Evaluate, train: Train, paths: Paths) -> None:
    """Write the table, metrics, predictions and figures of all networks.

    Parameters
    ----------
    params : Evaluate
        Section `evaluate` of `params.yaml`.
    train : Train
        Section `train`, which lists the networks.
    paths : Paths
        Files of the stages.

    Raises
    ------
    InputError
        When a dataset or a trained network is missing or damaged.
    """
    table: list[dict[str, Any]] = []
    items = train.items()
    folders = [paths.observed(d) for d in train.datasets]
    folders += [paths.trained(f"{d}-{n}") for d, n in items]
    inputs = digests(folders, paths.root)
    experiment = tracking.connect(paths.store)
    with (
        tracking.run(
            experiment,
            "evaluate",
            params=params.model_dump(),
            tags={"stage": "evaluate"},
            data=inputs,
            root=str(paths.root),
        ),
        replace_folder(paths.evaluated) as partial,
    ):
        for kind in ("predictions", "figures", "metrics"):
            (partial / kind).mkdir()
        for dataset in train.datasets:
            observed = Observed.read(paths.observed(dataset))
            table += baseline_rows(observed, params)
            networks = [network for d, network in items if d == dataset]
            for network in tqdm(networks, desc=f"evaluate ({dataset})"):
                folder = paths.trained(f"{dataset}-{network}")
                table.append(evaluate_network(observed, network, folder, partial, params))
        write_results(table, partial)
        for path in (partial / "table.csv", partial / "metrics.json"):
            tracking.log_file(path)


def dataset_columns(observed: Observed) -> dict[str, str | float]:
    """Columns of the table that are equal for all rows of a dataset."""
    survey = observed.survey
    return {
        "dataset": survey.dataset,
        "source": survey.source,
        "dimming": survey.dimming,
        "split_by": survey.split_by,
        "leak": leak(observed),
    }


def baseline_rows(observed: Observed, params: Evaluate) -> list[dict[str, Any]]:
    """Rows of the table for predictions without images."""
    common, H0 = dataset_columns(observed), observed.survey.H0_kms_mpc
    prior_mpc = column_mpc(observed, "distance_mpc")[observed.rows("train")]
    return [
        row({**common, "network": name, "label": "-", "kind": "baseline"}, predicted, H0, params)
        for name, predicted in baselines(observed, SPLIT, prior_mpc).items()
    ]


def evaluate_network(
    observed: Observed, network: str, trained: Path, folder: Path, params: Evaluate
) -> dict[str, Any]:
    """Write the predictions and figures of one network, and log its test metrics.

    Parameters
    ----------
    observed : Observed
        Dataset of the network.
    network : str
        Name of the network.
    trained : Path
        Folder that `train` wrote.
    folder : Path
        Results, with the folders `predictions` and `figures`.
    params : Evaluate
        Bootstrap samples and seed.

    Returns
    -------
    dict
        Its row of the table.
    """
    survey = observed.survey
    name = f"{survey.dataset}-{network}"
    run = record.read_run(trained)
    output = predict_split(record.read_network(trained, run), observed, SPLIT)
    predicted = predictions_of(observed, SPLIT, output, run.sigma_D_mpc, run.grid_mpc)
    Table(predicted).write(folder / "predictions" / f"{name}.csv", format="ascii.csv")
    first = {"network": network, "label": run.spec.label, "kind": "network"}
    measured = row(dataset_columns(observed) | first, predicted, survey.H0_kms_mpc, params)
    title = f"{name}, {survey.source}"
    figures = training_figures(trained, title)
    figures |= predicted_figures(predicted, survey.sigma_z_mpc, title)
    run_id = run.run_id if tracking.run_exists(run.run_id) else None
    save(figures, folder / "figures", name, run_id)
    if run_id is not None:
        tracking.log_metrics(run_id, {key: measured[key] for key in METRICS}, prefix="test_")
    return measured


def markdown(table: list[dict[str, Any]]) -> str:
    """Format the main columns as a Markdown table: value ± bootstrap error, "-" for NaN."""
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
    """Finite headline metrics of one row, to four significant digits.

    NaN is left out: DVC would show it as changed in every comparison. It shows "-" instead.
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
