"""Stand-in galaxies: ours against one kernel per particle, complete galaxies, and over cores."""

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Machine, Timing, Work, by_turns, threads
from numpy.typing import NDArray
from rows_placing import _powers, light, shipped

from peculiar.core.photometry import TEN_PARSEC_KPC as TEN_PC
from peculiar.galaxies.params import StandIn
from peculiar.galaxies.standin.simulation import (
    CAMERA_DIRECTIONS,
    Stars,
    _image_axes,
    make_broadband,
    render,
    simulate,
)
from peculiar.galaxies.standin.smoothing import adaptive_kernels

GROUP = "stand-in galaxies"
Floats = NDArray[np.float64]


def particle_by_particle(stars: Stars, parameters: StandIn) -> Floats:
    """Images (camera, band, y, x) like `render`, one Gaussian after the other.

    Each has the width of ours (kernels are quantised) and is sampled at the pixels' centres out to
    five deviations.
    """
    pixel_kpc = parameters.field_of_view_kpc / parameters.pixels
    position = stars.position_kpc / pixel_kpc
    kernels = adaptive_kernels(position, parameters.neighbours)
    sigma = np.array([kernels.sigma(level) for level in kernels.level])
    brightness = stars.light * (TEN_PC / pixel_kpc) ** 2
    side = parameters.pixels
    images = np.zeros((len(CAMERA_DIRECTIONS), len(brightness), side, side))
    for camera, axes in enumerate(map(_image_axes, CAMERA_DIRECTIONS)):
        for number, (x, y) in enumerate((axes @ position.T).T + (side - 1) / 2):
            reach = int(np.ceil(5 * sigma[number]))
            low = int(y) - reach, int(x) - reach
            grids = [np.arange(start, start + 2 * reach + 2) for start in low]
            profiles = [
                np.exp(-0.5 * ((grid - at) / sigma[number]) ** 2)
                for grid, at in zip(grids, (y, x), strict=True)
            ]
            profiles = [p / p.sum() for p in profiles]
            cut = [(grid >= 0) & (grid < side) for grid in grids]
            rows, columns = (grid[inside] for grid, inside in zip(grids, cut, strict=True))
            if len(rows) and len(columns):
                kernel = np.outer(profiles[0][cut[0]], profiles[1][cut[1]])
                patch = np.s_[camera, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                images[patch] += brightness[:, number, None, None] * kernel
    return images


def difference(stars: Stars, parameters: StandIn) -> tuple[float, float]:
    """Of light in all (relative), and of pixels: the mean difference over the mean pixel."""
    own, plain = render(stars, parameters).astype(float), particle_by_particle(stars, parameters)
    light_in_all = float(np.abs(own.sum((-2, -1)) / plain.sum((-2, -1)) - 1).max())
    return light_in_all, float(np.abs(own - plain).mean() / plain.mean())


def operations(pixels: int = 256, bands: int = 5, cameras: int = 4) -> float:
    """Of the Fourier transforms alone: a forward one a level of the finest grid, one back."""
    side = pixels * 5 // 4
    one = 2.5 * side**2 * np.log2(side**2)  # of real numbers
    return float(cameras * bands * one * (5 + 1))


def make(folder: Path, number: int) -> None:
    """One galaxy of the shipped mass function, written as FITS."""
    make_broadband(folder / f"broadband_{number}.fits", number, shipped())


def rows(machine: Machine, repeats: int, quick: bool, _: Any) -> Iterator[Timing]:
    """Images of one light galaxy's particles, then whole galaxies over cores."""
    threads(1)
    parameters = light()
    stars = simulate(np.random.default_rng(1), parameters)
    flux, pixels = difference(stars, parameters)
    yield from by_turns(
        Work(
            GROUP,
            f"4 images of {len(stars.position_kpc):,} particles",
            "galaxies/s",
            1,
            {
                "ours": lambda: _drop(render(stars, parameters)),
                "a kernel a particle": lambda: _drop(particle_by_particle(stars, parameters)),
            },
            limit=1 / machine.seconds(operations(), 0, core=True),
            limit_by="operations of the Fourier transforms",
            notes={
                "a kernel a particle": f"light differs by {100 * flux:.2g} %, "
                f"pixels by {100 * pixels:.2g} % of the mean pixel (binned, not sampled)"
            },
        ),
        1 if quick else repeats,
        warm=False,
    )
    if quick:
        return
    number = 4 * machine.cores
    with tempfile.TemporaryDirectory() as folder:

        def run(workers: int) -> Callable[[], float]:
            def galaxies() -> float:
                context = get_context("forkserver")
                with ProcessPoolExecutor(workers, mp_context=context) as pool:
                    list(pool.map(_nothing, range(workers)))  # without the start-up
                    start = time.perf_counter()
                    list(pool.map(partial(make, Path(folder)), range(number)))
                    return time.perf_counter() - start

            return galaxies

        scaling = {f"ours, {k} processes": run(k) for k in reversed(_powers(machine.cores))}
        yield from by_turns(
            Work(GROUP, "whole galaxies over cores", "galaxies/s", number, scaling),
            min(repeats, 3),
            warm=False,
        )
    threads(machine.cores)


def _nothing(_: int) -> None:
    import peculiar.galaxies.standin.simulation  # noqa: F401


def _drop(_: object) -> None:
    """Forget a result: what a competitor returns would be taken for seconds."""
