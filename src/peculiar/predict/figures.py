"""A picture of each galaxy of a catalogue: its image as the network sees it, and the posterior."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from peculiar.core.files import replace_file
from peculiar.core.photometry import surface_brightness
from peculiar.predict.catalogue import Row
from peculiar.registry.champion import Champion

Array = NDArray[np.float64]
SOFT_MAG_ARCSEC2, WHITE_MAG_ARCSEC2 = 25.5, 18.5  # as `peculiar inspect` draws


def draw_galaxy(
    folder: Path,
    champion: Champion,
    row: Row,
    image: NDArray[np.float32],
    output: Array,
    estimate: Mapping[str, float],
    flags: str,
) -> Path:
    """Draw one galaxy into a folder, as `ROW-NAME.png`.

    Parameters
    ----------
    folder : Path
        Existing folder.
    champion : Champion
        Its bands, grid and error.
    row : Row
        Number, name and redshift.
    image : ndarray, (band, y, x)
        Surface brightness, W/m/m^2/sr.
    output : ndarray, () or (G,)
        A distance, Mpc, or p(D | image) with the prior.
    estimate : mapping of str to float
        `peculiar.predict.columns.NUMBERS` of the galaxy.
    flags : str
        Printed above.

    Returns
    -------
    Path
        The picture.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    figure.suptitle(
        f"{row.name} ({champion.data_source} champion {champion.version}): {flags}",
        fontsize=8,
        parse_math=False,
    )
    left, middle, right = figure.subplots(1, 3)
    soft = [float(surface_brightness(SOFT_MAG_ARCSEC2, band)) for band in champion.bands]
    bright = (image / np.reshape(soft, (-1, 1, 1))).mean(axis=0)
    white = np.arcsinh(10 ** (0.4 * (SOFT_MAG_ARCSEC2 - WHITE_MAG_ARCSEC2)))
    left.imshow(np.arcsinh(bright) / white, cmap="gray", vmin=-0.1, vmax=1, origin="lower")
    left.set_axis_off()
    left.set_title(f"mean of {champion.bands}", fontsize=8)
    _distance(middle, champion, output, estimate)
    _velocity(right, estimate)
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(row.name).name)[:80]
    path = folder / f"{row.number:06d}-{name}.png"
    with replace_file(path) as partial:
        figure.savefig(partial, dpi=90, format="png")
    return path


def _gaussian(axes: Axes, mean: float, deviation: float, label: str) -> None:
    x = mean + deviation * np.linspace(-4, 4, 201)
    axes.plot(x, np.exp(-0.5 * ((x - mean) / deviation) ** 2), label=label)


def _distance(axes: Axes, champion: Champion, output: Array, estimate: Mapping[str, float]) -> None:
    if champion.grid_mpc is None:
        _gaussian(axes, estimate["D_p"], estimate["D_error"], "image")
    else:
        axes.plot(champion.grid_mpc, output / output.max(), label="image")
    if np.isfinite(estimate["D_z"]):
        axes.axvline(estimate["D_z"], color="red", label="$D_z$")
    axes.set(xlabel="D [Mpc]", yticks=[])
    axes.legend(fontsize=7)


def _velocity(axes: Axes, estimate: Mapping[str, float]) -> None:
    axes.set(xlabel="v [km/s]", yticks=[])
    if not np.isfinite(estimate["v_hat"]):
        axes.set_title("no posterior", fontsize=8)
        return
    _gaussian(axes, estimate["v_prior"], estimate["v_prior_error"], "before")
    for level, alpha in ((95, 0.2), (68, 0.4)):
        ends = estimate[f"v_low{level}"], estimate[f"v_high{level}"]
        axes.axvspan(*ends, color="tab:orange", alpha=alpha, label=f"{level} %", linewidth=0)
    axes.axvline(estimate["v_hat"], color="tab:orange")
    axes.set_title(f"{estimate['v_hat']:.0f} ± {estimate['v_error']:.0f} km/s", fontsize=8)
    axes.legend(fontsize=7)
