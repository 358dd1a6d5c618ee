"""The head of a network that gives p(D | image), learned from redshifts.

A survey measures D_z = cz / H0 = D + v / H0 of a galaxy, not D. A network for p(D | image) implies
p(D_z | image) = sum over D of p(D | image) N(D_z; D, sigma_v / H0). Training on its logarithm makes
p(D | image) the distribution of D rather than of D_z, which is wider. (For a Gaussian p with mean
mu and deviation s, the sum is N(D_z; mu, s^2 + (sigma_v / H0)^2).)

The prior on D stands outside of what is learnt, and can be replaced at any time
(`DistanceHead.set_prior`). Which prior is in force when: docs/decisions/0037.
"""

from dataclasses import dataclass
from math import log, pi
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from peculiar.networks.params import Head

NEVER = -1e9  # logarithm of the probability of a distance at which there are no galaxies


@dataclass(frozen=True)
class Prior:
    """Prior of the distances on a grid.

    Attributes
    ----------
    grid_mpc : ndarray, (G,)
        Equally spaced distances, Mpc.
    p : ndarray, (G,)
        Their probabilities, which sum to one; zero where there are no galaxies.
    label_error_mpc : float
        Standard deviation of the labels about the true distances, Mpc: sigma_v / H0 for D_z.
    """

    grid_mpc: NDArray[np.float64]
    p: NDArray[np.float64]
    label_error_mpc: float


class DistanceHead(nn.Module):
    """Raw numbers of a network to p(D | image) on a grid: L(image | D)^sharpness times the prior.

    The network predicts only the likelihood L, which reaches beyond the training distances. The
    prior is kept apart and can be replaced: here, or later (`peculiar.velocity.posterior`).

    Parameters
    ----------
    kind : {"gaussian", "binned"}
        log L a parabola in D, of two raw numbers, or one raw number for each distance of the grid.
        Outside the training distances a parabola continues; bins learn nothing there, so their
        grid should end there.
    prior : Prior
        Distances and their probabilities. Raw numbers are in units of the range where it is not
        zero, from its middle.
    """

    grid_mpc: Tensor
    log_prior: Tensor
    label_error_mpc: Tensor
    sharpness: Tensor
    middle_mpc: Tensor
    half_mpc: Tensor

    def __init__(self, kind: Head, prior: Prior):
        super().__init__()
        self.kind = kind
        self.raw_numbers = 2 if kind == "gaussian" else len(prior.p)
        self.register_buffer("grid_mpc", torch.tensor(prior.grid_mpc, dtype=torch.float32))
        self.register_buffer("log_prior", _log(prior.p))
        self.register_buffer("label_error_mpc", torch.tensor(prior.label_error_mpc))
        # 1 in training, then calibrated; at 0 only the prior is left
        self.register_buffer("sharpness", torch.tensor(1.0))
        within = self.grid_mpc[torch.from_numpy(prior.p > 0)]
        self.register_buffer("middle_mpc", (within[0] + within[-1]) / 2)
        self.register_buffer("half_mpc", (within[-1] - within[0]) / 2)
        self.register_load_state_dict_pre_hook(  # type: ignore[no-untyped-call]
            _scale_of_older_weights
        )

    def set_prior(self, p: NDArray[np.float64] | None) -> None:
        """Replace the prior by probabilities (G,), or None for a flat one."""
        flat = np.full(len(self.log_prior), 1 / len(self.log_prior))
        self.log_prior.copy_(_log(flat if p is None else p))

    def log_likelihood(self, raw: Tensor) -> Tensor:
        """Log L(image | D), (n, G), up to a constant for each image, of raw numbers."""
        if self.kind == "binned":
            return raw
        mean = self.middle_mpc + self.half_mpc * raw[:, :1]
        # starts near the prior; never narrower than a cell of the grid
        deviation = self.grid_mpc[1] - self.grid_mpc[0] + self.half_mpc * softplus(raw[:, 1:])
        out: Tensor = -0.5 * ((self.grid_mpc - mean) / deviation).square()
        return out

    def forward(self, raw: Tensor) -> Tensor:
        """Log p(D | image), (n, G), whose exponentials sum to one, of raw numbers (n, r)."""
        return self.mixed(raw[None])

    def mixed(self, raw: Tensor) -> Tensor:
        """Log p(D | image), (n, G), of members' raw numbers (member, n, r).

        p is the mean of the members' p under a flat prior, times the prior. So p under another
        prior follows from p alone.
        """
        likelihood = self.log_likelihood(raw.flatten(0, 1))
        likelihood = likelihood.reshape(len(raw), -1, len(self.grid_mpc))
        flat = (self.sharpness * likelihood).log_softmax(dim=-1)
        out: Tensor = (flat.logsumexp(dim=0) + self.log_prior).log_softmax(dim=-1)
        return out

    def loss(self, log_p: Tensor, labels_mpc: Tensor) -> Tensor:
        """-log p(label | image), (n,), nats for a density in 1/Mpc; `log_p` (n, G)."""
        z = (labels_mpc[:, None] - self.grid_mpc) / self.label_error_mpc
        norm = self.label_error_mpc.log() + 0.5 * log(2 * pi)
        return norm - (log_p - 0.5 * z.square()).logsumexp(dim=-1)


def _log(p: NDArray[np.float64]) -> Tensor:
    """Logarithm of probabilities, `NEVER` at zero: infinity has no gradient."""
    return torch.tensor(np.where(p > 0, np.log(np.where(p > 0, p, 1)), NEVER), dtype=torch.float32)


def _scale_of_older_weights(
    _module: nn.Module, weights: dict[str, Any], prefix: str, *_: object
) -> None:
    """Weights from before 2026-11-26 had the scale of their grid."""
    if f"{prefix}middle_mpc" not in weights and f"{prefix}grid_mpc" in weights:
        grid = weights[f"{prefix}grid_mpc"]
        weights[f"{prefix}middle_mpc"] = (grid[0] + grid[-1]) / 2
        weights[f"{prefix}half_mpc"] = (grid[-1] - grid[0]) / 2
