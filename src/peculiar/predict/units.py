"""Images in any unit of surface brightness, converted to the unit that networks are trained in."""

from collections.abc import Sequence

import astropy.units as u
import numpy as np
from astropy.utils.masked import Masked
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.core.photometry import PIVOT_WAVELENGTH_M, surface_brightness

BRIGHTNESS = u.W / u.m**3 / u.sr
AB_BRIGHTNESS = u.mag(u.AB / u.arcsec**2)
MAGGY = 3631 * u.Jy  # SDSS: the flux of AB magnitude zero, as in `peculiar.core.photometry`
READABLE = (
    "W / m3 / sr, erg / s / cm2 / Angstrom / arcsec2, MJy / sr, nmgy / pix with pixel_scale, or "
    "AB mag / arcsec2"
)
"""One unit of each kind; all that astropy converts to one of these can be read too."""


def brightness_images(
    images: u.Quantity, bands: Sequence[str], pixel_scale_arcsec: float | None
) -> NDArray[np.float32]:
    """Convert images to surface brightness per wavelength.

    Flux per frequency and photons become flux per wavelength at the band's pivot wavelength.

    Parameters
    ----------
    images : Quantity, (n, band, y, x)
        Surface brightness, AB magnitudes per square arcsec, or flux per pixel, in a unit like
        those of `READABLE`. Nanomaggies alone (`nmgy`, the unit of SDSS frames) are those of a
        pixel, and `mag / arcsec2` alone is AB.
    bands : sequence of str, (band,)
        SDSS bands.
    pixel_scale_arcsec : float or None
        Angle that a pixel subtends, arcsec; needed for flux per pixel alone.

    Returns
    -------
    ndarray, (n, band, y, x), float32
        Surface brightness, W/m/m^2/sr; NaN where an image is masked. A magnitude of +inf is no
        light, one of -inf infinitely much.

    Raises
    ------
    InputError
        When the unit is none of surface brightness, or a pixel scale is needed.
    """
    values, unit = unmasked(images), images.unit
    converted = np.empty(values.shape, dtype=np.float32)
    magnitudes = unit == u.mag / u.arcsec**2
    if isinstance(unit, u.MagUnit) and unit.is_equivalent(AB_BRIGHTNESS):
        values, magnitudes = unit.to(AB_BRIGHTNESS, values), True
    for k, band in enumerate(bands):
        with np.errstate(over="ignore"):  # what is too bright for float32 is not finite
            if magnitudes:
                converted[:, k] = surface_brightness(values[:, k], band)
            else:
                converted[:, k] = values[:, k] * _factor(unit, band, pixel_scale_arcsec)
    return converted


def unmasked(quantity: u.Quantity) -> NDArray[np.float64]:
    """Numbers of a Quantity in its own unit, NaN where it is masked."""
    values = np.asarray(getattr(quantity, "unmasked", quantity).value, dtype=float)
    if isinstance(quantity, Masked):
        values = np.where(quantity.mask, np.nan, values)
    return values


def _factor(unit: u.UnitBase, band: str, pixel_scale_arcsec: float | None) -> float:
    """What a number in this unit is multiplied by, for W/m/m^2/sr."""
    refusal = InputError(f"images is in {str(unit) or 'no unit'}, which is none of {READABLE}")
    if not isinstance(unit, u.UnitBase):  # logarithmic, but not AB
        raise refusal
    if unit.is_equivalent(u.W / u.m**2 / u.sr):
        raise InputError(
            f"images is in {unit}, integrated over wavelength: divide it by the band's width, or "
            f"give one of {READABLE}"
        )
    at_pivot = u.spectral_density(PIVOT_WAVELENGTH_M[band] * u.m)
    try:
        return float(_per_solid_angle(unit, pixel_scale_arcsec).to_value(BRIGHTNESS, at_pivot))
    except u.UnitConversionError:
        raise refusal from None


def _per_solid_angle(unit: u.UnitBase, pixel_scale_arcsec: float | None) -> u.Quantity:
    """One of a unit, with janskys for maggies and a solid angle for a pixel."""
    one = 1 * unit
    if u.mgy in unit.decompose().bases:
        one = (one / u.mgy * MAGGY).decompose()
        if one.unit.is_equivalent(u.Jy):
            one = one / u.pix
    if u.pix not in one.unit.decompose().bases:
        return one
    if pixel_scale_arcsec is None:
        raise InputError(f"images in {unit} are flux per pixel: give pixel_scale")
    return one * u.pix / (pixel_scale_arcsec * u.arcsec) ** 2
