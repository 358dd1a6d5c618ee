"""MLflow's registry of models: versions and aliases, who moved them, and loading what was promoted.

Runs are `peculiar.runs.tracking`'s. A version carries the sha256 of its exported model as a tag,
and is loaded only if its files still have it; pickles are never loaded. MLflow keeps no history of
aliases: each move is a tag `history.0001`, `history.0002`, ... of the registered model.
"""

import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from peculiar.core import processes
from peculiar.core.errors import InputError
from peculiar.core.files import files_sha256
from peculiar.core.provenance import who
from peculiar.runs import exported, tracking

if TYPE_CHECKING:  # promotion need not wait for it
    import torch

DIGEST = "model_sha256"
EXPORTED = "data/model.pt2"
PICKLED = (".pth", ".pkl", ".pickle", ".joblib")
HISTORY = "history."
OF_RUN = ("run.json", "validation.ecsv", "params.yaml", "best.yaml", "cards")  # files kept
WITHDRAWN = "withdrawn"  # tag of a version that was rolled back
WAIT_S, STALE_MINUTES = 20, 10  # for another promotion; after which it must have died


class TakenError(Exception):
    """Another promotion is under way."""


def now() -> str:
    """The time in UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def name_of(version: ModelVersion) -> str:
    """A version, for a sentence."""
    return f"version {version.version} of {version.name}"


def check(version: ModelVersion, folder: Path) -> None:
    """Refuse a model that is a pickle, or not what was promoted.

    Parameters
    ----------
    version : ModelVersion
        With the tag `model_sha256`.
    folder : Path
        Its files, from `peculiar.runs.exported.fetch_model`.

    Raises
    ------
    InputError
        With the reason.
    """
    name, known = name_of(version), version.tags.get(DIGEST)
    pickles = [file.name for file in folder.rglob("*") if file.suffix in PICKLED]
    if pickles or not (folder / EXPORTED).is_file():
        what = f"is pickled ({pickles[0]})" if pickles else f"has no {EXPORTED}"
        raise InputError(
            f"{name} {what} and is not loaded, since a pickle runs any code: promote a network "
            "that `dvc repro` exported"
        )
    if known is None:
        raise InputError(
            f"{name} has no tag {DIGEST}, so its files cannot be compared with those promoted, "
            "and it is not loaded: promote it with `peculiar promote`"
        )
    found = files_sha256(folder, exported.BESIDE)
    if found != known:
        raise InputError(
            f"the files of {name} are not those that were promoted (sha256 {found[:12]}..., "
            f"promoted {known[:12]}...) and are not loaded: restore MLflow's artifacts, or "
            "run `peculiar registry rollback`"
        )


def load(version: ModelVersion) -> "torch.nn.Module":
    """The exported network of a version, if its files are those that were promoted.

    Parameters
    ----------
    version : ModelVersion
        From `peculiar.runs.tracking.aliased`, or `find`.

    Returns
    -------
    nn.Module
        Images (n, band, y, x) to what the network gives.

    Raises
    ------
    InputError
        When the files are missing, pickled or changed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = exported.fetch_model(_uri(version), Path(temporary))
        check(version, folder)
        try:
            return exported.load_model(str(folder))
        except MlflowException as error:
            reason = str(error).splitlines()[0].split(". ")[0]
            raise InputError(f"{name_of(version)} is not loaded: {reason}") from None


def versions(model: str) -> list[ModelVersion]:
    """All versions of a registered model, the first first."""
    found = mlflow.MlflowClient().search_model_versions(f"name = '{model}'")
    return sorted(found, key=lambda version: int(version.version))


def find(model: str, number: str) -> ModelVersion:
    """One version, by its number or an alias.

    Raises
    ------
    InputError
        When there is none.
    """
    aliases = aliases_of(model)
    wanted = aliases.get(number, number)
    for version in versions(model):
        if str(version.version) == wanted:
            return version
    known = ", ".join([*(str(v.version) for v in versions(model)), *aliases]) or "none"
    raise InputError(f"{model} has no version {number!r}: take one of {known}")


def aliases_of(model: str) -> dict[str, str]:
    """Version of each alias of a registered model; empty where there is no such model."""
    return {alias: str(number) for alias, number in _registered(model)[0].items()}


def history(model: str) -> list[dict[str, Any]]:
    """Every move of the aliases, the first first."""
    tags = _registered(model)[1]
    return [json.loads(tags[key]) for key in sorted(tags) if key.startswith(HISTORY)]


def _registered(model: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Aliases and tags of a registered model."""
    try:
        found = mlflow.MlflowClient().get_registered_model(model)
    except MlflowException as error:
        if error.error_code not in tracking.ABSENT:
            raise
        return {}, {}
    return dict(found.aliases), dict(found.tags)


def artifact(run_id: str, name: str, folder: Path) -> Path | None:
    """A copy of a run's file below an existing folder; None where the run has none."""
    try:
        uri = tracking.artifacts_of(run_id)
        if name not in {Path(file.path).name for file in list_artifacts(artifact_uri=uri)}:
            return None
        return Path(download_artifacts(artifact_uri=f"{uri}/{name}", dst_path=str(folder)))
    except MlflowException as error:
        if error.error_code not in tracking.ABSENT:
            raise
        return None


@contextmanager
def locked(model: str) -> Iterator[None]:
    """Keep other promotions of this model out, also on other machines of one server.

    The lock is a registered model of a name of its own, since MLflow makes each name once only. It
    is broken when its process has died (on this machine) or is `STALE_MINUTES` old.

    Raises
    ------
    InputError
        When another promotion does not end within `WAIT_S` seconds.
    """
    name = f"{model}-promotion-under-way"
    mine = {"who": who(), "host": socket.gethostname(), "since": now()}
    mine["process"] = processes.this_process()
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(TakenError),
            wait=wait_fixed(0.2),
            stop=stop_after_delay(WAIT_S),
            reraise=True,
        ):
            with attempt:
                _take(name, mine)
    except TakenError as taken:
        raise InputError(f"{taken}: wait for it and run the same command again") from None
    try:
        yield
    finally:
        with contextlib.suppress(MlflowException):  # broken by another who thought it dead
            mlflow.MlflowClient().delete_registered_model(name)


