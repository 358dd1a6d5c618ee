"""Stage `train`: one network on one dataset; MLflow keeps the run, DVC the weights."""

import argparse
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import yaml
from tqdm import tqdm

from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.files import replace_folder
from peculiar.core.params import load
from peculiar.core.provenance import code_digest, digests, git_state
from peculiar.core.survey import Survey
from peculiar.networks.heads import Network
from peculiar.networks.params import NetworkSection
from peculiar.pipeline.paths import Paths
from peculiar.runs import logged, record, tracking
from peculiar.runs.blueprint import Blueprint
from peculiar.runs.validity import Validity, validity_once
from peculiar.training import torchrun
from peculiar.training.calibration import Sharpness
from peculiar.training.params import Train
from peculiar.training.predictions import validate
from peculiar.training.train import train_calibrated, train_network


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> None:
    """Train the network named on the command line."""
    parser = argparse.ArgumentParser(prog="peculiar train", description=__doc__)
    parser.add_argument("--dataset", required=True, help="one of train.datasets")
    parser.add_argument("--network", required=True, help="one of train.specs, or best")
    options = parser.parse_args(arguments)
    paths = Paths(root)
    with one_sentence(), torchrun.joined():
        params = load(Train, paths.params)
        spec = network_spec(params, options.network, paths)
        if torchrun.rank() == 0:
            train_on_dataset(params, spec, options.dataset, options.network, paths)
        else:  # the other processes of torchrun only train; the first one writes and logs
            observed = Observed.read(paths.observed(options.dataset))
            train_network(observed, spec, params.seed, lambda *_: None, raw=paths.fetched)


def network_spec(params: Train, network: str, paths: Paths) -> NetworkSection:
    """Parameters of a network; those of `best` are completed from best.yaml of the search.

    Raises
    ------
    InputError
        When best.yaml is missing, or the network is not in `train.specs`.
    """
    if network == "best":
        if not paths.best.exists():
            raise InputError(f"{paths.best} is missing: run `dvc repro search` first")
        return params.best.complete(yaml.safe_load(paths.best.read_text()))
    if network not in params.specs:
        known = ", ".join([*params.specs, "best"])
        raise InputError(f"params.yaml: train.specs has no network {network!r}: take {known}")
    return params.specs[network]


def train_on_dataset(
    params: Train, spec: NetworkSection, dataset: str, network_name: str, paths: Paths
) -> None:
    """Train one network, measure it on the validation split, and write its folder.

    Parameters
    ----------
    params : Train
        Section `train` of `params.yaml`.
    spec : NetworkSection
        The network, from `network_spec`.
    dataset, network_name : str
        Names of the dataset and of the network.
    paths : Paths
        Files of the stages; the folder is `results/train/DATASET-NETWORK`.

    Raises
    ------
    InputError
        When the dataset is missing or damaged, or the network does not suit it.
    """
    observed = Observed.read(paths.observed(dataset))
    name = f"{dataset}-{network_name}"
    best = [paths.best] if network_name == "best" else []
    raw = [paths.fetched] if spec.fresh else []
    inputs = digests([paths.observed(dataset), *best, *raw], paths.root)
    observed_name = paths.observed(dataset).relative_to(paths.root).as_posix()
    history: list[dict[str, float]] = []
    logged = logged_run(params, spec, observed.survey, network_name, inputs, paths)
    start = time.monotonic()
    with (
        logged as run_id,
        replace_folder(paths.trained(name)) as partial,
        tqdm(total=spec.all_epochs * (1 + spec.folds), desc=f"train ({name})", unit="epoch") as bar,
    ):

        def on_epoch(epoch: int, curve: dict[str, float]) -> None:
            history.append({"epoch": epoch, **curve})
            tracking.log_curves(run_id, history[-1:])
            bar.set_postfix({key: f"{value:.2f}" for key, value in curve.items()})
            bar.update()

        def on_fold_epoch(_: int, __: dict[str, float]) -> None:
            bar.update()

        network, sharpness = train_calibrated(
            observed,
            spec,
            params.seed,
            on_epoch,
            raw=paths.fetched,
            on_fold_epoch=on_fold_epoch,
        )
        if sharpness is not None:
            tqdm.write(f"{name}: {sharpness}")
        run, predicted = measure_run(
            network,
            observed,
            sharpness=sharpness,
            spec=spec,
            network_name=network_name,
            seed=params.seed,
            data=inputs,
            validity=validity_once(observed, inputs[observed_name], paths.root),
            run_id=run_id,
            start_s=start,
        )
        record.write(partial, network, history, predicted, run)
        # read by `promote` and by `peculiar registry reproduce`
        for path in [partial / record.RUN, partial / record.VALIDATION, paths.params, *best]:
            tracking.log_file(path)
        if not np.isfinite(predicted["D_p_mpc"]).all():
            tqdm.write(f"{name}: the training diverged; it will not be promoted")


