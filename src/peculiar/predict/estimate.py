"""Distances and velocities with errors from images and redshifts, and flags that limit trust.

`predict_images` is the one way to predict: notebook, files and catalogues call it, and
`peculiar serve` computes the same distances and errors.
"""

from collections.abc import Mapping, Sequence

import astropy.units as u
import numpy as np
import torch
from astropy.table import QTable
from numpy.typing import ArrayLike, NDArray

from peculiar.core.cosmography import HUBBLE, Cosmography
from peculiar.core.frames import UNKNOWN
from peculiar.predict.columns import COLUMNS, FLAGS, NUMBERS, TEXT_COLUMNS
from peculiar.predict.densities import add_densities
from peculiar.predict.dust import dust_said, extinction_columns
from peculiar.predict.limits import beyond, outside_training
from peculiar.predict.posteriors import posterior
from peculiar.predict.priors import (
    DistancePrior,
    default_prior,
    distance_grid,
    distances_given_image,
)
from peculiar.predict.redshifts import (
    cz_in_cmb_frame,
    frames_in,
    laws_of,
    laws_said,
    positions,
    usable,
)
from peculiar.predict.velocities import (
    VelocityPriors,
    velocity_priors,
    velocity_priors_said,
)
from peculiar.predict.view import View
from peculiar.registry.champion import Champion
from peculiar.velocity.grid import log_distance_ratio, moments

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
    cosmology: str | None = None,
    v_prior_kms: ArrayLike = np.nan,
    v_prior_error_kms: ArrayLike = np.nan,
    density: bool = False,
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
    cosmology : str, optional
        Law of distance and redshift, one of `peculiar.core.cosmography.COSMOLOGIES`. By default
        Hubble's, as in the paper, for simulated galaxies, and flat LambdaCDM for real ones.
    v_prior_kms, v_prior_error_kms : array_like, (n,) or ()
        Mean and standard deviation of a galaxy's velocity in the CMB's frame before the image is
        seen, as a reconstruction of the flow gives them, km/s. Where both are NaN the velocity has
        the champion's N(0, sigma_v).
    density : bool
        Whether to add p(D | image), see `peculiar.predict.densities`.

    Returns
    -------
    QTable, n rows
        `peculiar.predict.columns.NUMBERS`, of the extinctions those in the champion's bands, 0
        where none was removed; `frame`, that of the redshift; and `flags`, those of the view and of
        the prediction in the order of `FLAGS`. A row without an image has none of `COLUMNS`. One
        without a usable redshift, or with one that no distance of the champion's grid fits, or with
        half a velocity prior, has no posterior. The champion, the priors, the frames and what dust
        was removed are in `meta`.

    Raises
    ------
    InputError
        When the champion cannot take the prior.
    """
    n = len(views)
    prior = prior or default_prior(champion)
    cz, error, flags_of_cz = usable(np.broadcast_to(cz_kms, n), np.broadcast_to(cz_error_kms, n))
    ra, dec = positions(views, ra_deg, dec_deg)
    cz, frames = cz_in_cmb_frame(views, cz, frame, ra, dec)
    velocities = velocity_priors(champion, v_prior_kms, v_prior_error_kms, n)
    flags = [{*view.flags} for view in views]
    columns = {name: np.full(n, np.nan) for name in COLUMNS}
    p = np.full((n, len(distance_grid(champion))), np.nan, np.float32) if density else None
    images = [view.image for view in views if view.image is not None]
    rows = np.array([k for k, view in enumerate(views) if view.image is not None], dtype=int)
    if images:
        stack = np.stack(images)
        output = outputs(champion, stack)
        if p is not None:
            p[rows] = distances_given_image(champion, output, prior)
        predicted = {name: np.full(len(rows), np.nan) for name in COLUMNS}
        for law, at in laws_of(champion, [views[k] for k in rows], cosmology):
            of = rows[at]
            found = estimates(champion, output[at], cz[of], error[of], prior, law, velocities[of])
            for name, values in found.items():
                predicted[name][at] = values
        for name, values in predicted.items():
            columns[name][rows] = values
        outside = outside_training(
            champion, stack, output, predicted, error[rows], prior, velocities[rows]
        )
        for k, new in zip(rows, outside, strict=True):
            flags[k] |= {*new} | ({"frame"} if frames[k] != "cmb" and np.isfinite(cz[k]) else set())
    for k, flag in flags_of_cz.items():
        if not flags[k] & {"no_cz", "bad_cz"}:  # a catalogue has said which already
            flags[k].add(flag)
    for bad in np.flatnonzero(np.isnan(velocities.mean_kms)):
        flags[bad].add("bad_prior")
    for k in rows:
        if views[k].extinction_mag is None and not views[k].simulated:
            flags[k].add("dust")
    removed = extinction_columns(champion.bands, [view.extinction_mag for view in views])
    about = {
        "prior": prior.describe(champion),
        "v_prior": velocity_priors_said(champion, velocities.mean_kms, velocities.deviation_kms),
        "frame": frames_in(frames),
        "law": laws_said(champion, cosmology),
        "dust": dust_said(removed.values()),
    }
    used = {"cz": cz, "cz_error": error, "ra": ra, "dec": dec}
    used |= {"v_prior": velocities.mean_kms, "v_prior_error": velocities.deviation_kms}
    table = _table({**champion.describe(), **about}, used | removed | columns, frames, flags)
    if p is not None:
        add_densities(table, champion, p)
    return table


def _table(
    meta: Mapping[str, str | float],
    columns: Mapping[str, Array],
    frames: NDArray[np.str_],
    flags: Sequence[set[str]],
) -> QTable:
    table = QTable(meta=dict(meta))
    for name, values in columns.items():
        table[name] = values * u.Unit(NUMBERS[name].unit)
    words = [", ".join(flag for flag in FLAGS if flag in present) or "ok" for present in flags]
    table["frame"] = frames
    table["flags"] = np.array(words, dtype=str)
    for name in table.colnames:
        column = (NUMBERS | TEXT_COLUMNS)[name]
        table[name].info.description = column.description
        table[name].info.format = column.format
    return table


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
    law: Cosmography | None = None,
    velocities: VelocityPriors | None = None,
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
    law : Cosmography, optional
        Law of distance and redshift; by default Hubble's.
    velocities : VelocityPriors, optional
        Priors on the velocities; by default the champion's N(0, sigma_v).

    Returns
    -------
    dict of str to ndarray, (n,)
        `COLUMNS`. All are NaN but D_z where image and prior have no distance in common. Posteriors
        are NaN without a redshift, and with one that no distance fits
        (`peculiar.predict.limits.beyond`). For a champion that gives distances and a uniform prior
        they have a closed form, without limits.
    """
    law, p = law or Cosmography(HUBBLE, champion.H0_kms_mpc), None
    D_z = law.distance_mpc(cz_kms)
    velocities = velocities or velocity_priors(champion, np.nan, np.nan, len(output))
    if champion.grid_mpc is None and prior.name == "uniform":
        D_p, D_error = output, np.full(len(output), champion.sigma_D_mpc)
        eta, eta_error = _log_ratio_of_points(D_z, D_p, D_error)
    else:
        p = distances_given_image(champion, output, prior)
        D_p, D_error = moments(p, distance_grid(champion))
        eta, eta_error = log_distance_ratio(p, distance_grid(champion), D_z)
    v_p = law.velocity_kms(cz_kms, D_p)
    columns = {"D_p": D_p, "D_error": D_error, "D_z": D_z, "v_p": v_p}
    columns |= {"eta": eta, "eta_error": eta_error}
    columns |= {name: np.full(len(output), np.nan) for name in COLUMNS if name not in columns}
    expected = velocities.expected_mpc(D_z, champion.H0_kms_mpc)
    spread = velocities.spread_mpc(cz_error_kms, champion.H0_kms_mpc)
    fits = np.isfinite(D_p + expected + spread) & ~beyond(champion, prior, expected, spread)
    if fits.any():
        given = output[fits] if p is None else p[fits]
        cz, error = cz_kms[fits], cz_error_kms[fits]
        found = posterior(champion, given, cz, error, law, velocities[fits])
        for name, values in found.items():
            columns[name][fits] = values
    return columns


def _log_ratio_of_points(D_z: Array, D_p: Array, D_error: Array) -> tuple[Array, Array]:
    """Eta and its error (n,) of distances with a Gaussian error, to first order."""
    known = (D_z > 0) & (D_p > 0)
    ratio = np.where(known, D_z, np.nan) / np.where(known, D_p, np.nan)
    return np.log10(ratio), D_error / np.where(known, D_p, np.nan) / np.log(10)
