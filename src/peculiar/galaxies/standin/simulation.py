"""The stand-in simulation: star particles to broadband FITS, in the manner of Illustris' images.

Torrey et al. (2015, MNRAS 447, 2753) describe the images that are imitated. There is no dust, no
nebular emission and no neighbour. The noise of the particles is far above that of real stars.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from peculiar.core.photometry import (
    BANDS,
    EQUIVALENT_WIDTH_M,
    PIVOT_WAVELENGTH_M,
    SPEED_OF_LIGHT_MS,
    SUNRISE_FILTERS,
    TEN_PARSEC_KPC,
    ab_mag,
    flux_density,
)
from peculiar.galaxies.params import StandIn
from peculiar.galaxies.standin.smoothing import Kernels, adaptive_kernels, image_of
from peculiar.galaxies.standin.stars import (
    YOUNG_YR,
    draw_log10_mass,
    old_stars,
    populations,
    red_fraction,
    shen_size,
    star_formation_rate,
    starlight,
    young_stars,
)

Floats = NDArray[np.float64]
CAMERA_DISTANCE_KPC = 50e3
CAMERA_DIRECTIONS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)


@dataclass(frozen=True)
class Stars:
    """The star particles of one galaxy.

    Attributes
    ----------
    log10_mass : float
        log10(M*/Msun).
    red : bool
        Whether it is of the red, early class.
    half_mass_radius_kpc : float
        Median distance from the axis (face-on half-mass radius) of its old stars, kpc.
    position_kpc : ndarray, (particle, 3)
        Positions, randomly oriented, kpc.
    light : ndarray, (band, particle)
        f_lambda at 10 pc in `BANDS`, W/m^2/m.
    """

    log10_mass: float
    red: bool
    half_mass_radius_kpc: float
    position_kpc: Floats
    light: Floats

    @property
    def half_mass_sphere_kpc(self) -> float:
        """Radius of the sphere that holds half of the stellar mass, kpc."""
        # all particles of a galaxy have the same mass
        return float(np.median(np.linalg.norm(self.position_kpc, axis=1)))


def _rotation(rng: np.random.Generator) -> Floats:
    """Draw a rotation matrix, (3, 3), uniform over all orientations (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(q * np.sign(np.diag(r)))


def simulate(rng: np.random.Generator, parameters: StandIn) -> Stars:
    """Draw one galaxy.

    Parameters
    ----------
    rng : numpy.random.Generator
        Every draw comes from it.
    parameters : StandIn
        Masses, sizes and scatters.

    Returns
    -------
    Stars
        Its particles, with light, randomly oriented about the origin.
    """
    log10_mass = draw_log10_mass(rng, parameters.log10_mass_min, parameters.log10_mass_max)
    red = bool(rng.random() < red_fraction(log10_mass))
    median, scatter = shen_size(log10_mass, red)
    deviation = parameters.size_scatter * scatter * rng.normal()
    size = parameters.size_factor * median * np.exp(deviation)
    rate = star_formation_rate(log10_mass, red, parameters.colour_scatter * rng.normal())
    n = round(10**log10_mass / parameters.particle_mass_msun)
    n_young = int(rng.binomial(n, min(rate * YOUNG_YR / 10**log10_mass, 0.5)))
    arms = (int(rng.integers(2, 5)), np.radians(rng.normal(20, 3)))  # number and pitch angle
    old, in_bulge = old_stars(rng, n - n_young, red, arms)
    scale_kpc = size / np.median(np.hypot(old[:, 0], old[:, 1]))
    young = young_stars(rng, n_young, scale_kpc, arms)
    log_age, log_z = populations(rng, log10_mass, red, in_bulge, parameters.colour_scatter)
    log_age = np.append(log_age, np.log10(rng.uniform(1e6, YOUNG_YR, n_young)))
    log_z = np.append(log_z, np.full(n_young, np.median(log_z)))
    position = np.concatenate([scale_kpc * old, young]) @ _rotation(rng).T
    light = starlight(log_age, log_z, parameters.particle_mass_msun)
    return Stars(log10_mass, red, float(size), position, light)


def own_resolution(parameters: StandIn, number: int) -> StandIn:
    """Draw the particles' mass and the neighbours of galaxy `number`; see `StandIn`."""
    reach = np.log(parameters.resolution_factor)
    # not the generator of the galaxy, whose draws must not depend on the range
    rng = np.random.default_rng([parameters.seed, number, 1])
    mass, neighbours = np.exp(rng.uniform(-reach, reach, 2))
    drawn = {
        "particle_mass_msun": float(parameters.particle_mass_msun * mass),
        "neighbours": max(1, round(parameters.neighbours * neighbours)),
        "resolution_factor": 1.0,
    }
    return parameters.model_copy(update=drawn)


def own_field(parameters: StandIn, stars: Stars) -> StandIn:
    """Field of view of one galaxy, kpc, where it is stated in half-mass radii; see `StandIn`."""
    if parameters.field_of_view_radii is None:
        return parameters
    side_kpc = parameters.field_of_view_radii * stars.half_mass_sphere_kpc
    own = {"field_of_view_kpc": side_kpc, "field_of_view_radii": None}
    return parameters.model_copy(update=own)


def render(stars: Stars, parameters: StandIn) -> NDArray[np.float32]:
    """Images by four cameras at the corners of a tetrahedron, without perspective.

    Parameters
    ----------
    stars : Stars
        The particles and their light.
    parameters : StandIn
        Field of view, pixels and smoothing.

    Returns
    -------
    ndarray, (camera=4, band=5, y, x)
        Surface brightness, W/m/m^2/sr: I = f_lambda(10 pc) (10 pc)^2 / (area of a pixel), which
        does not depend on distance.
    """
    pixel_kpc = own_field(parameters, stars).field_of_view_kpc / parameters.pixels
    kernels = adaptive_kernels(stars.position_kpc, parameters.neighbours)
    order = np.argsort(kernels.level, kind="stable")
    position, kernels = stars.position_kpc[order].T, Kernels(kernels.level[order], kernels.unit)
    light = np.ascontiguousarray(stars.light[:, order]) * (TEN_PARSEC_KPC / pixel_kpc) ** 2
    # galaxies share the cores, not matrix products, whose threads would wait for each other
    with threadpool_limits(1, "blas"):
        images = [
            image_of(axes @ position, light, kernels, parameters.pixels, pixel_kpc)
            for axes in map(_image_axes, CAMERA_DIRECTIONS)
        ]
    return np.array(images, dtype=np.float32)


def _image_axes(towards_camera: Floats) -> Floats:
    """Give unit vectors of the image's x and y, (2, 3), with the simulation's z axis upwards."""
    x = np.cross([0, 0, 1], towards_camera)
    x /= np.linalg.norm(x)
    return np.array([x, np.cross(towards_camera, x)])


def image_mag(images: NDArray[np.float32], pixel_kpc: float) -> Floats:
    """Absolute AB magnitudes, (camera, band), of images (camera, band, y, x), W/m/m^2/sr."""
    flux = images.sum(axis=(-2, -1), dtype=float) * (pixel_kpc / TEN_PARSEC_KPC) ** 2
    return np.asarray(-2.5 * np.log10(flux / [flux_density(0.0, band) for band in BANDS]))


def _filters_table(images: NDArray[np.float32], pixel_kpc: float) -> fits.BinTableHDU:
    wavelength = np.array([PIVOT_WAVELENGTH_M[band] for band in BANDS])
    width = np.array([EQUIVALENT_WIDTH_M[band] for band in BANDS])
    names = [SUNRISE_FILTERS[band].ljust(30) for band in BANDS]
    columns = [
        fits.Column("filter", "30A", array=names),
        fits.Column("lambda_eff", "D", unit="m", array=wavelength),
        fits.Column("ewidth_lambda", "D", unit="m", array=width),
        fits.Column("ewidth_nu", "D", "Hz", array=width * SPEED_OF_LIGHT_MS / wavelength**2),
    ]
    for camera, mags in enumerate(image_mag(images, pixel_kpc)):
        # absolute, as those who read the public Illustris images take them
        columns.append(fits.Column(f"AB_mag_nonscatter{camera}", "D", array=mags))
    return fits.BinTableHDU.from_columns(columns, name="FILTERS")


def _camera_parameters(camera: int, fov_kpc: float) -> fits.ImageHDU:
    x, y, z = CAMERA_DIRECTIONS[camera]
    hdu = fits.ImageHDU(name=f"CAMERA{camera}-PARAMETERS")
    hdu.header["HIERARCH linear_fov"] = (fov_kpc, "[kpc]")
    hdu.header["HIERARCH cameradist"] = (CAMERA_DISTANCE_KPC, "[kpc]")
    hdu.header["theta"] = (np.arccos(z), "[rad]")
    hdu.header["phi"] = (np.arctan2(y, x), "[rad]")
    hdu.header["FOV"] = (2 * np.arctan(fov_kpc / 2 / CAMERA_DISTANCE_KPC), "[rad]")
    return hdu


def _camera_cube(camera: int, cube: NDArray[np.float32], pixel_kpc: float) -> fits.ImageHDU:
    hdu = fits.ImageHDU(cube, name=f"CAMERA{camera}-BROADBAND-NONSCATTER")
    hdu.header["IMUNIT"] = ("W/m/m^2/sr", "surface brightness")
    hdu.header["CD1_1"] = hdu.header["CD2_2"] = (pixel_kpc, "[kpc] per pixel")
    return hdu


def write_broadband(
    path: Path,
    number: int,
    log10_mass: float,
    images: NDArray[np.float32],
    fov_kpc: float,
    *,
    half_mass_radius_kpc: float | None = None,
    absolute_mag: Floats | None = None,
) -> None:
    """Write FITS in SUNRISE's layout, as the public Illustris images have it; no dates.

    Parameters
    ----------
    path : Path
        File to write; an interrupted write leaves no file.
    number : int
        Subhalo number.
    log10_mass : float
        log10(M*/Msun).
    images : ndarray, (camera=4, band=5, y, x)
        Surface brightness in `BANDS`, W/m/m^2/sr.
    fov_kpc : float
        Side of the images, kpc.
    half_mass_radius_kpc : float, optional
        Radius of the sphere that holds half of the stellar mass, kpc.
    absolute_mag : ndarray, (band=5,), optional
        Absolute magnitudes in `BANDS`, AB mag.
    """
    pixel_kpc = fov_kpc / images.shape[-1]
    primary = fits.PrimaryHDU()
    primary.header["ORIGIN"] = ("peculiar stand-in", "not from Illustris")
    primary.header["SUBHALO"] = number
    primary.header["LOGMSTAR"] = (log10_mass, "log10(stellar mass / Msun)")
    if half_mass_radius_kpc is not None:
        primary.header["HALFMASS"] = (half_mass_radius_kpc, "[kpc] stellar half-mass radius")
    for band, magnitude in zip(BANDS, () if absolute_mag is None else absolute_mag, strict=False):
        primary.header[f"ABSMAG_{band.upper()}"] = (magnitude, "[mag] absolute, AB")
    broadband = fits.ImageHDU(name="BROADBAND")
    broadband.header["REDSHIFT"] = 0.0
    hdus = [primary, broadband]
    hdus += [_camera_parameters(camera, fov_kpc) for camera in range(len(images))]
    hdus += [_filters_table(images, pixel_kpc)]
    hdus += [_camera_cube(camera, cube, pixel_kpc) for camera, cube in enumerate(images)]
    partial = path.with_name(f".{path.name}.partial")
    fits.HDUList(hdus).writeto(partial, overwrite=True)
    partial.replace(path)


def make_broadband(path: Path, number: int, parameters: StandIn) -> None:
    """Simulate galaxy `number` and write it: the same seed and number give the same bytes."""
    parameters = own_resolution(parameters, number)
    stars = simulate(np.random.default_rng([parameters.seed, number]), parameters)
    parameters = own_field(parameters, stars)
    images = render(stars, parameters)
    write_broadband(
        path,
        number,
        stars.log10_mass,
        images,
        parameters.field_of_view_kpc,
        half_mass_radius_kpc=stars.half_mass_sphere_kpc,
        absolute_mag=np.array(
            [ab_mag(light.sum(), band) for band, light in zip(BANDS, stars.light, strict=True)]
        ),
    )
