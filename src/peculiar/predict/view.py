"""What a network sees of a galaxy: its image in the model's pixels, and the problems with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from peculiar.core.cosmography import HUBBLE, Cosmography
from peculiar.core.errors import InputError
from peculiar.core.survey import Dimming
from peculiar.galaxies.galaxy import Galaxy
from peculiar.mock.images import read_kpc
from peculiar.mock.instrument import photograph
from peculiar.mock.resample import arcsec_per_pixel, kpc_per_arcsec, place
from peculiar.predict.dust import without_dust
from peculiar.registry.champion import Champion

FULL_WELL_PIXELS = 4  # this many of exactly the greatest brightness are no coincidence in float32


@dataclass(frozen=True)
class View:
    """One image as the network sees it, or why there is none.

    Attributes
    ----------
    image : ndarray, (band, pixels, pixels), float32, or None
        Surface brightness, W/m/m^2/sr; None where the image cannot be used.
    flags : tuple of str
        Problems with the image, of `peculiar.predict.columns.FLAGS`.
    reason : str
        One sentence where there is no image.
    simulated : bool
        Whether it shows a simulated galaxy, whose redshift has the motion of no Sun.
    ra_deg, dec_deg : float
        Position (ICRS) by the galaxy's file, deg; NaN where it has none.
    extinction_mag : ndarray, (band,), or None
        The Milky Way's extinction that was removed from the image, mag; None where it is unknown.
    """

    image: NDArray[np.float32] | None
    flags: tuple[str, ...] = ()
    reason: str = ""
    simulated: bool = False
    ra_deg: float = np.nan
    dec_deg: float = np.nan
    extinction_mag: NDArray[np.float64] | None = None


def place_galaxy(
    galaxy: Galaxy,
    distances_mpc: Sequence[float],
    *,
    pixels: int,
    pixel_scale_arcsec: float,
    dimming: Dimming,
    psf_fwhm_arcsec: float | None,
    law: Cosmography,
) -> torch.Tensor:
    """Place each camera's image at each distance.

    Parameters
    ----------
    galaxy : Galaxy
        Images (camera, band, y, x), W/m/m^2/sr.
    distances_mpc : sequence of float
        Distances, Mpc.
    pixels, pixel_scale_arcsec, dimming, psf_fwhm_arcsec
        See `peculiar.mock.resample.place`.
    law : Cosmography
        Gives the redshifts.

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
            psf_fwhm_arcsec=psf_fwhm_arcsec,
            redshift=_redshift(law, distance),
            centre_offset=offset,
        )
        for distance in distances_mpc
    ]
    return torch.stack(placed)


def _redshift(law: Cosmography, distance_mpc: float) -> torch.Tensor | None:
    """Redshift (1,) of a distance; None by Hubble's law."""
    redshift = law.redshift([distance_mpc])
    return None if redshift is None else torch.from_numpy(redshift)


def is_real(galaxy: Galaxy) -> bool:
    """Whether the image is of a real galaxy, which cannot be moved."""
    return bool(np.isnan(galaxy.kpc_per_pixel).any())


def resample_galaxy(
    galaxy: Galaxy, *, pixels: int, pixel_scale_arcsec: float, psf_fwhm_arcsec: float | None
) -> torch.Tensor:
    """Resample a real galaxy to the model's pixels, at its own distance.

    Parameters
    ----------
    galaxy : Galaxy
        Images (camera, band, y, x), W/m/m^2/sr, of known angular pixel scale.
    pixels, pixel_scale_arcsec, psf_fwhm_arcsec
        See `peculiar.mock.resample.place`; the PSF is added to that of the image.

    Returns
    -------
    Tensor, (camera, band, pixels, pixels)
        Surface brightness, W/m/m^2/sr.
    """
    # any distance will do, if the pixels have the size that subtends their angle from there
    kpc_per_pixel = kpc_per_arcsec(np.ones(len(galaxy.images))) * galaxy.pixel_scale_arcsec
    return place_galaxy(
        replace(galaxy, kpc_per_pixel=kpc_per_pixel),
        [1.0],
        pixels=pixels,
        pixel_scale_arcsec=pixel_scale_arcsec,
        dimming="physical",
        psf_fwhm_arcsec=psf_fwhm_arcsec,
        law=Cosmography(HUBBLE, 1.0),  # no redshift: it has its own already
    )[0]


