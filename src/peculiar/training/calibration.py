"""Calibrate p(D | image) by one number, the sharpness of the likelihood.

The sharpness is an exponent of the likelihood, the inverse of a temperature (Guo et al. 2017). At 0
the output is the prior p(D) for every image, and velocities are E[v | D_z], on average no worse
than v = 0. It is fitted to labels of images that the network was not trained on: those of the
validation split, or by cross-fitting (`peculiar.training.train`) all of training and validation.
docs/decisions/0038 compares estimators.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

from peculiar.core.dataset import Observed
from peculiar.core.device import best_device
from peculiar.core.errors import InputError
from peculiar.networks.heads import DistributionNetwork, Network
from peculiar.networks.inference import Scaled, in_pieces, load_images
from peculiar.training.loader import Shared
from peculiar.training.predictions import column_mpc

SHARPEST = 4.0  # greatest sharpness, which halves the width of a likelihood
STEP = 0.05  # of the derivatives of the loss, relative to the sharpness
LABELS = {"D": "distance_mpc", "D_z": "distance_z_mpc"}
Splits = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows to learn from, and to validate on


@dataclass(frozen=True)
class Sharpness:
    """A fitted sharpness.

    Attributes
    ----------
    value : float
        Sharpness, from 0 to `SHARPEST`.
    error : float
        Its standard error; NaN where the loss has no minimum, as at 0 and for a diverged network.
    galaxies : int
        Number of galaxies to whose labels it was fitted.
    """

    value: float
    error: float
    galaxies: int

    def __str__(self) -> str:
        return f"sharpness {self.value:.3f} ± {self.error:.3f} from {self.galaxies} galaxies"


@dataclass(frozen=True)
class HeldOut:
    """Raw numbers of images on which their networks were not trained.

    Attributes
    ----------
    raw : Tensor, (member, n, r)
        Raw numbers, in the order of `rows`; see `DistributionNetwork.raw`.
    rows : ndarray of int, (n,)
        Row numbers of the images.
    """

    raw: Tensor
    rows: NDArray[np.int64]


def raw_numbers(
    network: DistributionNetwork, scaled: Scaled, rows: NDArray[np.integer], device: torch.device
) -> Tensor:
    """Raw numbers (member, n, r), float64, of a network for the front's output of images."""
    network.eval()
    raw = in_pieces(lambda piece: network.raw(scaled(piece)).movedim(0, 1), rows, device)
    return torch.tensor(raw, device=device).movedim(1, 0)


def calibrate_sharpness(
    network: DistributionNetwork, observed: Observed, label: str, held_out: HeldOut | None = None
) -> Sharpness:
    """Set the sharpness for which the labels of held-out images are most probable.

    The result is never worse than the prior on these labels.

    Parameters
    ----------
    network : DistributionNetwork
        Its head's `sharpness` is set, from 0 to `SHARPEST`.
    observed : Observed
        Dataset.
    label : {"D", "D_z"}
        Label of the training.
    held_out : HeldOut, optional
        From cross-fitting; by default what the network itself gives for the validation split.

    Returns
    -------
    Sharpness
        The number that was set, and its error over galaxies.
    """
    device, head = best_device(), network.to(best_device()).head
    if held_out is None:
        rows = observed.rows("validation")

        def scaled(piece: NDArray[np.integer]) -> Tensor:
            out: Tensor = network.front(load_images(observed.images, piece, device))
            return out

        held_out = HeldOut(raw_numbers(network, scaled, rows, device), rows)
    raw = held_out.raw.to(device)
    labels = torch.tensor(column_mpc(observed, LABELS[label])[held_out.rows], device=device)
    galaxy = np.asarray(observed.table["galaxy"])[held_out.rows]

    def losses(sharpness: float) -> NDArray[np.float64]:
        head.sharpness.fill_(sharpness)
        out = head.loss(network.mean_probability(raw).log(), labels)
        return np.asarray(out.double().numpy(force=True))

    def loss(sharpness: float) -> float:
        return float(losses(sharpness).mean())

    best = float(minimize_scalar(loss, bounds=(0, SHARPEST), method="bounded").x)
    best = best if loss(best) < loss(0.0) else 0.0
    step = max(STEP * best, 1e-3)
    error = nan
    if step < best < SHARPEST - step:
        error = sandwich_error(
            np.stack([losses(best + k * step) for k in (-1, 0, 1)]), step, galaxy
        )
    head.sharpness.fill_(best)
    return Sharpness(best, error, len(np.unique(galaxy)))


