"""Load training images: scaled once, kept on the device if they fit, one batch ahead."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError
from peculiar.networks.heads import Network
from peculiar.networks.inference import FRONT_BATCH, Images, Scaled, load_images, pieces_of

Draw = Callable[[NDArray[np.integer]], tuple[Tensor, Tensor]]  # row numbers to images and labels
RESIDENT_BYTES = 6 * 1024**3  # of a computer's memory; the training images of the paper are 4.6e9


def resident_bytes(device: torch.device) -> int:
    """Memory that images may take on a device, bytes: half of what is free.

    Without a GPU at most `RESIDENT_BYTES`, since the memory limit of a job is not known here.
    Larger sets of images are streamed from the shards, batch by batch.
    """
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0])
        # torch can reuse what it still reserves from earlier networks
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (free + unused) // 2
    return min(RESIDENT_BYTES, int(psutil.virtual_memory().available) // 2)


def fits_on_device(rows: int, example: Tensor) -> bool:
    """Whether `rows` times an example (1, ...) fits on its device."""
    return rows * example.numel() * example.element_size() <= resident_bytes(example.device)


def dense(scaled: Tensor) -> Tensor:
    """Order a front's output in memory for speed: images with their channels last."""
    if scaled.dim() == 4:
        return scaled.contiguous(memory_format=torch.channels_last)
    return scaled.contiguous()


def scaled_images(
    front: Callable[[Tensor], Tensor],
    images: Images,
    rows: NDArray[np.integer],
    device: torch.device,
    more: NDArray[np.integer] | None = None,
) -> Scaled:
    """Return a function from row numbers, among `rows`, to the front's output for their images.

    `more` rows are scaled in pieces of their own, so that they do not change the others' rounding.

    Reading and scaling an image costs a CPU about as much as a small network does. Scaled images
    are therefore kept if they fit; see `resident_bytes`.
    """
    example = front(load_images(images, rows[:1], device))
    pieces = pieces_of(rows, FRONT_BATCH)
    if more is not None:
        pieces += pieces_of(more, FRONT_BATCH)
        rows = np.concatenate([rows, more])
    if not fits_on_device(len(rows), example):
        return lambda batch: dense(front(load_images(images, batch, device)))
    kept = dense(torch.empty((len(rows), *example.shape[1:]), device=device))
    place = np.zeros(images.shape[0], dtype=np.int64)
    place[rows] = np.arange(len(rows))
    for piece in pieces:
        kept[torch.from_numpy(place[piece]).to(device)] = front(load_images(images, piece, device))
    return lambda batch: kept[torch.from_numpy(place[batch]).to(device)]


def turn(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Rotate and reflect a batch at random, all its images alike."""
    images = torch.rot90(images, int(rng.integers(4)), dims=(-2, -1))
    return images.flip(-1) if rng.integers(2) else images


def batches(rows: NDArray[np.integer], size: int) -> Iterator[NDArray[np.integer]]:
    """Split `rows` into batches; a last batch of one is dropped (batch norm needs two)."""
    for start in range(0, len(rows), size):
        if len(rows) - start > 1 or len(rows) == 1:
            yield rows[start : start + size]


def one_ahead(draw: Draw, pieces: Iterable[NDArray[np.integer]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw each piece in a thread while the network learns from the one before."""
    with ThreadPoolExecutor(1) as pool:
        coming: Future[tuple[Tensor, Tensor]] | None = None
        for rows in pieces:
            ready, coming = coming, pool.submit(draw, rows)
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()


@contextmanager
def half_the_threads() -> Iterator[None]:
    """Leave half of the cores to another thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class KeptViews(NamedTuple):
    """The front's output for images at fresh distances.

    Attributes
    ----------
    scaled : Tensor, (n, ...)
        Output of the front.
    labels_mpc : Tensor, (n,)
        Labels, Mpc.
    rows : ndarray of int, (n,)
        Row number of each image in the dataset.
    """

    scaled: Tensor
    labels_mpc: Tensor
    rows: NDArray[np.integer]


@dataclass(frozen=True)
class Shared:
    """Outputs of one front that several trainings share.

    Attributes
    ----------
    scaled : callable or None
        Of stored images.
    views : KeptViews or None
        Of images at fresh distances.
    """

    scaled: Scaled | None
    views: KeptViews | None = None


def keep_views(
    network: Network,
    fresh: Draw,
    rows: NDArray[np.integer],
    views: int,
    more: tuple[Draw, NDArray[np.integer]] | None = None,
) -> KeptViews:
    """The front's output for each image at `views` fresh distances, and their labels, Mpc.

    `more` are further rows, drawn after the others by a function of their own.

    Raises
    ------
    InputError
        When they do not fit; see `resident_bytes`.
    """
    parts = [(fresh, np.tile(rows, views))]
    if more is not None:
        parts.append((more[0], np.tile(more[1], views)))
    wanted = np.concatenate([part for _, part in parts])
    number, filled = len(wanted), 0
    drawn = (one_ahead(draw, pieces_of(part, FRONT_BATCH)) for draw, part in parts)
    with torch.inference_mode(), half_the_threads():
        for images, label in chain.from_iterable(drawn):
            scaled = network.front(images)
            if not filled:
                if not fits_on_device(number, scaled[:1]):
                    gib = resident_bytes(scaled.device) / 1024**3
                    raise InputError(
                        f"params.yaml: train: {views} views of {number // views} images need more "
                        f"than {gib:.3g} GiB: take fewer views, a smaller crop, or null for new "
                        "ones each epoch"
                    )
                kept = torch.empty((number, *scaled.shape[1:]), device=scaled.device)
                labels = torch.empty(number, device=scaled.device)
            kept[filled : filled + len(label)] = scaled
            labels[filled : filled + len(label)] = label
            filled += len(label)
    return KeptViews(dense(kept), labels, wanted)


def first_images(observed: Observed, images: int | None) -> Observed:
    """Leave only the images of the first cameras of each galaxy in the training split; None: all.

    A survey has one image of a galaxy. The other splits stay as they are.
    """
    if images is None:
        return observed
    table = observed.table.copy()
    split = np.asarray(table["split"]).astype("U10")
    split[(split == "train") & (np.asarray(table["camera"]) >= images)] = "unused"
    table["split"] = split
    return Observed(observed.images, table)
