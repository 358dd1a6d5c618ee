"""Find the bulk flow, and integrate over the deviation of velocities about it.

The flow is the mean of its probability given all redshifts: the peak and curvature of
`peculiar.flow.likelihood` for each sigma_v (Laplace's approximation), and a sum over sigma_v.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.flow.likelihood import Galaxies, given_redshift, log_likelihood

Array = NDArray[np.float64]
SIGMA_V_KMS = (100.0, 1000.0)  # range of sigma_v where it is not given
NODES, LIKELY = 9, 8.0  # of the integral over sigma_v, down to exp(-LIKELY) of its peak
LIMIT = 0.9  # of the greatest sigma_v: it is at its limit
SCALE = np.array([100.0, 100.0, 100.0, 0.01])  # of V, km/s, and s: steps of the search
FEW = 1e-9  # of the largest eigenvalue: a direction without information


@dataclass(frozen=True)
class Flow:
    """Bulk flow and zero point.

    Attributes
    ----------
    V_kms : ndarray, (3,)
        Bulk flow, km/s.
    zero_point : float
        Fraction by which all distances are too small.
    covariance : ndarray, (4, 4)
        Of V, km/s, and the zero point.
    sigma_v_kms, sigma_v_error_kms : float
        Deviation of velocities about the flow, km/s, and its own; NaN if it was given.
    depth_mpc : float
        Mean distance of the galaxies, each weighted by what it says of the flow, Mpc.
    number : int
        Galaxies.
    """

    V_kms: Array
    zero_point: float
    covariance: Array
    sigma_v_kms: float
    sigma_v_error_kms: float
    depth_mpc: float
    number: int

    @property
    def sigma_v_at_limit(self) -> bool:
        """Whether sigma_v seems to be above all that are tried, so that no error holds."""
        return self.sigma_v_kms > LIMIT * SIGMA_V_KMS[1] and np.isfinite(self.sigma_v_error_kms)

    @property
    def speed_kms(self) -> float:
        """Length of V, km/s. Errors of V add to it: it is about `noise_kms` where there is none."""
        return float(np.linalg.norm(self.V_kms))

    @property
    def speed_error_kms(self) -> float:
        """Standard deviation of V along its direction, km/s."""
        along = self.V_kms / max(self.speed_kms, 1e-300)
        return float(np.sqrt(along @ self.covariance[:3, :3] @ along))

    @property
    def noise_kms(self) -> float:
        """The speed that errors alone give: root mean square, km/s."""
        return float(np.sqrt(np.trace(self.covariance[:3, :3])))

    @property
    def chance(self) -> float:
        """Probability that galaxies without a flow give one at least as significant."""
        from scipy.stats import chi2

        squared = self.V_kms @ np.linalg.solve(self.covariance[:3, :3], self.V_kms)
        return float(chi2.sf(squared, 3))


def fit_flow(
    samples: Sequence[Galaxies], H0_kms_mpc: float, sigma_v_kms: float | None = None
) -> Flow:
    """Find the bulk flow of galaxies.

    Parameters
    ----------
    samples : sequence of Galaxies
        All galaxies, in one or more groups.
    H0_kms_mpc : float
        Hubble constant, km/s/Mpc.
    sigma_v_kms : float, optional
        Deviation of velocities about the flow, km/s; by default it is integrated over, flat in its
        logarithm from 100 to 1000 km/s.

    Returns
    -------
    Flow
        Mean and covariance of V and the zero point.

    Raises
    ------
    InputError
        When the galaxies do not determine a flow: too few of them, in too small a part of the sky.
    """
    pieces = [piece for sample in samples for piece in sample.pieces()]
    number = sum(len(piece.X_mpc) for piece in pieces)
    few = f"{number} galaxies do not determine a flow: give more, over more of the sky"
    if number < 5:
        raise InputError(few)
    search = _Search(pieces, H0_kms_mpc, few)
    if sigma_v_kms:
        nodes, tried = np.array([sigma_v_kms]), [search.at(sigma_v_kms)]
    else:
        nodes, tried = _over_sigma_v(search)
    evidence = np.array([one.evidence for one in tried])
    weight = np.exp(evidence - evidence.max())
    weight /= weight.sum()
    means = np.array([one.flow for one in tried])
    mean, sigma = weight @ means, float(weight @ nodes)
    covariance = np.einsum("k,kij->ij", weight, np.array([one.covariance for one in tried]))
    covariance += np.einsum("k,ki,kj->ij", weight, means - mean, means - mean)
    deviation = float(np.sqrt(weight @ (nodes - sigma) ** 2))
    return Flow(
        V_kms=mean[:3],
        zero_point=float(mean[3]),
        covariance=covariance,
        sigma_v_kms=sigma,
        sigma_v_error_kms=float("nan") if sigma_v_kms else deviation,
        depth_mpc=_depth(pieces, H0_kms_mpc, sigma, mean),
        number=number,
    )


@dataclass(frozen=True)
class _Tried:
    """Flow (4,) and covariance (4, 4) for one sigma_v, and the evidence for that sigma_v."""

    flow: Array
    covariance: Array
    evidence: float


@dataclass
class _Search:
    """Finds the flow for one sigma_v, from that of the last; refuses with a sentence."""

    pieces: Sequence[Galaxies]
    H0_kms_mpc: float
    few: str
    last: Array = field(default_factory=lambda: np.zeros(4))

    def at(self, sigma_v_kms: float) -> _Tried:
        flow, value, curvature = _highest(self.pieces, self.H0_kms_mpc, sigma_v_kms, self.last)
        strengths = np.linalg.eigvalsh(curvature * np.outer(SCALE, SCALE))
        if strengths[0] <= FEW * strengths[-1]:
            raise InputError(self.few)
        self.last = flow
        # Laplace's approximation of the integral over the flow
        evidence = value - float(np.linalg.slogdet(curvature)[1]) / 2
        return _Tried(flow, np.asarray(np.linalg.inv(curvature), dtype=float), evidence)


def _over_sigma_v(search: _Search) -> tuple[Array, list[_Tried]]:
    """Values of sigma_v (NODES,), km/s, evenly spaced in its logarithm where it is likely."""
    low, high = SIGMA_V_KMS
    while True:
        nodes = np.geomspace(low, high, NODES)
        tried = [search.at(sigma) for sigma in nodes]
        evidence = np.array([one.evidence for one in tried])
        likely = np.flatnonzero(evidence > evidence.max() - LIKELY)
        first, last = max(likely[0] - 1, 0), min(likely[-1] + 1, NODES - 1)
        if last - first >= NODES - 3:  # steps of at most 1.5 deviations
            return nodes, tried
        low, high = nodes[first], nodes[last]


def _highest(
    pieces: Sequence[Galaxies], H0_kms_mpc: float, sigma_v_kms: float, start: Array
) -> tuple[Array, float, Array]:
    """The most likely flow (4,), the logarithm of its likelihood, and minus its Hessian (4, 4)."""
    from scipy.optimize import minimize  # a fifth of a second to import

    found: dict[bytes, tuple[float, Array, Array]] = {}

    def at(scaled: Array) -> tuple[float, Array, Array]:
        key = scaled.tobytes()
        if key not in found:
            found.clear()
            each = [
                log_likelihood(piece, H0_kms_mpc, sigma_v_kms, scaled * SCALE) for piece in pieces
            ]
            value, gradient, hessian = (reduce(add, parts) for parts in zip(*each, strict=True))
            found[key] = -value, -gradient * SCALE, -hessian * np.outer(SCALE, SCALE)
        return found[key]

    def part(k: int) -> Callable[[Array], object]:
        return lambda scaled: at(scaled)[k]

    done = minimize(part(0), start / SCALE, jac=part(1), hess=part(2), method="trust-exact")
    value, _, hessian = at(done.x)
    return done.x * SCALE, -value, hessian / np.outer(SCALE, SCALE)


def _depth(pieces: Sequence[Galaxies], H0_kms_mpc: float, sigma_v_kms: float, flow: Array) -> float:
    """Mean of x, Mpc, weighted by minus the second derivative by the velocity of each galaxy."""
    total = np.zeros(2)
    for piece in pieces:
        q, a, _ = given_redshift(piece, H0_kms_mpc, sigma_v_kms, flow)
        variance = piece.X_error_mpc**2 + (sigma_v_kms / H0_kms_mpc) ** 2
        spread = np.einsum("ng,ng->n", q, a**2) - np.einsum("ng,ng->n", q, a) ** 2
        weight = np.maximum(1 / variance - spread, 0)
        total += weight.sum(), weight @ (q @ piece.x_mpc)
    return float(total[1] / total[0])
