"""A trained network on disk: its weights, `run.json`, curves and validation predictions.

`run.json` says how to build the network again and where its MLflow run is; it is a DVC output, so
that a network restored from DVC's cache still points at the run that made it. `validation.ecsv`
has a row for each image of the validation split, by which `promote` compares two networks.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from pydantic import ConfigDict, model_validator

from peculiar.core.errors import InputError
from peculiar.core.params import Section, validate
from peculiar.core.survey import Survey
from peculiar.networks.params import NetworkSection
from peculiar.runs.validity import Validity

if TYPE_CHECKING:  # who only reads `run.json` need not wait for torch
    from peculiar.networks.heads import Network

RUN, WEIGHTS, HISTORY = "run.json", "weights.safetensors", "history.csv"
VALIDATION = "validation.ecsv"
# what a run itself held before 2026-11-26
SURVEY_BEFORE = (
    *("dataset", "distribution", "bands", "pixels", "H0_kms_mpc", "sigma_v_kms"),
    *("pixel_scale_arcsec", "dimming", "instrument", "split_by", "range_mpc"),
)

Predicted = dict[str, NDArray[np.float64]]


class Run(Section):
    """What `run.json` holds.

    `validation` has the metrics of `velocity.metrics.METRICS` on the validation split, in the unit
    of each name, `sigma_D_mpc` is the error of the network's distances measured there,
    `zero_rms_kms` the rms of the same velocities about v = 0, and `spread_dz_mpc` the deviation of
    the same D_z. `grid_mpc` has the distances that p(D | image) is for, None for a point head.
    `survey` is that of the images, `images` how many there are in the training and validation
    splits; `validity` has what the
    training images spanned (None in runs older than it). `data` maps each data dependency to its
    digest; `code` has commit and digest of the source; `model_sha256` is the digest of the exported
    model (`peculiar.runs.exported.model_sha256`). Metrics may be NaN after a failed training.
    """

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")

    survey: Survey
    network: str
    spec: NetworkSection
    seed: int
    target_mpc: tuple[float, float] | None
    grid_mpc: tuple[float, ...] | None
    images: dict[str, int]
    data: dict[str, str]
    code: dict[str, str]
    run_id: str
    model_uri: str
    model_sha256: str
    seconds: float
    sigma_D_mpc: float
    zero_rms_kms: float
    spread_dz_mpc: float
    validation: dict[str, float]
    validity: Validity | None = None

    @model_validator(mode="before")
    @classmethod
    def _older(cls, values: Any) -> Any:
        """Runs that registries keep from before `precision` (float32) and before `survey`."""
        match values:
            case {"spec": dict(spec)} if "precision" not in spec:
                values = values | {"spec": spec | {"precision": "float32"}}
        match values:
            case {"data_source": source} if "survey" not in values:
                of_survey = {key: values[key] for key in SURVEY_BEFORE if key in values}
                rest = {k: v for k, v in values.items() if k not in (*SURVEY_BEFORE, "data_source")}
                values = rest | {"survey": of_survey | {"source": source}}
        return values

    @model_validator(mode="after")
    def _headed(self) -> Self:
        if (self.spec.head == "point") != (self.grid_mpc is None):
            raise ValueError("a grid_mpc belongs to heads that give distributions, and to no other")
        return self

    def fresh_network(self) -> "Network":
        """The network before any training."""
        from peculiar.networks.heads import Prior, build

        grid = self.grid_mpc
        prior = None  # its values stand among the weights
        if grid is not None:
            prior = Prior(np.array(grid), np.full(len(grid), 1 / len(grid)), 1.0)
        return build(
            self.spec,
            self.survey.bands,
            self.survey.pixels,
            target=self.target_mpc or (0.0, 1.0),
            prior=prior,
            seed=self.seed,
            members=self.spec.members,
        )


def write(
    folder: Path,
    network: "Network",
    history: Sequence[Mapping[str, float]],
    predicted: Mapping[str, NDArray[np.float64]],
    run: Run,
) -> None:
    """Write the four files into an existing folder.

    Parameters
    ----------
    folder : Path
        Existing folder.
    network : DistanceNetwork or DistributionNetwork
        With its weights.
    history : sequence of mapping
        Per-epoch curves.
    predicted : mapping of str to ndarray, (n,)
        `peculiar.training.predictions.predictions` of the validation split.
    run : Run
        What `run.json` shall hold.
    """
    from safetensors.torch import save_file

    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    with (folder / HISTORY).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    Table(dict(predicted)).write(folder / VALIDATION, format="ascii.ecsv")
    (folder / RUN).write_text(run.model_dump_json(indent=2) + "\n")


def read_run(folder: Path) -> Run:
    """Read `run.json`; an `InputError` says which file is missing or damaged."""
    path = folder / RUN
    try:
        values: Any = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro` to train this network") from None
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): run `dvc checkout`") from None
    return validate(Run, values, str(path))


def read_validation(path: Path) -> Predicted:
    """Columns (n,) of `validation.ecsv`; an `InputError` says what is missing or damaged."""
    try:
        table = Table.read(path, format="ascii.ecsv")
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro` to train this network") from None
    except Exception as error:  # astropy and PyYAML raise many kinds on a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is damaged ({reason}): run `dvc checkout`") from None
    return {name: np.asarray(table[name]) for name in table.colnames}


def read_network(folder: Path, run: Run) -> "Network":
    """Build the network of `run` and load its weights.

    Raises
    ------
    InputError
        When the weights are missing, damaged, or of another network.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    network = run.fresh_network()
    try:
        network.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc checkout`") from None
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} does not hold this network ({reason}): run `dvc checkout`"
        ) from None
    return network.to(memory_format=torch.channels_last)
