"""What a redshift means for a row: whether it can be used, its frame, and its law of distance."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peculiar.core.cosmography import COSMOLOGIES, FLAT_LAMBDA_CDM, HUBBLE, Cosmography
from peculiar.core.errors import InputError
from peculiar.core.frames import in_cmb_frame
from peculiar.core.photometry import SPEED_OF_LIGHT_KMS
from peculiar.predict.view import View
from peculiar.registry.champion import Champion

Array = NDArray[np.float64]


def usable(cz_kms: Array, cz_error_kms: Array) -> tuple[Array, Array, dict[int, str]]:
    """Redshifts and errors (n,), km/s, NaN where they cannot be used, and the flags by row."""
    cz = np.where(np.abs(cz_kms) <= SPEED_OF_LIGHT_KMS, cz_kms, np.nan)
    error = np.where(
        (cz_error_kms >= 0) & (cz_error_kms <= SPEED_OF_LIGHT_KMS), cz_error_kms, np.nan
    )
    unknown, bad = np.isnan(cz_kms), ~np.isfinite(cz + error)
    return (
        cz,
        error,
        {int(k): "no_cz" if unknown[k] else "bad_cz" for k in np.flatnonzero(unknown | bad)},
    )


def positions(views: Sequence[View], ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[Array, Array]:
    """Right ascensions and declinations (n,), deg: as given, or by the galaxies' files, or NaN."""
    ra, dec = (np.broadcast_to(np.asarray(one, float), len(views)) for one in (ra_deg, dec_deg))
    given = np.isfinite(ra) & np.isfinite(dec)
    return (
        np.where(given, ra, [view.ra_deg for view in views]),
        np.where(given, dec, [view.dec_deg for view in views]),
    )


def cz_in_cmb_frame(
    views: Sequence[View],
    cz_kms: Array,
    frame: str | Sequence[str],
    ra_deg: Array,
    dec_deg: Array,
) -> tuple[Array, NDArray[np.str_]]:
    """Redshifts (n,), km/s, in the CMB's frame where possible, and the frame of each."""
    simulated = np.array([view.simulated for view in views], dtype=bool)
    frames = np.where(simulated, "cmb", np.broadcast_to(frame, len(views)))
    return in_cmb_frame(cz_kms, frames, ra_deg, dec_deg)


def frames_in(frames: Iterable[str]) -> str:
    """All frames of a table's rows, for its metadata: "cmb", or for example "cmb, unknown"."""
    return ", ".join(sorted({*frames})) or "cmb"


def laws_of(
    champion: Champion, views: Sequence[View], cosmology: str | None
) -> Iterator[tuple[Cosmography, NDArray[np.intp]]]:
    """The law of distance and redshift of each galaxy: a law, and the rows (k,) that follow it.

    By default Hubble's for simulated galaxies, as in the paper, and flat LambdaCDM for real ones.

    Raises
    ------
    InputError
        When there is no such law.
    """
    if cosmology is not None and cosmology not in COSMOLOGIES:
        raise InputError(f"cosmology {cosmology!r} is not known: give {' or '.join(COSMOLOGIES)}")
    simulated = np.array([view.simulated for view in views], dtype=bool)
    for name in COSMOLOGIES:
        own = simulated if name == HUBBLE else ~simulated
        rows = np.flatnonzero(own if cosmology is None else np.full(len(views), name == cosmology))
        if len(rows):
            yield Cosmography(name, champion.H0_kms_mpc), rows


def laws_said(champion: Champion, cosmology: str | None) -> str:
    """The law of distance and redshift, for a table's metadata."""
    if cosmology is not None:
        return Cosmography(cosmology, champion.H0_kms_mpc).describe()
    real = Cosmography(FLAT_LAMBDA_CDM, champion.H0_kms_mpc).describe()
    return f"{real}; of simulated galaxies {HUBBLE}"
