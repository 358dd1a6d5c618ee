"""MLflow's registry of models: versions, aliases and their history, and loading a version.

`peculiar.runs.tracking` handles runs. A tag of each version holds the sha256 of its files; a
version is loaded only if they still have that digest. They are data, and nothing of them is
executed (`peculiar.runs.stored`). MLflow keeps no history of aliases, so each move is a tag
`history.0001`, `history.0002`, ... of the model (`peculiar.registry.moves`).
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
from typing import Any

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
from peculiar.registry.moves import HISTORY, PENDING, WITHDRAWN, Move, mark_withdrawn, pending
from peculiar.runs import logged, stored, tracking

DIGEST = "model_sha256"
OF_RUN = ("run.json", "validation.ecsv", "params.yaml", "best.yaml", "cards")  # files exported
WAIT_S, STALE_MINUTES = 20, 10  # wait for another promotion; age at which its lock is broken


class LockedError(Exception):
    """Another promotion holds the lock."""


def now() -> str:
    """The present time in UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def name_of(version: ModelVersion) -> str:
    """Name of a version, for messages."""
    return f"version {version.version} of {version.name}"


def check(version: ModelVersion, folder: Path) -> None:
    """Check that a model is data and that its files are those promoted.

    Parameters
    ----------
    version : ModelVersion
        With the tag `model_sha256`.
    folder : Path
        Its files, from `peculiar.runs.logged.fetch_model`.

    Raises
    ------
    InputError
        When the model is a program, or the digest of its files is missing or differs.
    """
    name, known = name_of(version), version.tags.get(DIGEST)
    stored.check_no_program(folder, name)
    if known is None:
        raise InputError(
            f"{name} has no tag {DIGEST} to check its files by, and is not loaded: promote it "
            "with `peculiar promote`"
        )
    found = files_sha256(folder)
    if found != known:
        raise InputError(
            f"the files of {name} changed since promotion (sha256 {found[:12]}..., promoted "
            f"{known[:12]}...) and are not loaded: restore MLflow's artifacts, or run "
            "`peculiar registry rollback`"
        )


def load(version: ModelVersion) -> stored.Stored:
    """Load the network of a version, if its files are those promoted.

    Parameters
    ----------
    version : ModelVersion
        From `peculiar.runs.tracking.aliased`, or `find`.

    Returns
    -------
    Stored
        Its blueprint, and its network, which maps images (n, band, y, x), W/m/m^2/sr, to distances
        (n,), Mpc, or p(D | image), (n, G).

    Raises
    ------
    InputError
        When the files are missing, changed or not valid.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = logged.fetch_model(_uri(version), Path(temporary))
        check(version, folder)
        return stored.read_model(folder, name_of(version))


def versions(model: str) -> list[ModelVersion]:
    """All versions of a registered model, in ascending order."""
    found = mlflow.MlflowClient().search_model_versions(f"name = '{model}'")
    move = pending(model, _registered(model)[1]) if found else None
    for version in found:
        mark_withdrawn(version.tags, str(version.version), move)
    return sorted(found, key=lambda version: int(version.version))


def find(model: str, number: str) -> ModelVersion:
    """Find a version by its number or alias.

    Raises
    ------
    InputError
        When there is no such version.
    """
    aliases = aliases_of(model)
    wanted = aliases.get(number, number)
    for version in versions(model):
        if str(version.version) == wanted:
            return version
    known = ", ".join([*(str(v.version) for v in versions(model)), *aliases]) or "none"
    raise InputError(f"{model} has no version {number!r}: take one of {known}")


def aliased(model: str, alias: str = tracking.CHAMPION) -> ModelVersion | None:
    """The version that has an alias; None if there is none."""
    return find(model, alias) if alias in aliases_of(model) else None


def aliases_of(model: str) -> dict[str, str]:
    """Version number of each alias of a registered model; empty if there is no such model."""
    return {alias: str(number) for alias, number in _registered(model)[0].items()}


def history(model: str) -> list[dict[str, Any]]:
    """All moves of the aliases, in order of time."""
    return entries(model, HISTORY)


def entries(model: str, prefix: str) -> list[dict[str, Any]]:
    """Content of the tags `prefix`0001, `prefix`0002, ... of a registered model, in order."""
    tags = _registered(model)[1]
    return [_entry(model, key, tags[key]) for key in sorted(tags) if key.startswith(prefix)]


def _entry(model: str, key: str, text: str) -> dict[str, Any]:
    """Content of one tag of a registered model."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise InputError(f"tag {key} of {model} is damaged: restore MLflow's database")
    return entry