def view_galaxy(
    champion: Champion,
    galaxy: Galaxy,
    camera: int,
    distance_mpc: float,
    seed: int = 0,
    extinction_mag: NDArray[np.float64] | None = None,
    simulated: bool = False,
) -> View:
    """Resample one image of a galaxy to the model's pixels, and flag problems.

    Parameters
    ----------
    champion : Champion
        Its pixels, dimming and instrument.
    galaxy : Galaxy
        With the champion's bands.
    camera : int
        Which of the galaxy's images.
    distance_mpc : float
        Distance to place a simulated galaxy at, Mpc; NaN for a real galaxy.
    seed : int
        Seed of the noise that the champion's instrument adds to a simulated galaxy.
    extinction_mag : ndarray, (band,), optional
        Extinction by the Milky Way to remove from the image, mag; by default that of its file.
    simulated : bool
        Whether it is a simulated galaxy that `observe` has placed already.

    Returns
    -------
    View
        Flags `coarse_pixels`, `small_field` and `saturated`; or no image and `nan_pixels`.

    Raises
    ------
    InputError
        When the galaxy has no such camera, cannot be placed, is smaller than a pixel, or has no
        dust to remove (`peculiar.predict.dust.without_dust`).
    """
    if not 0 <= camera < len(galaxy.images):
        raise InputError(f"{galaxy.source} has cameras 0 to {len(galaxy.images) - 1}, not {camera}")
    scale, side = champion.survey.scale, galaxy.images.shape[-1]
    kpc_per_pixel = galaxy.kpc_per_pixel[camera : camera + 1]
    if not is_real(galaxy):
        kpc_per_pixel = read_kpc(scale, kpc_per_pixel, side)
    image = galaxy.images[camera : camera + 1]
    if not np.isfinite(image).all():
        reason = f"{galaxy.source} has pixels that are not finite: mask or fix them"
        return View(None, ("nan_pixels",), reason)
    galaxy = replace(galaxy, images=image, kpc_per_pixel=kpc_per_pixel)
    flags = image_flags(champion, galaxy, _scale_arcsec(galaxy, distance_mpc, champion.survey.law))
    simulated = simulated or not is_real(galaxy)
    galaxy, A = without_dust(champion, galaxy, extinction_mag, simulated)
    if is_real(galaxy):
        seen = _resampled(champion, galaxy)
    else:
        seen = _photographed(champion, galaxy, distance_mpc, seed)
    return View(seen, flags, "", simulated, galaxy.ra_deg, galaxy.dec_deg, A)


def view_images(
    champion: Champion,
    images: NDArray[np.float32],
    pixel_scale_arcsec: float,
    extinction_mag: NDArray[np.float64] | None = None,
) -> list[View]:
    """Views of real galaxies, each in the middle of its image.

    Parameters
    ----------
    champion : Champion
        Its pixels.
    images : ndarray, (n, band, y, x), float32
        Surface brightness, W/m/m^2/sr, in the champion's bands; bad pixels are not finite.
    pixel_scale_arcsec : float
        Angle that a pixel subtends, arcsec.
    extinction_mag : ndarray, (n, band), optional
        Extinction by the Milky Way to remove, mag; NaN where unknown.

    Returns
    -------
    list of View, n
    """
    galaxy = Galaxy(
        id=0,
        images=images,
        kpc_per_pixel=np.full(len(images), np.nan),
        source="the image",
        pixel_scale_arcsec=pixel_scale_arcsec,
    )
    A = [None] * len(images) if extinction_mag is None else extinction_mag
    return [view_galaxy(champion, galaxy, k, np.nan, 0, A[k]) for k in range(len(images))]


def _scale_arcsec(galaxy: Galaxy, distance_mpc: float, law: Cosmography) -> float:
    """Angle that a pixel of the input subtends at the distance (NaN for a real galaxy), arcsec."""
    if is_real(galaxy):
        if not np.isnan(distance_mpc):
            raise InputError(
                f"{galaxy.source} is of a real galaxy, which cannot be moved: give no distance"
            )
        return galaxy.pixel_scale_arcsec
    if not 0 < distance_mpc < np.inf:
        raise InputError(
            f"{galaxy.source} is of a simulated galaxy: give the distance to place it at, in "
            "distance_mpc or with --at"
        )
    kpc, distance = torch.from_numpy(galaxy.kpc_per_pixel), torch.tensor([distance_mpc])
    redshift = _redshift(law, distance_mpc)
    return float(arcsec_per_pixel(kpc.double(), distance.double(), redshift)[0])


def image_flags(champion: Champion, galaxy: Galaxy, scale_arcsec: float) -> tuple[str, ...]:
    """Flags of a galaxy's one image, whose pixels subtend `scale_arcsec`."""
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
    brightest = galaxy.images.max(axis=(-2, -1), keepdims=True)
    pixels = ((galaxy.images == brightest) & (brightest > 0)).sum(axis=(-2, -1))
    if (pixels >= FULL_WELL_PIXELS).any():
        flags.append("saturated")
    return tuple(flags)


def _photographed(
    champion: Champion, galaxy: Galaxy, distance_mpc: float, seed: int
) -> NDArray[np.float32]:
    """A simulated galaxy's image (band, pixels, pixels), seen as the training images were."""
    scale = champion.pixel_scale_arcsec

    def placed(pixels: int) -> NDArray[np.float32]:
        images = place_galaxy(
            galaxy,
            [distance_mpc],
            pixels=pixels,
            pixel_scale_arcsec=scale,
            dimming=champion.dimming,
            psf_fwhm_arcsec=champion.survey.psf_fwhm_arcsec,
            law=champion.survey.law,
        )
        return np.asarray(images[0].numpy())

    rngs = [np.random.default_rng(seed)]
    side, bands = champion.pixels, champion.bands
    return np.asarray(photograph(placed, side, bands, scale, champion.instrument, rngs)[0])


def _resampled(champion: Champion, galaxy: Galaxy) -> NDArray[np.float32]:
    """A real galaxy's image (band, pixels, pixels); unchanged where its pixels are the model's."""
    pixels, scale = champion.pixels, champion.pixel_scale_arcsec
    same_scale = np.isclose(galaxy.pixel_scale_arcsec, scale, rtol=1e-6, atol=0)
    same_frame = galaxy.images.shape[-2:] == (pixels, pixels) and not any(galaxy.centre_offset)
    if same_scale and same_frame:
        return np.asarray(galaxy.images[0])
    psf = champion.survey.psf_fwhm_arcsec
    seen = resample_galaxy(galaxy, pixels=pixels, pixel_scale_arcsec=scale, psf_fwhm_arcsec=psf)
    return seen[0].numpy()