def logged_run(
    params: Train,
    spec: NetworkSection,
    survey: Survey,
    network_name: str,
    data: dict[str, str],
    paths: Paths,
) -> AbstractContextManager[str]:
    """Open the MLflow run of a training, with its parameters and tags; yields the run's id."""
    return tracking.run(
        tracking.connect(paths.store),
        f"{survey.dataset}-{network_name}",
        params={
            "seed": params.seed,
            "network": spec.model_dump(),
            "survey": survey.model_dump(),
        },
        tags={
            "stage": "train",
            "dataset": survey.dataset,
            "network": network_name,
            "family": spec.family,
            "label": spec.label,
            "normalised": str(spec.normalise).lower(),
            "data_source": survey.source,
        },
        data=data,
        root=str(paths.root),
    )


def measure_run(
    network: Network,
    observed: Observed,
    *,
    sharpness: Sharpness | None,
    spec: NetworkSection,
    network_name: str,
    seed: int,
    data: dict[str, str],
    validity: Validity,
    run_id: str,
    start_s: float,
) -> tuple[record.Run, record.Predicted]:
    """Measure a network on the validation split, and log its metrics and the model.

    Parameters
    ----------
    network : DistanceNetwork or DistributionNetwork
        Trained network.
    observed : Observed
        Its dataset.
    sharpness : Sharpness or None
        Its calibration; None for a point head.
    spec, network_name, seed, data, validity, run_id
        See `peculiar.runs.record.Run`.
    start_s : float
        `time.monotonic` at the start of the training, s.

    Returns
    -------
    run : Run
        Content of `run.json`.
    predicted : dict of str to ndarray, (n,)
        `peculiar.training.predictions.prediction_columns` of the validation split.
    """
    sigma_D, predicted, validation = validate(network, observed)
    tracking.log_metrics(run_id, {**validation, "sigma_D_mpc": sigma_D}, prefix="validation_")
    if sharpness is not None:
        calibration = {"sharpness": sharpness.value, "sharpness_error": sharpness.error}
        tracking.log_metrics(run_id, calibration)
    blueprint = Blueprint.of(network, observed.survey, spec, seed, sigma_D, validity)
    model_uri = logged.log_model(network, blueprint)
    run = record.Run(
        **dict(blueprint),
        network=network_name,
        images={split: len(observed.rows(split)) for split in ("train", "validation")},
        data=data,
        code={**git_state(), "sha256": code_digest()},
        run_id=run_id,
        model_uri=model_uri,
        model_sha256=logged.model_sha256(model_uri),
        seconds=round(time.monotonic() - start_s, 1),
        zero_rms_kms=float(np.sqrt(np.mean(predicted["v_kms"] ** 2))),
        spread_dz_mpc=float(np.std(predicted["D_z_mpc"])),
        validation=validation,
        sharpness=None if sharpness is None else sharpness.value,
        sharpness_error=None if sharpness is None else sharpness.error,
    )
    return run, predicted


if __name__ == "__main__":
    main()
