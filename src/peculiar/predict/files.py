"""Predict the galaxy of one FITS file."""

from collections.abc import Sequence
from itertools import product
from math import nan

import astropy.units as u
import numpy as np
from astropy.table import QTable, vstack

from peculiar.core.frames import UNKNOWN
from peculiar.galaxies.galaxy import Galaxy
from peculiar.predict.dust import dust_said, extinction_mag
from peculiar.predict.dust_maps import with_sfd
from peculiar.predict.estimate import predict_images
from peculiar.predict.priors import DistancePrior
from peculiar.predict.redshifts import frames_in, laws_of
from peculiar.predict.view import view_galaxy
from peculiar.registry.champion import Champion


def stacked(champion: Champion, tables: Sequence[QTable]) -> QTable:
    """Join the tables of several files; the metadata hold what all their rows have."""
    table = vstack(tables, metadata_conflicts="silent")
    removed = [table[f"A_{band}"].value for band in champion.bands]
    table.meta |= {"frame": frames_in(table["frame"]), "dust": dust_said(removed)}
    return table


def predict_galaxy(
    champion: Champion,
    galaxy: Galaxy,
    distances_mpc: Sequence[float],
    cz_kms: float | None,
    cz_error_kms: float = 0.0,
    prior: DistancePrior | None = None,
    cosmology: str | None = None,
    density: bool = False,
) -> QTable:
    """Predict a simulated galaxy, placed at given distances.

    Parameters
    ----------
    champion : Champion
        From `load_champion`.
    galaxy : Galaxy
        With the champion's bands.
    distances_mpc : sequence of float
        Distances to place it at, Mpc.
    cz_kms : float or None
        Its redshift times the speed of light, km/s; None where unknown.
    cz_error_kms : float
        Standard deviation of `cz_kms`, km/s.
    prior, cosmology, density
        See `peculiar.predict.estimate.predict_images`.

    Returns
    -------
    QTable
        One row for each distance and camera: `placed_at`, Mpc, `camera`, and the columns of
        `peculiar.predict.estimate.predict_images`.

    Raises
    ------
    InputError
        When the galaxy cannot be placed, or is smaller than a pixel.
    """
    pairs = list(product(distances_mpc, range(len(galaxy.images))))
    views = [
        view_galaxy(champion, galaxy, camera, distance, seed)
        for seed, (distance, camera) in enumerate(pairs)
    ]
    cz = nan if cz_kms is None else cz_kms
    table = predict_images(
        champion, views, cz, cz_error_kms, prior, cosmology=cosmology, density=density
    )
    table.meta["source"] = galaxy.source
    table.add_column([camera for _, camera in pairs], name="camera", index=0)
    table.add_column([float(distance) for distance, _ in pairs] * u.Mpc, name="placed_at", index=0)
    table["placed_at"].info.format = ".1f"
    table["placed_at"].info.description = "distance the galaxy is placed at"
    return table


def predict_real(
    champion: Champion,
    galaxy: Galaxy,
    cz_kms: float | None,
    cz_error_kms: float = 0.0,
    prior: DistancePrior | None = None,
    frame: str = UNKNOWN,
    ra_deg: float = nan,
    dec_deg: float = nan,
    cosmology: str | None = None,
    ebv_mag: float = nan,
    sfd: bool = False,
    density: bool = False,
) -> QTable:
    """Predict a real galaxy.

    Parameters
    ----------
    champion : Champion
        From `load_champion`.
    galaxy : Galaxy
        With the champion's bands and an angular pixel scale.
    cz_kms : float or None
        Redshift times the speed of light, km/s; None for that of the file.
    cz_error_kms : float
        Standard deviation of the redshift, km/s.
    prior : DistancePrior, optional
        See `peculiar.predict.estimate.predict_images`.
    frame : str
        Frame of `cz_kms`, see `peculiar.predict.estimate.predict_images`. The file's redshift, that
        of the NASA-Sloan Atlas, is heliocentric.
    ra_deg, dec_deg : float
        Position (ICRS), deg; NaN for that of the file.
    ebv_mag : float
        E(B-V) by the Milky Way's dust, mag; NaN for the extinction of the file, if it has one.
    sfd : bool
        Whether the maps of `peculiar.predict.dust_maps` say what the file does not.
    cosmology, density
        See `peculiar.predict.estimate.predict_images`.

    Returns
    -------
    QTable
        One row for each image: `camera`, the columns of
        `peculiar.predict.estimate.predict_images`, and `D_flow`, Mpc, where the file has the
        distance of a flow model.

    Raises
    ------
    InputError
        When the galaxy is smaller than a pixel, or has no dust to remove, or there are no maps.
    """
    cameras = range(len(galaxy.images))
    A = None if np.isnan(ebv_mag) else extinction_mag(ebv_mag, champion.bands)
    if sfd and A is None:
        galaxy = with_sfd(galaxy, champion.bands, ra_deg, dec_deg)
    views = [view_galaxy(champion, galaxy, camera, nan, 0, A) for camera in cameras]
    cz, frame = (galaxy.cz_kms, galaxy.cz_frame) if cz_kms is None else (cz_kms, frame)
    table = predict_images(
        champion,
        views,
        cz,
        cz_error_kms,
        prior,
        frame=frame,
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        cosmology=cosmology,
        density=density,
    )
    table.meta["source"] = galaxy.source
    table.add_column(list(cameras), name="camera", index=0)
    if np.isfinite(galaxy.cz_flow_kms):
        law, _ = next(laws_of(champion, views, cosmology))
        D_flow = law.distance_mpc([galaxy.cz_flow_kms] * len(table))
        table["D_flow"] = D_flow * u.Mpc
        table["D_flow"].info.format = ".1f"
        table["D_flow"].info.description = "distance of the file's flow model"
    return table
