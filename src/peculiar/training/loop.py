"""The training loop, shared by the search and the final networks."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from peculiar.mock.images import Draw, See
from peculiar.networks.heads import Network
from peculiar.networks.inference import Images, Scaled, in_pieces
from peculiar.networks.params import NetworkSection, Schedule
from peculiar.training import torchrun
from peculiar.training.loader import (
    KeptViews,
    batches,
    dense,
    half_the_threads,
    keep_views,
    one_ahead,
    scaled_images,
    turn,
)
from peculiar.velocity.metrics import l2


def target_scaling(targets_mpc: NDArray[np.floating], distribution: str) -> tuple[float, float]:
    """Offset and scale that normalise training targets (paper, section 3.2).

    Parameters
    ----------
    targets_mpc : ndarray, (n,)
        Targets of the training split, Mpc.
    distribution : {"uniform", "volume", "normal", "measured", "none"}
        Distances between limits are scaled to [0, 1], normal and measured ones to mean 0 and
        deviation 1; "none" leaves them in Mpc.

    Returns
    -------
    offset, scale : float
        target = offset + scale * normalised, Mpc.

    Raises
    ------
    ValueError
        For any other distribution.
    """
    if distribution in ("uniform", "volume"):
        return float(targets_mpc.min()), float(np.ptp(targets_mpc))
    if distribution in ("normal", "measured"):
        return float(targets_mpc.mean()), float(targets_mpc.std())
    if distribution == "none":
        return 0.0, 1.0
    raise ValueError(f"no scaling for {distribution!r}")


WARM_UP = 0.2  # share of a one-cycle schedule in which the learning rate rises


def learning_rate_factor(schedule: Schedule, step: int, steps: int, epochs: int) -> float:
    """Factor on the learning rate in a step, counted from 0, of `steps`.

    constant: 1 (paper, section 3.3); cosine: falls after each epoch along half a cosine towards
    zero (Loshchilov & Hutter 2017, without restarts); onecycle: rises in a line during the first
    fifth of the steps, then falls along half a cosine (Smith & Topin 2019).
    """
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return (1 + math.cos(math.pi * (step * epochs // steps) / epochs)) / 2
    done = (step + 1) / (steps + 1)
    if done < WARM_UP:
        return done / WARM_UP
    return (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2


@dataclass
class _Best:
    """The weights of the best epoch, and the number of epochs since then."""

    loss: float = math.inf
    epochs_ago: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def see(self, loss: float, network: nn.Module) -> int:
        """Keep the weights if they are better; return the number of epochs since the best ones."""
        self.epochs_ago += 1
        if loss < self.loss or not self.weights:
            weights = {key: value.clone() for key, value in network.state_dict().items()}
            finite = loss if math.isfinite(loss) else math.inf
            self.loss, self.epochs_ago, self.weights = finite, 0, weights
        return self.epochs_ago


def _epoch(
    network: Network,
    learn: torchrun.Learn,
    drawn: Iterable[tuple[Tensor, Tensor]],
    turned: Callable[[Tensor], Tensor],
    after_step: Callable[[], None],
    optimiser: torch.optim.Optimizer,
) -> float:
    """One pass of `fit` over the training split; L2 of its predictions against the labels, Mpc."""
    network.train()
    squares: Tensor | float = 0.0  # summed on the device: no waiting for the GPU each step
    seen = 0
    for batch, labels in drawn:
        loss, D_p = learn(turned(batch), labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        after_step()
        squares = squares + (D_p.detach() - labels).square().sum()
        seen += len(labels)
    device = labels.device
    return math.sqrt(torchrun.summed(float(squares), device) / torchrun.summed(seen, device))


def fit(
    network: Network,
    images: Images,
    targets_mpc: NDArray[np.floating],
    train: NDArray[np.integer],
    validation: NDArray[np.integer],
    spec: NetworkSection,
    *,
    rng: np.random.Generator,
    device: torch.device,
    on_epoch: Callable[[int, dict[str, float]], None],
    scaled: Scaled | None = None,
    fresh: Draw | None = None,
    kept: KeptViews | None = None,
) -> None:
    """Train a network in place with Adam (paper, section 3.3), on the loss of its head.

    Processes that torchrun started train it together; see `peculiar.training.torchrun`.

    Parameters
    ----------
    network : DistanceNetwork or DistributionNetwork
        Moved to `device` and trained.
    images : Images
        (image, band, y, x), W/m/m^2/sr.
    targets_mpc : ndarray, (image,)
        Labels D or D_z, Mpc.
    train, validation : ndarray of int
        Row numbers of the two splits.
    spec : NetworkSection
        `epochs`, passes over the training split; `batch_size`, images in a step;
        `learning_rate` and its `schedule` (see `learning_rate_factor`); `weight_decay` of AdamW
        (Loshchilov & Hutter 2019), 0 for Adam; `ema`, the decay a step of the running mean of the
        weights that replaces them in the end, 0 for none; `patience`, the epochs without a
        better validation loss after which training ends with the best epoch's weights, None for
        never; `augment`, rotate and reflect each batch at random; `views`, at how many fresh
        distances each image is seen, the same in every epoch, None for new ones in each epoch.
    rng : numpy.random.Generator
        Shuffles and turns.
    device : torch.device
        Where to train.
    on_epoch : callable
        Called with the epoch's number, from 1, and `train_l2_mpc` and `validation_l2_mpc` against
        the labels; an exception ends the training.
    scaled : callable, optional
        From `scaled_images` for both splits, if several networks with one scaling share it.
    fresh : callable, optional
        Replaces the training images and labels; see `mock.images.fresh_views`.
    kept : KeptViews, optional
        Views of the training images, and perhaps of others, which are then not used. By default
        `fresh` draws `views` of them.
    """
    network.to(device).to(memory_format=torch.channels_last)
    labels = torch.from_numpy(targets_mpc.astype(np.float32)).to(device)
    if scaled is None:
        rows = validation if fresh else np.concatenate([train, validation])
        scaled = scaled_images(network.front, images, rows, device)
    fixed: Scaled = scaled
    if fresh is not None and spec.views is not None and kept is None:
        kept = keep_views(network, fresh, train, spec.views)
    if kept is not None:
        train, fresh = np.flatnonzero(np.isin(kept.rows, train)), None

    def stored(rows: NDArray[np.integer]) -> tuple[Tensor, Tensor]:
        at = torch.from_numpy(rows).to(device)
        if kept is None:
            return fixed(rows), labels[at]
        return kept.scaled[at], kept.labels_mpc[at]

    def drawn(pieces: Iterable[NDArray[np.integer]]) -> Iterator[tuple[Tensor, Tensor]]:
        if fresh is None:
            return map(stored, pieces)

        def front_of(see: See) -> tuple[Tensor, Tensor]:
            views, label = see()
            return dense(network.front(views)), label

        return one_ahead(partial(front_of, fresh(rows)) for rows in pieces)

    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=spec.learning_rate,
        weight_decay=spec.weight_decay,
        fused=True,  # one pass over all weights
    )
    steps = spec.epochs * len(torchrun.shares(batches(train, spec.batch_size)))
    learn = torchrun.learner(network)
    rate = LambdaLR(
        optimiser, lambda step: learning_rate_factor(spec.schedule, step, steps, spec.epochs)
    )
    mean = None
    if spec.ema:
        average = get_ema_multi_avg_fn(spec.ema)  # type: ignore[no-untyped-call]
        mean = AveragedModel(network, multi_avg_fn=average, use_buffers=True)

    def after_step() -> None:
        rate.step()
        if mean is not None:
            mean.update_parameters(network)

    judged = network if mean is None else cast(Network, mean.module)
    best = _Best()
    for epoch in range(1, spec.epochs + 1):
        pieces = torchrun.shares(batches(rng.permutation(train), spec.batch_size))
        turned = (lambda batch: turn(batch, rng)) if spec.augment else (lambda batch: batch)
        with half_the_threads() if fresh else nullcontext():
            train_l2 = _epoch(network, learn, drawn(pieces), turned, after_step, optimiser)
        judged.eval()
        predicted = in_pieces(lambda rows: judged.distance(fixed(rows)), validation, device)
        validation_l2 = torchrun.agreed(l2(targets_mpc[validation], predicted), device)
        on_epoch(epoch, {"train_l2_mpc": train_l2, "validation_l2_mpc": validation_l2})
        if spec.patience is not None and best.see(validation_l2, judged) >= spec.patience:
            break
    network.load_state_dict(best.weights or judged.state_dict())
