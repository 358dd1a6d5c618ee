"""Size of the K-corrections, which are not made, over the bands.

    python -m experiments.real.k_corrections

Spectra are power laws through the two neighbouring bands, f_nu ~ nu^alpha, for which the correction
is K = -2.5 (1 + alpha) log10(1 + z) magnitudes (Hogg et al. 2002, astro-ph/0210394, equation 8).
Their colours are those of the stand-in's populations of solar metallicity: old and red, and young
and blue. Galaxies without a break within a band are rarely outside these.
"""

from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

import peculiar.galaxies.standin
from peculiar.core.cosmography import Cosmography
from peculiar.core.photometry import BANDS, PIVOT_WAVELENGTH_M

Array = NDArray[np.float64]
LAW = Cosmography("flat_lambda_cdm", 70)
DISTANCES_MPC = (50.0, 100.0, 150.0, 350.0)
AGES = {"10 Gyr": 10.0, "0.3 Gyr": 8.5065}  # log10(age / yr), as in the table


def slopes(magnitudes: Array) -> Array:
    """Exponent alpha (band,) of f_nu at each band, from AB magnitudes (band,)."""
    log_nu = -np.log10([PIVOT_WAVELENGTH_M[band] for band in BANDS])
    between = np.diff(-0.4 * magnitudes) / np.diff(log_nu)
    return np.concatenate([between[:1], (between[1:] + between[:-1]) / 2, between[-1:]])


def k_corrections(magnitudes: Array, z: float) -> Array:
    """K (band,), mag, at a redshift, of a spectrum with these AB magnitudes (band,) at rest."""
    return np.asarray(-2.5 * (1 + slopes(magnitudes)) * np.log10(1 + z))


def magnitudes_of(log_age: float) -> Array:
    """AB magnitudes (band,) of a stand-in population of solar metallicity."""
    (path,) = Path(peculiar.galaxies.standin.__file__).parent.glob("*.ecsv")
    table = Table.read(path, format="ascii.ecsv")
    (row,) = table[(table["metallicity"] == 1.0) & np.isclose(table["log_age"], log_age)]
    return np.array([row[f"M_{band}"] for band in BANDS])


def main() -> None:
    """Print a table."""
    print(f"| D [Mpc] | z | 10 log10(1 + z) [mag] | stars | {' | '.join(BANDS)} |")
    print("|---" * (4 + len(BANDS)) + "|")
    for D in DISTANCES_MPC:
        z = float(np.asarray(LAW.redshift(D)))
        for name, log_age in AGES.items():
            found = k_corrections(magnitudes_of(log_age), z)
            cells = " | ".join(f"{value:+.2f}" for value in found)
            print(f"| {D:.0f} | {z:.4f} | {10 * np.log10(1 + z):.2f} | {name} | {cells} |")


if __name__ == "__main__":
    main()
