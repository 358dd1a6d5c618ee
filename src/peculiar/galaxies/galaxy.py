"""One galaxy as read from a file, and cutting images to one size."""

from dataclasses import dataclass, field, replace
from math import floor

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Galaxy:
    """One galaxy as read from its file; values that the file does not have are NaN.

    Attributes
    ----------
    id : int
        Subhalo number, or NSAID of a real galaxy.
    images : ndarray, (camera, band, y, x), float32
        Surface brightness, W/m/m^2/sr.
    kpc_per_pixel : ndarray, (camera,)
        Physical pixel scale of a simulated galaxy, kpc; NaN for a real one.
    source : str
        Name of the file and of the code that made it.
    log10_stellar_mass : float
        log10(M*/Msun).
    half_mass_radius_kpc : float
        Radius of the sphere that holds half of the stellar mass, kpc.
    absolute_mag : ndarray, (band,) or ()
        Absolute AB magnitudes of the simulation's own catalogue, mag.
    mag_ab : ndarray, (camera, band) or ()
        AB magnitudes of each image in the file's convention, mag.
    pixel_scale_arcsec : float
        Angular pixel scale of a real image, arcsec.
    cz_kms, cz_flow_kms : float
        Speed of light times the redshift of a real galaxy, measured and corrected
        for peculiar velocities by a flow model, km/s.
    cz_frame : str
        Frame of `cz_kms`, of `peculiar.core.frames.FRAMES`; "unknown" without one.
    ra_deg, dec_deg : float
        Position of a real galaxy (ICRS), deg.
    centre_offset : tuple of float
        x and y of the galaxy from the middle of the frame, pixels.
    extinction_mag : ndarray, (band,) or ()
        Extinction by dust of the Milky Way in a real galaxy's images, mag.
    dust_removed : bool
        Whether the file says that this extinction is removed from them.
    """

    id: int
    images: NDArray[np.float32]
    kpc_per_pixel: NDArray[np.float64]
    source: str
    log10_stellar_mass: float = np.nan
    half_mass_radius_kpc: float = np.nan
    absolute_mag: NDArray[np.float64] = field(default_factory=lambda: np.array(np.nan))
    mag_ab: NDArray[np.float64] = field(default_factory=lambda: np.array(np.nan))
    pixel_scale_arcsec: float = np.nan
    cz_kms: float = np.nan
    cz_flow_kms: float = np.nan
    cz_frame: str = "unknown"
    ra_deg: float = np.nan
    dec_deg: float = np.nan
    centre_offset: tuple[float, float] = (0.0, 0.0)
    extinction_mag: NDArray[np.float64] = field(default_factory=lambda: np.array(np.nan))
    dust_removed: bool = False


def frame(galaxy: Galaxy, pixels: int) -> Galaxy:
    """Crop or zero-pad the images to a square around the galaxy.

    The frame moves by integer pixels, so no value changes. The remaining offset of the galaxy is
    at most half a pixel.

    Parameters
    ----------
    galaxy : Galaxy
        Images (camera, band, y, x) of any size; `centre_offset` says where the galaxy is.
    pixels : int
        Side of the frame, pixels.

    Returns
    -------
    Galaxy
        Images (camera, band, pixels, pixels) in the same unit and at the same pixel scale, and
        the new `centre_offset`, from -0.5 to 0.5 pixels in x and y.
    """
    x, y = galaxy.centre_offset
    from_y, to_y, left_y = _overlap(galaxy.images.shape[-2], y, pixels)
    from_x, to_x, left_x = _overlap(galaxy.images.shape[-1], x, pixels)
    images = np.zeros((*galaxy.images.shape[:-2], pixels, pixels), dtype=np.float32)
    images[..., to_y, to_x] = galaxy.images[..., from_y, from_x]
    return replace(galaxy, images=images, centre_offset=(left_x, left_y))


def _overlap(size: int, offset: float, pixels: int) -> tuple[slice, slice, float]:
    """Matching pixels of the image and of the frame, and the new offset."""
    shift = offset + (size - pixels) / 2  # of the frame's first pixel against the image's
    # Halves round one way, so that framing twice equals framing once.
    start = floor(shift + 0.5)
    first = max(start, 0)
    end = max(min(start + pixels, size), first)
    return slice(first, end), slice(first - start, end - start), shift - start
