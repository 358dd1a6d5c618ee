"""A user's images in, distances and peculiar velocities with errors out, from the champion."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import astropy.units as u
import numpy as np
import torch
from astropy.table import QTable
from numpy.typing import NDArray

from peculiar import registry, tracking
from peculiar.errors import InputError
from peculiar.galaxies import Galaxy
from peculiar.hubble import peculiar_velocity_kms, redshift_distance_mpc
from peculiar.instrument import Instrument, photograph
from peculiar.placing import Dimming, kpc_per_arcsec, place
from peculiar.posterior import moments, velocity, velocity_on_grid


@dataclass(frozen=True)
class Champion:
    """The promoted network and what its version in the registry says of it.

    Attributes
    ----------
    network : torch.nn.Module
        Surface brightness (n, band, y, x), W/m/m^2/sr, to distances (n,), Mpc, or p(D | image),
        (n, G).
    grid_mpc : ndarray, (G,), or None
        Distances that p(D | image) is for, Mpc; no galaxy is put elsewhere. None for distances.
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
    instrument : Instrument or None
        What its training images were seen with; None where they had neither sky nor seeing.
    data_source : str
        What its training images are of.
    sigma_D_mpc : float
        Error of its distances on the validation split, Mpc.
    sigma_v_kms, H0_kms_mpc : float
        Velocity prior, km/s, and Hubble constant, km/s/Mpc.
    """

    network: torch.nn.Module
    grid_mpc: NDArray[np.float64] | None
    version: str
    bands: str
    pixels: int
    pixel_scale_arcsec: float
    dimming: Dimming
    instrument: Instrument | None
    data_source: str
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
        network=registry.load(version),
        grid_mpc=np.array(json.loads(tags["grid_mpc"])) if tags.get("grid_mpc") else None,
        version=str(version.version),
        bands=tags["bands"],
        pixels=int(tags["pixels"]),
        pixel_scale_arcsec=float(tags["pixel_scale_arcsec"]),
        dimming="literal" if tags["dimming"] == "literal" else "physical",
        instrument=Instrument(**json.loads(tags["instrument"])) if tags.get("instrument") else None,
        data_source=tags["data_source"],
        sigma_D_mpc=float(tags["sigma_D_mpc"]),
        sigma_v_kms=float(tags["sigma_v_kms"]),
        H0_kms_mpc=float(tags["H0_kms_mpc"]),
    )


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
    offset = torch.tensor([galaxy.centre_offset] * len(images), dtype=torch.float64)
    placed = [
        place(
            images,
            scale,
            torch.full_like(scale, distance),
            pixels=pixels,
            pixel_scale_arcsec=pixel_scale_arcsec,
            dimming=dimming,
            centre_offset=offset,
        )
        for distance in distances_mpc
    ]
    return torch.stack(placed)


def is_real(galaxy: Galaxy) -> bool:
    """Whether the image is of a real galaxy, which cannot be moved."""
    return bool(np.isnan(galaxy.kpc_per_pixel).any())


def resample_galaxy(galaxy: Galaxy, *, pixels: int, pixel_scale_arcsec: float) -> torch.Tensor:
    """The image of a real galaxy in the pixels of a network, where it is.

    Parameters
    ----------
    galaxy : Galaxy
        Images (camera, band, y, x), W/m/m^2/sr, of known angular pixel scale.
    pixels, pixel_scale_arcsec
        See `peculiar.placing.place`.

    Returns
    -------
    Tensor, (camera, band, pixels, pixels)
        Surface brightness, W/m/m^2/sr.
    """
    # at any distance, if the pixels are as wide as they look from there
    kpc_per_pixel = kpc_per_arcsec(np.ones(len(galaxy.images))) * galaxy.pixel_scale_arcsec
    return place_galaxy(
        replace(galaxy, kpc_per_pixel=kpc_per_pixel),
        [1.0],
        pixels=pixels,
        pixel_scale_arcsec=pixel_scale_arcsec,
        dimming="physical",
    )[0]


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
        One row a distance and camera: `placed_at` and the columns of `predicted_table`.
    """
    cameras, scale = len(galaxy.images), champion.pixel_scale_arcsec

    def placed(pixels: int) -> NDArray[np.float32]:
        images = place_galaxy(
            galaxy,
            distances_mpc,
            pixels=pixels,
            pixel_scale_arcsec=scale,
            dimming=champion.dimming,
        )
        return images.flatten(0, 1).numpy()

    rngs = [np.random.default_rng(number) for number in range(len(distances_mpc) * cameras)]
    seen = photograph(placed, champion.pixels, champion.bands, scale, champion.instrument, rngs)
    table = predicted_table(champion, galaxy, torch.from_numpy(seen), cz_kms)
    placed_at = np.repeat(np.asarray(distances_mpc, dtype=float), cameras) * u.Mpc
    table.add_column(placed_at, name="placed_at", index=0)
    table["placed_at"].info.format = ".1f"
    return table


