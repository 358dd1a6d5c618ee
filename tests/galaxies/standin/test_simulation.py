"""The stand-in simulation: reproducible, conserving light, and like the relations it cites."""

import numpy as np
import pytest
from astropy.io import fits
from scipy.integrate import quad
from scipy.stats import kstest

from builders.standin import small_standin
from peculiar.core.photometry import BANDS, flux_density
from peculiar.galaxies.standin import simulation, stars

SMALL = small_standin()
WIDE = small_standin(pixels=64, field_of_view_kpc=2000.0)  # every particle is inside


def galaxies(n, parameters, seed=3):
    rng = np.random.default_rng(seed)
    return [simulation.simulate(rng, parameters) for _ in range(n)]


def received(images, parameters):
    """f_lambda at 10 pc (camera, band) of images: the sum of I over solid angles at 10 pc."""
    pixel_pc = 1000 * parameters.field_of_view_kpc / parameters.pixels
    return images.sum(axis=(2, 3), dtype=float) * (pixel_pc / 10) ** 2


def test_same_seed_and_number_give_the_same_bytes(tmp_path):
    for name, number, seed in [("a", 5, 1), ("b", 5, 1), ("c", 5, 2), ("d", 6, 1)]:
        simulation.make_broadband(tmp_path / name, number, small_standin(seed=seed))
    a, b, c, d = ((tmp_path / name).read_bytes() for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]


def test_particles_and_neighbours_are_drawn_for_each_galaxy():
    fixed = small_standin()
    assert simulation.own_resolution(fixed, 3) == fixed
    parameters = small_standin(resolution_factor=3.0)
    drawn = [simulation.own_resolution(parameters, number) for number in range(400)]
    assert drawn[7] == simulation.own_resolution(parameters, 7)
    for name, low, high in (
        ("particle_mass_msun", 2e7 / 3, 6e7),
        ("neighbours", 16 / 3, 48),
    ):
        logs = np.log([getattr(one, name) for one in drawn])
        scaled = (logs - np.log(low)) / np.log(high / low)
        assert kstest(scaled, "uniform").pvalue > 0.01
    mass, neighbours = np.log([[o.particle_mass_msun, o.neighbours] for o in drawn]).T
    assert abs(np.corrcoef(mass, neighbours)[0, 1]) < 0.15
    assert {one.resolution_factor for one in drawn} == {1.0}


def test_four_cameras_receive_all_the_light():
    (galaxy,) = galaxies(1, WIDE)
    images = simulation.render(galaxy, WIDE)
    assert images.shape == (4, 5, 64, 64)
    assert images.dtype == np.float32
    assert (images >= 0).all()
    expected = np.tile(galaxy.light.sum(axis=1), (4, 1))
    np.testing.assert_allclose(received(images, WIDE), expected, rtol=1e-5)


def test_light_outside_the_field_is_lost():
    parameters = small_standin(field_of_view_kpc=30.0, pixels=64)
    for galaxy in galaxies(5, parameters):
        radius = np.linalg.norm(galaxy.position_kpc, axis=1)
        certain = galaxy.light[:, radius < 15].sum(axis=1)
        got = received(simulation.render(galaxy, parameters), parameters)
        assert (got < 1.0001 * galaxy.light.sum(axis=1)).all()
        assert (got > 0.97 * certain).all()  # kernels spread some of it over the edge


def test_a_field_in_half_mass_radii_is_each_galaxy_s_own(tmp_path):
    parameters = small_standin(field_of_view_radii=10.0, particle_mass_msun=2e8)
    fields = []
    for number in range(3):
        path = tmp_path / f"{number}.fits"
        simulation.make_broadband(path, number, parameters)
        with fits.open(path) as hdus:
            half_mass_kpc = hdus[0].header["HALFMASS"]
            fields.append(hdus["CAMERA2-PARAMETERS"].header["linear_fov"])
            images = np.array([hdus[f"CAMERA{k}-BROADBAND-NONSCATTER"].data for k in range(4)])
        assert fields[-1] == pytest.approx(10 * half_mass_kpc)
        # the same image as where that side is stated in kpc
        stated = small_standin(field_of_view_kpc=fields[-1], particle_mass_msun=2e8)
        stars_of = simulation.simulate(np.random.default_rng([7, number]), stated)
        np.testing.assert_array_equal(images, simulation.render(stars_of, stated))
        assert stars_of.half_mass_sphere_kpc == half_mass_kpc
    assert len(set(fields)) == 3


def test_masses_follow_the_mass_function():
    rng = np.random.default_rng(1)
    drawn = [stars.draw_log10_mass(rng, 10.0, 12.0) for _ in range(4000)]

    def phi(log_mass):  # Baldry et al. (2012), eq. 6, per dex
        x = 10 ** (log_mass - 10.66)
        return np.exp(-x) * (3.96e-3 * x**-0.35 + 0.79e-3 * x**-1.47) * x

    at = np.linspace(10, 12, 201)
    cumulative = np.array([quad(phi, 10, m)[0] for m in at]) / quad(phi, 10, 12)[0]
    assert kstest(drawn, lambda m: np.interp(m, at, cumulative)).pvalue > 0.01
    assert min(drawn) > 10
    assert max(drawn) < 12


