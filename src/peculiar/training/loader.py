"""Load training images: scaled once, kept on the device if they fit, one batch ahead."""

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError
from peculiar.core.progress import progress_bar
from peculiar.mock.images import Draw, See
from peculiar.networks.heads import Network
from peculiar.networks.inference import FRONT_BATCH, Images, Scaled, load_images, pieces_of

GIB = 1024**3
RESIDENT_BYTES = 6 * GIB  # of a computer's memory; the training images of the paper are 4.6e9


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


def needed_bytes(rows: int, example: Tensor) -> int:
    """Memory of `rows` times an example (1, ...), bytes."""
    return rows * example.numel() * example.element_size()


def fits_on_device(rows: int, example: Tensor) -> bool:
    """Whether `rows` times an example (1, ...) fits on its device."""
    return needed_bytes(rows, example) <= resident_bytes(example.device)


def streamed(rows: int, example: Tensor) -> str:
    """Say that `rows` times an example (1, ...) does not fit, and what to do."""
    needed, device = needed_bytes(rows, example), example.device.type
    remedy = f"free {2 * needed / GIB:.3g} GiB of memory"
    if device == "cpu" and needed > RESIDENT_BYTES:
        remedy = "take a smaller crop"
    return (
        f"{rows} images need {needed / GIB:.3g} GiB of memory ({device}), of which "
        f"{resident_bytes(example.device) / GIB:.3g} may be used: they are read from their files "
        f"again in each epoch, which is slower (docs/cluster.md): {remedy} to keep them"
    )


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
        tqdm.write(streamed(len(rows), example), file=sys.stderr)
        return lambda batch: dense(front(load_images(images, batch, device)))
    kept = dense(torch.empty((len(rows), *example.shape[1:]), device=device))
    place = np.zeros(images.shape[0], dtype=np.int64)
    place[rows] = np.arange(len(rows))
    with progress_bar("scaling images", len(rows)) as bar:
        for piece in pieces:
            at = torch.from_numpy(place[piece]).to(device)
            kept[at] = front(load_images(images, piece, device))
            bar.update(len(piece))
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


def one_ahead(of: Iterable[See]) -> Iterator[tuple[Tensor, Tensor]]:
    """Make each batch in a thread while the network learns from the one before."""
    with ThreadPoolExecutor(1) as pool:
        coming: Future[tuple[Tensor, Tensor]] | None = None
        for see in of:
            ready, coming = coming, pool.submit(see)
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


Piece = tuple[slice, See]  # which views, and what makes them


def _drawn(draw: Draw, rows: NDArray[np.integer], views: int, after: int) -> list[Piece]:
    """Draw views of all rows, and list them by their place among the rows.

    They are numbered from `after` in the order in which they are drawn.
    """
    starts = range(0, len(rows) * views, FRONT_BATCH)
    drawn = [
        (start % len(rows), slice(after + start, after + start + len(piece)), draw(piece))
        for start, piece in zip(starts, pieces_of(np.tile(rows, views), FRONT_BATCH), strict=True)
    ]
    return [(at, see) for _, at, see in sorted(drawn, key=itemgetter(0))]


def keep_views(
    network: Network,
    fresh: Draw,
    rows: NDArray[np.integer],
    views: int,
    more: tuple[Draw, NDArray[np.integer]] | None = None,
) -> KeptViews:
    """The front's output for each image at `views` fresh distances, and their labels, Mpc.

    `more` are further rows, drawn by a function of their own. The random numbers are drawn view by
    view. The views are then made row by row, so that each raw image is read from the disk once; its
    further views find it in the system's cache.

    Raises
    ------
    InputError
        When they do not fit; see `resident_bytes`.
    """
    parts = [(fresh, rows)] if more is None else [(fresh, rows), more]
    wanted = np.concatenate([np.tile(part, views) for _, part in parts])
    number, pieces = len(wanted), _drawn(fresh, rows, views, 0)
    if more is not None:
        pieces += _drawn(*more, views, len(rows) * views)
    kept = labels = torch.empty(0)
    seen = one_ahead(see for _, see in pieces)
    with torch.inference_mode(), half_the_threads(), progress_bar("making views", number) as bar:
        for (at, _), (images, label) in zip(pieces, seen, strict=True):
            scaled = network.front(images)
            if not len(kept):
                if not fits_on_device(number, scaled[:1]):
                    gib = resident_bytes(scaled.device) / GIB
                    raise InputError(
                        f"params.yaml: train: {views} views of {number // views} images need more "
                        f"than {gib:.3g} GiB: take fewer views, a smaller crop, or null for new "
                        "ones each epoch"
                    )
                kept = torch.empty((number, *scaled.shape[1:]), device=scaled.device)
                labels = torch.empty(number, device=scaled.device)
            kept[at], labels[at] = scaled, label
            bar.update(len(label))
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
