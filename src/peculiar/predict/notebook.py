"""For notebooks and scripts: Quantities in, a table of Quantities out."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import astropy.units as u
import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.core.frames import FRAMES, UNKNOWN
from peculiar.core.params import load, params_or_defaults
from peculiar.predict.dust import MOST_EBV, MOST_MAG, extinction_mag
from peculiar.predict.estimate import predict_images
from peculiar.predict.priors import prior_named
from peculiar.predict.units import brightness_images, unmasked
from peculiar.predict.view import view_images
from peculiar.registry.champion import Champion, load_champion
from peculiar.registry.params import Promote

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord


def load_model(name: str | None = None) -> Champion:
    """Load the champion: the network that was promoted.

    Parameters
    ----------
    name : str, optional
        Its name in the registry; by default that of `params.yaml` in the working folder. The
        registry is `mlruns/` there, or the server that `MLFLOW_TRACKING_URI` names.

    Returns
    -------
    Champion
        Its attributes say which images it needs.

    Raises
    ------
    InputError
        When there is no champion.

    Examples
    --------
    >>> from peculiar import load_model
    >>> model = load_model()
    >>> model.bands, model.pixels, model.pixel_scale_arcsec
    ('griz', 32, 5.44)
    """
    return load_champion(load(Promote, params_or_defaults()).model if name is None else name)


def predict_velocity(
    images: u.Quantity,
    cz: u.Quantity,
    model: Champion,
    *,
    cz_error: u.Quantity = 0 * u.km / u.s,
    pixel_scale: u.Quantity | None = None,
    prior: str | Path | None = None,
    frame: str = UNKNOWN,
    position: "SkyCoord | None" = None,
    cosmology: str | None = None,
    v_prior: u.Quantity | None = None,
    v_prior_error: u.Quantity | None = None,
    ebv: u.Quantity | None = None,
    extinction: u.Quantity | None = None,
) -> QTable:
    """Predict distances and peculiar velocities of galaxies from their images and redshifts.

    Parameters
    ----------
    images : Quantity, (n, band, y, x) or (band, y, x)
        Sky-subtracted images in the model's bands, each galaxy at the middle. Units are those of
        surface brightness, per wavelength (W / m3 / sr, erg / s / cm2 / Angstrom / arcsec2) or
        per frequency (MJy / sr), converted at the band's pivot wavelength; of flux per pixel
        (nmgy / pix; plain nmgy is per pixel too), with `pixel_scale`; or AB magnitudes,
        mag / arcsec2, where +inf is no light. Masked pixels are not finite.
    cz : Quantity, (n,) or (), km/s
        Redshift times the speed of light; NaN or masked where unknown.
    model : Champion
        From `load_model`.
    cz_error : Quantity, (n,) or (), km/s, optional
        Standard deviation of `cz`. Where it is NaN or masked there is no posterior.
    pixel_scale : Quantity, (), arcsec or arcsec / pix, optional
        Angle that a pixel subtends, by default that of the model. Images of another pixel scale
        or size are resampled.
    prior : str or Path, optional
        Prior on the distance: "uniform" (default), "volume", "flux-limited" (SDSS' r < 17.77; for
        another survey "flux-limited(limit=17.77, M_star=-20.44, alpha=-1.05)"), "training" (that of
        the model's training images), or a CSV or ECSV file with the columns `distance_mpc` and
        `density`. See `peculiar.predict.priors`. An older model has "training" in what it gives,
        and that is its default.
    frame : {"heliocentric", "lg", "cmb"}, optional
        Frame of `cz`: of the Sun, of the Local Group, or of the cosmic microwave background.
    position : SkyCoord, (n,) or (), optional
        Where the galaxies are. Redshifts of another frame are converted to the CMB's with it; one
        whose frame or position is unknown is taken as it is, and flagged `frame`.
    cosmology : {"flat_lambda_cdm", "hubble"}, optional
        Law of distance and redshift: with the matter density 0.3 (default), or D_z = cz / H0, as
        in the paper and in simulated images.
    v_prior, v_prior_error : Quantity, (n,) or (), km/s, optional
        Mean and standard deviation of the velocities in the CMB's frame before the image is seen,
        such as those of a reconstruction of the flow. Galaxies without, also where both are NaN or
        masked, have the model's N(0, sigma_v); those with one alone, or one that cannot be used,
        have no posterior and the flag `bad_prior`.
    ebv : Quantity, (n,) or (), mag, optional
        E(B-V) by dust of the Milky Way, of the maps of Schlegel, Finkbeiner & Davis 1998, whose
        extinction is removed from the images. Those without are flagged `dust`.
    extinction : Quantity, (n, band) or (band,), mag, optional
        Its extinction in the model's bands, in place of `ebv`; 0 where it is removed already.

    Returns
    -------
    QTable, n rows
        `cz`, `cz_error`
            Redshift used, times the speed of light, and its standard deviation, km/s.
        `ra`, `dec`
            Position used, deg; NaN without one.
        `D_p`, `D_error`
            Predicted distance and its standard deviation, Mpc.
        `D_z`
            Distance of the redshift, Mpc.
        `eta`, `eta_error`
            Mean and standard deviation of log10(D_z / D) over p(D | image).
        `v_p`
            Peculiar velocity of D_p and the redshift, km/s, positive away from us.
        `A_g` and so on
            Extinction by the Milky Way that was removed in the model's bands, mag.
        `v_prior`, `v_prior_error`
            Mean and standard deviation of the prior on the peculiar velocity, km/s.
        `v_hat`, `v_error`
            Mean and standard deviation of the posterior of the peculiar velocity, km/s.
        `v_low68`, `v_high68`, `v_low95`, `v_high95`
            Its central 68.3 and 95.4 per cent intervals, km/s.
        `frame`
            Frame of `cz`, and so of `D_z` and all velocities.
        `flags`
            Problems, separated by commas, or "ok" (`peculiar.predict.columns.FLAGS`).

        A galaxy whose image has pixels that are not finite has NaN and the flag `nan_pixels`; one
        without a redshift has a distance alone and `no_cz`. `meta` describes the model and names
        the prior.

    Raises
    ------
    InputError
        When shapes do not fit together, a unit cannot be read, `cz_error` is negative, or there is
        no such prior or frame.

    Examples
    --------
    >>> import astropy.units as u
    >>> import numpy as np
    >>> from peculiar import load_model, predict_velocity
    >>> model = load_model()
    >>> images = np.full((2, 4, 32, 32), 22) * u.mag(u.AB / u.arcsec**2)
    >>> table = predict_velocity(images, [5000, 6000] * u.km / u.s, model, cz_error=30 * u.km / u.s)
    >>> table["D_z"].to_value("Mpc").round(2).tolist()
    [71.16, 85.33]
    >>> bool((table["v_error"] < 410 * u.km / u.s).all())
    True
    >>> table.meta["version"]
    '1'
    """
    scale = None if pixel_scale is None else _arcsec(pixel_scale)
    values = brightness_images(_four_axes(images, model.bands), model.bands, scale)
    cz_kms, cz_error_kms = _kms("cz", cz, len(values)), _kms("cz_error", cz_error, len(values))
    if (cz_error_kms < 0).any():
        raise InputError("cz_error must not be negative")
    A = _extinction_mag(ebv, extinction, model.bands, len(values))
    views = view_images(model, values, model.pixel_scale_arcsec if scale is None else scale, A)
    chosen = None if prior is None else prior_named(prior)
    if frame not in (*FRAMES, UNKNOWN):
        raise InputError(f"frame {frame!r} is not known: give {', '.join(FRAMES)}")
    ra_deg, dec_deg = _sky_deg(position, len(values))
    return predict_images(
        model,
        views,
        cz_kms,
        cz_error_kms,
        chosen,
        frame=frame,
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        cosmology=cosmology,
        v_prior_kms=_kms_or_none("v_prior", v_prior, len(values)),
        v_prior_error_kms=_kms_or_none("v_prior_error", v_prior_error, len(values)),
    )


def _sky_deg(
    position: "SkyCoord | None", n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right ascension and declination (ICRS) of n images, deg; NaN without a position."""
    if position is None:
        return np.full(n, np.nan), np.full(n, np.nan)
    try:
        ra, dec = (np.broadcast_to(one.deg, n) for one in (position.icrs.ra, position.icrs.dec))
    except ValueError:
        raise InputError(f"position must have one value for each of {n} images") from None
    return ra, dec


def _four_axes(images: u.Quantity, bands: str) -> u.Quantity:
    """Images (n, band, y, x), checked."""
    if not isinstance(images, u.Quantity):
        raise InputError("images must be a Quantity: multiply it by its unit, such as W / m3 / sr")
    stack = images[None] if images.ndim == 3 else images
    if stack.ndim != 4 or stack.shape[1] != len(bands) or 0 in stack.shape:
        raise InputError(
            f"images must be (n, {len(bands)}, y, x) for the bands {bands}, not {images.shape}"
        )
    return stack


def _arcsec(pixel_scale: u.Quantity) -> float:
    if isinstance(pixel_scale, u.Quantity) and u.pix in pixel_scale.unit.bases:
        pixel_scale = pixel_scale * u.pix
    value = _value("pixel_scale", pixel_scale, u.arcsec)
    if value.ndim:
        raise InputError(f"pixel_scale must be one value for all images, not {value.shape}")
    if not 0 < value < math.inf:
        raise InputError(f"pixel_scale must be positive, not {value:g} arcsec")
    return float(value)


def _kms(name: str, speed: u.Quantity, n: int) -> NDArray[np.float64]:
    """One speed for each of n images, km/s."""
    try:
        return np.broadcast_to(_value(name, speed, u.km / u.s), n)
    except ValueError:
        raise InputError(f"{name} must have one value for each of {n} images") from None


def _kms_or_none(name: str, speed: u.Quantity | None, n: int) -> NDArray[np.float64]:
    """One speed for each of n images, km/s, NaN without one."""
    return np.full(n, np.nan) if speed is None else _kms(name, speed, n)


def _extinction_mag(
    ebv: u.Quantity | None, extinction: u.Quantity | None, bands: str, n: int
) -> NDArray[np.float64] | None:
    """Extinctions (n, band), mag, NaN where unknown; None without any."""
    if ebv is None and extinction is None:
        return None
    if ebv is not None and extinction is not None:
        raise InputError("ebv and extinction say the same: give one of them")
    name, given = ("ebv", ebv) if extinction is None else ("extinction", extinction)
    values, most = _value(name, given, u.mag), MOST_EBV if extinction is None else MOST_MAG
    if (values < 0).any() or (values > most).any():
        raise InputError(f"{name} must be from 0 to {most:g} mag")
    try:
        if extinction is None:
            return extinction_mag(np.broadcast_to(values, n), bands)
        return np.broadcast_to(values, (n, len(bands)))
    except ValueError:
        shape = "one value" if extinction is None else f"{len(bands)} bands"
        raise InputError(f"{name} must have {shape} for each of {n} images") from None


def _value(name: str, quantity: u.Quantity, unit: u.Unit) -> NDArray[np.float64]:
    """Numbers in a unit, NaN where masked."""
    if not isinstance(quantity, u.Quantity):
        raise InputError(f"{name} must be a Quantity in {unit}: multiply it by its unit")
    try:
        return unmasked(quantity.to(unit))
    except u.UnitConversionError:
        raise InputError(f"{name} is in {quantity.unit}, not in {unit}") from None
