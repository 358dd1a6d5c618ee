"""Distances and velocities with errors from images and redshifts, and flags that limit trust.

`predict_images` is the one way to predict: notebook, files and catalogues call it, and
`peculiar serve` computes the same distances and errors.
"""

from collections.abc import Iterable, Mapping, Sequence

import astropy.units as u
import numpy as np
import torch
from astropy.table import QTable
from numpy.typing import ArrayLike, NDArray

from peculiar.core.frames import UNKNOWN, in_cmb_frame
from peculiar.core.photometry import SPEED_OF_LIGHT_KMS
from peculiar.predict.columns import COLUMNS, FLAGS, TEXT_COLUMNS
from peculiar.predict.limits import beyond, outside_training
from peculiar.predict.priors import (
    DistancePrior,
    default_prior,
    distance_grid,
    distances_given_image,
)
from peculiar.predict.view import View
from peculiar.registry.champion import Champion
from peculiar.velocity.grid import moments
from peculiar.velocity.hubble import peculiar_velocity_kms, redshift_distance_mpc
from peculiar.velocity.posterior import velocity_from_distance, velocity_on_grid

Array = NDArray[np.float64]
IMAGES_AT_ONCE = 16  # what a processor's cache holds: twice as fast as 64


def predict_images(
    champion: Champion,
    views: Sequence[View],
    cz_kms: ArrayLike,
    cz_error_kms: ArrayLike = 0.0,
    prior: DistancePrior | None = None,
    *,
    frame: str | Sequence[str] = UNKNOWN,
    ra_deg: ArrayLike = np.nan,
    dec_deg: ArrayLike = np.nan,
) -> QTable:
    """Predict distances and velocities of galaxies, in the frame of the CMB where it is possible.

    Parameters
    ----------
    champion : Champion
        From `peculiar.load_model`.
    views : sequence of View, n
        Images (band, pixels, pixels) in the model's pixels, W/m/m^2/sr, with their flags.
    cz_kms : array_like, (n,) or ()
        Redshifts times the speed of light, km/s; NaN where unknown.
    cz_error_kms : array_like, (n,) or ()
        Their standard deviations, km/s; NaN where unusable.
    prior : DistancePrior, optional
        Prior on the distance, from `peculiar.predict.priors`; by default its `default_prior`.
    frame : str or sequence of str, n
        Frame of the redshifts: one of `peculiar.core.frames.FRAMES`, or unknown. Those of
        simulated galaxies have the motion of no Sun, so they are in the CMB's frame.
    ra_deg, dec_deg : array_like, (n,) or ()
        Position (ICRS), deg; NaN for that of the galaxy's file, if it has one.

    Returns
    -------
    QTable, n rows
        `peculiar.predict.columns.COLUMNS`; `frame`, that of the redshift in them; and `flags`,
        those of the view and of the prediction in the order of `FLAGS`. A row without an image has
        no numbers. One without a usable redshift, or with one that no distance of the champion's
        grid fits, has no posterior. The champion, the prior and the frames are in `meta`.

    Raises
    ------
    InputError
        When the champion cannot take the prior.
    """
    n = len(views)
    prior = prior or default_prior(champion)
    cz, error, flags_of_cz = _redshifts(
        np.broadcast_to(cz_kms, n), np.broadcast_to(cz_error_kms, n)
    )
    cz, frames = _in_cmb_frame(views, cz, frame, ra_deg, dec_deg)
    flags = [{*view.flags} for view in views]
    columns = {name: np.full(n, np.nan) for name in COLUMNS}
    images = [view.image for view in views if view.image is not None]
    rows = np.array([k for k, view in enumerate(views) if view.image is not None], dtype=int)
    if images:
        stack = np.stack(images)
        output = outputs(champion, stack)
        predicted = estimates(champion, output, cz[rows], error[rows], prior)
        for name, values in predicted.items():
            columns[name][rows] = values
        outside = outside_training(champion, stack, output, predicted, error[rows], prior)
        for k, new in zip(rows, outside, strict=True):
            flags[k] |= {*new} | ({"frame"} if frames[k] != "cmb" and np.isfinite(cz[k]) else set())
    for k, flag in flags_of_cz.items():
        if not flags[k] & {"no_cz", "bad_cz"}:  # a catalogue has said which already
            flags[k].add(flag)
    return _table(champion, prior, columns, frames, flags)


def _table(
    champion: Champion,
    prior: DistancePrior,
    columns: Mapping[str, Array],
    frames: NDArray[np.str_],
    flags: Sequence[set[str]],
) -> QTable:
    named = frames_in(frames)
    table = QTable(meta={**champion.describe(), "prior": prior.name, "frame": named})
    for name, column in COLUMNS.items():
        table[name] = columns[name] * u.Unit(column.unit)
    words = [", ".join(flag for flag in FLAGS if flag in present) or "ok" for present in flags]
    table["frame"] = frames
    table["flags"] = np.array(words, dtype=str)
    for name, column in (COLUMNS | TEXT_COLUMNS).items():
        table[name].info.description = column.description
        table[name].info.format = column.format
    return table


