"""Networks as MLflow keeps them: exported with `torch.export`, never pickled."""

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException

from peculiar.core.errors import InputError
from peculiar.core.files import files_sha256
from peculiar.runs.tracking import artifacts_now

if TYPE_CHECKING:  # not every stage needs it, and it takes seconds to import
    import torch
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not every stage needs it, and it takes seconds to import
    pass

BESIDE = "registered_model_meta"  # a file that MLflow adds to the models it downloads


REQUIREMENTS = [f"{name}=={version(name).split('+')[0]}" for name in ("torch", "numpy")]


def log_model(network: "torch.nn.Module", example: np.ndarray[Any, np.dtype[np.float32]]) -> str:
    """Log a network in the active run, exported with `torch.export`: no pickle.

    Parameters
    ----------
    network : nn.Module
        Is put into evaluation mode and moved to the CPU.
    example : ndarray, (n >= 2, band, y, x), float32
        Images that fix the signature; the export needs a batch of two for a free batch size.

    Returns
    -------
    str
        The model's URI.
    """
    import torch

    network.eval().cpu().to(memory_format=torch.contiguous_format)  # in place
    exported = _exported(network, example)
    # validation would load the model again and double the time; tests do that
    info = mlflow.pytorch.log_model(network, name="model", validate_serving_input=False, **exported)
    return str(info.model_uri)


def save_model(
    network: "torch.nn.Module", example: np.ndarray[Any, np.dtype[np.float32]], folder: Path
) -> None:
    """Export a network as `log_model` does, into a new folder."""
    mlflow.pytorch.save_model(network, str(folder), **_exported(network, example))


def _exported(
    network: "torch.nn.Module", example: np.ndarray[Any, np.dtype[np.float32]]
) -> dict[str, Any]:
    """Arguments with which MLflow exports a network that is on the CPU."""
    import torch

    with torch.no_grad():
        output = network(torch.from_numpy(example)).numpy()
    return {
        "input_example": example,
        "signature": mlflow.models.infer_signature(example, output),
        "serialization_format": "pt2",
        "pip_requirements": REQUIREMENTS,
    }


def fetch_model(uri: str, folder: Path) -> Path:
    """Copy a logged model's files below an existing folder.

    Raises
    ------
    InputError
        When the files are missing.
    """
    try:
        source = artifacts_now(_recorded_at(uri), uri)
        files = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder)))
        if not (files / "MLmodel").is_file():  # a folder that is gone comes as an empty one
            raise FileNotFoundError("there are none")
        return files
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the files of {uri} cannot be read ({reason}): restore MLflow's artifacts, or "
            "promote another network"
        ) from None


def model_sha256(uri: str) -> str:
    """sha256 over the files of a logged model."""
    with tempfile.TemporaryDirectory() as folder:
        return files_sha256(fetch_model(uri, Path(folder)), BESIDE)


def load_model(uri: str) -> "torch.nn.Module":
    """Load an exported network, by "models:/NAME@ALIAS" or what `log_model` returned."""
    model: torch.nn.Module = mlflow.pytorch.load_model(uri)
    return model


def _recorded_at(uri: str) -> str:
    """Where the store records the files of "models:/NAME/VERSION" or "models:/ID"."""
    client = mlflow.MlflowClient()
    while uri.startswith("models:/"):
        name, _, number = uri.removeprefix("models:/").partition("/")
        if number:
            uri = str(client.get_model_version_download_uri(name, number))
        else:
            uri = str(client.get_logged_model(name).artifact_location)
    return uri
