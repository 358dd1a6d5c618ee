"""Pictures in the manner of the paper's figures 1 to 5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from astropy.visualization import make_lupton_rgb
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from peculiar.bands import surface_brightness
from peculiar.metrics import bootstrap_rows, line_of_best_fit

matplotlib.use("Agg")  # no screen on a cluster node

Array = NDArray[np.floating]
PANEL_INCH = 1.9
TITLE_INCH = 0.25
PANELS_A_ROW = 6  # of files with a single band
RED_GREEN_BLUE = {"i": 4.9 / 5.7, "r": 1.0, "g": 7.8 / 5.7}  # weights of SDSS' own pictures
SOFT_MAG_ARCSEC2 = 25.5  # thumbnails are linear in flux below this, logarithmic above
WHITE_MAG_ARCSEC2 = 18.5  # and saturate here
BLACK = -0.12  # below the sky, so that noise shows with both signs
PIT_BINS = 10
CALIBRATION_SAMPLES = 200
CAPTION = f"camera 0; asinh of surface brightness, white at {WHITE_MAG_ARCSEC2} AB mag/arcsec$^2$"


def history_figure(history: Sequence[Mapping[str, float]], title: str) -> Figure:
    """L2 loss on the labels against the epoch, for training and validation."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="L2 on the label [Mpc]", title=title)
    epochs = [row["epoch"] for row in history]
    for name, label in (("train_l2_mpc", "train"), ("validation_l2_mpc", "validation")):
        axes.plot(epochs, [row[name] for row in history], marker=".", label=label)
    axes.legend()
    return figure


def _scatter(axes: Axes, x: Array, y: Array) -> None:
    axes.scatter(x, y, s=4, color="tab:blue", alpha=0.5, linewidths=0, rasterized=True)
    low, high = float(np.min(x)), float(np.max(x))
    axes.plot([low, high], [low, high], color="red", label="perfect")


def distances_figure(predicted: Mapping[str, Array], title: str) -> Figure:
    """Predicted against true distance (paper, figure 3)."""
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="D [Mpc]", ylabel="$D_p$ [Mpc]", title=title)
    _scatter(axes, predicted["D_mpc"], predicted["D_p_mpc"])
    axes.legend()
    return figure


def redshift_distances_figure(
    predicted: Mapping[str, Array], sigma_z_mpc: float, title: str
) -> Figure:
    """Predicted distance against D_z and against D, with 3 sigma_v / H0 lines (paper, figure 4)."""
    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, name, label in ((left, "D_z_mpc", "$D_z$ [Mpc]"), (right, "D_mpc", "D [Mpc]")):
        _scatter(axes, predicted[name], predicted["D_p_mpc"])
        ends = np.array([np.min(predicted[name]), np.max(predicted[name])])
        for shift in (-3 * sigma_z_mpc, 3 * sigma_z_mpc):
            axes.plot(ends, ends + shift, color="orange")
        axes.set_xlabel(label)
    left.set_ylabel("$D_p$ [Mpc]")
    return figure


def velocities_figure(predicted: Mapping[str, Array], title: str) -> Figure:
    """Predicted against true peculiar velocity, raw (paper, figure 5) and as posterior."""
    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    figure.suptitle(title)
    panels = (("v_p_kms", "$v_p = H_0 (D_z - D_p)$ [km/s]"), ("v_hat_kms", "posterior mean [km/s]"))
    for axes, (name, label) in zip(figure.subplots(1, 2), panels, strict=True):
        v = predicted["v_kms"]
        _scatter(axes, v, predicted[name])
        slope, intercept = line_of_best_fit(v, predicted[name])
        ends = np.array([np.min(v), np.max(v)])
        axes.plot(ends, slope * ends + intercept, color="orange", label="best fit")
        axes.set(xlabel="v [km/s]", ylabel=label)
        axes.legend()
    return figure


def calibration_figure(predicted: Mapping[str, Array], title: str) -> Figure:
    """Whether stated errors are true: PIT histogram, and fraction within each central interval.

    The first is flat, and the second on the diagonal, for a calibrated posterior. Error bars and
    grey are deviations of bootstrap samples of whole galaxies.
    """
    level = np.linspace(0, 1, 51)

    def measured(pit: Array) -> tuple[Array, Array]:
        density, _ = np.histogram(pit, PIT_BINS, (0, 1), density=True)
        within = np.searchsorted(np.sort(np.abs(2 * pit - 1)), level, side="right") / len(pit)
        return density, within

    pit, galaxy = predicted["pit"], predicted["galaxy"].astype(np.int64)
    rows = bootstrap_rows(galaxy, CALIBRATION_SAMPLES, np.random.default_rng(0))
    samples = zip(*(measured(pit[sample]) for sample in rows), strict=True)
    density_error, within_error = (np.std(sample, axis=0, ddof=1) for sample in samples)
    density, within = measured(pit)
    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    middle = (np.arange(PIT_BINS) + 0.5) / PIT_BINS
    left.bar(middle, density, 1 / PIT_BINS, yerr=density_error, color="tab:blue", alpha=0.6)
    left.axhline(1, color="red")
    left.set(xlabel="posterior probability of less than v", ylabel="density", xlim=(0, 1))
    right.fill_between(level, within - within_error, within + within_error, color="grey", alpha=0.4)
    right.plot([0, 1], [0, 1], color="red", label="perfect")
    right.plot(level, within, color="tab:blue", label="measured")
    right.set(xlabel="stated probability", ylabel="fraction within", xlim=(0, 1), ylim=(0, 1))
    right.legend()
    return figure


def _greys(
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


def cameras_figure(images: Array, bands: str, title: str) -> Figure:
    """Raw images of one galaxy, a row a camera and a column a band (paper, figure 1).

    Parameters
    ----------
    images : ndarray, (camera, band, y, x)
        Surface brightness, W/m/m^2/sr.
    bands : str
        One letter a band.
    title : str
        What is shown and where it comes from.
    """
    cameras = [f"CAM{camera}" for camera in range(len(images))]
    return _greys(images, [float(images.max())] * len(images), cameras, bands, title)


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
        What is shown and where it comes from.
    """
    rows = images.swapaxes(0, 1)
    columns = [f"{distance:g} Mpc" for distance in distances_mpc]
    return _greys(rows, [float(row.max()) for row in rows], bands, columns, title)


@dataclass(frozen=True)
class Portrait:
    """One galaxy to draw.

    Attributes
    ----------
    title : str
        What stands above it.
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
    """Galaxies in a row each: the colours of g, r, i where they are there, and each band in grey.

    All panels have the same stretch, that of the arcsinh of surface brightness, so that galaxies
    can be compared. Files of a single band stand side by side.
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
    """Pictures of one galaxy by name: grey (y, x), or colour (y, x, 3) from 0 to 1; white is 1."""
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
    """A bar of a round length, up to a quarter of the image, with its length in both units."""
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
