"""Predict the rows of a catalogue, here or on one of Dask's workers."""

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from astropy.table import QTable
from numpy.typing import NDArray

from peculiar.core.errors import InputError, NotFinite
from peculiar.core.frames import UNKNOWN
from peculiar.core.photometry import BANDS
from peculiar.predict.catalogue import Row
from peculiar.predict.columns import COLUMNS, DENSITY, NUMBERS, TEXT_COLUMNS, USED, Column
from peculiar.predict.dust import NOT_KNOWN, extinction_mag
from peculiar.predict.dust_maps import with_sfd
from peculiar.predict.estimate import outputs, predict_images
from peculiar.predict.figures import draw_galaxy
from peculiar.predict.images import Dataset, Files
from peculiar.predict.priors import DistancePrior, default_prior, distances_given_image
from peculiar.predict.tables import numbers, texts
from peculiar.predict.velocities import NOT_USABLE
from peculiar.predict.view import View, is_real, view_galaxy
from peculiar.registry.champion import Champion, load_champion

ABOUT_ROWS = {
    "row": Column("", "row of the catalogue, from 0", None),
    "name": Column("", "path or id of the image", None),
    "camera": Column("", "which of the galaxy's images", None),
}
REASON = {"reason": Column("", "why numbers are missing, or the frame is not the CMB's", None)}
ALL_COLUMNS = ABOUT_ROWS | NUMBERS | TEXT_COLUMNS | REASON | DENSITY
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
    density : bool
        Whether to add p(D | image).
    columns : tuple of (str, str)
        Our name and the file's of columns that a catalogue calls otherwise.
    sfd : bool
        Whether the maps of `peculiar.predict.dust_maps` say what rows and files do not.
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
    density: bool = False
    columns: tuple[tuple[str, str], ...] = ()
    sfd: bool = False


def predict_rows(champion: Champion, job: Job, rows: list[Row]) -> pa.Table:
    """Predict some rows; a bad row has a flag, a reason, and no numbers.

    Returns
    -------
    pyarrow.Table
        `row`, `name`, `camera`; the columns of `predict_images`; `reason`, a sentence where
        numbers are missing; and p(D | image) if it is asked for.
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
        density=job.density,
    )
    if job.pictures is not None:
        _draw(job, job.pictures, champion, rows, views, table)
    flags = table["flags"].tolist()
    reasons = [_reason(*about) for about in zip(rows, views, flags, strict=True)]
    known = [name for name in table.colnames if name in NUMBERS]
    return pa.table(
        {
            "row": pa.array([row.number for row in rows], pa.int64()),
            "name": texts(row.name for row in rows),
            "camera": pa.array([row.camera for row in rows], pa.int64()),
            **{name: pa.array(table[name].value, pa.float64()) for name in known},
            "frame": pa.array(table["frame"].tolist(), pa.string()),
            "flags": pa.array(flags, pa.string()),
            "reason": texts(reasons),
            **{name: numbers(table[name]) for name in DENSITY if job.density},
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
            numbers = {name: float(predicted[name].value) for name in USED | COLUMNS}
            draw_galaxy(
                folder, champion, row, view.image, output[0], numbers, str(predicted["flags"])
            )


def _reason(row: Row, view: View, flags: str) -> str:
    """Why numbers of a row are missing or not as they could be, on one line."""
    reasons, present = [" ".join(view.reason.split()), row.reason], flags.split(", ")
    if "prior" in present:
        reasons.append("no distance that the prior allows fits the image")
    if "frame" in present:
        reasons.append("its redshift is taken as it is: give its cz_frame, and ra and dec")
    if "bad_prior" in present:
        reasons.append(NOT_USABLE)
    if "dust" in present:
        reasons.append(NOT_KNOWN)
    if "cz_beyond" in present:
        reasons.append(f"cz {row.cz_kms:.0f} km/s is beyond the champion's distances")
    return "; ".join(filter(None, reasons))


def _extinction_mag(champion: Champion, row: Row) -> NDArray[np.float64] | None:
    """Extinction (band,) that a row gives, mag, NaN where none can be used; None without."""
    if row.extinction_mag:
        return np.array([row.extinction_mag[BANDS.index(band)] for band in champion.bands])
    return None if np.isnan(row.ebv_mag) else extinction_mag(row.ebv_mag, champion.bands)


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
        placed = isinstance(job.source, Dataset) and job.source.simulated
        A = _extinction_mag(champion, row)
        if job.sfd and A is None:
            galaxy = with_sfd(galaxy, champion.bands, row.ra_deg, row.dec_deg)
        view = view_galaxy(champion, galaxy, camera, distance, row.number, A, placed)
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
