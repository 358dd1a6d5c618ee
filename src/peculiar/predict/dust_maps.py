"""E(B-V) at a position, from the maps of Schlegel, Finkbeiner & Davis 1998, by dustmaps.

The package dustmaps (Green 2018, JOSS 3, 695) is an optional extra. It was not run here with its
genuine maps, which are a download of their own: its documented interface was imitated.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from peculiar.core.errors import InputError
from peculiar.galaxies.galaxy import Galaxy
from peculiar.predict.dust import extinction_mag
from peculiar.predict.view import is_real

FETCH = "python -c 'import dustmaps.sfd; dustmaps.sfd.fetch()'"


@lru_cache(maxsize=1)
def load_sfd() -> Any:
    """The maps, which a SkyCoord is given to.

    Raises
    ------
    InputError
        When dustmaps is not installed, or has no maps.
    """
    try:
        from dustmaps.sfd import SFDQuery  # type: ignore[import-not-found]  # an optional extra
    except ImportError:
        raise InputError(
            "--dust sfd needs dustmaps, an optional extra: install dustmaps, or peculiar[dust]"
        ) from None
    try:
        return SFDQuery()
    except OSError:
        raise InputError(f"dustmaps has no maps of SFD: run {FETCH}") from None


def with_sfd(galaxy: Galaxy, bands: str, ra_deg: float, dec_deg: float) -> Galaxy:
    """Give a real galaxy whose extinction its file does not know that of the maps.

    Parameters
    ----------
    galaxy : Galaxy
        With images in these bands.
    bands : str, (band,)
        SDSS bands.
    ra_deg, dec_deg : float
        Position (ICRS), deg; NaN for that of the file.

    Returns
    -------
    Galaxy
        Unchanged without a position, and where the maps have no value.

    Raises
    ------
    InputError
        See `load_sfd`.
    """
    from astropy.coordinates import SkyCoord  # takes half a second to import

    known = np.isfinite(ra_deg) and np.isfinite(dec_deg)
    ra, dec = (ra_deg, dec_deg) if known else (galaxy.ra_deg, galaxy.dec_deg)
    if not is_real(galaxy) or np.isfinite(galaxy.extinction_mag).all() or not np.isfinite(ra + dec):
        return galaxy
    ebv = float(load_sfd()(SkyCoord(ra, dec, unit="deg")))
    return replace(galaxy, extinction_mag=extinction_mag(ebv, bands)) if ebv >= 0 else galaxy
