"""Figures of one network: its training, and its predictions as in the paper's figures 3 to 5.

`predicted` has the columns of `peculiar.training.predictions.prediction_columns`, one row per
image.
"""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from peculiar.velocity.metrics import bootstrap_rows, line_of_best_fit

matplotlib.use("Agg")  # no screen on a cluster node

Array = NDArray[np.floating]
PIT_BINS = 10
CALIBRATION_SAMPLES = 200


def _scatter(axes: Axes, x: Array, y: Array) -> None:
    """Draw points and the line y = x."""
    axes.scatter(x, y, s=4, color="tab:blue", alpha=0.5, linewidths=0, rasterized=True)
    low, high = float(np.min(x)), float(np.max(x))
    axes.plot([low, high], [low, high], color="red", label="perfect")


def history_figure(history: Mapping[str, Array], title: str) -> Figure:
    """Plot the rms error on the labels against epoch, for training and validation.

    Parameters
    ----------
    history : mapping of str to ndarray, (epoch,)
        Columns `epoch`, `train_l2_mpc` and `validation_l2_mpc`.
    title : str
        Title of the figure.
    """
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="L2 on the label [Mpc]", title=title)
    for name, label in (("train_l2_mpc", "train"), ("validation_l2_mpc", "validation")):
        axes.plot(history["epoch"], history[name], marker=".", label=label)
    axes.legend()
    return figure


def distances_figure(predicted: Mapping[str, Array], title: str) -> Figure:
    """Plot predicted against true distance (paper, figure 3)."""
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="D [Mpc]", ylabel="$D_p$ [Mpc]", title=title)
    _scatter(axes, predicted["D_mpc"], predicted["D_p_mpc"])
    axes.legend()
    return figure


def redshift_distances_figure(
    predicted: Mapping[str, Array], sigma_z_mpc: float, title: str
) -> Figure:
    """Plot predicted distance against D_z = cz/H0 and against D (paper, figure 4).

    Orange lines are 3 sigma_v / H0 above and below y = x; `sigma_z_mpc` is sigma_v / H0, Mpc.
    """
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
    """Plot H0 (D_z - D_p) (paper, figure 5) and the posterior mean against true velocity."""
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
    """Plot the calibration of velocity posteriors: PIT histogram, coverage of central intervals.

    The PIT (probability integral transform) is the posterior probability of a velocity below the
    true one. A calibrated posterior has a flat histogram and a coverage on the diagonal. Error bars
    and the grey band are standard deviations over bootstrap samples of galaxies.
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
