"""Predict a catalogue: in chunks, resumable, in this process or on Dask's workers.

Each chunk of rows becomes a part on disk beside the output. A killed run resumes from its parts;
they are joined with the columns of the input when all are complete. Parts of another catalogue,
champion or option are deleted, and those whose images have been replaced since are predicted again.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from tqdm import tqdm

from peculiar.core.dataset import TABLE
from peculiar.core.errors import InputError
from peculiar.core.files import alone, replace_file
from peculiar.parallel import in_order, pool
from peculiar.predict import catalogue
from peculiar.predict.catalogue import Row
from peculiar.predict.densities import check_density, describe_grid
from peculiar.predict.dust import BY_ROWS, dust_said
from peculiar.predict.dust_maps import load_sfd
from peculiar.predict.images import rows_of
from peculiar.predict.passed import Passed, passed_columns
from peculiar.predict.priors import check_prior, default_prior, distance_grid
from peculiar.predict.redshifts import frames_in, laws_said
from peculiar.predict.rows import ALL_COLUMNS, Job, Part, predict_on_worker, predict_rows
from peculiar.predict.tables import assemble, write_part
from peculiar.predict.velocities import OF_ROWS, velocity_priors_said
from peculiar.registry.champion import Champion
from peculiar.runs.store import store_folder

ROWS_AT_ONCE = 256
FORMAT = 7  # of the parts
STATE = b"images"  # of a part: in what state the images were when they were read
PASSES = 3  # over a catalogue whose images change meanwhile


Chunks = Iterable[tuple[int, list[Row]]]


def _here(champion: Champion, job: Job, chunks: Chunks) -> Iterator[Part]:
    for number, rows in chunks:
        yield number, predict_rows(champion, job, rows)


def _on_dask(address: str, job: Job, chunks: Chunks, store: Path | None) -> Iterator[Part]:
    where = store_folder(store).resolve(), os.environ.get("MLFLOW_TRACKING_URI")
    with pool(address, "--scheduler") as workers:
        each = ((number, rows, job, *where) for number, rows in chunks)
        yield from in_order(workers, predict_on_worker, each)


def predict_catalogue(
    champion: Champion,
    job: Job,
    given: Path,
    output: Path,
    scheduler: str | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
    store: Path | None = None,
) -> int:
    """Predict a catalogue, or a folder of shards, and write the table.

    Parameters
    ----------
    champion : Champion
        From `load_champion`.
    job : Job
        Where the images are and what holds for all rows.
    given : Path
        Catalogue (`predict.catalogue.chunks`) or folder (`predict.images.rows_of`).
    output : Path
        File to write, in the format of its ending.
    scheduler : str, optional
        Address of a Dask scheduler whose workers predict; they must see the same files.
    rows_at_once : int
        Rows of a part.
    store : Path, optional
        Folder of the store that workers load the model from; by default `store_folder()`.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    InputError
        When the catalogue cannot be read, it or its images change all the time meanwhile, or
        another process writes the same output; or when maps of dust are wanted and not there.
    """
    whole_set = given.is_dir()
    read = rows_of if whole_set else partial(catalogue.chunks, columns=dict(job.columns))
    # refuse what cannot be read or done before anything is written
    next(read(given, 1))
    if job.prior is not None:
        check_prior(champion, job.prior)
    if job.density:
        check_density(champion)
    if job.sfd:
        load_sfd()
    passed = None if whole_set else passed_columns(given, [*ALL_COLUMNS], dict(job.columns))
    folder = output.with_name(f".{output.name}.parts")
    with alone(output):
        folder.mkdir(exist_ok=True)
        identity = _identity(job, given, rows_at_once)
        _keep(folder, identity)
        for _ in range(PASSES):
            chunks = read(given, rows_at_once)
            parts, written = _write_parts(champion, job, chunks, folder, scheduler, store)
            if not written:
                break
        if written:
            raise _changing("images", given)
        meta = {**_meta(champion, job, parts), "input": given.name}
        columns = ALL_COLUMNS
        if passed is not None:
            parts = _joined(parts, passed, rows_at_once)
            columns, meta = columns | passed.columns, {**meta, **passed.describe()}
        if _identity(job, given, rows_at_once) != identity:
            raise _changing("rows", given)
        count = assemble(parts, columns, meta, output)
        shutil.rmtree(folder)
    return count


def _changing(what: str, given: Path) -> InputError:
    return InputError(
        f"the {what} of {given} change while they are predicted: wait until all is written, and "
        "run the same command again"
    )


def _meta(champion: Champion, job: Job, parts: list[Path]) -> dict[str, str | float]:
    """Metadata of the table: the champion, what was chosen, and what holds for all rows."""
    return {
        **champion.describe(),
        "prior": (job.prior or default_prior(champion)).describe(champion),
        **_of_rows(champion, parts),
        "law": laws_said(champion, job.cosmology),
        **(describe_grid(distance_grid(champion)) if job.density else {}),
    }


def _of_rows(champion: Champion, parts: list[Path]) -> dict[str, str]:
    """Velocity priors, frames and dust of all rows, for the metadata."""
    priors, frames, dust = set(), set(), set()
    removed = [f"A_{band}" for band in champion.bands]
    for part in parts:
        rows = pq.read_table(part, columns=["v_prior", "v_prior_error", "frame", *removed])
        dust.add(dust_said(rows[name] for name in removed))
        priors.add(velocity_priors_said(champion, rows["v_prior"], rows["v_prior_error"]))
        frames.update(rows["frame"].to_pylist())
    return {
        "v_prior": OF_ROWS if len(priors) > 1 else priors.pop(),
        "frame": frames_in(frames),
        "dust": BY_ROWS if len(dust) > 1 else dust.pop(),
    }


def _joined(parts: list[Path], passed: Passed, rows_at_once: int) -> list[Path]:
    """Parts with the columns of the catalogue beside those predicted."""
    tables, joined = passed.tables(rows_at_once), []
    for part in parts:
        table, more = pq.read_table(part, use_threads=False), next(tables, None)
        if more is None or len(more) != len(table):
            raise _changing("rows", passed.path)
        for name in more.column_names:
            table = table.append_column(name, more[name])
        joined.append(part.with_name(f"joined-{part.name}"))
        write_part(table, joined[-1])
    return joined


def _write_parts(
    champion: Champion,
    job: Job,
    chunks: Iterable[list[Row]],
    folder: Path,
    scheduler: str | None,
    store: Path | None,
) -> tuple[list[Path], int]:
    """Predict the chunks without a part of the present images; all parts, and how many are new."""
    parts: list[Path] = []
    states: dict[int, bytes] = {}

    def missing() -> Iterator[tuple[int, list[Row]]]:
        for number, rows in enumerate(chunks):
            parts.append(folder / f"{number:06d}.parquet")
            state = job.source.state(rows).encode()
            if _state_of_part(parts[-1]) == state:
                bar.update(len(rows))
            else:
                states[number] = state
                yield number, rows

    with tqdm(desc="predict", unit="galaxy") as bar:
        if scheduler is None:
            predicted = _here(champion, job, missing())
        else:
            predicted = _on_dask(scheduler, job, missing(), store)
        for number, table in predicted:
            known = table.replace_schema_metadata({STATE: states[number]})
            write_part(known, folder / f"{number:06d}.parquet")
            bar.update(len(table))
    return parts, len(states)


def _state_of_part(path: Path) -> bytes | None:
    """In what state the images of a part were; None where there is no whole part."""
    try:
        return (pq.read_schema(path).metadata or {}).get(STATE)
    except (OSError, pa.ArrowInvalid):
        return None


def _identity(job: Job, given: Path, rows_at_once: int) -> str:
    """What parts belong to: the catalogue's contents, the champion and the options."""
    file = given / TABLE if given.is_dir() else given
    if not file.is_file():
        raise InputError(f"{file} is missing: fix the path")
    digest = sha256()
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    about = {**asdict(job), "input": digest.hexdigest(), "rows": rows_at_once, "format": FORMAT}
    return json.dumps(about, default=str, indent=2)


def _keep(folder: Path, identity: str) -> None:
    """Delete the parts of another run."""
    path = folder / "run.json"
    if not path.exists() or path.read_text() != identity:
        shutil.rmtree(folder)
        folder.mkdir()
        with replace_file(path) as partial:
            partial.write_text(identity)
