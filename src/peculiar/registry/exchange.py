"""Copy a registered model from one MLflow store to another as plain files.

FOLDER/SHA256SUMS             of all other files; `sha256sum --check SHA256SUMS` checks them
FOLDER/registry.json          name, aliases, history, comparisons; tags and description of versions
FOLDER/versions/N/model/      the exported network, as MLflow keeps it
FOLDER/versions/N/run/        run.json, validation.ecsv, params.yaml, model cards
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from peculiar.core.errors import InputError
from peculiar.core.files import files_sha256, replace_folder
from peculiar.core.params import validate
from peculiar.core.provenance import who
from peculiar.registry import ledger, models
from peculiar.registry.spending import Round
from peculiar.runs import exported, tracking

SUMS, INDEX = "SHA256SUMS", "registry.json"


def export(model: str, folder: Path, store: Path | None = None) -> str:
    """Write all versions of a model into a new folder. The store is left as it is.

    Parameters
    ----------
    model : str
        Name in the registry.
    folder : Path
        Must not exist.
    store : Path, optional
        Folder of the store; by default `peculiar.runs.store.store_folder()`.

    Returns
    -------
    str
        What was done, in a sentence.

    Raises
    ------
    InputError
        When the folder exists, there are no versions, or one is not what was promoted.
    """
    if folder.exists():
        raise InputError(f"{folder} exists already: name a new folder")
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
    return f"wrote {len(versions)} versions of {model} to {folder}"


def adopt(folder: Path, store: Path | None = None) -> str:
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

    Returns
    -------
    str
        What was done, in a sentence.

    Raises
    ------
    InputError
        When a file is missing, changed, or was not exported.
    """
    check(folder)
    index = json.loads((folder / INDEX).read_text())
    where = f"{folder / INDEX}: comparisons"
    comparisons = [validate(Round, entry, where) for entry in index.get("comparisons", [])]
    model, experiment = index["model"], tracking.connect(store)
    new, numbers = 0, {}
    with models.locked(model):
        known = {v.tags.get(models.DIGEST): str(v.version) for v in models.versions(model)}
        for number, entry in index["versions"].items():
            digest = entry["tags"].get(models.DIGEST)
            if digest not in known:
                origin = {"imported_version": number, "imported_run_id": entry["run_id"]}
                known[digest] = models.adopt(
                    model,
                    experiment,
                    folder / "versions" / number,
                    tags={**entry["tags"], **origin},
                    description=entry["description"],
                )
                new += 1
            numbers[number] = known[digest]
        ledger.adopt(model, comparisons)  # the model exists now, with its versions
        held = models.aliases_of(model)
        aliases = {a: numbers[n] for a, n in index["aliases"].items() if a not in held}
        if new or aliases:
            event = {"who": who(), "when": models.now(), "why": f"imported from {folder}"}
            origin = {"numbers": numbers, "history": index["history"]}
            models.move(model, aliases, {"what": "import", **event, **origin})
    kept = sorted(set(index["aliases"]) - set(aliases))
    stayed = f"; {', '.join(kept)} stay as they are" if kept else ""
    return (
        f"imported {new} of {len(numbers)} versions of {model}, set {len(aliases)} aliases{stayed}"
    )


def check(folder: Path) -> None:
    """Compare files with `SHA256SUMS` and models with what was promoted.

    Raises
    ------
    InputError
        When a file is missing or was changed.
    """
    again = f"export again or copy {folder} again"
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{folder} has no {SUMS}, so it is not an export: {again}") from None
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {SUMS}
    if INDEX not in listed or found != set(listed):
        differ = sorted(found ^ {*listed, INDEX})
        raise InputError(f"{folder}: {differ[0]} is missing, or was not exported: {again}")
    for name, digest in listed.items():
        if _sha256(folder / name) != digest:
            raise InputError(f"{folder / name} is not what was exported: {again}")
    for number, entry in json.loads((folder / INDEX).read_text())["versions"].items():
        model = folder / "versions" / number / "model"
        if files_sha256(model, exported.BESIDE) != entry["tags"].get(models.DIGEST):
            raise InputError(f"{model} is not what was promoted as version {number}: {again}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
