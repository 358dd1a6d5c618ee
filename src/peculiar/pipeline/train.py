"""Stage `train`: one network on one dataset; MLflow keeps the run, DVC the weights."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from tqdm import tqdm

from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.files import whole_folder
from peculiar.core.params import PARAMS, load
from peculiar.core.provenance import code_digest, digests, git_state
from peculiar.networks.heads import DistanceNetwork, Network
from peculiar.networks.params import NetworkSection
from peculiar.runs import record, tracking
from peculiar.runs.validity import validity_of
from peculiar.training import torchrun
from peculiar.training.curves import distances_figure, history_figure
from peculiar.training.params import Train
from peculiar.training.predictions import grid_of, validate
from peculiar.training.train import train_network

RAW, DATA, OUT = Path("data/fetch"), Path("data/observe"), Path("results/train")
BEST = Path("results/search/best.yaml")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the network named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="one of train.datasets")
    parser.add_argument("--network", required=True, help="one of train.specs, or best")
    chosen = parser.parse_args(arguments)
    with one_sentence(), torchrun.joined():
        params = load(Train)
        spec = network_spec(params, chosen.network)
        if torchrun.rank() == 0:
            train(params, spec, chosen.network, DATA / chosen.dataset)
        else:  # torchrun's others train along, and leave the rest to the first
            observed = Observed.read(DATA / chosen.dataset)
            train_network(observed, spec, params.seed, lambda _epoch, _curve: None, raw=RAW)


def network_spec(params: Train, network: str) -> NetworkSection:
    """The network of that name; `best` is completed from the search's best.yaml."""
    if network == "best":
        if not BEST.exists():
            raise InputError(f"{BEST} is missing: run `dvc repro search` first")
        return params.best.complete(yaml.safe_load(BEST.read_text()))
    if network not in params.specs:
        known = ", ".join([*params.specs, "best"])
        raise InputError(f"params.yaml: train.specs has no network {network!r}: take {known}")
    return params.specs[network]


def target_mpc(network: Network) -> tuple[float, float] | None:
    """Offset and scale of a point head's targets, Mpc; None for other heads."""
    if isinstance(network, DistanceNetwork):
        return float(network.offset_mpc), float(network.scale_mpc)
    return None


def train(params: Train, spec: NetworkSection, network_name: str, data: Path) -> None:
    """Train, measure on the validation split, log to MLflow and write `results/train/NAME`."""
    observed = Observed.read(data)
    meta = observed.table.meta
    name = f"{data.name}-{network_name}"
    also = [*([BEST] if network_name == "best" else []), *([RAW] if spec.fresh else [])]
    inputs = digests([data, *also])
    logged = {"seed": params.seed, "network": spec.model_dump(), "data": meta}
    history: list[dict[str, float]] = []
    experiment = tracking.connect()
    tags = {
        "stage": "train",
        "dataset": data.name,
        "network": network_name,
        "family": spec.family,
        "label": spec.label,
        "normalised": str(spec.normalise).lower(),
        "data_source": meta["source"],
    }
    start = time.monotonic()
    with (
        tracking.run(experiment, name, params=logged, tags=tags, data=inputs) as run_id,
        whole_folder(OUT / name) as partial,
        tqdm(total=spec.all_epochs, desc=f"train ({name})", unit="epoch") as bar,
    ):

        def on_epoch(epoch: int, curve: dict[str, float]) -> None:
            history.append({"epoch": epoch, **curve})
            tracking.log_curves(run_id, history[-1:])
            bar.set_postfix({key: f"{value:.2f}" for key, value in curve.items()})
            bar.update()

        network = train_network(observed, spec, params.seed, on_epoch, raw=RAW)
        sigma_D, predicted, validation = validate(network, observed)
        grid = grid_of(network)
        tracking.log_metrics(run_id, {**validation, "sigma_D_mpc": sigma_D}, prefix="validation_")
        tracking.log_figure(history_figure(history, name), "history.png")
        title = f"{name}, {meta['source']}, validation"
        tracking.log_figure(distances_figure(predicted, title), "distances.png")
        example = observed.images[observed.rows("train")[:2]]
        model_uri = tracking.log_model(network, example)
        splits = ("train", "validation")
        run = record.Run(
            dataset=data.name,
            distribution=meta["distribution"],
            network=network_name,
            spec=spec,
            seed=params.seed,
            bands=tuple(meta["bands"]),
            pixels=observed.images.shape[-1],
            target_mpc=target_mpc(network),
            grid_mpc=None if grid is None else tuple(grid),
            H0_kms_mpc=meta["H0_kms_mpc"],
            sigma_v_kms=meta["sigma_v_kms"],
            pixel_scale_arcsec=meta["pixel_scale_arcsec"],
            dimming=meta["dimming"],
            instrument=meta["instrument"],
            split_by=meta["split_by"],
            data_source=meta["source"],
            range_mpc=meta["range_mpc"],
            images={split: len(observed.rows(split)) for split in splits},
            data=inputs,
            code={**git_state(), "sha256": code_digest()},
            run_id=run_id,
            model_uri=model_uri,
            model_sha256=tracking.model_sha256(model_uri),
            seconds=round(time.monotonic() - start, 1),
            sigma_D_mpc=sigma_D,
            zero_rms_kms=float(np.sqrt(np.mean(predicted["v_kms"] ** 2))),
            spread_dz_mpc=float(np.std(predicted["D_z_mpc"])),
            validation=validation,
            validity=validity_of(observed),
        )
        record.write(partial, network, history, predicted, run)
        # what `promote` compares with, and what `peculiar registry reproduce` needs
        needed = [partial / record.RUN, partial / record.VALIDATION, PARAMS]
        for path in [*needed, *([BEST] if network_name == "best" else [])]:
            tracking.log_file(path)
        if not np.isfinite(predicted["D_p_mpc"]).all():
            tqdm.write(f"{name}: the training diverged; it will not be promoted")


if __name__ == "__main__":
    main()
