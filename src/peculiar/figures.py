"""Pictures in the manner of the paper's figures 2 to 5."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from peculiar.metrics import line_of_best_fit

matplotlib.use("Agg")  # no screen on a cluster node

Array = NDArray[np.floating]


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
    size = (1.9 * len(distances_mpc), 1.9 * len(bands) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(bands), len(distances_mpc), squeeze=False)
    for row, band in enumerate(bands):
        top = float(images[:, row].max())
        for column, distance in enumerate(distances_mpc):
            axes = grid[row, column]
            faint = np.log10(np.clip(images[column, row] / top, 1e-5, None))
            axes.imshow(faint, cmap="gray", vmin=-5, vmax=0, origin="lower")
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(f"{distance:g} Mpc")
            if column == 0:
                axes.set_ylabel(band)
    return figure
