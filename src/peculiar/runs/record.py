"""A trained network on disk: its weights, `run.json`, curves and validation predictions.

`run.json` holds all that is needed to build the network again, and the id of its MLflow run. It is
a DVC output, so a network restored from DVC's cache still names the run that made it.
`validation.ecsv` has one row per image of the validation split; `promote` compares networks by it.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from pydantic import model_validator

from peculiar.core.errors import InputError
from peculiar.core.params import Name, validate
from peculiar.runs.blueprint import Blueprint
from peculiar.runs.weights import WEIGHTS, read_weights, write_weights

if TYPE_CHECKING:  # slow to import torch, which readers of `run.json` do not need
    from peculiar.networks.heads import Network

RUN, HISTORY = "run.json", "history.csv"
VALIDATION = "validation.ecsv"
TRAIN, CHECKOUT = "run `dvc repro` to train this network", "run `dvc checkout`"
# keys of a run before 2026-11-26, which are now in its survey
SURVEY_BEFORE = (
    *("dataset", "distribution", "bands", "pixels", "H0_kms_mpc", "sigma_v_kms"),
    *("pixel_scale_arcsec", "dimming", "instrument", "split_by", "range_mpc"),
)

Predicted = dict[str, NDArray[np.float64]]


class Run(Blueprint):
    """Content of `run.json`: a `Blueprint` and what is known of its training.

    Metrics may be NaN after a failed training.

    Attributes
    ----------
    network : str
        Name of the network.
    images : dict of str to int
        Number of images in the training and validation splits.
    data : dict of str to str
        Digest of each data dependency.
    code : dict of str to str
        Commit, whether files differ from it, and sha256 of the source.
    run_id : str
        MLflow run of the training.
    model_uri, model_sha256 : str
        Model in MLflow, and its digest (`peculiar.runs.logged.model_sha256`).
    seconds : float
        Duration of the training, s.
    zero_rms_kms : float
        Rms of the true velocities of the validation split, which is the error of v = 0, km/s.
    spread_dz_mpc : float
        Standard deviation of D_z in the validation split, Mpc.
    validation : dict of str to float
        `velocity.metrics.METRICS` on the validation split, with the unit in each name.
    sharpness, sharpness_error : float or None
        Sharpness of the likelihood and its standard error over galaxies, which is NaN where the
        loss has no minimum (`peculiar.training.calibration`); None for a point head and in older
        runs.
    """

    network: Name
    images: dict[str, int]
    data: dict[str, str]
    code: dict[str, str]
    run_id: str
    model_uri: str
    model_sha256: str
    seconds: float
    zero_rms_kms: float
    spread_dz_mpc: float
    validation: dict[str, float]
    sharpness: float | None = None
    sharpness_error: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _older(cls, values: Any) -> Any:
        """Convert runs from before `survey` and before some keys of `spec`."""
        match values:
            case {"spec": dict(spec)}:
                later = ("fresh_mpc", "calibration_folds", "images_per_galaxy")
                before = {"precision": "float32", **dict.fromkeys(later)}
                values = values | {"spec": before | spec}
        match values:
            case {"data_source": source} if "survey" not in values:
                of_survey = {key: values[key] for key in SURVEY_BEFORE if key in values}
                rest = {k: v for k, v in values.items() if k not in (*SURVEY_BEFORE, "data_source")}
                values = rest | {"survey": of_survey | {"source": source}}
        return values


def write(
    folder: Path,
    network: "Network",
    history: Sequence[Mapping[str, float]],
    predicted: Mapping[str, NDArray[np.float64]],
    run: Run,
) -> None:
    """Write weights, history, validation predictions and `run.json` into an existing folder.

    Parameters
    ----------
    folder : Path
        Existing folder.
    network : DistanceNetwork or DistributionNetwork
        Trained network.
    history : sequence of mapping
        Curves, one mapping per epoch.
    predicted : mapping of str to ndarray, (n,)
        `peculiar.training.predictions.prediction_columns` of the validation split.
    run : Run
        Content of `run.json`.
    """
    write_weights(network, folder / WEIGHTS)
    with (folder / HISTORY).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    Table(dict(predicted)).write(folder / VALIDATION, format="ascii.ecsv")
    (folder / RUN).write_text(run.model_dump_json(indent=2) + "\n")


def read_run(folder: Path, again: str = "") -> Run:
    """Read `run.json` of a trained network.

    Parameters
    ----------
    folder : Path
        From `write`.
    again : str
        How to get the file anew, which ends the error message; by default with DVC.

    Raises
    ------
    InputError
        When the file is missing or damaged, or a value is not valid.
    """
    path = folder / RUN
    try:
        values: Any = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {again or TRAIN}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): {again or CHECKOUT}") from None
    return validate(Run, values, str(path))


def read_validation(path: Path, again: str = "") -> Predicted:
    """Read the columns (n,) of `validation.ecsv`; `again` as in `read_run`.

    Raises
    ------
    InputError
        When the file is missing or damaged.
    """
    try:
        table = Table.read(path, format="ascii.ecsv")
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {again or TRAIN}") from None
    except Exception as error:  # astropy and PyYAML raise many kinds on a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is damaged ({reason}): {again or CHECKOUT}") from None
    return {name: np.asarray(table[name]) for name in table.colnames}


def read_network(folder: Path, run: Run) -> "Network":
    """Build the network of `run` and load its weights from `folder`.

    Returns
    -------
    DistanceNetwork or DistributionNetwork
        On the CPU.

    Raises
    ------
    InputError
        When the weights are missing, damaged, or of another network.
    """
    finite = math.isfinite(run.sigma_D_mpc)  # else the training failed
    return read_weights(run.fresh_network(), folder / WEIGHTS, CHECKOUT, finite=finite)
