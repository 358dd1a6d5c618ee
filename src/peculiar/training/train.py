"""Train one network on one observed dataset, and calibrate it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from peculiar.core.dataset import Observed
from peculiar.core.device import best_device
from peculiar.core.errors import InputError
from peculiar.mock.images import fresh_views
from peculiar.networks.heads import (
    DistanceNetwork,
    DistributionNetwork,
    Network,
    build,
    ensemble,
)
from peculiar.networks.inference import Scaled, in_pieces, load_images
from peculiar.networks.params import NetworkSection
from peculiar.networks.scaling import Pixels
from peculiar.training import torchrun
from peculiar.training.loader import scaled_images
from peculiar.training.loop import fit, target_scaling
from peculiar.training.predictions import column_mpc, predict_split, validate, velocity_of
from peculiar.training.prior import distance_prior, law_in_force
from peculiar.velocity.metrics import l2

SHARPEST = 4.0  # greatest sharpness, which halves the width of a likelihood
UNCHANGED_MPC = 0.1  # rms change of labels below which no further round is trained
OnEpoch = Callable[[int, dict[str, float]], None]
LABELS = {"D": "distance_mpc", "D_z": "distance_z_mpc"}


def train_network(
    observed: Observed,
    spec: NetworkSection,
    seed: int,
    on_epoch: OnEpoch,
    scaled: Scaled | None = None,
    raw: Path = Path("data/fetch"),
) -> Network:
    """Train a network on the training split, and calibrate it on the validation split.

    Parameters
    ----------
    observed : Observed
        Dataset.
    spec : NetworkSection
        Architecture, label and training.
    seed : int
        Seed of weights, order of images, distances and all other random numbers.
    on_epoch : callable
        See `training.loop.fit`. The epochs of all members of an ensemble, or of all rounds, are
        numbered consecutively.
    scaled : callable, optional
        From `share_images`, when several networks scale images alike.
    raw : Path
        Output of `fetch`, read only for fresh distances.

    Returns
    -------
    DistanceNetwork or DistributionNetwork
        On the device of the training. p(D | image) has a flat prior on its whole grid, see
        `peculiar.training.prior`.

    Raises
    ------
    InputError
        When the loss is fractional and a label is not positive, or the network does not suit the
        images.
    """
    if spec.rounds > 1:
        return _train_in_rounds(observed, spec, seed, on_epoch, scaled)
    others = np.random.SeedSequence(seed).generate_state(spec.members - 1)
    members: list[Network] = []
    for member_seed in (seed, *map(int, others)):
        counted = _counted_on(on_epoch, len(members) * spec.epochs)
        members.append(_train_member(observed, spec, member_seed, counted, scaled, raw))
    if isinstance(members[0], DistanceNetwork):
        return members[0]
    network = ensemble([m for m in members if isinstance(m, DistributionNetwork)])
    with law_in_force(network, observed):
        calibrate_sharpness(network, observed, spec.label)
    network.head.set_prior(None)  # who predicts chooses one
    return network


def _counted_on(on_epoch: OnEpoch, done: int) -> OnEpoch:
    """`on_epoch` with epochs numbered after the `done` epochs before."""
    return lambda epoch, curve: on_epoch(done + epoch, curve)


def _train_in_rounds(
    observed: Observed,
    spec: NetworkSection,
    seed: int,
    on_epoch: OnEpoch,
    scaled: Scaled | None,
) -> Network:
    """Train in rounds, each from initial weights on corrected labels (paper, section 5.2).

    The initial weights are the same in each round, so the labels can converge.
    """
    train, labels = observed.rows("train"), column_mpc(observed, "distance_z_mpc")
    for done in range(spec.rounds):
        counted = _counted_on(on_epoch, done * spec.epochs)
        network = _train_member(observed, spec, seed, counted, scaled, Path(), labels)
        corrected = labels.copy()
        # all processes of torchrun continue with the labels of the first
        corrected[train] = torchrun.agreed_values(corrected_mpc(network, observed), best_device())
        change, labels = l2(labels, corrected), corrected
        if change < UNCHANGED_MPC:
            break
    return network


def corrected_mpc(network: Network, observed: Observed) -> NDArray[np.float64]:
    """E[D | image, D_z] (n,), Mpc, of the training images: D_z - posterior velocity / H0."""
    sigma_D, _, _ = validate(network, observed)
    D_p = predict_split(network, observed, "train")
    v = velocity_of(observed, "train", D_p, sigma_D, None)
    D_z = column_mpc(observed, "distance_z_mpc")[observed.rows("train")]
    return np.asarray(D_z - v.mean_kms / observed.survey.H0_kms_mpc)


def _train_member(
    observed: Observed,
    spec: NetworkSection,
    seed: int,
    on_epoch: OnEpoch,
    scaled: Scaled | None,
    raw: Path,
    labels_mpc: NDArray[np.float64] | None = None,
) -> Network:
    """Train one network with one body; see `train_network`.

    `labels_mpc` (image,), Mpc, replaces the labels of the dataset.
    """
    device = best_device()
    targets = column_mpc(observed, LABELS[spec.label]) if labels_mpc is None else labels_mpc
    train = observed.rows("train")
    network = _initial_network(observed, spec, seed, targets[train])
    rng = np.random.default_rng(seed)
    views_rng = torchrun.own_stream(rng.spawn(1)[0])
    side = spec.crop or observed.images.shape[-1]
    fresh = None
    if spec.fresh:
        fresh = fresh_views(
            observed,
            raw,
            side,
            spec.label,
            views_rng,
            device,
            random_kernels=spec.kernels,
            limits_mpc=spec.fresh_mpc,
        )
    (dropout_seed,) = rng.spawn(1)[0].integers(2**63, size=1)
    devices = [device] if device.type == "cuda" else []
    with (
        torch.backends.cudnn.flags(enabled=True, deterministic=True),
        torch.random.fork_rng(devices),  # dropout draws from torch's global generators only
    ):
        torch.manual_seed(int(dropout_seed) + torchrun.rank())
        fit(
            network,
            observed.images,
            targets,
            train,
            observed.rows("validation"),
            spec,
            rng=rng,
            device=device,
            on_epoch=on_epoch,
            scaled=scaled,
            fresh=fresh,
        )
    return network


def _initial_network(
    observed: Observed, spec: NetworkSection, seed: int, targets_mpc: NDArray[np.float64]
) -> Network:
    """Build a network for a dataset, with targets scaled by the training labels (n,), Mpc."""
    survey = observed.survey
    if spec.loss == "fractional" and (targets_mpc <= 0).any():
        raise InputError(
            f"params.yaml: train: loss fractional needs labels above 0, and dataset "
            f"{survey.dataset} has {targets_mpc.min():.1f} Mpc: take loss: absolute"
        )
    scaling = survey.distribution if spec.normalise else "none"
    prior = None
    if spec.head != "point":
        # bins learn nothing where there are no labels
        beyond = spec.head == "gaussian"
        prior = distance_prior(observed, spec.label, spec.fresh_mpc, beyond=beyond)
    return build(
        spec,
        survey.bands,
        observed.images.shape[-1],
        target=target_scaling(targets_mpc, scaling),
        prior=prior,
        seed=seed,
    )


def calibrate_sharpness(network: DistributionNetwork, observed: Observed, label: str) -> None:
    """Set the sharpness of the likelihood for which the validation labels are most probable.

    The sharpness is one number, the inverse of a temperature (Guo et al. 2017). At 0 the output is
    the prior p(D) for every image, and velocities are E[v | D_z], on average no worse than v = 0.
    The result is therefore never worse than the prior on the labels of the validation split.

    Parameters
    ----------
    network : DistributionNetwork
        Its head's `sharpness` is set, from 0 to `SHARPEST`.
    observed : Observed
        Dataset.
    label : {"D", "D_z"}
        Label of the training.
    """
    device, head = best_device(), network.to(best_device()).eval().head
    rows = observed.rows("validation")
    labels = torch.tensor(column_mpc(observed, LABELS[label])[rows], device=device)

    def raw_numbers(piece: NDArray[np.integer]) -> torch.Tensor:
        scaled = network.front(load_images(observed.images, piece, device))
        return network.raw(scaled).movedim(0, 1)

    raw = torch.tensor(in_pieces(raw_numbers, rows, device), device=device).movedim(1, 0)

    def loss(sharpness: float) -> float:
        head.sharpness.fill_(sharpness)
        return float(head.loss(network.mean_probability(raw).log(), labels).mean())

    best = float(minimize_scalar(loss, bounds=(0, SHARPEST), method="bounded").x)
    head.sharpness.fill_(best if loss(best) < loss(0.0) else 0.0)


def share_images(observed: Observed, softening_mag_arcsec2: float, crop: int | None) -> Scaled:
    """Read and scale the training and validation images once, for several networks.

    Parameters
    ----------
    observed : Observed
        Dataset.
    softening_mag_arcsec2 : float
        Softening of asinh, AB mag/arcsec^2.
    crop : int or None
        Side of the central part that is used, pixels; None for all.

    Returns
    -------
    callable
        For `scaled` of `train_network`.
    """
    rows = np.concatenate([observed.rows("train"), observed.rows("validation")])
    device = best_device()
    front = Pixels(observed.survey.bands, softening_mag_arcsec2, crop).to(device)
    return scaled_images(front, observed.images, rows, device)