def _in_cmb_frame(
    views: Sequence[View],
    cz_kms: Array,
    frame: str | Sequence[str],
    ra_deg: ArrayLike,
    dec_deg: ArrayLike,
) -> tuple[Array, NDArray[np.str_]]:
    """Redshifts (n,), km/s, in the CMB's frame where possible, and the frame of each.

    A position that is not given is that of the galaxy's file.
    """
    n = len(views)
    ra, dec = (np.broadcast_to(np.asarray(one, float), n) for one in (ra_deg, dec_deg))
    given = np.isfinite(ra) & np.isfinite(dec)
    ra = np.where(given, ra, [view.ra_deg for view in views])
    dec = np.where(given, dec, [view.dec_deg for view in views])
    simulated = np.array([view.simulated for view in views], dtype=bool)
    frames = np.where(simulated, "cmb", np.broadcast_to(frame, n))
    return in_cmb_frame(cz_kms, frames, ra, dec)


def frames_in(frames: Iterable[str]) -> str:
    """All frames of a table's rows, for its metadata: "cmb", or for example "cmb, unknown"."""
    return ", ".join(sorted({*frames})) or "cmb"


def _redshifts(cz_kms: Array, cz_error_kms: Array) -> tuple[Array, Array, dict[int, str]]:
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


def outputs(champion: Champion, images: NDArray[np.float32]) -> Array:
    """Run the champion's network over images, a few at a time.

    Parameters
    ----------
    champion : Champion
        The network.
    images : ndarray, (n, band, pixels, pixels), float32
        Surface brightness, W/m/m^2/sr.

    Returns
    -------
    ndarray, (n,) or (n, G)
        Distances, Mpc, or p(D | image).
    """
    pieces = torch.split(torch.as_tensor(images), IMAGES_AT_ONCE)
    with torch.inference_mode():
        return torch.cat([champion.network(piece).double() for piece in pieces]).numpy()


def estimates(
    champion: Champion,
    output: Array,
    cz_kms: Array,
    cz_error_kms: Array,
    prior: DistancePrior,
) -> dict[str, Array]:
    """Compute distances and velocities from what the network gives.

    Parameters
    ----------
    champion : Champion
        Its grid, errors, velocity prior and Hubble constant.
    output : ndarray, (n,) or (n, G)
        From `outputs`.
    cz_kms : ndarray, (n,)
        Redshifts times the speed of light, km/s; NaN where unknown.
    cz_error_kms : ndarray, (n,)
        Their standard deviations, km/s; 0 for none.
    prior : DistancePrior
        Prior on the distance.

    Returns
    -------
    dict of str to ndarray, (n,)
        `COLUMNS`. All are NaN but D_z where image and prior have no distance in common. Posteriors
        are NaN without a redshift, and with one that no distance fits
        (`peculiar.predict.limits.beyond`). For a champion that gives distances and a uniform prior
        they have a closed form, without limits.
    """
    H0, p = champion.H0_kms_mpc, None
    if champion.grid_mpc is None and prior.name == "uniform":
        D_p, D_error = output, np.full(len(output), champion.sigma_D_mpc)
    else:
        p = distances_given_image(champion, output, prior)
        D_p, D_error = moments(p, distance_grid(champion))
    D_z = redshift_distance_mpc(cz_kms, H0)
    v_p = peculiar_velocity_kms(D_z, D_p, H0)
    columns = {"D_p": D_p, "D_error": D_error, "D_z": D_z, "v_p": v_p}
    columns |= {name: np.full(len(output), np.nan) for name in COLUMNS if name not in columns}
    fits = np.isfinite(D_p + D_z + cz_error_kms) & ~beyond(champion, prior, D_z, cz_error_kms)
    if fits.any():
        given = output[fits] if p is None else p[fits]
        posterior = _posterior(champion, given, D_z[fits], cz_error_kms[fits])
        for name, values in posterior.items():
            columns[name][fits] = values
    return columns


def _posterior(
    champion: Champion, given: Array, D_z_mpc: Array, cz_error_kms: Array
) -> dict[str, Array]:
    """Columns of the posterior of the peculiar velocity, km/s, of distances or p(D | image)."""
    sigma_v, H0 = champion.sigma_v_kms, champion.H0_kms_mpc
    if given.ndim == 1:
        v = velocity_from_distance(
            given, D_z_mpc, champion.sigma_D_mpc, sigma_v, H0, None, cz_error_kms=cz_error_kms
        )
    else:
        grid = distance_grid(champion)
        v = velocity_on_grid(given, grid, D_z_mpc, sigma_v, H0, cz_error_kms=cz_error_kms)
    lows = {f"v_low{level}": values for level, values in v.low_kms.items()}
    highs = {f"v_high{level}": values for level, values in v.high_kms.items()}
    return {"v_hat": v.mean_kms, "v_error": v.deviation_kms, **lows, **highs}
