"""What a network would see of a galaxy, in its own pixels, and what is odd of the image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from peculiar.core.errors import InputError, NotFinite
from peculiar.core.survey import Dimming
from peculiar.galaxies.galaxy import Galaxy
from peculiar.mock.instrument import photograph
from peculiar.mock.resample import arcsec_per_pixel, kpc_per_arcsec, place
from peculiar.registry.champion import Champion

FULL_WELL_PIXELS = 4  # so many of exactly the greatest brightness are no coincidence in float32


@dataclass(frozen=True)
class Sighting:
    """One image as a network sees it.

    Attributes
    ----------
    image : ndarray, (band, pixels, pixels), float32
        Surface brightness, W/m/m^2/sr.
    flags : tuple of str
        `coarse_pixels` where the input's pixels are wider than the network's, so that detail which
        it was trained to look for is missing; `small_field` where the input ends within the
        network's frame, which is dark there; `saturated` where several pixels share the greatest
        brightness of a band.
    """

    image: NDArray[np.float32]
    flags: tuple[str, ...]


def place_galaxy(
    galaxy: Galaxy,
    distances_mpc: Sequence[float],
    *,
    pixels: int,
    pixel_scale_arcsec: float,
    dimming: Dimming,
) -> torch.Tensor:
    """Each camera's image at each distance.

    Parameters
    ----------
    galaxy : Galaxy
        Images (camera, band, y, x), W/m/m^2/sr.
    distances_mpc : sequence of float
        Distances, Mpc.
    pixels, pixel_scale_arcsec, dimming
        See `peculiar.mock.resample.place`.

    Returns
    -------
    Tensor, (distance, camera, band, pixels, pixels)
        Surface brightness, W/m/m^2/sr.
    """
    images = torch.from_numpy(galaxy.images)
    scale = torch.from_numpy(np.asarray(galaxy.kpc_per_pixel))
    offset = torch.tensor([galaxy.centre_offset] * len(images), dtype=torch.float64)
    placed = [
        place(
            images,
            scale,
            torch.full_like(scale, distance),
            pixels=pixels,
            pixel_scale_arcsec=pixel_scale_arcsec,
            dimming=dimming,
            centre_offset=offset,
        )
        for distance in distances_mpc
    ]
    return torch.stack(placed)


def is_real(galaxy: Galaxy) -> bool:
    """Whether the image is of a real galaxy, which cannot be moved."""
    return bool(np.isnan(galaxy.kpc_per_pixel).any())


def resample_galaxy(galaxy: Galaxy, *, pixels: int, pixel_scale_arcsec: float) -> torch.Tensor:
    """The image of a real galaxy in the pixels of a network, where it is.

    Parameters
    ----------
    galaxy : Galaxy
        Images (camera, band, y, x), W/m/m^2/sr, of known angular pixel scale.
    pixels, pixel_scale_arcsec
        See `peculiar.mock.resample.place`.

    Returns
    -------
    Tensor, (camera, band, pixels, pixels)
        Surface brightness, W/m/m^2/sr.
    """
    # at any distance, if the pixels are as wide as they look from there
    kpc_per_pixel = kpc_per_arcsec(np.ones(len(galaxy.images))) * galaxy.pixel_scale_arcsec
    return place_galaxy(
        replace(galaxy, kpc_per_pixel=kpc_per_pixel),
        [1.0],
        pixels=pixels,
        pixel_scale_arcsec=pixel_scale_arcsec,
        dimming="physical",
    )[0]


def photograph_galaxy(
    champion: Champion,
    galaxy: Galaxy,
    distances_mpc: Sequence[float],
    rngs: Sequence[np.random.Generator],
) -> NDArray[np.float32]:
    """A simulated galaxy as the champion's training images were seen.

    Parameters
    ----------
    champion : Champion
        Its pixels, dimming and instrument.
    galaxy : Galaxy
        With the champion's bands.
    distances_mpc : sequence of float
        Distances to place it at, Mpc.
    rngs : sequence of numpy.random.Generator, (distances x cameras,)
        Of the instrument's noise.

    Returns
    -------
    ndarray, (distances x cameras, band, pixels, pixels), float32
        Surface brightness, W/m/m^2/sr.
    """
    scale = champion.pixel_scale_arcsec

    def placed(pixels: int) -> NDArray[np.float32]:
        images = place_galaxy(
            galaxy,
            distances_mpc,
            pixels=pixels,
            pixel_scale_arcsec=scale,
            dimming=champion.dimming,
        )
        return images.flatten(0, 1).numpy()

    return photograph(placed, champion.pixels, champion.bands, scale, champion.instrument, rngs)


def sight(
    champion: Champion, galaxy: Galaxy, camera: int, distance_mpc: float, seed: int = 0
) -> Sighting:
    """One camera's image of a galaxy in the champion's pixels.

    Parameters
    ----------
    champion : Champion
        Whose pixels.
    galaxy : Galaxy
        With the champion's bands.
    camera : int
        Which of its images.
    distance_mpc : float
        Where to place a simulated galaxy, Mpc; NaN for a real one.
    seed : int
        Of the noise that a champion's instrument adds to a simulated one.

    Returns
    -------
    Sighting

    Raises
    ------
    InputError
        When the galaxy has no such camera, cannot be placed, or is smaller than a pixel;
        `NotFinite` when a pixel is no number.
    """
    if not 0 <= camera < len(galaxy.images):
        raise InputError(f"{galaxy.source} has cameras 0 to {len(galaxy.images) - 1}, not {camera}")
    real, kpc = is_real(galaxy), galaxy.kpc_per_pixel[camera : camera + 1]
    galaxy = replace(galaxy, images=galaxy.images[camera : camera + 1], kpc_per_pixel=kpc)
    if not np.isfinite(galaxy.images).all():
        raise NotFinite(f"{galaxy.source} has pixels that are not finite: mask or mend them")
    flags = odd_of(champion, galaxy, _scale_arcsec(galaxy, real, distance_mpc))
    if not real:
        rngs = [np.random.default_rng(seed)]
        return Sighting(photograph_galaxy(champion, galaxy, [distance_mpc], rngs)[0], flags)
    return Sighting(_resampled(champion, galaxy), flags)


def _scale_arcsec(galaxy: Galaxy, real: bool, distance_mpc: float) -> float:
    """Angle that a pixel of the input spans, arcsec, once the galaxy is where it shall be."""
    if real and not np.isnan(distance_mpc):
        raise InputError(
            f"{galaxy.source} is of a real galaxy, which cannot be moved: give no distance for it"
        )
    if real:
        return galaxy.pixel_scale_arcsec
    if not 0 < distance_mpc < np.inf:
        raise InputError(
            f"{galaxy.source} is of a simulated galaxy: say in distance_mpc or with --at how far "
            "to place it"
        )
    kpc, distance = torch.from_numpy(galaxy.kpc_per_pixel), torch.tensor([distance_mpc])
    return float(arcsec_per_pixel(kpc.double(), distance.double())[0])


def odd_of(champion: Champion, galaxy: Galaxy, scale_arcsec: float) -> tuple[str, ...]:
    """Flags of `Sighting` for the one image of a galaxy, whose pixels span `scale_arcsec`."""
    sides = galaxy.images.shape[-2:]
    if not scale_arcsec * max(sides) > champion.pixel_scale_arcsec:
        raise InputError(
            f"{galaxy.source} is smaller than a pixel of {champion.pixel_scale_arcsec}"
            " arcsec: place it nearer, or correct its pixel scale"
        )
    flags = []
    if scale_arcsec > champion.pixel_scale_arcsec * (1 + 1e-6):
        flags.append("coarse_pixels")
    field = (champion.pixels * champion.pixel_scale_arcsec) * (1 - 1e-6)
    offset = np.abs(galaxy.centre_offset)[::-1]
    if ((np.array(sides) - 2 * offset) * scale_arcsec < field).any():
        flags.append("small_field")
    top = galaxy.images.max(axis=(-2, -1), keepdims=True)
    full = ((galaxy.images == top) & (top > 0)).sum(axis=(-2, -1))
    if (full >= FULL_WELL_PIXELS).any():
        flags.append("saturated")
    return tuple(flags)


def _resampled(champion: Champion, galaxy: Galaxy) -> NDArray[np.float32]:
    """A real galaxy's image (band, pixels, pixels); as it is, where it has the right pixels."""
    pixels, scale = champion.pixels, champion.pixel_scale_arcsec
    alike = np.isclose(galaxy.pixel_scale_arcsec, scale, rtol=1e-6, atol=0)
    if alike and galaxy.images.shape[-2:] == (pixels, pixels) and not any(galaxy.centre_offset):
        return np.asarray(galaxy.images[0])
    return resample_galaxy(galaxy, pixels=pixels, pixel_scale_arcsec=scale)[0].numpy()
