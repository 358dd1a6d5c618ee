"""A small file of each layout."""

import numpy as np
from astropy.io import fits

from peculiar.galaxies.standin.simulation import write_broadband

IMAGES = np.random.default_rng(0).random((4, 5, 8, 8), dtype=np.float32)


def sunrise(folder):
    path = folder / "broadband_7.fits"
    write_broadband(path, 7, 10.5, IMAGES, fov_kpc=80.0)
    return path


def skirt(folder):
    hdu = fits.PrimaryHDU(IMAGES[0, :4])
    hdu.header["BUNIT"], hdu.header["CTYPE1"], hdu.header["CDELT1"] = "counts/s/pixel", "pc", 400.0
    hdu.header["PIXSCALE"], hdu.header["USE_Z"] = 0.396, 0.05
    for k, band in enumerate("griz"):
        hdu.header[f"FILTER{k}"] = f"sloan/sdss_{band}"
    hdu.writeto(folder / "tng_broadband_3.fits")
    return folder / "tng_broadband_3.fits"


def nsa(folder):
    hdu = fits.PrimaryHDU(IMAGES[0, 0])
    cards = {"NSAID": 5, "Z": 0.02, "ZDIST": 0.021, "FILTER": "r", "BUNIT": "nanomaggy"}
    hdu.header.update(cards | {"PIXSCALE": 0.396})
    hdu.writeto(folder / "nsa_5.fits")
    return folder / "nsa_5.fits"
