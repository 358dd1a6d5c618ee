"""Predict a catalogue: in chunks, resumable, in this process or on Dask's workers.

Each chunk of rows becomes a part on disk beside the output. A killed run resumes from its parts;
they are joined when all are complete. Parts of another catalogue, champion or option are deleted,
and those whose images have been replaced since are predicted again.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from astropy.table import QTable
from filelock import FileLock, Timeout
from tqdm import tqdm

from peculiar.core.dataset import TABLE
from peculiar.core.errors import InputError, NotFinite
from peculiar.core.files import replace_file
from peculiar.core.frames import UNKNOWN
from peculiar.parallel import in_order, pool
from peculiar.predict import catalogue
from peculiar.predict.catalogue import Row
from peculiar.predict.columns import COLUMNS, TEXT_COLUMNS, Column
from peculiar.predict.estimate import outputs, predict_images
from peculiar.predict.figures import draw_galaxy
from peculiar.predict.images import Dataset, Files, rows_of
from peculiar.predict.priors import (
    DistancePrior,
    check_prior,
    default_prior,
    distances_given_image,
)
from peculiar.predict.redshifts import frames_in, laws_said
from peculiar.predict.tables import assemble, texts, write_part
from peculiar.predict.velocities import NOT_USABLE, OF_ROWS, velocity_priors_said
from peculiar.predict.view import View, is_real, view_galaxy
from peculiar.registry.champion import Champion, load_champion
from peculiar.runs.store import store_folder

ROWS_AT_ONCE = 256
FORMAT = 7  # of the parts
STATE = b"images"  # of a part: in what state the images were when they were read
PASSES = 3  # over a catalogue whose images change meanwhile
ABOUT_ROWS = {
    "row": Column("", "row of the catalogue, from 0", None),
    "name": Column("", "path or id of the image", None),
    "camera": Column("", "which of the galaxy's images", None),
}
REASON = {"reason": Column("", "why numbers are missing, or the frame is not the CMB's", None)}
ALL_COLUMNS = ABOUT_ROWS | COLUMNS | TEXT_COLUMNS | REASON
_loading = Lock()


@dataclass(frozen=True)
class Job:
    """What holds for all rows of a run; it travels to Dask's workers.

    Attributes
    ----------
    model, version, digest : str
        The champion that every worker must have.
    source : Files or Dataset
        Where the images are.
    at_mpc : float
        Distance of simulated galaxies whose rows give none, Mpc; NaN for none.
    pictures : Path or None
        Folder for a picture of each galaxy.
    prior : DistancePrior or None
        Prior on the distance; None for the champion's `default_prior`.
    frame : str
        Frame of the redshifts of rows that name none.
    cosmology : str or None
        Law of distance and redshift, see `peculiar.predict.redshifts.laws_of`.
    """

    model: str
    version: str
    digest: str
    source: Files | Dataset
    at_mpc: float
    pictures: Path | None
    prior: DistancePrior | None = None
    frame: str = UNKNOWN
    cosmology: str | None = None


def predict_rows(champion: Champion, job: Job, rows: list[Row]) -> pa.Table:
    """Predict some rows; a bad row has a flag, a reason, and no numbers.

    Returns
    -------
    pyarrow.Table
        `row`, `name`, `camera`; the columns of `predict_images`; `reason`, a sentence where
        numbers are missing.
    """
    views = [_view(champion, job, row) for row in rows]
    cz, error = [row.cz_kms for row in rows], [row.cz_error_kms for row in rows]
    table = predict_images(
        champion,
        views,
        cz,
        error,
        job.prior,
        frame=[job.frame if row.frame == UNKNOWN else row.frame for row in rows],
        ra_deg=[row.ra_deg for row in rows],
        dec_deg=[row.dec_deg for row in rows],
        cosmology=job.cosmology,
        v_prior_kms=[row.v_prior_kms for row in rows],
        v_prior_error_kms=[row.v_prior_error_kms for row in rows],
    )
    if job.pictures is not None:
        _draw(job, job.pictures, champion, rows, views, table)
    flags = table["flags"].tolist()
    reasons = [_reason(*about) for about in zip(rows, views, flags, strict=True)]
    return pa.table(
        {
            "row": pa.array([row.number for row in rows], pa.int64()),
            "name": texts(row.name for row in rows),
            "camera": pa.array([row.camera for row in rows], pa.int64()),
            **{name: pa.array(table[name].value, pa.float64()) for name in COLUMNS},
            "frame": pa.array(table["frame"].tolist(), pa.string()),
            "flags": pa.array(flags, pa.string()),
            "reason": texts(reasons),
        }
    )


def _draw(
    job: Job,
    folder: Path,
    champion: Champion,
    rows: list[Row],
    views: list[View],
    table: QTable,
) -> None:
    """A picture of each galaxy that has an image."""
    prior = job.prior or default_prior(champion)
    for row, view, predicted in zip(rows, views, table, strict=True):
        if view.image is not None:
            output = outputs(champion, view.image[None])
            if champion.grid_mpc is not None:
                output = distances_given_image(champion, output, prior)
            numbers = {name: float(predicted[name].value) for name in COLUMNS}
            draw_galaxy(
                folder, champion, row, view.image, output[0], numbers, str(predicted["flags"])
            )


def _reason(row: Row, view: View, flags: str) -> str:
    """Why numbers of a row are missing or not as they could be, on one line."""
    reasons = [" ".join(view.reason.split()), row.reason]
    if "prior" in flags.split(", "):
        reasons.append("no distance that the prior allows fits the image")
    if "frame" in flags.split(", "):
        reasons.append("its redshift is taken as it is: give its cz_frame, and ra and dec")
    if "bad_prior" in flags:
        reasons.append(NOT_USABLE)
    if "cz_beyond" in flags:
        reasons.append(f"cz {row.cz_kms:.0f} km/s is beyond the champion's distances")
    return "; ".join(filter(None, reasons))


def _view(champion: Champion, job: Job, row: Row) -> View:
    """What the network sees of a row, with the flags of the row and of the image."""
    try:
        if "bad_row" in row.flags:
            raise InputError("the row cannot be read")
        if "bad_distance" in row.flags:
            raise InputError("the distance to place it at cannot be used")
        galaxy, camera = job.source.galaxy(row, champion)
        distance = row.distance_mpc
        if np.isnan(distance) and not is_real(galaxy):
            distance = job.at_mpc
        view = view_galaxy(champion, galaxy, camera, distance, row.number)
        if isinstance(job.source, Dataset) and job.source.simulated:  # placed already
            view = replace(view, simulated=True)
    except NotFinite as error:
        view = View(None, ("nan_pixels",), str(error))
    except InputError as error:
        view = View(None, ("unusable",), str(error))
    except Exception as error:  # one bad file must not cost the others their rows
        view = View(None, ("unusable",), f"its image cannot be read ({error!r:.120})")
    return replace(view, flags=(*row.flags, *view.flags))


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
    """Predict some rows on a Dask worker, which loads the champion once."""
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
        another run writes the same output.
    """
    read = rows_of if given.is_dir() else catalogue.chunks
    # refuse what cannot be read or done before anything is written
    next(read(given, 1))
    if job.prior is not None:
        check_prior(champion, job.prior)
    folder = output.with_name(f".{output.name}.parts")
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder.with_suffix(".lock"), timeout=0):
            identity = _identity(job, given, rows_at_once)
            _keep(folder, identity)
            for _ in range(PASSES):
                chunks = read(given, rows_at_once)
                parts, written = _write_parts(champion, job, chunks, folder, scheduler, store)
                if not written:
                    break
            if written or _identity(job, given, rows_at_once) != identity:
                what = "images" if written else "rows"
                raise InputError(
                    f"the {what} of {given} change while they are predicted: wait until all is "
                    "written, and run the same command again"
                )
            prior = job.prior or default_prior(champion)
            meta = {
                **champion.describe(),
                "prior": prior.describe(champion),
                **_of_rows(champion, parts),
                "law": laws_said(champion, job.cosmology),
                "input": given.name,
            }
            count = assemble(parts, ALL_COLUMNS, meta, output)
            shutil.rmtree(folder)
    except Timeout:
        raise InputError(
            f"another run writes {output}: wait for it, or name another file"
        ) from None
    folder.with_suffix(".lock").unlink(missing_ok=True)
    return count


def _of_rows(champion: Champion, parts: list[Path]) -> dict[str, str]:
    """Velocity priors and frames of all rows, for the metadata."""
    priors, frames = set(), set()
    for part in parts:
        rows = pq.read_table(part, columns=["v_prior", "v_prior_error", "frame"])
        priors.add(velocity_priors_said(champion, rows["v_prior"], rows["v_prior_error"]))
        frames.update(rows["frame"].to_pylist())
    return {"v_prior": OF_ROWS if len(priors) > 1 else priors.pop(), "frame": frames_in(frames)}


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
