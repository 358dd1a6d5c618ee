"""Observe simulated images: place them at a distance, behind sky and telescope.

The stage `observe` makes each image once. Training may draw more: each galaxy image at a new
distance each time (`fresh_views`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import cast

import astropy.units as u
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peculiar.core.dataset import RAW_COLUMNS, Observed, open_set
from peculiar.core.errors import InputError
from peculiar.core.photometry import GAUSSIAN_FWHM
from peculiar.core.survey import PAPER_FIELD_KPC, Scale, Simulated, Survey, Uniform
from peculiar.mock.distances import draw_distances_mpc
from peculiar.mock.instrument import photograph
from peculiar.mock.kernels import PSF_REACH, Kernels
from peculiar.mock.resample import kpc_per_arcsec, place

See = Callable[[], tuple[Tensor, Tensor]]  # makes images and labels
Draw = Callable[[NDArray[np.integer]], See]  # of row numbers
REACH = 2  # half width of the cubic kernel, pixels of the input or output
# ranges of random kernels (docs/decisions/0016): slopes from a sharp cubic to one without negative
# lobes, widths from almost no averaging to wider than the default, and a fraction of boxes
SLOPES, WIDTHS, BOXES = (-1.0, 0.0), (0.5, 1.25), 0.2


def read_kpc(scale: Scale, kpc_per_pixel: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    """Pixel scales as a survey reads them.

    Parameters
    ----------
    scale : {"header", "paper"}
        As the files say, or of frames of 84.4 kpc whatever the files say (paper, section 3.1).
    kpc_per_pixel : ndarray, any shape
        Pixel scales of the files, kpc.
    pixels : int
        Side of the complete frames, pixels.

    Returns
    -------
    ndarray, same shape
        Pixel scale to place the images with, kpc.
    """
    if scale == "header":
        return kpc_per_pixel
    return np.full_like(kpc_per_pixel, PAPER_FIELD_KPC / pixels)


def ratio_of(
    kpc_per_pixel: NDArray[np.float64], distance_mpc: NDArray[np.float64], survey: Survey
) -> NDArray[np.float64]:
    """Side of an output pixel over that of a raw pixel (n,), of raw pixels (n,) of so many kpc."""
    per_arcsec = kpc_per_arcsec(distance_mpc, survey.law.redshift(distance_mpc))
    return np.asarray(survey.pixel_scale_arcsec * per_arcsec / kpc_per_pixel)


def views(
    images: NDArray[np.float32],
    kpc_per_pixel: NDArray[np.float64],
    distance_mpc: NDArray[np.float64],
    centre_offset: NDArray[np.float64],
    pixels: int,
    survey: Survey,
    rngs: Sequence[np.random.Generator],
    device: torch.device,
    kernels: Kernels | None = None,
) -> Tensor:
    """Observe images from given distances.

    Parameters
    ----------
    images : ndarray, (n, band, y, x), float32
        Surface brightness, W/m/m^2/sr.
    kpc_per_pixel, distance_mpc : ndarray, (n,)
        Physical pixel scale, kpc, and distance, Mpc.
    centre_offset : ndarray, (n, 2)
        x and y of the galaxies from the middle of the frame, pixels.
    pixels : int
        Side of the output, pixels.
    survey : Survey
        Bands, pixel scale, dimming, PSF and instrument; its `pixels` are not used.
    rngs : sequence of numpy.random.Generator
        One per image, for its noise; not used without an instrument.
    device : torch.device
        Where images are resampled.
    kernels : Kernels, optional
        Resampling kernels; by default the cubic of `peculiar.mock.kernels`.

    Returns
    -------
    Tensor, (n, band, pixels, pixels), float32
        Surface brightness, W/m/m^2/sr, on the device.
    """
    scale_arcsec, redshift = survey.pixel_scale_arcsec, survey.law.redshift(distance_mpc)

    def placed(side: int) -> Tensor:
        return place(
            torch.from_numpy(images).to(device),
            torch.from_numpy(kpc_per_pixel).to(device),
            torch.from_numpy(distance_mpc).to(device),
            pixels=side,
            pixel_scale_arcsec=scale_arcsec,
            dimming=survey.dimming,
            psf_fwhm_arcsec=survey.psf_fwhm_arcsec,
            redshift=None if redshift is None else torch.from_numpy(redshift).to(device),
            centre_offset=torch.from_numpy(centre_offset).to(device),
            kernels=kernels,
        )

    if survey.instrument is None:
        return placed(pixels)
    seen = photograph(
        lambda side: placed(side).numpy(force=True),
        pixels,
        survey.bands,
        scale_arcsec,
        survey.instrument,
        rngs,
    )
    return torch.from_numpy(seen).to(device)


def draw_kernels(size: int, rng: np.random.Generator) -> Kernels:
    """Draw random kernels (size,) that span those of common resamplers, and slightly more."""
    slope, width, share = (rng.uniform(*ends, size) for ends in (SLOPES, WIDTHS, (0.0, 1.0)))
    return Kernels(*map(torch.from_numpy, (slope, width, share < BOXES)))


def _spawned(rng: np.random.Generator, number: int) -> list[np.random.SeedSequence]:
    """Seeds of the generators that `rng.spawn` would give, which take more memory."""
    return cast(np.random.SeedSequence, rng.bit_generator.seed_seq).spawn(number)


def _simulated_distances(survey: Survey) -> Simulated:
    """Distribution of simulated distances; `InputError` for real galaxies."""
    if not isinstance(survey.distances, Simulated):
        raise InputError(
            f"dataset {survey.dataset} has real galaxies, which cannot be moved to fresh "
            "distances: set fresh: false in train"
        )
    return survey.distances


def fresh_views(
    observed: Observed,
    raw: Path,
    pixels: int,
    label: str,
    rng: np.random.Generator,
    device: torch.device,
    random_kernels: bool = False,
    limits_mpc: tuple[float, float] | None = None,
) -> Draw:
    """Return a function that places images of a dataset at new random distances in each call.

    Each image keeps its peculiar velocity, since a survey has one redshift per galaxy. If
    velocities were drawn again too, they would average out, and D_z would be as good a label as D.

    Parameters
    ----------
    observed : Observed
        The dataset; its survey has the distribution of distances.
    raw : Path
        Output of `fetch` from which the dataset was made.
    pixels : int
        Side of the images, pixels: that of the dataset, or less for their central part.
    label : {"D", "D_z"}
        Which distance is the label.
    rng : numpy.random.Generator
        Draws distances, kernels and noise.
    device : torch.device
        Where images are resampled.
    random_kernels : bool
        Resample each image with a kernel of `draw_kernels`, so that a network does not learn the
        sharpness of one resampler.
    limits_mpc : tuple of float, optional
        Limits of uniform distances, Mpc; by default distances follow the dataset's distribution.

    Returns
    -------
    callable
        Draws all random numbers for row numbers (n,) of the dataset. It returns a function that
        makes images (n, band, pixels, pixels), W/m/m^2/sr, and labels (n,), Mpc, both on the
        device. These functions give the same in any order.

    Raises
    ------
    InputError
        When the galaxies are real and cannot be moved, `raw` holds other galaxies, or kernels are
        to be random in images that have a PSF.
    """
    images, galaxies = open_set(raw, RAW_COLUMNS)
    table, survey, cameras = observed.table, observed.survey, images.shape[1]
    law = _simulated_distances(survey)
    if limits_mpc is not None:
        law = Uniform(distribution="uniform", min_mpc=limits_mpc[0], max_mpc=limits_mpc[1])
    if not np.array_equal(np.repeat(galaxies["id"], cameras), table["galaxy"]):
        raise InputError(
            f"{raw} does not hold the galaxies of dataset {survey.dataset}: run `dvc repro observe`"
        )
    stated = galaxies["kpc_per_pixel"].to_value(u.kpc)
    kpc_per_pixel = read_kpc(survey.scale, stated, images.shape[-1])
    offset = galaxies["centre_offset"].to_value(u.pix)
    reach = REACH * (max(1.0, *WIDTHS) if random_kernels else 1.0)
    if survey.psf_fwhm_arcsec is not None:
        sigma = survey.psf_fwhm_arcsec / survey.pixel_scale_arcsec / GAUSSIAN_FWHM
        reach = max(reach, PSF_REACH * sigma)
        if random_kernels:
            raise InputError(
                f"dataset {survey.dataset} has a PSF of {survey.psf_fwhm_arcsec:g} arcsec in place "
                "of cubic kernels: set kernels: false in train"
            )
    shift_mpc = (table["distance_z_mpc"] - table["distance_mpc"]).to_value(u.Mpc)

    def draw(rows: NDArray[np.integer]) -> See:
        distance_mpc = draw_distances_mpc(law, len(rows), rng)
        kernels = draw_kernels(len(rows), rng) if random_kernels else None
        seeds = [] if survey.instrument is None else _spawned(rng, len(rows))
        return partial(see, rows, distance_mpc, kernels, seeds)

    def see(
        rows: NDArray[np.integer],
        distance_mpc: NDArray[np.float64],
        kernels: Kernels | None,
        seeds: Sequence[np.random.SeedSequence],
    ) -> tuple[Tensor, Tensor]:
        galaxy, camera = np.divmod(rows, cameras)
        kpc = kpc_per_pixel[galaxy, camera]
        middle = None
        if survey.instrument is None:  # an instrument needs a margin, so the complete image
            ratio = ratio_of(kpc, distance_mpc, survey)
            middle = 2 * ceil(reach + np.abs(offset).max() + (pixels / 2 + reach) * ratio.max())
        seen = views(
            images.pick(galaxy, camera, middle),
            kpc,
            distance_mpc,
            offset[galaxy],
            pixels,
            survey,
            [np.random.default_rng(seed) for seed in seeds],
            device,
            kernels,
        )
        labels = distance_mpc + (shift_mpc[rows] if label == "D_z" else 0)
        return seen, torch.from_numpy(labels.astype(np.float32)).to(device)

    return draw