def _registered(model: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Aliases and tags of a registered model, after a move that is begun."""
    try:
        found = mlflow.MlflowClient().get_registered_model(model)
    except MlflowException as error:
        if error.error_code not in tracking.ABSENT:
            raise
        return {}, {}
    aliases, tags = dict(found.aliases), dict(found.tags)
    if (move := pending(model, tags)) is not None:
        aliases |= move.aliases
        tags[move.key] = json.dumps(dict(move.entry))
    return aliases, tags


def artifact(run_id: str, name: str, folder: Path) -> Path | None:
    """Copy a run's file into an existing folder; None if the run has no such file."""
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
    """Lock a model against other promotions, also from other machines with the same server.

    What a killed process has left of a move is done first.

    The lock is an empty registered model, since MLflow creates each name only once. It is broken
    when its process on this machine has ended, or when it is `STALE_MINUTES` old.

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
            retry=retry_if_exception_type(LockedError),
            wait=wait_fixed(0.2),
            stop=stop_after_delay(WAIT_S),
            reraise=True,
        ):
            with attempt:
                _acquire(name, mine)
    except LockedError as taken:
        raise InputError(f"{taken}: wait until it ends and run the same command again") from None
    try:
        _complete(model)
        yield
    finally:
        with contextlib.suppress(MlflowException):  # another process has broken the lock
            mlflow.MlflowClient().delete_registered_model(name)


def _acquire(name: str, mine: Mapping[str, str]) -> None:
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
        raise LockedError(
            f"{tags.get('who', 'another user')} on {tags.get('host', 'another machine')} has been "
            f"promoting since {since}"
        ) from None


def check_unmoved(model: str, compared: Mapping[str, str | None]) -> None:
    """Check that aliases still have the versions with which candidates were compared.

    Parameters
    ----------
    model : str
        Name in the registry.
    compared : mapping of str to str or None
        Version of each alias at the comparison; None if it was not set.

    Raises
    ------
    InputError
        When an alias was moved; the message names who moved it, and why.
    """
    held = aliases_of(model)
    for alias, before in compared.items():
        if held.get(alias) != before:
            last: Mapping[str, Any] = (history(model) or [{}])[-1]
            raise InputError(
                f"nothing is promoted: {alias} is now version {held.get(alias)}, not {before} as "
                f"in the comparison ({last.get('who')}, {last.get('when')}: {last.get('why')}): "
                "run the same command again"
            )


def register(model: str, model_uri: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
    """Register a logged model as a new version; a run that has a version keeps it.

    Parameters
    ----------
    model : str
        Name in the registry.
    model_uri, run_id : str
        From `peculiar.runs.logged.log_model`, and the run that trained it.
    tags : mapping
        From `peculiar.registry.decision.describe`.

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
    """Set the model card as description of a version, and log it to the version's run.

    Raises
    ------
    InputError
        When the files of the run are in another store.
    """
    if not tracking.owns(str(version.run_id)):
        where = tracking.artifacts_of(str(version.run_id))
        raise InputError(
            f"the files of {name_of(version)} are in another store ({where}), which stays as it "
            "is: copy its folder artifacts beside mlflow.db"
        )
    client = mlflow.MlflowClient()
    client.update_model_version(version.name, str(version.version), card)
    # a client would write to the old place of a store that has been copied since
    artifacts = get_artifact_repository(tracking.artifacts_of(str(version.run_id)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"version-{version.version}.md"
        path.write_text(card)
        artifacts.log_artifact(str(path), "cards")


def move(
    model: str,
    aliases: Mapping[str, str],
    event: Mapping[str, Any],
    withdrawn: Mapping[str, str | None] | None = None,
) -> None:
    """Point aliases at versions, and add that to the history; call it under `locked`.

    All of it is done or nothing, also where the process is killed.

    Parameters
    ----------
    model : str
        Name in the registry.
    aliases : mapping of str to str
        New version of each alias.
    event : mapping
        `what` happened, `who` did it, `when` and `why`.
    withdrawn : mapping of str to str or None, optional
        Why versions are withdrawn; None for one that is no longer.
    """
    before = aliases_of(model)
    entry = {**event, "before": {alias: before.get(alias) for alias in aliases}, "after": aliases}
    number = len(history(model)) + 1
    begun = Move(number=number, entry=entry, aliases=aliases, withdrawn=withdrawn or {})
    client = mlflow.MlflowClient()
    client.set_registered_model_tag(model, PENDING, begun.model_dump_json())
    _complete(model)


def _complete(model: str) -> None:
    """Do what is left of a move that is begun; each step can be done again."""
    begun = pending(model, _registered(model)[1])
    if begun is None:
        return
    known = {str(version.version) for version in versions(model)}
    if missing := sorted({*begun.aliases.values(), *begun.withdrawn} - known):
        raise InputError(
            f"{model} has no version {missing[0]}, which an interrupted {begun.entry.get('what')} "
            f"names: restore MLflow's database, or delete the tag {PENDING} of {model}"
        )
    client = mlflow.MlflowClient()
    for alias, number in begun.aliases.items():
        client.set_registered_model_alias(model, alias, number)
    for number, reason in begun.withdrawn.items():
        if reason is None:
            client.delete_model_version_tag(model, number, WITHDRAWN)
        else:
            client.set_model_version_tag(model, number, WITHDRAWN, reason)
    client.set_registered_model_tag(model, begun.key, json.dumps(dict(begun.entry)))
    client.delete_registered_model_tag(model, PENDING)


def add_entry(model: str, prefix: str, entry: Mapping[str, Any]) -> None:
    """Add a tag to those that `entries` reads; call it under `locked`."""
    number = len(entries(model, prefix)) + 1
    mlflow.MlflowClient().set_registered_model_tag(
        model, f"{prefix}{number:04d}", json.dumps(dict(entry))
    )


def save(version: ModelVersion, folder: Path) -> None:
    """Copy a version's model to `folder/model`, and the files of its run to `folder/run`.

    Raises
    ------
    InputError
        When the model's files changed since promotion.
    """
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        files = logged.fetch_model(_uri(version), Path(temporary))
        check(version, files)
        shutil.copytree(files, folder / "model")
    (folder / "run").mkdir()
    for name in OF_RUN:
        artifact(str(version.run_id), name, folder / "run")


def adopt(
    model: str, experiment_id: str, folder: Path, tags: Mapping[str, str], description: str
) -> str:
    """Register a folder from `save` under a new run, and return the number of the new version."""
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
