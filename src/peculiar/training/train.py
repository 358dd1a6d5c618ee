"""Train one network on one observed dataset, and calibrate it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from peculiar.core.dataset import Observed
from peculiar.core.device import best_device
from peculiar.core.errors import InputError
from peculiar.mock.images import Draw, fresh_views
from peculiar.networks.heads import (
    DistanceNetwork,
    DistributionNetwork,
    Network,
    build,
    ensemble,
)
from peculiar.networks.inference import Scaled
from peculiar.networks.params import NetworkSection
from peculiar.networks.scaling import Pixels
from peculiar.training import torchrun
from peculiar.training.calibration import (
    LABELS,
    HeldOut,
    Sharpness,
    Splits,
    calibrate_sharpness,
    cross_fit,
    joined,
    rows_of_folds,
)
from peculiar.training.loader import Shared, first_images, keep_views, scaled_images
from peculiar.training.loop import fit, target_scaling
from peculiar.training.predictions import column_mpc, predict_split, validate, velocity_of
from peculiar.training.prior import distance_prior, law_in_force
from peculiar.velocity.metrics import l2

UNCHANGED_MPC = 0.1  # rms change of labels below which no further round is trained
OnEpoch = Callable[[int, dict[str, float]], None]
# keys of random streams; 0 and 1 are those of fresh views and dropout, see `_train_member`
MORE_VIEWS, FOLDS, FOLD_SEEDS = 2, 3, 4


def train_network(
    observed: Observed,
    spec: NetworkSection,
    seed: int,
    on_epoch: OnEpoch,
    scaled: Scaled | None = None,
    raw: Path = Path("data/fetch"),
) -> Network:
    """Train a network and calibrate it; see `train_calibrated`."""
    return train_calibrated(observed, spec, seed, on_epoch, scaled, raw)[0]


def train_calibrated(
    observed: Observed,
    spec: NetworkSection,
    seed: int,
    on_epoch: OnEpoch,
    scaled: Scaled | None = None,
    raw: Path = Path("data/fetch"),
    on_fold_epoch: OnEpoch = lambda *_: None,
) -> tuple[Network, Sharpness | None]:
    """Train a network on the training split, and calibrate it by cross-fitting.

    The galaxies of training and validation are divided into `spec.calibration_folds`. For each
    fold another network is trained on the other folds; all held-out images together give the
    sharpness. Without folds the validation split gives it. The weights do not depend on the folds.

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
    on_fold_epoch : callable
        As `on_epoch`, for the networks of the folds; each starts from 1.

    Returns
    -------
    network : DistanceNetwork or DistributionNetwork
        On the device of the training. p(D | image) has a flat prior on its whole grid, see
        `peculiar.training.prior`.
    sharpness : Sharpness or None
        None for a point head, which has none.

    Raises
    ------
    InputError
        When the loss is fractional and a label is not positive, or the network does not suit the
        images, or there are fewer galaxies than folds.
    """
    observed = first_images(observed, spec.images_per_galaxy)
    if spec.rounds > 1:
        return _train_in_rounds(observed, spec, seed, on_epoch, scaled), None
    others = np.random.SeedSequence(seed).generate_state(spec.members - 1)
    members: list[Network] = []
    held_out: list[HeldOut] = []
    folds = rows_of_folds(observed, spec.folds, _stream(seed, FOLDS))
    for member_seed in (seed, *map(int, others)):
        counted = _counted_on(on_epoch, len(members) * spec.epochs)
        shared = _share(observed, spec, member_seed, scaled, raw) if folds else Shared(scaled)
        scaled = shared.scaled  # the same for all members
        members.append(_train_member(observed, spec, member_seed, counted, shared, raw))
        if folds:
            train_on = partial(
                _train_member, observed, spec, on_epoch=on_fold_epoch, shared=shared, raw=raw
            )
            seeds = _stream(member_seed, FOLD_SEEDS).integers(2**63, size=len(folds))
            held_out.append(cross_fit(train_on, shared, folds, seeds.tolist()))
    if isinstance(members[0], DistanceNetwork):
        return members[0], None
    network = ensemble([m for m in members if isinstance(m, DistributionNetwork)])
    with law_in_force(network, observed):
        sharpness = calibrate_sharpness(network, observed, spec.label, joined(held_out))
    network.head.set_prior(None)  # who predicts chooses one
    return network, sharpness


def _stream(seed: int, key: int) -> np.random.Generator:
    """The generator that `default_rng(seed)` would spawn as number `key`."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key,)))


def _share(
    observed: Observed, spec: NetworkSection, seed: int, scaled: Scaled | None, raw: Path
) -> Shared:
    """Make what a member and its folds share: the front is fixed, so its outputs are kept."""
    device = best_device()
    train, validation = observed.rows("train"), observed.rows("validation")
    labels = column_mpc(observed, LABELS[spec.label])
    network = _initial_network(observed, spec, seed, labels).to(device)
    if scaled is None:  # in the pieces that `fit` would take
        rows, rest = (validation, train) if spec.fresh else (np.append(train, validation), None)
        scaled = scaled_images(network.front, observed.images, rows, device, rest)
    if not spec.fresh or spec.views is None:
        return Shared(scaled)
    fresh = _fresh(observed, spec, raw, _stream(seed, 0))
    more = _fresh(observed, spec, raw, _stream(seed, MORE_VIEWS))
    return Shared(scaled, keep_views(network, fresh, train, spec.views, (more, validation)))


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
        network = _train_member(observed, spec, seed, counted, Shared(scaled), Path(), labels)
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
    shared: Shared,
    raw: Path,
    labels_mpc: NDArray[np.float64] | None = None,
    rows: Splits | None = None,
) -> Network:
    """Train one network with one body; see `train_network`.

    `labels_mpc` (image,), Mpc, replaces the labels of the dataset, and `rows`, to learn from and
    to validate on, its splits.
    """
    device = best_device()
    targets = column_mpc(observed, LABELS[spec.label]) if labels_mpc is None else labels_mpc
    train, validation = rows or (observed.rows("train"), observed.rows("validation"))
    network = _initial_network(observed, spec, seed, targets[train])
    rng = np.random.default_rng(seed)
    (views_rng,) = rng.spawn(1)
    fresh = None
    if spec.fresh and shared.views is None:
        fresh = _fresh(observed, spec, raw, views_rng)
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
            validation,
            spec,
            rng=rng,
            device=device,
            on_epoch=on_epoch,
            scaled=shared.scaled,
            fresh=fresh,
            kept=shared.views,
        )
    return network


def _fresh(observed: Observed, spec: NetworkSection, raw: Path, rng: np.random.Generator) -> Draw:
    """Draw images of a dataset at fresh distances; each process of torchrun draws its own."""
    return fresh_views(
        observed,
        raw,
        spec.crop or observed.images.shape[-1],
        spec.label,
        torchrun.own_stream(rng),
        best_device(),
        random_kernels=spec.kernels,
        limits_mpc=spec.fresh_mpc,
    )


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
