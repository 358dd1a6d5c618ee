"""Figures of a study: those of Optuna, drawn with matplotlib."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import optuna.visualization.matplotlib as drawings
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from peculiar.search.storage import Study

MOST = 6  # parameters in a picture


def shared_parameters(study: Study) -> list[str]:
    """Parameters that all complete trials have and that vary."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not trials:
        return []
    shared = set.intersection(*(set(trial.params) for trial in trials))
    varied = {name for name in shared if len({trial.params[name] for trial in trials}) > 1}
    ordered = [name for name in trials[0].params if name in varied]
    return sorted(ordered, key=lambda name: name[-1].isdigit())[:MOST]  # those of layers last


def draw_study(study: Study, folder: Path) -> list[Path]:
    """Draw history, timeline, slice, contour, parallel coordinates, importances, and Pareto front.

    Figures that need more trials or parameters than there are, are left out. The Pareto front
    needs two objectives.

    Parameters
    ----------
    study : Study
        With finished trials.
    folder : Path
        Where the PNG files go.

    Returns
    -------
    list of Path
        Files that were written.
    """
    several = len(study.directions) > 1
    shared = shared_parameters(study)
    target: dict[str, Any] = {}
    if several:
        target = {"target": lambda trial: trial.values[0], "target_name": "L2 [Mpc]"}
    else:
        target = {"target_name": "L2 [Mpc]"}
    pictures: dict[str, Callable[[], Any]] = {
        "history": lambda: drawings.plot_optimization_history(study, **target),
        "timeline": lambda: drawings.plot_timeline(study),
    }
    if shared:
        pictures |= {
            "slice": lambda: drawings.plot_slice(study, params=shared, **target),
            "parallel_coordinates": lambda: drawings.plot_parallel_coordinate(
                study, params=shared, **target
            ),
            "importances": lambda: drawings.plot_param_importances(study, params=shared, **target),
        }
    if len(shared) > 1:
        pictures["contour"] = lambda: drawings.plot_contour(study, params=shared[:2], **target)
    if several:
        names = ["L2 [Mpc]", "second objective"]
        pictures["pareto"] = lambda: drawings.plot_pareto_front(study, target_names=names)
    folder.mkdir(exist_ok=True)
    return [
        path
        for name, picture in pictures.items()
        if (path := _save(picture, folder / f"{name}.png")) is not None
    ]


def _save(picture: Callable[[], Any], path: Path) -> Path | None:
    """Draw and write one figure; None if Optuna has too few trials for it."""
    with plt.style.context("default"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # of layouts, and of axes without a span
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            axes = np.ravel(picture())
        except (ValueError, RuntimeError):  # all values the same, or a single trial
            plt.close("all")
            return None
        figure = axes[0].get_figure()
        figure.set_size_inches(max(7, 3 * len(axes) ** 0.5 * 1.5), max(4.5, 2 * len(axes) ** 0.5))
        figure.savefig(path, dpi=100, bbox_inches="tight")
        plt.close("all")
    return path
