"""The paper's grid of 432 two-layer networks: one after the other, or several at once.

A sample is trained, and the time of the full grid is extrapolated by its operations: 432 networks,
five epochs of the paper's 12,069 training images. Several at once are processes with one thread
each; on a GPU they share it.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from measuring import Machine, Timing, Work, by_turns, threads
from rows_training import PIXELS, make_shards, network_of, spec_of

from peculiar.core.dataset import Shards
from peculiar.core.device import best_device
from peculiar.core.photometry import BANDS
from peculiar.networks.bodies import multiply_adds, output_pixels
from peculiar.networks.params import LayerSection
from peculiar.training.loop import fit

GROUP = "grid of two-layer networks"
PAPER_IMAGES, PAPER_EPOCHS = 12_069, 5
Layers = tuple[LayerSection, LayerSection]


def grid() -> list[Layers]:
    """The 432 of section 3.3: kernels 3, 5, 7, filters 6, 12, 18, 24, strides 1, 2, 3."""
    kernels, filters = (3, 5, 7), (6, 12, 18, 24)
    return [
        (
            LayerSection(filters=first, kernel=wide, stride=stride),
            LayerSection(filters=second, kernel=narrow, stride=stride),
        )
        for wide, first, narrow, second, stride in itertools.product(
            kernels, filters, kernels, filters, (1, 2, 3)
        )
        if output_pixels([LayerSection(filters=1, kernel=wide, stride=stride)], PIXELS)
    ]


def operations(layers: Layers) -> int:
    """Multiplications and additions of one image forwards."""
    return multiply_adds(layers, len(BANDS), PIXELS)


def train(folder: Path, number: int, threads_each: int, layers: Layers) -> None:
    """One epoch of one network on its share of the threads."""
    torch.set_num_threads(threads_each)
    rows = np.arange(number)
    spec = spec_of("cnn2", layers=layers, epochs=1)
    fit(
        network_of(spec),
        Shards(folder),
        np.linspace(50, 100, number),
        rows,
        rows[:2],
        spec,
        rng=np.random.default_rng(0),
        device=best_device(),
        on_epoch=lambda *_: None,
    )


def at_once(
    folder: Path, number: int, sample: list[Layers], workers: int, threads_each: int
) -> Callable[[], float]:
    """Time of a sample over this number of processes, without their start-up, s."""

    def run() -> float:
        context = get_context("forkserver")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            one = partial(train, folder, number, threads_each)
            list(pool.map(partial(train, folder, 16, threads_each), sample[:workers]))
            start = time.perf_counter()
            list(pool.map(one, sample))
            return time.perf_counter() - start

    return run


def rows(machine: Machine, repeats: int, quick: bool, device: torch.device) -> Iterator[Timing]:
    """A sample of the cheaper half of the grid (strides 2 and 3 dominate the paper's table)."""
    cells = grid()
    cheap = sorted(cells, key=operations)[: len(cells) // 2]
    picked = np.random.default_rng(0).permutation(len(cheap))[: 2 if quick else 4]
    sample = [cheap[k] for k in picked]
    number = 32 if quick else 256
    done = sum(map(operations, sample)) * number
    whole = sum(map(operations, cells)) * PAPER_IMAGES * PAPER_EPOCHS
    cores = machine.cores if device.type == "cpu" else 4
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_shards(folder, number)
        for timing in by_turns(
            Work(
                GROUP,
                f"{len(sample)} networks, {number} images, one epoch",
                "s",
                1,
                {
                    f"ours, {cores} at once": at_once(folder, number, sample, cores, 1),
                    "one after the other": at_once(folder, number, sample, 1, machine.cores),
                },
                # forwards and twice backwards, but for the first layer's input
                limit=machine.seconds(6 * done, 0),
                limit_by="operations over the matrix product's",
            ),
            1 if quick else min(repeats, 3),
            warm=False,
        ):
            hours = timing.median * whole / done / 3600
            note = f"all {len(cells)} x {PAPER_EPOCHS} epochs x {PAPER_IMAGES:,} images, "
            note += f"extrapolated by operations: {hours:.3g} h"
            yield Timing(**{**timing.__dict__, "note": note})
    threads(machine.cores)
