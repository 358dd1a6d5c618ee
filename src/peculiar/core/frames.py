"""Redshifts in the frames of the Sun, of the Local Group and of the cosmic microwave background.

A frame is one in which the Sun moves with a known velocity. Light of redshift z_cos and z_pec is
seen from the moving Sun with

    1 + z_obs = (1 + z_cos) (1 + z_pec) (1 + z_sun),  1 + z_sun = 1 / (gamma (1 + beta cos theta)),

where theta is the angle between the galaxy and the apex of the Sun's motion. It is a product, not a
sum of velocities, which errs by z v_sun: 9 km/s at 100 Mpc.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peculiar.core.photometry import SPEED_OF_LIGHT_KMS

Array = NDArray[np.float64]
Frame = Literal["heliocentric", "lg", "cmb"]
FRAMES: tuple[str, ...] = get_args(Frame)
UNKNOWN = "unknown"
# the Sun's motion: galactic longitude and latitude of its apex, deg, and speed, km/s
APEX: Mapping[str, tuple[float, float, float]] = {
    "heliocentric": (0.0, 0.0, 0.0),
    "lg": (93.0, -4.0, 316.0),  # Karachentsev & Makarov 1996, AJ 111, 794
    "cmb": (264.021, 48.253, 369.82),  # Planck Collaboration 2020, A&A 641, A1
}


def sun_kms(ra_deg: ArrayLike, dec_deg: ArrayLike, frame: Frame) -> Array:
    """Compute the component of the Sun's motion in a frame towards positions on the sky.

    Parameters
    ----------
    ra_deg, dec_deg : array_like, (n,)
        Right ascension and declination (ICRS), deg.
    frame : {"heliocentric", "lg", "cmb"}
        Frame in which the Sun moves.

    Returns
    -------
    ndarray, (n,)
        Component, km/s; positive towards the apex.
    """
    from astropy.coordinates import SkyCoord  # half a second to import

    lon, lat, speed_kms = APEX[frame]
    apex = SkyCoord(lon, lat, unit="deg", frame="galactic")
    at = SkyCoord(np.asarray(ra_deg, float), np.asarray(dec_deg, float), unit="deg", frame="icrs")
    return np.asarray(speed_kms * np.cos(at.separation(apex).rad))


def one_plus_z_sun(ra_deg: ArrayLike, dec_deg: ArrayLike, frame: Frame) -> Array:
    """Compute 1 + z_sun (n,) of light that is at rest in a frame; parameters as in `sun_kms`."""
    beta = APEX[frame][2] / SPEED_OF_LIGHT_KMS
    towards = sun_kms(ra_deg, dec_deg, frame) / SPEED_OF_LIGHT_KMS
    return np.asarray(np.sqrt(1 - beta**2) / (1 + towards))


def convert_cz_kms(
    cz_kms: ArrayLike, ra_deg: ArrayLike, dec_deg: ArrayLike, given: Frame, wanted: Frame
) -> Array:
    """Convert redshifts from one frame to another.

    Parameters
    ----------
    cz_kms : array_like, (n,)
        Speed of light times the redshift in the frame `given`, km/s.
    ra_deg, dec_deg : array_like, (n,)
        Position (ICRS), deg.
    given, wanted : {"heliocentric", "lg", "cmb"}
        Frames.

    Returns
    -------
    ndarray, (n,)
        Speed of light times the redshift in the frame `wanted`, km/s.
    """
    cz = np.asarray(cz_kms, dtype=float)
    if given == wanted:
        return cz
    ratio = one_plus_z_sun(ra_deg, dec_deg, given) / one_plus_z_sun(ra_deg, dec_deg, wanted)
    # not c ((1 + z) ratio - 1), which would cancel digits of small redshifts
    return np.asarray(cz * ratio + SPEED_OF_LIGHT_KMS * (ratio - 1))


def in_cmb_frame(
    cz_kms: ArrayLike, frames: ArrayLike, ra_deg: ArrayLike, dec_deg: ArrayLike
) -> tuple[Array, NDArray[np.str_]]:
    """Convert redshifts to the frame of the CMB where their frame and position are known.

    Parameters
    ----------
    cz_kms : array_like, (n,)
        Speed of light times the redshift, km/s.
    frames : array_like of str, (n,)
        One of `FRAMES`, or `UNKNOWN`.
    ra_deg, dec_deg : array_like, (n,)
        Position (ICRS), deg; NaN where unknown.

    Returns
    -------
    cz_kms : ndarray, (n,)
        Converted, or as it was.
    frames : ndarray of str, (n,)
        "cmb" where it is converted or was in this frame, else the frame as it was.
    """
    cz, given = np.array(cz_kms, dtype=float), np.array(frames, dtype=f"U{len('heliocentric')}")
    ra, dec = np.asarray(ra_deg, dtype=float), np.asarray(dec_deg, dtype=float)
    for frame in ("heliocentric", "lg"):
        rows = (given == frame) & np.isfinite(ra) & np.isfinite(dec)
        if rows.any():
            cz[rows] = convert_cz_kms(cz[rows], ra[rows], dec[rows], frame, "cmb")
            given[rows] = "cmb"
    return cz, given
