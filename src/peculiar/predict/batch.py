"""Predictions for a whole catalogue: in chunks, resumable, in this process or on Dask's workers.

Each chunk of rows becomes a part on disk beside the output. A run that was killed finds the parts
it had and goes on; they are joined when all are there. Parts of another catalogue, champion or
option are thrown away.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from filelock import FileLock, Timeout
from tqdm import tqdm

from peculiar.core.dataset import TABLE
from peculiar.core.errors import InputError, NotFinite
from peculiar.core.files import whole_file
from peculiar.parallel import in_order, pool
from peculiar.predict import catalogue
from peculiar.predict import images as sources
from peculiar.predict.catalogue import Row
from peculiar.predict.estimate import COLUMNS, estimates, outputs, warnings
from peculiar.predict.figures import draw
from peculiar.predict.tables import assemble, write_part
from peculiar.predict.view import Sighting, sight
from peculiar.registry.champion import Champion, load_champion
from peculiar.runs.store import store_folder

ROWS_AT_ONCE = 256
FORMAT = 1  # of the parts
_loading = Lock()


@dataclass(frozen=True)
class Job:
    """What holds for all rows of a run; it travels to Dask's workers.

    Attributes
    ----------
    model, version, digest : str
        The champion that every worker must have.
    source : Files or Set
        Where the images are.
    at_mpc : float
        Distance to place simulated galaxies at whose rows have none, Mpc; NaN for none.
    pictures : Path or None
        Folder for a picture of each galaxy.
    """

    model: str
    version: str
    digest: str
    source: sources.Files | sources.Set
    at_mpc: float
    pictures: Path | None


def predict_rows(champion: Champion, job: Job, rows: list[Row]) -> pa.Table:
    """Predictions for some rows, in their order; a bad row has a flag, a reason, and no numbers.

    Returns
    -------
    pyarrow.Table
        `row`, `name`, `camera`; `peculiar.predict.estimate.COLUMNS`; `flags`, "ok" or separated by
        commas, and `reason`, a sentence where numbers are missing.
    """
    seen = [_sight(champion, job, row) for row in rows]
    good = [k for k, found in enumerate(seen) if isinstance(found, Sighting)]
    flags = [[*row.flags] for row in rows]
    reasons = [row.reason for row in rows]
    for k, found in enumerate(seen):
        if isinstance(found, Sighting):
            flags[k] += found.flags
        else:
            flags[k].append("nan_pixels" if isinstance(found, NotFinite) else "unusable")
            reasons[k] = "; ".join(filter(None, [" ".join(str(found).split()), reasons[k]]))
    columns = {name: np.full(len(rows), np.nan) for name in COLUMNS}
    if good:
        images = np.stack([found.image for found in seen if isinstance(found, Sighting)])
        cz = np.array([rows[k].cz_kms for k in good])
        errors = np.array([rows[k].cz_error_kms for k in good])
        output = outputs(champion, images)
        of_good = estimates(champion, output, cz, errors)
        for name, values in of_good.items():
            columns[name][good] = values
        new = warnings(champion, images, of_good, errors)
        for place, k in enumerate(good):
            flags[k] += new[place]
            if "cz_beyond" in new[place]:
                reasons[k] = f"cz {cz[place]:.0f} km/s is beyond the champion's distances"
        if job.pictures is not None:
            for place, k in enumerate(good):
                here = {name: float(values[place]) for name, values in of_good.items()}
                draw(job.pictures, champion, rows[k], images[place], output[place], here, flags[k])
    return pa.table(
        {
            "row": pa.array([row.number for row in rows], pa.int64()),
            "name": pa.array([row.name for row in rows], pa.string()),
            "camera": pa.array([row.camera for row in rows], pa.int64()),
            **{name: pa.array(values, pa.float64()) for name, values in columns.items()},
            "flags": pa.array(
                [", ".join(dict.fromkeys(words)) or "ok" for words in flags], pa.string()
            ),
            "reason": pa.array(reasons, pa.string()),
        }
    )


def _sight(champion: Champion, job: Job, row: Row) -> Sighting | Exception:
    """The image of a row, or why there is none."""
    try:
        if "bad_distance" in row.flags:
            raise InputError("the distance to place it at cannot be used")
        galaxy, camera = job.source.galaxy(row, champion)
        distance = row.distance_mpc
        if np.isnan(distance) and not np.isnan(galaxy.kpc_per_pixel).any():
            distance = job.at_mpc
        return sight(champion, galaxy, camera, distance, row.number)
    except Exception as error:  # whatever one file has in it must not cost the others
        known = isinstance(error, InputError)
        return error if known else InputError(f"its image cannot be read ({error!r:.120})")


@lru_cache(maxsize=1)
def _champion(model: str, version: str, digest: str, store: Path) -> Champion:
    champion = load_champion(model, store, version)
    if champion.digest != digest:
        raise InputError(
            f"{model}: version {version} has other weights on this worker: give the workers the "
            "same store, and start the same command again"
        )
    return champion


Part = tuple[int, pa.Table]  # its number, and its rows


def predict_on_worker(
    number: int, rows: list[Row], job: Job, store: Path, server: str | None
) -> Part:
    """`predict_rows` on a worker of Dask, which loads the champion once."""
    if server is not None:
        os.environ.setdefault("MLFLOW_TRACKING_URI", server)
    with _loading:
        champion = _champion(job.model, job.version, job.digest, store)
    return number, predict_rows(champion, job, rows)


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
    """Predict a catalogue, or a folder of shards, into a file.

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
        When the catalogue cannot be read, or another run writes the same output.
    """
    read = sources.rows_of if given.is_dir() else catalogue.chunks
    next(read(given, 1))  # refuse what cannot be read before anything is written
    folder = output.with_name(f".{output.name}.parts")
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder.with_suffix(".lock"), timeout=0):
            _keep(folder, _identity(job, given, rows_at_once))
            parts: list[Path] = []

            def missing() -> Iterator[tuple[int, list[Row]]]:
                for number, rows in enumerate(read(given, rows_at_once)):
                    parts.append(folder / f"{number:06d}.parquet")
                    if parts[-1].exists():
                        bar.update(len(rows))
                    else:
                        yield number, rows

            with tqdm(desc="predict", unit="galaxy") as bar:
                made = (
                    _here(champion, job, missing())
                    if scheduler is None
                    else _on_dask(scheduler, job, missing(), store)
                )
                for number, table in made:
                    write_part(table, folder / f"{number:06d}.parquet")
                    bar.update(len(table))
            meta = {**champion.describe(), "input": given.name}
            count = assemble(parts, COLUMNS, meta, output)
            shutil.rmtree(folder)
    except Timeout:
        raise InputError(f"another run writes {output}: wait for it, or name another") from None
    folder.with_suffix(".lock").unlink(missing_ok=True)
    return count


def _identity(job: Job, given: Path, rows_at_once: int) -> str:
    """What parts belong to: the catalogue's contents, the champion and the options."""
    file = given / TABLE if given.is_dir() else given
    if not file.is_file():
        raise InputError(f"{file} is missing: mend the path")
    digest = sha256()
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    about = {**asdict(job), "input": digest.hexdigest(), "rows": rows_at_once, "format": FORMAT}
    return json.dumps(about, default=str, indent=2)


def _keep(folder: Path, identity: str) -> None:
    """Throw the parts of another run away."""
    path = folder / "run.json"
    if not path.exists() or path.read_text() != identity:
        shutil.rmtree(folder)
        folder.mkdir()
        with whole_file(path) as partial:
            partial.write_text(identity)
