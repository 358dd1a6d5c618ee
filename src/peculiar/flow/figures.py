"""Picture of a bulk flow on the sky."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from peculiar.flow.fit import Flow
from peculiar.flow.table import MeasuredFlow

Array = NDArray[np.float64]
APEXES = 2000  # drawn from the probability of V
SATURATED = 95  # percentile of |v| at which colours end


def towards_deg(V_kms: Array) -> tuple[Array, Array]:
    """Galactic longitude, from -180 to 180, and latitude (n,), deg, of vectors (n, 3)."""
    l_deg = np.degrees(np.arctan2(V_kms[:, 1], V_kms[:, 0]))
    return l_deg, np.degrees(np.arctan2(V_kms[:, 2], np.hypot(V_kms[:, 0], V_kms[:, 1])))


def apexes(flow: Flow, rng: np.random.Generator, number: int = APEXES) -> Array:
    """Flows (number, 3), km/s, drawn from the probability of V."""
    return rng.multivariate_normal(flow.V_kms, flow.covariance[:3, :3], number)


def cone_deg(flow: Flow, rng: np.random.Generator) -> float:
    """Angle about the direction of V that holds 68.3 % of its probability, deg."""
    drawn = apexes(flow, rng, 20_000)
    cosine = drawn @ flow.V_kms / np.linalg.norm(drawn, axis=1) / flow.speed_kms
    return float(np.degrees(np.quantile(np.arccos(np.clip(cosine, -1, 1)), 0.683)))


def sky(measured: MeasuredFlow, title: str, rng: np.random.Generator) -> Figure:
    """Galaxies on the sky, coloured by velocity, and where they flow to.

    Parameters
    ----------
    measured : MeasuredFlow
        From `peculiar.flow.table.measure_flow`.
    title : str
        Drawn above.
    rng : numpy.random.Generator
        Draws directions of the flow, as far as it is known.

    Returns
    -------
    Figure
        Mollweide's projection in galactic coordinates; l grows to the left.
    """
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    figure.suptitle(title, fontsize=9, parse_math=False)
    axes = figure.add_subplot(projection="mollweide")
    most = float(np.percentile(np.abs(measured.v_kms), SATURATED))
    points = axes.scatter(
        *_on_map(measured.l_deg, measured.b_deg),
        c=measured.v_kms,
        s=float(np.clip(2e4 / len(measured.v_kms), 1, 30)),
        cmap="coolwarm",
        vmin=-most,
        vmax=most,
        linewidths=0,
    )
    figure.colorbar(points, ax=axes, shrink=0.6, label="v of each galaxy [km/s]")
    drawn = _on_map(*towards_deg(apexes(measured.flow, rng)))
    axes.scatter(*drawn, s=2, color="black", alpha=0.15, linewidths=0, zorder=3)
    apex = _on_map(*towards_deg(measured.flow.V_kms[None]))
    axes.scatter(
        *apex,
        marker="*",
        s=200,
        color="gold",
        edgecolors="black",
        zorder=4,
        label="flow, and how far its direction is known",
    )
    axes.legend(loc="lower right", fontsize=8, markerscale=0.6)
    degrees = range(-150, 151, 30)
    axes.set_xticks(np.radians(list(degrees)), [f"{-degree % 360}°" for degree in degrees])
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    return figure


def _on_map(l_deg: Array, b_deg: Array) -> tuple[Array, Array]:
    """Coordinates of a map seen from within the sky, so that l grows to the left, rad."""
    return -np.radians(l_deg), np.radians(b_deg)