def sandwich_error(losses: NDArray[np.float64], step: float, galaxy: NDArray[np.integer]) -> float:
    """Compute the standard error of a parameter that minimises a sum of losses.

    This is the sandwich of White (1982, Econometrica 50, 1) with sums over galaxies, whose images
    are correlated: sqrt(sum over galaxies of (sum of first derivatives)^2) / sum of second ones.
    It holds for a misspecified likelihood as well.

    Parameters
    ----------
    losses : ndarray, (3, n)
        Losses with the parameter one step below the minimum, at it, and one step above.
    step : float
        Step.
    galaxy : ndarray, (n,)
        Galaxy of each loss.

    Returns
    -------
    float
        Standard error, in the unit of `step`; NaN where the loss is not convex or not finite.
    """
    below, at, above = losses
    curvature = float((above - 2 * at + below).sum()) / step**2
    if not curvature > 0:
        return nan
    _, number = np.unique(galaxy, return_inverse=True)
    slopes = np.bincount(number, weights=(above - below) / (2 * step))
    return float(np.sqrt((slopes**2).sum()) / curvature)


def rows_of_folds(
    observed: Observed, folds: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Divide the galaxies of training and validation into folds of nearly equal numbers.

    Parameters
    ----------
    observed : Observed
        Dataset.
    folds : int
        Number of folds, 0 for none.
    rng : numpy.random.Generator
        Shuffles the galaxies.

    Returns
    -------
    list of ndarray of int
        Row numbers of the images of each fold, rising; images of one galaxy share a fold.

    Raises
    ------
    InputError
        When there are fewer galaxies than folds.
    """
    if not folds:
        return []
    rows = np.sort(np.concatenate([observed.rows("train"), observed.rows("validation")]))
    galaxies, number = np.unique(np.asarray(observed.table["galaxy"])[rows], return_inverse=True)
    if len(galaxies) < folds:
        raise InputError(
            f"params.yaml: train: calibration_folds {folds} is more than the {len(galaxies)} "
            f"galaxies that dataset {observed.survey.dataset} has to train and validate: lower it"
        )
    fold_of = rng.permutation(len(galaxies)) % folds
    return [rows[fold_of[number] == fold] for fold in range(folds)]


def cross_fit(
    train_on: Callable[..., Network],
    shared: Shared,
    folds: list[NDArray[np.int64]],
    seeds: list[int],
) -> HeldOut:
    """Train a network for each fold on the others, and collect raw numbers for its images.

    Parameters
    ----------
    train_on : callable
        Trains a distribution network; takes `seed` and `rows`, of type `Splits`.
    shared : Shared
        Has the front's output for the images of all folds.
    folds : list of ndarray of int
        From `rows_of_folds`.
    seeds : list of int
        Seed of each fold's network.

    Returns
    -------
    HeldOut
    """
    raw = []
    for held, seed in zip(folds, seeds, strict=True):
        others = np.sort(np.concatenate([rows for rows in folds if rows is not held]))
        network = train_on(seed=seed, rows=(others, held))
        assert isinstance(network, DistributionNetwork)
        assert shared.scaled is not None
        raw.append(raw_numbers(network, shared.scaled, held, best_device()))
    return HeldOut(torch.cat(raw, dim=1), np.concatenate(folds))


def joined(members: list[HeldOut]) -> HeldOut | None:
    """Raw numbers of an ensemble from those of its members on the same rows; None for none."""
    if not members:
        return None
    return HeldOut(torch.cat([member.raw for member in members]), members[0].rows)
