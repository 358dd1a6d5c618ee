"""Placing 5 x 256 x 256 pixels as 5 x 128 x 128 at random distances, against other resamplers.

Only torch's antialiased `interpolate` and Pillow have our kernel; both need an integer number of
input pixels, or a box, and get the nearest. The others have another kernel and are here for their
speed. The flux error is that of a stand-in galaxy within the frame: light of the output over that
of the input pixels in its field (parts of pixels at the rim counted in part), minus one.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import scipy.ndimage
import skimage.transform
import torch
from measuring import Machine, Timing, Work, by_turns, threads
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from peculiar.core.params import load
from peculiar.galaxies.params import Fetch, StandIn
from peculiar.galaxies.standin.simulation import render, simulate
from peculiar.mock.resample import arcsec_per_pixel, place

Floats = NDArray[np.float32]
GROUP = "placing"
SIDE, PIXELS, SCALE_ARCSEC, KPC = 256, 128, 1.36, 84.4 / 256
SLOW = 2  # images that the slow ones are asked for


def galaxies(number: int, rng: np.random.Generator) -> Floats:
    """Images (n, band, y, x) of light stand-in galaxies."""
    found = [render(simulate(rng, light()), light()) for _ in range(-(-number // 4))]
    return np.concatenate(found)[:number].copy()


def shipped() -> StandIn:
    """The stand-in simulation of the repository's `params.yaml`."""
    return load(Fetch, Path(__file__).parents[1] / "params.yaml").standin


def light() -> StandIn:
    """The same for galaxies of the least mass, drawn in a tenth of a second."""
    changes = {"pixels": SIDE, "log10_mass_min": 10.0, "log10_mass_max": 10.05}
    return shipped().model_copy(update=changes)