def predict_real(champion: Champion, galaxy: Galaxy, cz_kms: float | None) -> QTable:
    """Predicted distance and velocity of a real galaxy.

    Parameters
    ----------
    champion : Champion
        From `load_champion`.
    galaxy : Galaxy
        With the champion's bands and an angular pixel scale.
    cz_kms : float or None
        Takes the place of the file's own redshift times the speed of light, km/s.

    Returns
    -------
    QTable
        One row: the columns of `predicted_table`, and `D_flow`, Mpc, where the file has the
        distance of a flow model.
    """
    image = resample_galaxy(
        galaxy, pixels=champion.pixels, pixel_scale_arcsec=champion.pixel_scale_arcsec
    )
    known = None if np.isnan(galaxy.cz_kms) else galaxy.cz_kms
    table = predicted_table(champion, galaxy, image, known if cz_kms is None else cz_kms)
    if np.isfinite(galaxy.cz_flow_kms):
        D_flow = redshift_distance_mpc([galaxy.cz_flow_kms] * len(table), champion.H0_kms_mpc)
        table["D_flow"] = D_flow * u.Mpc
        table["D_flow"].info.format = ".1f"
    return table


def check_within(champion: Champion, source: str, D_z_mpc: NDArray[np.float64]) -> None:
    """Refuse a redshift that none of the champion's distances can have.

    Its p(D | image) would end in the last cell of the grid, with an error of next to nothing.
    """
    assert champion.grid_mpc is not None
    near, far = champion.grid_mpc[0], champion.grid_mpc[-1]
    reach = 3 * champion.sigma_v_kms / champion.H0_kms_mpc
    D_z = float(D_z_mpc[0])  # one redshift a galaxy
    if not near - reach < D_z < far + reach:
        raise InputError(
            f"{source}: cz {D_z * champion.H0_kms_mpc:.0f} km/s puts it at {D_z:.0f} Mpc, and the "
            f"champion was trained on {near:.0f} to {far:.0f} Mpc: leave --cz out, or train on "
            "such distances (observe.distances)"
        )


def predicted_table(
    champion: Champion, galaxy: Galaxy, images: torch.Tensor, cz_kms: float | None
) -> QTable:
    """Predictions for images (n, band, y, x), W/m/m^2/sr, of one galaxy, camera by camera.

    Returns
    -------
    QTable
        `camera`, `D_p` and `D_error` (Mpc); with a redshift also `D_z` (Mpc), the paper's `v_p`,
        and the posterior `v_hat` and `v_error` (km/s). A champion that gives distances knows of no
        least and greatest one: a survey's galaxies end nowhere. One that gives p(D | image) puts
        none beyond its grid.
    """
    with torch.inference_mode():
        output = champion.network(images).double().numpy()
    if champion.grid_mpc is None:
        D_p, D_error = output, np.full(len(output), champion.sigma_D_mpc)
    else:
        D_p, D_error = moments(output, champion.grid_mpc)
    cameras = len(galaxy.images)
    table = QTable(meta={"source": galaxy.source, "champion_version": champion.version})
    table["camera"] = np.tile(np.arange(cameras), len(D_p) // cameras)
    table["D_p"] = D_p * u.Mpc
    table["D_error"] = D_error * u.Mpc
    if cz_kms is not None:
        D_z = redshift_distance_mpc(np.full(len(D_p), cz_kms), champion.H0_kms_mpc)
        sigma_v, H0 = champion.sigma_v_kms, champion.H0_kms_mpc
        if champion.grid_mpc is None:
            v = velocity(D_p, D_z, champion.sigma_D_mpc, sigma_v, H0, None)
        else:
            check_within(champion, galaxy.source, D_z)
            v = velocity_on_grid(output, champion.grid_mpc, D_z, sigma_v, H0)
        table["D_z"] = D_z * u.Mpc
        table["v_p"] = peculiar_velocity_kms(D_z, D_p, H0) * u.km / u.s
        table["v_hat"] = v.mean_kms * u.km / u.s
        table["v_error"] = v.deviation_kms * u.km / u.s
    for name in table.colnames[1:]:
        table[name].info.format = ".1f"
    return table