def test_sizes_follow_shen_2003():
    # Values read from equations 17 and 18 with a pocket calculator.
    assert stars.shen_size(11.0, red=False)[0] == pytest.approx(4.751, rel=1e-3)
    assert stars.shen_size(11.0, red=True)[0] == pytest.approx(4.163, rel=1e-3)
    ratios, in_space = [], []
    for galaxy in galaxies(300, small_standin(particle_mass_msun=2e8, log10_mass_max=12.0)):
        median = stars.shen_size(galaxy.log10_mass, galaxy.red)[0]
        ratios.append(galaxy.half_mass_radius_kpc / (2 * median))
        radius = np.median(np.linalg.norm(galaxy.position_kpc, axis=1))
        in_space.append(radius / galaxy.half_mass_radius_kpc)
    assert np.median(ratios) == pytest.approx(1, abs=0.07)  # 0.4 / sqrt(300) is 0.023
    assert np.std(np.log(ratios)) == pytest.approx(0.42, abs=0.06)
    assert 1.0 < np.median(in_space) < 1.35  # a disc has 1, a Hernquist sphere 1.33


def test_no_scatter_leaves_one_size_for_a_mass():
    for galaxy in galaxies(5, small_standin(size_scatter=0.0, size_factor=1.5)):
        median = stars.shen_size(galaxy.log10_mass, galaxy.red)[0]
        assert galaxy.half_mass_radius_kpc == pytest.approx(1.5 * median)


def test_colours_of_red_and_blue_galaxies_are_sane():
    colours = {True: [], False: []}
    for galaxy in galaxies(80, small_standin(particle_mass_msun=5e6, log10_mass_max=11.2)):
        zero = [flux_density(0.0, band) for band in BANDS]
        mags = -2.5 * np.log10(galaxy.light.sum(axis=1) / zero)
        colours[galaxy.red].append(mags[1] - mags[2])
    # Blanton & Moustakas (2009): red sequence at g-r of 0.7 to 0.8, blue cloud at 0.3 to 0.6
    assert 0.6 < np.median(colours[True]) < 0.85
    assert 0.3 < np.median(colours[False]) < 0.6
    assert 0.0 < min(colours[False]) < max(colours[True]) < 0.95


def test_red_fraction_rises_and_star_formation_follows_the_main_sequence():
    assert stars.red_fraction(10.6) == 0.5
    assert stars.red_fraction(10.0) < 0.2 < 0.8 < stars.red_fraction(11.2)
    assert stars.star_formation_rate(11.0, False, 0.0) == pytest.approx(8.7)
    assert stars.star_formation_rate(10.0, False, 1.0) == pytest.approx(8.7 * 10**-0.47)


def test_starlight_is_the_table_at_its_nodes_and_clipped_beyond():
    age, metallicity = np.array([10.0, 10.0969, 12.0]), np.log10([0.02, 0.02, 1e-4])
    light = stars.starlight(age, metallicity, mass_msun=2.0)
    assert light.shape == (5, 3)
    r_mag = np.array([4.9741, 5.1031, 5.1031])  # of 1 Msun, rows of ssp_ugriz.ecsv
    np.testing.assert_allclose(light[2], 2 * flux_density(r_mag, "r"), rtol=1e-6)


def test_cameras_are_the_corners_of_a_tetrahedron():
    dots = simulation.CAMERA_DIRECTIONS @ simulation.CAMERA_DIRECTIONS.T
    np.testing.assert_allclose(dots, np.where(np.eye(4), 1, -1 / 3), atol=1e-12)


def test_filters_table_has_the_magnitudes_of_the_cubes(tmp_path):
    path = tmp_path / "broadband_1.fits"
    simulation.make_broadband(path, 1, small_standin(seed=1))
    with fits.open(path) as hdus:
        assert [name.strip() for name in hdus["FILTERS"].data.field(0)] == [
            f"{band}_SDSS.res" for band in BANDS
        ]
        for camera in range(4):
            cube = hdus[f"CAMERA{camera}-BROADBAND-NONSCATTER"]
            parameters = hdus[f"CAMERA{camera}-PARAMETERS"].header
            assert cube.header["IMUNIT"] == "W/m/m^2/sr"
            assert cube.header["CD1_1"] == pytest.approx(84.4 / 32)
            radians = parameters["linear_fov"] / 32 / parameters["cameradist"]
            assert parameters["cameradist"] == 50_000
            assert parameters["FOV"] == pytest.approx(32 * radians, rel=1e-6)
            f_lambda = cube.data.sum(axis=(1, 2), dtype=float) * radians**2
            wavelength = hdus["FILTERS"].data["lambda_eff"]
            jansky = f_lambda * wavelength**2 / 299_792_458 * 1e26
            np.testing.assert_allclose(
                hdus["FILTERS"].data[f"AB_mag_nonscatter{camera}"],
                # absolute: 50 Mpc are a distance modulus of 33.495
                -2.5 * np.log10(jansky / 3631) - 5 * np.log10(50e6 / 10),
                atol=1e-5,
            )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pixels": 15}, "greater than or equal to 16"),
        ({"size_factor": 0.0}, "greater than 0"),
        ({"size_scatter": -1.0}, "greater than or equal to 0"),
        ({"log10_mass_min": 12.0}, "log10_mass_min must be below log10_mass_max"),
        ({"neighbours": 0}, "greater than 0"),
        ({"particle_mass_msun": 1e9}, "neighbours must be fewer than the particles of the least"),
    ],
)
def test_parameters_that_cannot_be_right_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        small_standin(**changes)
