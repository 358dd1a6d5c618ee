"""Copy a registered model from one MLflow store to another as plain files.

FOLDER/SHA256SUMS             of all other files; `sha256sum --check SHA256SUMS` checks them
FOLDER/SHA256SUMS.sig         its signature, if any (`peculiar.registry.signature`)
FOLDER/registry.json          name, aliases, history, comparisons; tags and description of versions
FOLDER/versions/N/model/      the network, as data (`peculiar.runs.stored`)
FOLDER/versions/N/run/        run.json, validation.ecsv, params.yaml, model cards

Who sends an export may be anyone: nothing of it is executed, and all of it is validated before
the store is touched (docs/security.md).
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from peculiar.core.errors import InputError
from peculiar.core.files import files_sha256, replace_folder
from peculiar.core.params import validate_json
from peculiar.core.provenance import who
from peculiar.registry import ledger, models, signature
from peculiar.registry.index import Index
from peculiar.registry.tags import check_agrees, description_of
from peculiar.runs import record, stored, tracking
from peculiar.runs.blueprint import Blueprint

SUMS, INDEX = "SHA256SUMS", "registry.json"
CARD = re.compile(r"cards/version-[0-9]+\.md")


def export(model: str, folder: Path, store: Path | None = None, sign: Path | None = None) -> str:
    """Write all versions of a model into a new folder. The store is left as it is.

    Parameters
    ----------
    model : str
        Name in the registry.
    folder : Path
        Must not exist.
    store : Path, optional
        Folder of the store; by default `peculiar.runs.store.store_folder()`.
    sign : Path, optional
        Private key to sign with.

    Returns
    -------
    str
        What was done, in a sentence.

    Raises
    ------
    InputError
        When the folder exists, there are no versions, one is not what was promoted, or the key
        cannot be used.
    """
    if folder.exists():
        raise InputError(f"{folder} exists already: name a new folder")
    key = None if sign is None else signature.read_private_key(sign)
    where = tracking.open_to_read(store)
    versions = models.versions(model)
    if not versions:
        raise InputError(f"{where} has no version of {model!r}: promote one first")
    index: dict[str, Any] = {
        "model": model,
        "aliases": models.aliases_of(model),
        "history": models.history(model),
        "comparisons": models.entries(model, ledger.TAG),
        "versions": {},
    }
    with replace_folder(folder) as partial:
        for version in versions:
            number = str(version.version)
            models.save(version, partial / "versions" / number)
            index["versions"][number] = {
                "tags": dict(version.tags),
                "description": version.description or "",
                "run_id": version.run_id,
            }
        (partial / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        lines = [f"{_sha256(f)}  {f.relative_to(partial).as_posix()}\n" for f in files]
        (partial / SUMS).write_text("".join(lines))
        if key is not None:
            signature.sign(partial / SUMS, key)
    return f"wrote {len(versions)} versions of {model} to {folder}"


def adopt(folder: Path, store: Path | None = None, verify: Path | None = None) -> str:
    """Register the versions that `export` wrote in a store.

    Versions get the next free numbers. A version whose model is registered already (by its digest)
    is not registered again. Free aliases are set; those that are taken stay. The comparisons on
    each validation set are taken over (`peculiar.registry.ledger.adopt`).

    Parameters
    ----------
    folder : Path
        From `export`.
    store : Path, optional
        Folder of the store; by default `peculiar.runs.store.store_folder()`. It is made if missing.
    verify : Path, optional
        Public key of who must have signed the export.

    Returns
    -------
    str
        What was done, in a sentence.

    Raises
    ------
    InputError
        When a file is missing, changed, not valid, or was not exported, or the signature is not
        that of the key.
    """
    if verify is not None:
        signature.verify(folder / SUMS, signature.read_public_key(verify))
    index = check(folder)
    model, experiment = index.model, tracking.connect(store)
    new, numbers = 0, {}
    with models.locked(model):
        known = {v.tags.get(models.DIGEST): str(v.version) for v in models.versions(model)}
        for number, entry in index.versions.items():
            digest = entry.tags[models.DIGEST]
            if digest not in known:
                origin = {"imported_version": number, "imported_run_id": entry.run_id}
                known[digest] = models.adopt(
                    model,
                    experiment,
                    folder / "versions" / number,
                    tags={**entry.tags, **origin},
                    description=entry.description,
                )
                new += 1
            numbers[number] = known[digest]
        ledger.adopt(model, index.comparisons)  # the model exists now, with its versions
        held = models.aliases_of(model)
        aliases = {a: numbers[n] for a, n in index.aliases.items() if a not in held}
        if new or aliases:
            event = {"who": who(), "when": models.now(), "why": f"imported from {folder}"}
            theirs = {"numbers": numbers, "history": index.history}
            models.move(model, aliases, {"what": "import", **event, **theirs})
    kept = sorted(set(index.aliases) - set(aliases))
    stayed = f"; {', '.join(kept)} stay as they are" if kept else ""
    return (
        f"imported {new} of {len(numbers)} versions of {model}, set {len(aliases)} aliases{stayed}"
    )


def check(folder: Path) -> Index:
    """Compare files with `SHA256SUMS`, validate them, and load each network.

    Raises
    ------
    InputError
        When a file is missing, changed, not valid, or was not exported.
    """
    again = f"export again or copy {folder} again"
    _check_sums(folder, again)
    text = (folder / INDEX).read_text(errors="replace")
    index = validate_json(Index, text, str(folder / INDEX), again)
    expected = {f"versions/{number}" for number in index.versions}
    for path in folder.glob("versions/*"):
        if path.relative_to(folder).as_posix() not in expected:
            raise InputError(f"{path} is not a version in {INDEX}: {again}")
    for number, entry in index.versions.items():
        below, name = folder / "versions" / number, f"version {number} of {index.model}"
        stored.check_no_program(below, name)
        digest = files_sha256(below / "model")
        if digest != entry.tags.get(models.DIGEST):
            raise InputError(f"{below / 'model'} is not what was promoted as {name}: {again}")
        blueprint = stored.read_model(below / "model", name).blueprint
        check_agrees(description_of(entry.tags, name), blueprint, name)
        ledger.comparison_of(entry.tags, name)
        _check_run(below / "run", blueprint, digest, again)
    return index


def _check_sums(folder: Path, again: str) -> None:
    """Check that a folder holds the files of `SHA256SUMS`, unchanged, no other, and no link."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{folder} has no {SUMS}, so it is not an export: {again}") from None
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    if links := sorted(name for name, path in paths.items() if path.is_symlink()):
        raise InputError(f"{folder / links[0]} is a link, not a file: {again}")
    found = {name for name, path in paths.items() if path.is_file()}
    found -= {SUMS, signature.SIGNATURE}
    if INDEX not in listed or found != set(listed):
        differ = sorted(found ^ {*listed, INDEX})
        raise InputError(f"{folder}: {differ[0]} is missing, or was not exported: {again}")
    for name, digest in listed.items():
        if _sha256(folder / name) != digest:
            raise InputError(f"{folder / name} is not what was exported: {again}")


def _check_run(folder: Path, blueprint: Blueprint, digest: str, again: str) -> None:
    """Check the files of a version's run, which comparisons and `reproduce` read."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name not in models.OF_RUN and not CARD.fullmatch(name):
            raise InputError(f"{path} is no file of a run: {again}")
    run = record.read_run(folder, again)
    record.read_validation(folder / record.VALIDATION, again)
    if run.blueprint != blueprint or run.model_sha256 != digest:
        raise InputError(f"{folder / record.RUN} is not of the network beside it: {again}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
