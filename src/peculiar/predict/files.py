"""A user's images in, distances and peculiar velocities with errors out, from the champion."""

from collections.abc import Sequence
from itertools import product

import astropy.units as u
import numpy as np
import torch
from astropy.table import QTable
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.galaxies.galaxy import Galaxy
from peculiar.mock.resample import kpc_per_arcsec
from peculiar.predict.estimate import COLUMNS, beyond, estimates, outputs, warnings
from peculiar.predict.view import is_real, odd_of, photograph_galaxy, place_galaxy, resample_galaxy
from peculiar.registry.champion import Champion, load_champion
from peculiar.velocity.hubble import redshift_distance_mpc

__all__ = [
    "Champion",
    "is_real",
    "load_champion",
    "place_galaxy",
    "predict_galaxy",
    "predict_real",
    "predicted_table",
    "resample_galaxy",
]


def predict_galaxy(
    champion: Champion,
    galaxy: Galaxy,
    distances_mpc: Sequence[float],
    cz_kms: float | None,
    cz_error_kms: float = 0.0,
) -> QTable:
    """Predicted distances and velocities of a simulated galaxy placed at given distances.

    Parameters
    ----------
    champion : Champion
        From `load_champion`.
    galaxy : Galaxy
        With the champion's bands.
    distances_mpc : sequence of float
        Distances to place it at, Mpc.
    cz_kms : float or None
        Its redshift times the speed of light, km/s; None leaves the velocities out.
    cz_error_kms : float
        Deviation of `cz_kms`, km/s.

    Returns
    -------
    QTable
        One row a distance and camera: `placed_at` and the columns of `predicted_table`.
    """
    cameras = len(galaxy.images)
    rngs = [np.random.default_rng(number) for number in range(len(distances_mpc) * cameras)]
    seen = photograph_galaxy(champion, galaxy, distances_mpc, rngs)
    scales = [
        kpc / kpc_per_arcsec(np.array(distance))
        for distance, kpc in product(distances_mpc, galaxy.kpc_per_pixel)
    ]
    table = predicted_table(champion, galaxy, torch.from_numpy(seen), cz_kms, cz_error_kms, scales)
    placed_at = np.repeat(np.asarray(distances_mpc, dtype=float), cameras) * u.Mpc
    table.add_column(placed_at, name="placed_at", index=0)
    table["placed_at"].info.format = ".1f"
    return table


def predict_real(
    champion: Champion, galaxy: Galaxy, cz_kms: float | None, cz_error_kms: float = 0.0
) -> QTable:
    """Predicted distance and velocity of a real galaxy.

    Parameters
    ----------
    champion : Champion
        From `load_champion`.
    galaxy : Galaxy
        With the champion's bands and an angular pixel scale.
    cz_kms : float or None
        Takes the place of the file's own redshift times the speed of light, km/s.
    cz_error_kms : float
        Deviation of the redshift, km/s.

    Returns
    -------
    QTable
        One row: the columns of `predicted_table`, and `D_flow`, Mpc, where the file has the
        distance of a flow model.
    """
    image = resample_galaxy(
        galaxy, pixels=champion.pixels, pixel_scale_arcsec=champion.pixel_scale_arcsec
    )
    known = None if np.isnan(galaxy.cz_kms) else galaxy.cz_kms
    cz = known if cz_kms is None else cz_kms
    scales = [galaxy.pixel_scale_arcsec] * len(image)
    table = predicted_table(champion, galaxy, image, cz, cz_error_kms, scales)
    if np.isfinite(galaxy.cz_flow_kms):
        D_flow = redshift_distance_mpc([galaxy.cz_flow_kms] * len(table), champion.H0_kms_mpc)
        table["D_flow"] = D_flow * u.Mpc
        table["D_flow"].info.format = ".1f"
    return table


def check_within(
    champion: Champion, source: str, D_z_mpc: NDArray[np.float64], cz_error_kms: float
) -> None:
    """Refuse a redshift that none of the champion's distances can have."""
    if champion.grid_mpc is None or not beyond(champion, D_z_mpc, np.array(cz_error_kms)).any():
        return
    near, far, D_z = champion.grid_mpc[0], champion.grid_mpc[-1], float(D_z_mpc[0])
    raise InputError(
        f"{source}: cz {D_z * champion.H0_kms_mpc:.0f} km/s puts it at {D_z:.0f} Mpc, and the "
        f"champion was trained on {near:.0f} to {far:.0f} Mpc: leave --cz out, or train on "
        "such distances (observe.distances)"
    )


def predicted_table(
    champion: Champion,
    galaxy: Galaxy,
    images: torch.Tensor,
    cz_kms: float | None,
    cz_error_kms: float = 0.0,
    scales_arcsec: Sequence[float] = (),
) -> QTable:
    """Predictions for images (n, band, y, x), W/m/m^2/sr, of one galaxy, camera by camera.

    Returns
    -------
    QTable
        `camera` and those of `peculiar.predict.estimate.COLUMNS` that are known: without a redshift
        only `D_p` and `D_error`; then `flags` ("ok" where there is none), of the input too where
        `scales_arcsec` gives its pixel scale for each image. The champion is in `meta`.
    """
    n, cameras = len(images), len(galaxy.images)
    cz = np.full(n, np.nan if cz_kms is None else cz_kms)
    errors = np.full(n, cz_error_kms)
    check_within(
        champion, galaxy.source, redshift_distance_mpc(cz, champion.H0_kms_mpc), cz_error_kms
    )
    columns = estimates(champion, outputs(champion, images), cz, errors)
    flags = warnings(champion, images.numpy(), columns, errors)
    odd = [odd_of(champion, galaxy, scale) for scale in scales_arcsec] or [()] * n
    table = QTable(meta={"source": galaxy.source, **champion.describe()})
    table["camera"] = np.tile(np.arange(cameras), n // cameras)
    for name, unit in COLUMNS.items():
        if cz_kms is not None or name in ("D_p", "D_error"):
            table[name] = columns[name] * u.Unit(unit)
            table[name].info.format = ".1f"
    table["flags"] = [", ".join((*a, *b)) or "ok" for a, b in zip(odd, flags, strict=True)]
    return table
