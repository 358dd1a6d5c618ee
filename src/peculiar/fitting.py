"""The training loop, the same for the search and the final networks."""

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peculiar.metrics import l2
from peculiar.networks import DistanceNetwork, scale

Scaled = Callable[[NDArray[np.integer]], Tensor]  # row numbers to scaled images on the device
PREDICT_BATCH = 256
RESIDENT_BYTES = 2 * 1024**3  # larger splits are streamed from the shards, batch by batch


class Images(Protocol):
    """Images (image, band, y, x) that can be asked for by row numbers."""

    shape: tuple[int, ...]

    def __getitem__(self, rows: NDArray[np.integer]) -> NDArray[np.float32]: ...


def target_scaling(targets_mpc: NDArray[np.floating], distribution: str) -> tuple[float, float]:
    """Offset and scale that normalise training targets (paper, section 3.2).

    Parameters
    ----------
    targets_mpc : ndarray, (n,)
        Targets of the training split, Mpc.
    distribution : {"uniform", "normal", "measured", "none"}
        Uniform distances are scaled to [0, 1], normal and measured ones to mean 0 and deviation
        1; "none" leaves them in Mpc.

    Returns
    -------
    offset, scale : float
        target = offset + scale * normalised, Mpc.

    Raises
    ------
    ValueError
        For any other distribution.
    """
    if distribution == "uniform":
        return float(targets_mpc.min()), float(np.ptp(targets_mpc))
    if distribution in ("normal", "measured"):
        return float(targets_mpc.mean()), float(targets_mpc.std())
    if distribution == "none":
        return 0.0, 1.0
    raise ValueError(f"no scaling for {distribution!r}")


def load(images: Images, rows: NDArray[np.integer], device: torch.device) -> Tensor:
    """Images of some rows on the device, channels last, which CPU convolutions run 2.5x faster."""
    batch = torch.from_numpy(images[rows])
    return batch.to(device, memory_format=torch.channels_last, non_blocking=True)


def scaled_images(
    softening: Tensor, images: Images, rows: NDArray[np.integer], device: torch.device
) -> Scaled:
    """A function from row numbers, among `rows`, to scaled images on the device.

    Reading and scaling an image costs a CPU about as much as a small network does, so that
    images are kept scaled when they fit into `RESIDENT_BYTES`.
    """
    if 4 * len(rows) * math.prod(images.shape[1:]) > RESIDENT_BYTES:
        return lambda batch: scale(load(images, batch, device), softening)
    shape = (len(rows), *images.shape[1:])
    kept = torch.empty(shape, device=device, memory_format=torch.channels_last)
    for start in range(0, len(rows), PREDICT_BATCH):
        piece = rows[start : start + PREDICT_BATCH]
        kept[start : start + len(piece)] = scale(load(images, piece, device), softening)
    place = np.zeros(images.shape[0], dtype=np.int64)
    place[rows] = np.arange(len(rows))
    return lambda batch: kept[torch.from_numpy(place[batch]).to(device)]


def turn(images: Tensor, rng: np.random.Generator) -> Tensor:
    """One of the eight rotations and reflections of the sky, drawn for the whole batch."""
    images = torch.rot90(images, int(rng.integers(4)), dims=(-2, -1))
    return images.flip(-1) if rng.integers(2) else images


def batches(rows: NDArray[np.integer], size: int) -> Iterator[NDArray[np.integer]]:
    """Consecutive pieces of `rows`; a last piece of one is dropped (batch norm needs two)."""
    for start in range(0, len(rows), size):
        if len(rows) - start > 1 or len(rows) == 1:
            yield rows[start : start + size]


def predict(
    network: DistanceNetwork, images: Images, rows: NDArray[np.integer], device: torch.device
) -> NDArray[np.float64]:
    """Distances (len(rows),), Mpc, of some images."""
    return predict_scaled(network, lambda piece: network.scale(load(images, piece, device)), rows)


def predict_scaled(
    network: DistanceNetwork, scaled: Scaled, rows: NDArray[np.integer]
) -> NDArray[np.float64]:
    """`predict` for images that `scaled_images` gives."""
    network.eval()
    pieces = [rows[i : i + PREDICT_BATCH] for i in range(0, len(rows), PREDICT_BATCH)]
    with torch.inference_mode():
        outputs = [network.distance(scaled(piece)).double().cpu() for piece in pieces]
    return np.asarray(torch.cat(outputs))


def fit(
    network: DistanceNetwork,
    images: Images,
    targets_mpc: NDArray[np.floating],
    train: NDArray[np.integer],
    validation: NDArray[np.integer],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    augment: bool,
    schedule: str,
    rng: np.random.Generator,
    device: torch.device,
    on_epoch: Callable[[int, dict[str, float]], None],
    scaled: Scaled | None = None,
) -> None:
    """Train a network in place with Adam on the mean squared error (paper, section 3.3).

    Parameters
    ----------
    network : DistanceNetwork
        Moved to `device` and trained.
    images : Images
        (image, band, y, x), W/m/m^2/sr.
    targets_mpc : ndarray, (image,)
        Labels D or D_z, Mpc.
    train, validation : ndarray of int
        Row numbers of the two splits.
    epochs, batch_size : int
        Passes over the training split, and images in a step.
    learning_rate : float
        Adam's.
    augment : bool
        Rotate and reflect each batch at random.
    schedule : {"constant", "cosine"}
        Learning rate after each epoch: the same, or along half a cosine to zero at the end
        (Loshchilov & Hutter 2017, without restarts).
    rng : numpy.random.Generator
        Shuffles and turns.
    device : torch.device
        Where to train.
    on_epoch : callable
        Gets the epoch's number, from 1, and `train_l2_mpc` and `validation_l2_mpc` against the
        labels; what it raises ends the training.
    scaled : callable, optional
        From `scaled_images` for both splits, when several networks with one scaling share it.
    """
    network.to(device).to(memory_format=torch.channels_last)
    labels = torch.from_numpy(targets_mpc.astype(np.float32)).to(device)
    if scaled is None:
        rows = np.concatenate([train, validation])
        scaled = scaled_images(network.softening, images, rows, device)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for epoch in range(1, epochs + 1):
        network.train()
        squares = torch.zeros((), device=device)  # summed there: no waiting for the GPU each step
        seen = 0
        for rows in batches(rng.permutation(train), batch_size):
            batch = turn(scaled(rows), rng) if augment else scaled(rows)
            residual = network.distance(batch) - labels[rows]
            loss = (residual / network.scale_mpc).square().mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            squares += residual.detach().square().sum()
            seen += len(rows)
        if schedule == "cosine":
            fall.step()
        predicted = predict_scaled(network, scaled, validation)
        curve = {
            "train_l2_mpc": float(torch.sqrt(squares / seen)),
            "validation_l2_mpc": l2(targets_mpc[validation], predicted),
        }
        on_epoch(epoch, curve)
