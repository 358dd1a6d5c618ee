"""Galaxies of a table of predictions, as far as they tell of a flow."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from peculiar.core.cosmography import COSMOLOGIES, Cosmography
from peculiar.core.errors import InputError
from peculiar.core.survey import OFFERED
from peculiar.flow.fit import Flow, fit_flow
from peculiar.flow.likelihood import Galaxies
from peculiar.predict.columns import FLAGS
from peculiar.predict.densities import plain_numbers, read_densities
from peculiar.velocity.grid import share_between

Array = NDArray[np.float64]
COLUMNS = ("cz", "cz_error", "ra", "dec", "frame", "flags", "D_z")
# they depend on the redshift: without galaxies that have them the flow would be smaller
ACCEPTED = ("tension", "distance", "cz_beyond")
LEAST = 0.05  # probability by the image of a distance that the model is offered for
AGAIN = "predict it again with `peculiar predict --density`"


@dataclass(frozen=True)
class MeasuredFlow:
    """A flow, and of what it is.

    Attributes
    ----------
    flow : Flow
        In galactic coordinates, x towards the centre, z towards the pole.
    l_deg, b_deg, v_kms : ndarray, (n,)
        Galactic position of the galaxies used, and their velocity, cz less that of the mean
        distance that the image allows, km/s.
    left_out : mapping of str to int
        How many galaxies were not used, by reason: a flag, or what is missing.
    meta : mapping
        Metadata of the table, with keys in lower case.
    """

    flow: Flow
    l_deg: Array
    b_deg: Array
    v_kms: Array
    left_out: Mapping[str, int]
    meta: Mapping[str, object]


def measure_flow(
    path: str | Path, accepted: Collection[str] = (), sigma_v_kms: float | None = None
) -> MeasuredFlow:
    """Measure the bulk flow of the galaxies in a table of predictions.

    Galaxies are used whose redshift is in the CMB's frame, whose only flags are accepted, and which
    by their image may lie within the distances that the model is offered for. Whether their
    redshift fits must not matter: a sample cut by redshift flows too slowly.

    Parameters
    ----------
    path : str or Path
        Table that `peculiar predict --density` wrote.
    accepted : collection of str
        Flags of `peculiar.predict.columns.FLAGS` that a galaxy may have besides `ACCEPTED`.
    sigma_v_kms : float, optional
        See `peculiar.flow.fit.fit_flow`.

    Returns
    -------
    MeasuredFlow

    Raises
    ------
    InputError
        When the table lacks a column or p(D | image), has a galaxy twice, or its galaxies do not
        determine a flow.
    """
    path = Path(path)
    table, grid_mpc, p = read_densities(path)
    table.meta = {str(key).lower(): value for key, value in table.meta.items()}  # FITS has capitals
    _check(path, table, accepted)
    why = _left_out(table, p, {*ACCEPTED, *accepted})
    near, far = (table.meta.get(key.lower()) for key in OFFERED)
    if near is not None and far is not None:
        why[(why == "") & (p @ share_between(grid_mpc, near, far) < LEAST)] = "beyond the model"
    used = np.flatnonzero(why == "")
    left_out = dict(sorted(Counter(why[why != ""].tolist()).items()))
    if not used.size:
        raise InputError(f"{path} has no galaxy to use; left out: {left_out_said(left_out)}")
    table, p = table[used], p[used]
    at = SkyCoord(plain_numbers(table["ra"]), plain_numbers(table["dec"]), unit="deg").galactic
    _check_once(path, table, used)
    samples, v_kms = _samples(path, table, grid_mpc, p, at.cartesian.xyz.value.T, used)
    return MeasuredFlow(
        fit_flow(samples, float(table.meta["h0"]), sigma_v_kms),
        at.l.wrap_at(180 * u.deg).deg,
        at.b.deg,
        v_kms,
        left_out,
        dict(table.meta),
    )


def left_out_said(left_out: Mapping[str, int]) -> str:
    """How many galaxies were left out by each reason, in words."""
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()) or "none"


def _check(path: Path, table: Table, accepted: Collection[str]) -> None:
    for name in COLUMNS:
        if name not in table.colnames:
            raise InputError(f"{path} has no column {name}: {AGAIN}")
    H0 = table.meta.get("h0")
    if not isinstance(H0, int | float) or not 0 < H0 < np.inf:
        raise InputError(f"{path} does not say its H0: {AGAIN}")
    if (np.abs(plain_numbers(table["dec"])) > 90).any():
        raise InputError(f"{path} has a dec beyond 90 deg: {AGAIN}")
    for flag in accepted:
        if flag not in FLAGS:
            raise InputError(f"flag {flag!r} is not known: give one of {', '.join(FLAGS)}")


def _left_out(table: Table, p: Array, accepted: Collection[str]) -> NDArray[np.str_]:
    """Why each galaxy (n,) is not used; "" for one that is."""
    why = np.full(len(table), "", dtype="U20")
    for row, flags in enumerate(table["flags"]):
        others = [flag for flag in str(flags).split(", ") if flag not in ("ok", *accepted)]
        if others:
            why[row] = others[0]
    numbers = {name: plain_numbers(table[name]) for name in ("cz", "cz_error", "ra", "dec")}
    missing = {
        "no position": ~np.isfinite(numbers["ra"] + numbers["dec"]),
        "no cz": ~np.isfinite(numbers["cz"] + numbers["cz_error"]),
        "no distance": ~np.isfinite(p).all(axis=1),
        "frame": np.array([str(frame) != "cmb" for frame in table["frame"]]),
    }
    for reason, rows in missing.items():
        why[rows & (why == "")] = reason
    return why


def _check_once(path: Path, table: Table, rows: NDArray[np.intp]) -> None:
    """Refuse galaxies in one place, which are one galaxy and would count twice."""
    places: dict[tuple[float, float], int] = {}
    for row, place in zip(
        rows, zip(plain_numbers(table["ra"]), plain_numbers(table["dec"]), strict=True), strict=True
    ):
        if place in places:
            raise InputError(
                f"{path}: rows {places[place]} and {row} have the same ra and dec: keep one row a "
                "galaxy"
            )
        places[place] = row


def _samples(
    path: Path,
    table: Table,
    grid_mpc: Array,
    p: Array,
    towards: Array,
    rows: NDArray[np.intp],
) -> tuple[list[Galaxies], Array]:
    """Galaxies by the law of distance that their D_z follows, and their velocities (n,), km/s."""
    H0 = float(table.meta["h0"])
    cz, error, D_z = (plain_numbers(table[name]) for name in ("cz", "cz_error", "D_z"))
    samples, v_kms, without = [], np.full(len(table), np.nan), np.ones(len(table), dtype=bool)
    for law in (Cosmography(name, H0) for name in COSMOLOGIES):
        own = without & np.isclose(law.distance_mpc(cz), D_z, rtol=1e-6, atol=0)
        without &= ~own
        if own.any():
            x, X = law.x_mpc(grid_mpc), law.x_of_redshift_mpc(cz[own])
            spread = law.x_error_kms(cz[own], error[own]) / H0
            samples.append(Galaxies(p[own], x, X, spread, towards[own]))
            v_kms[own] = H0 * (X - p[own] @ x)
    if without.any():
        row = rows[np.flatnonzero(without)[0]]
        raise InputError(f"{path}: D_z of row {row} is not the distance of its cz: {AGAIN}")
    return samples, v_kms
