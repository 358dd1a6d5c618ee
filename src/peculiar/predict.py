"""A user's images in, distances and peculiar velocities with errors out, from the champion."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
import torch
from astropy.table import QTable

from peculiar import tracking
from peculiar.errors import InputError
from peculiar.fitsfile import open_whole
from peculiar.galaxies import Galaxy
from peculiar.hubble import (
    peculiar_velocity_kms,
    redshift_distance_mpc,
    velocity_posterior_kms,
)
from peculiar.illustris import read_broadband
from peculiar.placing import Dimming, place
from peculiar.skirt import read_skirt


@dataclass(frozen=True)
class Champion:
    """The promoted network and what its version in the registry says of it.

    Attributes
    ----------
    network : torch.nn.Module
        Surface brightness (n, band, y, x), W/m/m^2/sr, to distances (n,), Mpc.
    version : str
        Version in the registry.
    bands : str
        SDSS bands of the images, one letter each, in order.
    pixels : int
        Side of the images, pixels.
    pixel_scale_arcsec : float
        Pixel scale, arcsec.
    dimming : {"physical", "literal"}
        How its training images were dimmed.
    sigma_D_mpc : float
        Error of its distances on the validation split, Mpc.
    sigma_v_kms, H0_kms_mpc : float
        Velocity prior, km/s, and Hubble constant, km/s/Mpc.
    """

    network: torch.nn.Module
    version: str
    bands: str
    pixels: int
    pixel_scale_arcsec: float
    dimming: Dimming
    sigma_D_mpc: float
    sigma_v_kms: float
    H0_kms_mpc: float


def load_champion(model: str) -> Champion:
    """Load the version of `model` that holds the alias `champion`.

    Raises
    ------
    InputError
        When there is none.
    """
    tracking.connect()
    version = tracking.aliased(model)
    if version is None:
        raise InputError(
            f"{tracking.STORE} has no champion of {model!r}: run `make repro`, or "
            "`dvc repro --force --single-item promote` where everything else is up to date"
        )
    tags = version.tags
    return Champion(
        network=tracking.load_model(f"models:/{model}@{tracking.CHAMPION}"),
        version=str(version.version),
        bands=tags["bands"],
        pixels=int(tags["pixels"]),
        pixel_scale_arcsec=float(tags["pixel_scale_arcsec"]),
        dimming="literal" if tags["dimming"] == "literal" else "physical",
        sigma_D_mpc=float(tags["sigma_D_mpc"]),
        sigma_v_kms=float(tags["sigma_v_kms"]),
        H0_kms_mpc=float(tags["H0_kms_mpc"]),
    )


def read_galaxy(path: Path, bands: Sequence[str]) -> Galaxy:
    """Read a simulated galaxy in either layout: SUNRISE (Illustris, stand-ins) or SKIRT (TNG)."""
    with open_whole(path) as hdus:
        skirt = "FILTER0" in hdus[0].header
    return read_skirt(path, bands) if skirt else read_broadband(path, bands)


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
        See `peculiar.placing.place`.

    Returns
    -------
    Tensor, (distance, camera, band, pixels, pixels)
        Surface brightness, W/m/m^2/sr.
    """
    images = torch.from_numpy(galaxy.images)
    scale = torch.from_numpy(np.asarray(galaxy.kpc_per_pixel))
    placed = [
        place(
            images,
            scale,
            torch.full_like(scale, distance),
            pixels=pixels,
            pixel_scale_arcsec=pixel_scale_arcsec,
            dimming=dimming,
        )
        for distance in distances_mpc
    ]
    return torch.stack(placed)


def predict_galaxy(
    champion: Champion, galaxy: Galaxy, distances_mpc: Sequence[float], cz_kms: float | None
) -> QTable:
    """Predicted distances and velocities of a simulated galaxy placed at given distances.

    Parameters
    ----------
    champion : Champion
        From `load_champion`.
    galaxy : Galaxy
        With the champion's bands.
    distances_mpc : sequence of float
        Distances to place it at, Mpc.
    cz_kms : float or None
        Its redshift times the speed of light, km/s; None leaves the velocities out.

    Returns
    -------
    QTable
        One row a distance and camera: `placed_at`, `camera`, `D_p` and `D_error` (Mpc); with a
        redshift also `D_z` (Mpc), the paper's `v_p`, and the posterior `v_hat` and `v_error`
        (km/s).
    """
    placed = place_galaxy(
        galaxy,
        distances_mpc,
        pixels=champion.pixels,
        pixel_scale_arcsec=champion.pixel_scale_arcsec,
        dimming=champion.dimming,
    )
    with torch.inference_mode():
        D_p = champion.network(placed.flatten(0, 1)).double().numpy()
    cameras = len(galaxy.images)
    table = QTable(meta={"source": galaxy.source, "champion_version": champion.version})
    table["placed_at"] = np.repeat(np.asarray(distances_mpc, dtype=float), cameras) * u.Mpc
    table["camera"] = np.tile(np.arange(cameras), len(distances_mpc))
    table["D_p"] = D_p * u.Mpc
    table["D_error"] = np.full(len(D_p), champion.sigma_D_mpc) * u.Mpc
    if cz_kms is not None:
        D_z = redshift_distance_mpc(np.full(len(D_p), cz_kms), champion.H0_kms_mpc)
        v_p = peculiar_velocity_kms(D_z, D_p, champion.H0_kms_mpc)
        v_hat, v_error = velocity_posterior_kms(
            v_p, champion.sigma_D_mpc, champion.sigma_v_kms, champion.H0_kms_mpc
        )
        table["D_z"] = D_z * u.Mpc
        table["v_p"] = v_p * u.km / u.s
        table["v_hat"] = v_hat * u.km / u.s
        table["v_error"] = np.full(len(D_p), v_error) * u.km / u.s
    for name in table.colnames:
        if name != "camera":
            table[name].info.format = ".1f"
    return table
