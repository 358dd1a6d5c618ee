"""Networks as MLflow keeps them: the files of `peculiar.runs.stored`, never a program."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException

from peculiar.core.errors import InputError
from peculiar.core.files import files_sha256
from peculiar.runs.blueprint import Blueprint
from peculiar.runs.stored import MLMODEL, write_model
from peculiar.runs.tracking import artifacts_now

if TYPE_CHECKING:  # not every stage needs it, and it takes seconds to import
    from peculiar.networks.heads import Network

BESIDE = "registered_model_meta"  # a file that MLflow adds to the models it downloads


def log_model(network: "Network", blueprint: Blueprint) -> str:
    """Log a network in the active run.

    Parameters
    ----------
    network : DistanceNetwork or DistributionNetwork
        Trained network.
    blueprint : Blueprint
        All that is needed to build it again.

    Returns
    -------
    str
        The model's URI.
    """
    client, run = mlflow.MlflowClient(), mlflow.active_run()
    assert run is not None
    model = client.create_logged_model(
        run.info.experiment_id, name="model", source_run_id=run.info.run_id
    )
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), network, blueprint)
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_uri)


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
        if not (files / MLMODEL).is_file():  # a folder that is gone comes as an empty one
            raise FileNotFoundError("there are none")
    except (MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise InputError(
            f"the files of {uri} cannot be read ({reason}): restore MLflow's artifacts, or "
            "promote another network"
        ) from None
    (files / BESIDE).unlink(missing_ok=True)
    return files


def model_sha256(uri: str) -> str:
    """sha256 over the files of a logged model."""
    with tempfile.TemporaryDirectory() as folder:
        return files_sha256(fetch_model(uri, Path(folder)))


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
