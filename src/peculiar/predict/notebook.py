"""For people in notebooks: Quantities in, Quantities and tables out."""

import math
from dataclasses import replace

import astropy.units as u
import numpy as np
from astropy.table import QTable

from peculiar.core.errors import InputError, NotFinite
from peculiar.core.params import load, params_or_defaults
from peculiar.galaxies.galaxy import Galaxy
from peculiar.predict.estimate import COLUMNS, estimates, outputs, warnings
from peculiar.predict.view import sight
from peculiar.registry.champion import Champion, load_champion
from peculiar.registry.params import Promote

BRIGHTNESS = u.W / u.m**3 / u.sr


def load_model(name: str | None = None) -> Champion:
    """Load the promoted network.

    Parameters
    ----------
    name : str, optional
        Its name in the registry; by default that of `params.yaml` in the working folder. The
        registry is `mlruns/` there, or the server that `MLFLOW_TRACKING_URI` names.

    Returns
    -------
    Champion
        Its attributes say which images it wants.

    Raises
    ------
    InputError
        When there is none.

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
) -> QTable:
    """Distances and peculiar velocities of galaxies from their images and redshifts.

    Parameters
    ----------
    images : Quantity, (n, band, y, x) or (band, y, x), W/m^3/sr
        Surface brightness per wavelength in the model's bands, each galaxy at the middle.
    cz : Quantity, (n,) or (), km/s
        Redshift times the speed of light; NaN where unknown.
    model : Champion
        From `load_model`.
    cz_error : Quantity, (n,) or (), km/s, optional
        Its standard deviation.
    pixel_scale : Quantity, (), arcsec, optional
        Angle that a pixel spans; other than the model's, images are resampled. By default the
        model's.

    Returns
    -------
    QTable, n rows
        `D_p` and `D_error`, predicted distance and its error, and `D_z` = cz / H0 [Mpc]; `v_p`, the
        paper's H0 (D_z - D_p), `v_hat` and `v_error`, mean and deviation of the posterior, and
        `v_low68`, `v_high68`, `v_low95`, `v_high95`, its central intervals [km/s]; `flags`, "ok" or
        what is outside the training data (`peculiar.predict.estimate.warnings`,
        `peculiar.predict.view.Sighting`). Images with pixels that are not finite have NaN and the
        flag `nan_pixels`. The model is described in `meta`.

    Raises
    ------
    InputError
        When shapes do not fit together or a unit is another quantity's.

    Examples
    --------
    >>> import astropy.units as u
    >>> import numpy as np
    >>> from peculiar import load_model, predict_velocity
    >>> model = load_model()
    >>> images = np.ones((2, 4, 32, 32)) * 0.01 * u.W / u.m**3 / u.sr
    >>> table = predict_velocity(images, [5000, 6000] * u.km / u.s, model, cz_error=30 * u.km / u.s)
    >>> table["D_z"].to_value("Mpc").round(2).tolist()
    [71.43, 85.71]
    >>> bool((table["v_error"] < 410 * u.km / u.s).all())
    True
    >>> table.meta["version"]
    '1'
    """
    values = np.asarray(_value("images", images, BRIGHTNESS), dtype=np.float32)
    values = values[None] if values.ndim == 3 else values
    if values.ndim != 4 or values.shape[1] != len(model.bands) or 0 in values.shape:
        raise InputError(
            f"images must be (n, {len(model.bands)}, y, x) for the bands {model.bands}, not "
            f"{np.shape(images)}"
        )
    scale = model.pixel_scale_arcsec
    if pixel_scale is not None:
        scale = float(_value("pixel_scale", pixel_scale, u.arcsec))
    if not 0 < scale < math.inf:
        raise InputError(f"pixel_scale must be positive, not {scale:g} arcsec")
    try:
        speeds = [
            _value(name, speed, u.km / u.s) for name, speed in (("cz", cz), ("cz_error", cz_error))
        ]
        speed, error = (np.broadcast_to(s, len(values)).astype(float) for s in speeds)
    except ValueError:
        raise InputError(
            f"cz and cz_error must have one value for each of {len(values)} images"
        ) from None
    if not (np.nan_to_num(error) >= 0).all():
        raise InputError("cz_error must not be negative")
    return _table(model, values, speed, error, scale)


def _value(name: str, quantity: u.Quantity, unit: u.Unit) -> np.ndarray:
    if not isinstance(quantity, u.Quantity):
        raise InputError(f"{name} must be a Quantity in {unit}: multiply it by its unit")
    try:
        return np.asarray(quantity.to_value(unit))
    except u.UnitConversionError:
        raise InputError(f"{name} is in {quantity.unit}, not in {unit}") from None


def _table(
    model: Champion, images: np.ndarray, cz: np.ndarray, error: np.ndarray, scale: float
) -> QTable:
    """What `predict_velocity` returns, of checked plain numbers."""
    nothing = Galaxy(0, images[:0], np.array([np.nan]), "the image", pixel_scale_arcsec=scale)
    n, seen = len(images), []
    flags: list[tuple[str, ...]] = [("nan_pixels",)] * n
    good = []
    for k, image in enumerate(images):
        try:
            sighting = sight(model, replace(nothing, images=image[None]), 0, math.nan)
        except NotFinite:
            continue
        good.append(k)
        seen.append(sighting.image)
        flags[k] = sighting.flags
    columns = {name: np.full(n, np.nan) for name in COLUMNS}
    if good:
        stack = np.stack(seen)
        of_good = estimates(model, outputs(model, stack), cz[good], error[good])
        for name, numbers in of_good.items():
            columns[name][good] = numbers
        for k, new in zip(good, warnings(model, stack, of_good, error[good]), strict=True):
            flags[k] = (*flags[k], *new)
    table = QTable(meta=model.describe())
    for name, unit in COLUMNS.items():
        table[name] = columns[name] * u.Unit(unit)
    table["flags"] = [", ".join(words) or "ok" for words in flags]
    return table