def ratios_of(distance_mpc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Input pixels per output pixel."""
    distance = torch.from_numpy(distance_mpc)
    return np.asarray(SCALE_ARCSEC / arcsec_per_pixel(torch.full_like(distance, KPC), distance))


def ours(
    images: Floats, distance_mpc: NDArray[np.float64], device: torch.device
) -> Callable[[], torch.Tensor]:
    """`peculiar.mock.resample.place` of all images at once."""
    on_device = torch.from_numpy(images).to(device)
    distance = torch.from_numpy(distance_mpc).to(device)
    kpc = torch.full_like(distance, KPC)

    def run() -> torch.Tensor:
        placed = place(
            on_device,
            kpc,
            distance,
            pixels=PIXELS,
            pixel_scale_arcsec=SCALE_ARCSEC,
            dimming="physical",
            psf_fwhm_arcsec=None,
        )
        if device.type == "cuda":
            torch.cuda.synchronize()
        return placed

    return run


def warp(image: Floats, ratio: float, flags: int) -> Floats:
    """`cv2.warpAffine`, band by band: exact in its centre, never widened."""
    start = (SIDE - 1) / 2 - (PIXELS - 1) / 2 * ratio
    matrix = np.array([[ratio, 0, start], [0, ratio, start]])
    out = np.empty((len(image), PIXELS, PIXELS), dtype=np.float32)
    for one, into in zip(image, out, strict=True):
        cv2.warpAffine(one, matrix, (PIXELS, PIXELS), into, flags | cv2.WARP_INVERSE_MAP)
    return out


def middle(ratio: float) -> slice:
    """The nearest even number of whole pixels that the output covers."""
    half = min(round(ratio * PIXELS / 2), SIDE // 2)
    return slice(SIDE // 2 - half, SIDE // 2 + half)


def cv2_resize(image: Floats, ratio: float, flags: int) -> Floats:
    """`cv2.resize` of the nearest whole pixels."""
    part = middle(ratio)
    size = (PIXELS, PIXELS)
    resized = [cv2.resize(one[part, part], size, interpolation=flags) for one in image]
    return np.array(resized, dtype=np.float32)


def scipy_zoom(image: Floats, ratio: float) -> Floats:
    """`scipy.ndimage.zoom`, a cubic spline, of the nearest whole pixels."""
    seen = image[:, middle(ratio), middle(ratio)]
    zoom = PIXELS / seen.shape[-1]
    return np.array([scipy.ndimage.zoom(one, zoom, order=3) for one in seen])


def skimage_resize(image: Floats, ratio: float) -> Floats:
    """`skimage.transform.resize`, cubic after a Gaussian blur, of the nearest whole pixels."""
    seen, size = image[:, middle(ratio), middle(ratio)], (PIXELS, PIXELS)
    return np.array(
        [
            skimage.transform.resize(one, size, order=3, anti_aliasing=True)  # type: ignore[no-untyped-call]
            for one in seen
        ]
    )


def torch_interpolate(image: Floats, ratio: float) -> Floats:
    """Antialiased bicubic of torch, of the nearest whole pixels."""
    seen = torch.from_numpy(image[None, :, middle(ratio), middle(ratio)])
    size = (PIXELS, PIXELS)
    return np.asarray(interpolate(seen, size, mode="bicubic", antialias=True)[0])


def light_in_field(image: Floats, ratio: float) -> NDArray[np.float64]:
    """Light (band,) of the input that falls on the output."""
    edge = np.arange(SIDE + 1) - SIDE / 2
    half = ratio * PIXELS / 2
    share = np.clip(np.minimum(edge[1:], half) - np.maximum(edge[:-1], -half), 0, 1)
    return np.asarray(np.einsum("byx,y,x->b", image.astype(float), share, share))


def flux_errors(
    images: Floats, ratios: NDArray[np.float64], one: Callable[[Floats, float], Floats]
) -> NDArray[np.float64]:
    """Absolute flux errors, (image, band)."""
    pairs = list(zip(images, ratios, strict=True))
    seen = np.array([one(i, r).sum((-2, -1), dtype=float) * r**2 for i, r in pairs])
    errors = seen / np.array([light_in_field(i, r) for i, r in pairs]) - 1
    return np.asarray(np.abs(errors))


PEERS: dict[str, Callable[[Floats, float], Floats]] = {
    "cv2.warpAffine, cubic": lambda i, r: warp(i, r, cv2.INTER_CUBIC),
    "cv2.warpAffine, linear": lambda i, r: warp(i, r, cv2.INTER_LINEAR),
    "cv2.resize, cubic": lambda i, r: cv2_resize(i, r, cv2.INTER_CUBIC),
    "cv2.resize, area": lambda i, r: cv2_resize(i, r, cv2.INTER_AREA),
    "torch interpolate, one by one": torch_interpolate,
    "skimage.transform.resize": skimage_resize,
    "scipy.ndimage.zoom": scipy_zoom,
}
SLOW_ONES = ("skimage.transform.resize", "scipy.ndimage.zoom")


def difference(
    images: Floats, ratios: NDArray[np.float64], one: Callable[[Floats, float], Floats]
) -> float:
    """Greatest difference between ours and another, of each image's peak."""
    worst = 0.0
    for image, ratio in zip(images, ratios, strict=True):
        own = placed_alone(image, ratio)
        worst = max(worst, float(np.abs(own - one(image, ratio)).max() / own.max()))
    return worst


def placed_alone(image: Floats, ratio: float) -> Floats:
    """Ours for one image."""
    distance = np.array([50.0]) * ratio / ratios_of(np.array([50.0]))
    return np.asarray(ours(image[None], distance, torch.device("cpu"))()[0])


def limits(ratios: NDArray[np.float64], bands: int = 5) -> tuple[float, float]:
    """Operations and bytes of one image on paper.

    Twice eight taps (four times the ratio, at least four) an output pixel and axis; the field is
    read once and the output written once.
    """
    taps = 4 * np.maximum(ratios, 1)
    seen = np.minimum(PIXELS * ratios + taps, SIDE)
    operations = 2 * bands * PIXELS * taps * (seen + PIXELS)
    moved = 4 * bands * (seen**2 + PIXELS**2)
    return float(operations.mean()), float(moved.mean())


def rows(machine: Machine, repeats: int, quick: bool, device: torch.device) -> Iterator[Timing]:
    """Per core on the CPU, over its cores, and on a GPU where there is one."""
    rng = np.random.default_rng(0)
    n = 8 if quick else 64
    images = galaxies(8, rng)
    distance_mpc = rng.uniform(50, 100, n)
    images, ratios = np.tile(images, (n // 8, 1, 1, 1)), ratios_of(distance_mpc)
    few = slice(0, 8)

    def notes(one: Callable[[Floats, float], Floats]) -> str:
        errors = 100 * flux_errors(images[few], ratios[few], one)
        text = f"flux error median {np.median(errors):.4f} %, worst {errors.max():.3f} %"
        if one is placed_alone:
            return text
        return f"{text}; differs by {difference(images[few], ratios[few], one):.2g} of the peak"

    threads(1)
    own = ours(images, distance_mpc, torch.device("cpu"))
    competitors: dict[str, Callable[[], None]] = {"ours": lambda: _drop(own())}
    for name, one in PEERS.items():
        number = SLOW if name in SLOW_ONES else n
        competitors[name] = _each(one, images[:number], ratios[:number])
    operations, moved = limits(ratios)
    yield from by_turns(
        Work(
            GROUP,
            "one core",
            "images/s",
            n,
            competitors,
            limit=1 / machine.seconds(operations, moved, core=True),
            limit_by="operations of the taps, copy of field and frame",
            notes={"ours": notes(placed_alone)} | {name: notes(one) for name, one in PEERS.items()},
            aims={"cv2.warpAffine, cubic": 1.0, "scipy.ndimage.zoom": 100.0},
            amounts=dict.fromkeys(SLOW_ONES, SLOW),
        ),
        repeats,
    )

    def with_threads(number: int) -> Callable[[], None]:
        def run() -> None:
            threads(number)
            own()

        return run

    scaling = {f"ours, {k} threads": with_threads(k) for k in _powers(machine.cores)[::-1]}
    if len(scaling) > 1:
        yield from by_turns(Work(GROUP, "over cores", "images/s", n, scaling), repeats)
    threads(machine.cores)
    if device.type == "cuda":
        yield from gpu(images, distance_mpc, repeats, device)


def gpu(
    images: Floats, distance_mpc: NDArray[np.float64], repeats: int, device: torch.device
) -> Iterator[Timing]:
    """All at once on the GPU, the images there already, against torch one by one."""
    from measuring import copy_gb_s

    images = np.tile(images, (4, 1, 1, 1))
    distance_mpc = np.tile(distance_mpc, 4)
    own, ratios = ours(images, distance_mpc, device), ratios_of(distance_mpc)
    resident = torch.from_numpy(images).to(device)

    def theirs() -> None:
        for image, ratio in zip(resident, ratios, strict=True):
            part = middle(ratio)
            interpolate(
                image[None, :, part, part], (PIXELS, PIXELS), mode="bicubic", antialias=True
            )
        torch.cuda.synchronize()

    _, moved = limits(ratios)
    work = Work(
        GROUP,
        "on the GPU",
        "images/s",
        len(images),
        {"ours": lambda: _drop(own()), "torch interpolate, one by one": theirs},
        limit=copy_gb_s(device) * 1e9 / moved,
        limit_by="copy of field and frame",
        notes={"ours": "aim: half of the limit"},
    )
    yield from by_turns(work, repeats)


def profile() -> str:
    """Where the time of placing goes on one core, ms an image."""
    from time import perf_counter

    from peculiar.mock import kernels, resample

    threads(1)
    rng = np.random.default_rng(0)
    images, distance_mpc = galaxies(8, rng), rng.uniform(50, 100, 8)
    ratio = torch.from_numpy(ratios_of(distance_mpc)).float()
    own = ours(images, distance_mpc, torch.device("cpu"))
    taps = kernels.taps(ratio, SIDE, PIXELS)
    parts: dict[str, Callable[[], object]] = {
        "weights of the kernel": lambda: kernels.taps(ratio, SIDE, PIXELS),
        "their blocks": lambda: resample._banded(*taps),
        "all": own,
    }
    lines = []
    for name, part in parts.items():
        taken = []
        for _ in range(20):
            start = perf_counter()
            part()
            taken.append(perf_counter() - start)
        lines.append(f"{name} {1e3 * float(np.median(taken)) / 8:.3f}")
    return "placing, ms an image: " + ", ".join(lines)


def _powers(cores: int) -> list[int]:
    """1, 2, 4 ... and all cores."""
    return sorted({2**k for k in range(cores.bit_length()) if 2**k <= cores} | {cores})


def _each(
    one: Callable[[Floats, float], Floats], images: Floats, ratios: NDArray[np.float64]
) -> Callable[[], None]:
    def run() -> None:
        for image, ratio in zip(images, ratios, strict=True):
            one(image, ratio)

    return run


def _drop(_: object) -> None:
    """Forget a result: what a competitor returns would be taken for seconds."""