def _take(name: str, mine: Mapping[str, str]) -> None:
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model(name, tags=dict(mine))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        _, tags = _registered(name)
        since = tags.get("since", now())
        old = datetime.now(UTC) - datetime.fromisoformat(since) > timedelta(minutes=STALE_MINUTES)
        dead = tags.get("host") == mine["host"] and not processes.alive(tags.get("process", ""))
        if tags and (old or dead):
            client.delete_registered_model(name)
        raise TakenError(
            f"{tags.get('who', 'somebody')} on {tags.get('host', 'another machine')} is promoting "
            f"since {since}"
        ) from None


def expect(model: str, weighed: Mapping[str, str | None]) -> None:
    """Refuse to act on a comparison with versions that no longer hold their aliases.

    Parameters
    ----------
    model : str
        Name in the registry.
    weighed : mapping of str to str or None
        Version of each alias when it was compared; None where there was none.

    Raises
    ------
    InputError
        Naming who moved the alias meanwhile, and why.
    """
    held = aliases_of(model)
    for alias, before in weighed.items():
        if held.get(alias) != before:
            last: Mapping[str, Any] = (history(model) or [{}])[-1]
            raise InputError(
                f"nothing is promoted: {alias} is version {held.get(alias)} by now, not {before} "
                f"as when it was weighed ({last.get('who')}, {last.get('when')}: "
                f"{last.get('why')}): run the same command again"
            )


def register(model: str, model_uri: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
    """A version of a logged model; the one that there is already of this run, if any.

    Parameters
    ----------
    model : str
        Name in the registry.
    model_uri, run_id : str
        From `peculiar.runs.exported.log_model`, and the run that trained it.
    tags : mapping
        Who, when, why and from what.

    Returns
    -------
    ModelVersion
    """
    client = mlflow.MlflowClient()
    for version in versions(model):
        if version.run_id == run_id:
            return version
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(model, model_uri, run_id, tags=dict(tags))


def describe(version: ModelVersion, card: str) -> None:
    """Make a model card the description of a version, and log it with the run."""
    client = mlflow.MlflowClient()
    client.update_model_version(version.name, str(version.version), card)
    # a client remembers where a run's artifacts were, also when its store has been copied since
    artifacts = get_artifact_repository(tracking.artifacts_of(str(version.run_id)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"version-{version.version}.md"
        path.write_text(card)
        artifacts.log_artifact(str(path), "cards")


def withdraw(version: ModelVersion, back: ModelVersion, reason: str) -> None:
    """Tag a version as withdrawn, and the one that is champion again as not."""
    client = mlflow.MlflowClient()
    client.set_model_version_tag(version.name, str(version.version), WITHDRAWN, reason)
    if WITHDRAWN in back.tags:
        client.delete_model_version_tag(back.name, str(back.version), WITHDRAWN)


def move(model: str, aliases: Mapping[str, str], event: Mapping[str, Any]) -> None:
    """Point aliases at versions, and remember it; call it under `locked`.

    The history is written first: what a killed process did not do is then at least known.

    Parameters
    ----------
    model : str
        Name in the registry.
    aliases : mapping of str to str
        Version of each alias, set in this order.
    event : mapping
        What happened, who, when and why.
    """
    client = mlflow.MlflowClient()
    before = aliases_of(model)
    entry = {**event, "before": {alias: before.get(alias) for alias in aliases}, "after": aliases}
    remember(model, entry)
    for alias, number in aliases.items():
        client.set_registered_model_alias(model, alias, number)


def remember(model: str, entry: Mapping[str, Any]) -> None:
    """Add an entry to the history of a registered model; call it under `locked`."""
    number = len(history(model)) + 1
    mlflow.MlflowClient().set_registered_model_tag(
        model, f"{HISTORY}{number:04d}", json.dumps(dict(entry))
    )


def save(version: ModelVersion, folder: Path) -> None:
    """Copy a version's model and its run's files into `model` and `run` of a folder.

    Raises
    ------
    InputError
        When the model is not what was promoted.
    """
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        files = exported.fetch_model(_uri(version), Path(temporary))
        check(version, files)
        leave_out = shutil.ignore_patterns(exported.BESIDE)
        shutil.copytree(files, folder / "model", ignore=leave_out)
    (folder / "run").mkdir()
    for name in OF_RUN:
        artifact(str(version.run_id), name, folder / "run")


def adopt(
    model: str, experiment_id: str, folder: Path, tags: Mapping[str, str], description: str
) -> str:
    """Register what `save` wrote, under a run of its own, and return the version's number."""
    client = mlflow.MlflowClient()
    run = client.create_run(experiment_id, run_name="import", tags={"stage": "import"})
    run_id = run.info.run_id
    client.log_artifacts(run_id, str(folder / "run"))
    client.log_artifacts(run_id, str(folder / "model"), "model")
    client.set_terminated(run_id)
    version = register(model, f"{run.info.artifact_uri}/model", run_id, tags)
    if description:
        describe(version, description)
    return str(version.version)


def _uri(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"
