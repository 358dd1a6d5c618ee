"""Figures of galaxies: at several distances, and as files hold them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.visualization import make_lupton_rgb
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from peculiar.core.photometry import surface_brightness

Array = NDArray[np.floating]


PANEL_INCH, TITLE_INCH = 1.9, 0.25
PANELS_A_ROW = 6  # for files of a single band
RED_GREEN_BLUE = {"i": 4.9 / 5.7, "r": 1.0, "g": 7.8 / 5.7}  # weights of SDSS' own pictures
SOFT_MAG_ARCSEC2 = 25.5  # thumbnails are linear in flux below this, logarithmic above
WHITE_MAG_ARCSEC2 = 18.5  # and saturate here
BLACK = -0.12  # below the sky, so that noise shows with both signs
CAPTION = f"camera 0; asinh of surface brightness, white at {WHITE_MAG_ARCSEC2} AB mag/arcsec$^2$"


def greys(
    panels: Array,
    tops: Sequence[float],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
) -> Figure:
    """Images (row, column, y, x), logarithmic, five decades from each row's top."""
    size = (PANEL_INCH * len(columns), PANEL_INCH * len(rows) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, top in enumerate(tops):
        for column, image in enumerate(panels[row]):
            axes = grid[row, column]
            faint = np.log10(np.clip(image / top, 1e-5, None))
            axes.imshow(faint, cmap="gray", vmin=-5, vmax=0, origin="lower")
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(columns[column])
            if column == 0:
                axes.set_ylabel(rows[row])
    return figure


def placed_figure(images: Array, distances_mpc: Sequence[float], bands: str, title: str) -> Figure:
    """One galaxy at several distances, a row a band, logarithmic grey (paper, figure 2).

    Parameters
    ----------
    images : ndarray, (distance, band, y, x)
        Placed images, W/m/m^2/sr.
    distances_mpc : sequence of float
        Distance of each image, Mpc.
    bands : str
        One letter a band.
    title : str
        Names the galaxy and its source.
    """
    rows = images.swapaxes(0, 1)
    columns = [f"{distance:g} Mpc" for distance in distances_mpc]
    return greys(rows, [float(row.max()) for row in rows], bands, columns, title)


@dataclass(frozen=True)
class Portrait:
    """A galaxy to draw.

    Attributes
    ----------
    title : str
        Drawn above it.
    images : ndarray, (band, y, x)
        Surface brightness, W/m/m^2/sr.
    bands : sequence of str
        SDSS bands, in order.
    pixel_arcsec, pixel_kpc : float
        Pixel scale, arcsec and kpc; NaN where unknown.
    """

    title: str
    images: Array
    bands: Sequence[str]
    pixel_arcsec: float
    pixel_kpc: float


def thumbnail(portraits: Sequence[Portrait]) -> Figure:
    """Draw a row a galaxy: in colour if it has g, r and i, then each band in grey.

    All panels share one arcsinh stretch in surface brightness, so that galaxies can be compared.
    Files of a single band are drawn side by side.
    """
    panels = [_panels(portrait) for portrait in portraits]
    most = max(len(row) for row in panels)
    columns = most if most > 1 else min(len(panels), PANELS_A_ROW)
    rows = -(-len(panels) * most // columns)
    height = (PANEL_INCH + TITLE_INCH) * rows + TITLE_INCH
    figure = Figure(figsize=(PANEL_INCH * columns, height))
    figure.subplots_adjust(0.01, TITLE_INCH / height, 0.99, 1 - TITLE_INCH / height, 0.03, 0.14)
    figure.text(0.01, 0.3 * TITLE_INCH / height, CAPTION, fontsize=7)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (portrait, row) in enumerate(zip(portraits, panels, strict=True)):
        first = grid.flat[number * most]
        first.set_title(portrait.title, loc="left", fontsize=7)
        for axes, (name, image) in zip(grid.flat[number * most :], row.items(), strict=False):
            axes.imshow(image, cmap="gray", vmin=BLACK, vmax=1, origin="lower")
            axes.text(0.04, 0.96, name, color="white", va="top", transform=axes.transAxes)
        _scale_bar(first, portrait)
    return figure


def _panels(portrait: Portrait) -> dict[str, Array]:
    """Panels of one galaxy by name: grey (y, x), or colour (y, x, 3), with white at 1."""
    bright = {
        band: image / surface_brightness(SOFT_MAG_ARCSEC2, band)
        for band, image in zip(portrait.bands, portrait.images, strict=True)
    }
    white = 10 ** (0.4 * (SOFT_MAG_ARCSEC2 - WHITE_MAG_ARCSEC2))
    panels = {}
    if bright.keys() >= RED_GREEN_BLUE.keys():
        # Lupton et al. (2004, PASP 116, 133): 0.1 asinh(Q I / stretch) / asinh(0.1 Q)
        Q = 10 * np.sinh(0.1 * np.arcsinh(white))
        with np.errstate(invalid="ignore"):  # 0 / 0 where all three are dark
            rgb = make_lupton_rgb(
                *(weight * bright[band] for band, weight in RED_GREEN_BLUE.items()), stretch=Q, Q=Q
            )
        panels["gri"] = rgb / 255
    return panels | {band: np.arcsinh(x) / np.arcsinh(white) for band, x in bright.items()}


def _scale_bar(axes: Axes, portrait: Portrait) -> None:
    """Draw a bar of a round length, at most a quarter of the image, labelled in both units."""
    scales = {
        unit: scale
        for unit, scale in ((" kpc", portrait.pixel_kpc), (" arcsec", portrait.pixel_arcsec))
        if np.isfinite(scale)
    }
    if not scales:
        return
    height, width = portrait.images.shape[-2:]
    longest = next(iter(scales.values())) * width / 4
    power = 10.0 ** np.floor(np.log10(longest))
    length = power * max(step for step in (1, 2, 5) if step * power <= longest)
    pixels = length / next(iter(scales.values()))
    words = " = ".join(f"{pixels * scale:.3g}{unit}" for unit, scale in scales.items())
    left = 0.04 * width
    axes.plot([left, left + pixels], [0.05 * height] * 2, color="white")
    axes.text(left, 0.08 * height, words, color="white", fontsize=8)
