"""Train one network outside the pipeline, and judge it by the test split, as the paper does."""

import json
import time
from pathlib import Path
from typing import Any

from astropy.table import Table

from experiments.paper.claims import measures_of_claims
from peculiar.core.dataset import Observed
from peculiar.core.files import write_atomically
from peculiar.networks.inference import Scaled
from peculiar.networks.params import NetworkSection
from peculiar.training.predictions import grid_of, predict_split, predictions_of, validate
from peculiar.training.train import train_network
from peculiar.velocity.metrics import measures


def train_and_judge(
    observed: Observed, spec: NetworkSection, seed: int, scaled: Scaled, path: Path, identity: str
) -> dict[str, Any]:
    """Train a network, judge it by the test split, and keep what is found.

    Parameters
    ----------
    observed : Observed
        Dataset; its test split chooses nothing here.
    spec, seed
        Recipe, and seed of the training.
    scaled : callable
        From `peculiar.training.train.share_images`.
    path : Path
        JSON file to write; the predictions are written beside it, as ECSV.
    identity : str
        What decides the result, for `experiments.kept.read_kept`.

    Returns
    -------
    dict
        `identity`; `measures`, those of `peculiar.velocity.metrics`, what claims need, and seconds;
        `history`, the rms error of validation labels after each epoch, Mpc.
    """
    history: list[float] = []
    start = time.monotonic()
    network = train_network(
        observed,
        spec,
        seed,
        lambda _, curve: history.append(curve["validation_l2_mpc"]),
        scaled,
    )
    seconds = time.monotonic() - start
    sigma_D, _, _ = validate(network, observed)
    output = predict_split(network, observed, "test")
    predicted = predictions_of(observed, "test", output, sigma_D, grid_of(network))
    measured = measures(predicted, observed.survey.H0_kms_mpc) | measures_of_claims(predicted)
    kept = {
        "identity": identity,
        "measures": measured | {"seconds": seconds},
        "history": history,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    Table(predicted).write(path.with_suffix(".ecsv"), overwrite=True)
    write_atomically(path, json.dumps(kept).encode())
    return kept
