"""Make the table of observed images: distances, velocities and splits."""

import sys

import astropy.units as u
import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray
from tqdm import tqdm

from peculiar.core.dataset import SPLITS, redshifts_of
from peculiar.core.errors import InputError
from peculiar.core.frames import in_cmb_frame
from peculiar.core.survey import Simulated
from peculiar.mock.distances import draw_distances_mpc
from peculiar.mock.params import Observe, Split


def draw_splits(
    galaxy: NDArray[np.int64], split: Split, rng: np.random.Generator
) -> NDArray[np.str_]:
    """Assign each image to a split (paper, section 3.1: 65, 10 and 25 per cent).

    Parameters
    ----------
    galaxy : ndarray, (n,)
        Galaxy of each image.
    split : Split
        Fractions, and whether galaxies or images are split.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of str, (n,)
        One of `SPLITS` for each image.

    Raises
    ------
    InputError
        When there are too few galaxies to fill every split.
    """
    unit = galaxy if split.by == "galaxy" else np.arange(len(galaxy))
    units, unit_of = np.unique(unit, return_inverse=True)
    fractions = (split.train, split.train + split.validation)
    first, second = (round(fraction * len(units)) for fraction in fractions)
    if not 0 < first < second < len(units):
        raise InputError(
            f"observe.split: {len(units)} units (by {split.by}) are too few for "
            f"{', '.join(SPLITS)}: fetch more galaxies"
        )
    rank = rng.permutation(len(units))
    return np.array(SPLITS)[np.searchsorted([first, second], rank, side="right")][unit_of]


def draw_table(
    params: Observe, distances: Simulated, ids: NDArray[np.int64], cameras: int
) -> QTable:
    """Draw distances, velocities and splits of all images.

    The splits depend only on the seed and the galaxies, so all datasets have the same.

    Parameters
    ----------
    params : Observe
        Section `observe` of `params.yaml`.
    distances : Uniform, Volume or Normal
        Distribution of the distances.
    ids : ndarray, (galaxy,)
        Numbers of the galaxies.
    cameras : int
        Images per galaxy.

    Returns
    -------
    QTable
        From `image_table`.
    """
    _, distance_rng, velocity_rng = np.random.default_rng(params.seed).spawn(3)
    size = len(ids) * cameras
    distance_mpc = draw_distances_mpc(distances, size, distance_rng)
    velocity_kms = velocity_rng.normal(0, params.sigma_v_kms, size)
    return image_table(params, ids, cameras, distance_mpc, velocity_kms)


def in_one_frame(galaxies: QTable) -> tuple[QTable, str]:
    """Convert measured redshifts to the frame of the CMB, or leave all as they are.

    Parameters
    ----------
    galaxies : QTable
        Galaxy table of `fetch`.

    Returns
    -------
    QTable
        The table with `cz_kms` in the frame named.
    str
        "cmb" where the frame and the position of all galaxies are known; else the frame that all
        of them have, and a warning is printed.

    Raises
    ------
    InputError
        When galaxies have redshifts in different frames that cannot be converted.
    """
    cz, frames, ra, dec = redshifts_of(galaxies)
    converted, after = in_cmb_frame(cz, frames, ra, dec)
    if (after == "cmb").all():
        found = galaxies.copy()
        found["cz_kms"] = converted * u.km / u.s
        return found, "cmb"
    left = galaxies["source"][after != "cmb"][0]
    if len(set(frames)) > 1:
        raise InputError(
            f"{left}: its redshift cannot be converted to the CMB's frame, and others have another "
            "frame: fetch it with its RA and DEC, or remove it"
        )
    tqdm.write(
        f"warning: redshifts are taken as they are (frame: {frames[0]}), since the position or the "
        f"frame of {left} is not known: the Sun's motion, up to 370 km/s, is in all velocities; "
        "fetch them again, with RA and DEC",
        file=sys.stderr,
    )
    return galaxies, str(frames[0])


def measured_table(params: Observe, galaxies: QTable, cameras: int) -> QTable:
    """Make the table of real galaxies, with distances of the flow model and measured redshifts.

    Parameters
    ----------
    params : Observe
        Section `observe` of `params.yaml`.
    galaxies : QTable
        Galaxy table of `fetch`.
    cameras : int
        Images per galaxy.

    Returns
    -------
    QTable
        From `image_table`.

    Raises
    ------
    InputError
        When a galaxy has no redshift, or none of a flow model above zero.
    """
    cz, flow = (galaxies[name].to_value(u.km / u.s) for name in ("cz_kms", "cz_flow_kms"))
    bad = ~(np.isfinite(cz) & (flow > 0))
    if bad.any():
        raise InputError(
            f"galaxy {galaxies['id'][bad][0]} ({galaxies['source'][bad][0]}) has no redshift of a "
            "flow model above zero: remove it, or set another distribution in observe.distances"
        )
    distance_mpc = np.repeat(flow, cameras) / params.H0_kms_mpc
    velocity_kms = np.repeat(cz - flow, cameras)
    return image_table(params, np.asarray(galaxies["id"]), cameras, distance_mpc, velocity_kms)


def image_table(
    params: Observe,
    ids: NDArray[np.int64],
    cameras: int,
    distance_mpc: NDArray[np.float64],
    velocity_kms: NDArray[np.float64],
) -> QTable:
    """Make the table of all images, in the order of galaxies and then cameras.

    Parameters
    ----------
    params : Observe
        Section `observe` of `params.yaml`.
    ids : ndarray, (galaxy,)
        Numbers of the galaxies.
    cameras : int
        Images per galaxy.
    distance_mpc, velocity_kms : ndarray, (galaxy * cameras,)
        Distance, Mpc, and peculiar velocity, km/s, of each image.

    Returns
    -------
    QTable
        `OBSERVED_COLUMNS`, with units.
    """
    split_rng, _, _ = np.random.default_rng(params.seed).spawn(3)
    galaxy = np.repeat(ids, cameras)
    table = QTable()
    table["galaxy"] = galaxy
    table["camera"] = np.tile(np.arange(cameras), len(ids))
    table["distance_mpc"] = distance_mpc * u.Mpc
    table["velocity_kms"] = velocity_kms * u.km / u.s
    table["distance_z_mpc"] = (distance_mpc + velocity_kms / params.H0_kms_mpc) * u.Mpc
    table["split"] = draw_splits(galaxy, params.split, split_rng)
    return table
