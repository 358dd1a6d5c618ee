"""Pictures of a training: its curves, and distances predicted against true ones."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

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
