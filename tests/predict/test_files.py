import shutil
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location

import mlflow
import numpy as np
import pytest
import torch
import yaml
from astropy.coordinates import SkyCoord
from astropy.cosmology import FlatLambdaCDM
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from builders.champions import GRID, brightness_distribution, mean_champion
from builders.pipeline import ROOT, inside
from builders.standin import small_standin
from peculiar.core.cosmography import HUBBLE, Cosmography
from peculiar.core.dataset import RAW_COLUMNS, Observed, write_table
from peculiar.core.errors import InputError
from peculiar.core.params import load, validate
from peculiar.core.shard import ShardWriter
from peculiar.galaxies.formats import read_galaxy
from peculiar.galaxies.galaxy import Galaxy, frame
from peculiar.galaxies.nsa import read_nsa
from peculiar.galaxies.params import Fetch
from peculiar.galaxies.standin.simulation import make_broadband
from peculiar.galaxies.sunrise import read_broadband
from peculiar.mock.instrument import observe_through, psf_kernel, sky_noise
from peculiar.mock.params import Observe
from peculiar.pipeline import promote
from peculiar.pipeline.fetch import galaxy_table, table_row
from peculiar.pipeline.observe import observe_dataset
from peculiar.predict import files
from peculiar.predict.estimate import predict_images
from peculiar.predict.view import View, is_real, place_galaxy, resample_galaxy
from peculiar.registry.champion import load_champion
from peculiar.runs import record, tracking
from peculiar.training.params import Train
from peculiar.velocity.posterior import velocity_on_grid

PAPER = Cosmography(HUBBLE, 70)

pytestmark = pytest.mark.xdist_group("pipeline")
TNG = ROOT.parent / "shared/data/tng"
NSA = ROOT.parent / "shared/data/nsa_r"


@pytest.fixture(scope="module")
def champion(pipeline):
    with inside(pipeline):
        return load_champion("peculiar-velocity")


@pytest.fixture(scope="module")
def standin_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "broadband_3.fits"
    make_broadband(path, 3, small_standin())
    return path


def test_the_champion_knows_its_data(champion, pipeline):
    survey = Observed.read(pipeline / "data/observe/uniform").survey
    assert champion.survey == survey
    assert champion.bands == "griz"
    assert champion.pixels == 32
    run = record.read_run(pipeline / "results/train/uniform-cnn2")
    assert champion.validity == run.validity
    assert champion.validity.distance_mpc == champion.range_mpc == (50, 100)
    assert len(champion.digest) == 64
    assert champion.describe()["digest"] == champion.digest


def test_a_table_has_units_and_the_paper_s_relations(champion, standin_file):
    galaxy = read_galaxy(standin_file, champion.bands)
    table = files.predict_galaxy(champion, galaxy, [60, 90], 5250.0)
    assert len(table) == 8
    assert str(table["v_hat"].unit) == "km / s"
    np.testing.assert_allclose(table["D_z"].to_value("Mpc"), 75)
    v_p = 70 * (75 - table["D_p"].to_value("Mpc"))
    np.testing.assert_allclose(table["v_p"].to_value("km/s"), v_p)
    assert (table["v_error"].to_value("km/s") < 400).all()
    assert (np.abs(table["v_hat"]) < np.abs(table["v_p"])).all()
    unknown = files.predict_galaxy(champion, galaxy, [60], None)
    assert unknown.colnames == table.colnames
    assert np.isnan(unknown["v_hat"].value).all()
    assert all("no_cz" in flags for flags in unknown["flags"])


def test_predicting_equals_observing(pipeline):
    """The image that predict places is the one that observe placed."""
    observed = Observed.read(pipeline / "data/observe/uniform")
    from peculiar.core.dataset import Shards, read_table

    raw, table = Shards(pipeline / "data/fetch"), read_table(pipeline / "data/fetch", RAW_COLUMNS)
    galaxy = Galaxy(0, raw[np.array([0])][0], table["kpc_per_pixel"][0].value, "x")
    distance = observed.table["distance_mpc"][:4].value
    placed = place_galaxy(
        galaxy,
        distance,
        pixels=32,
        pixel_scale_arcsec=5.44,
        dimming="physical",
        psf_fwhm_arcsec=10.88,
        law=PAPER,
    )
    for camera in range(4):
        expected = observed.images[np.array([camera])][0]
        np.testing.assert_allclose(
            placed[camera, camera], expected, rtol=1e-4, atol=1e-6 * expected.max()
        )


@pytest.mark.skipif(not TNG.is_dir(), reason=f"no genuine TNG files at {TNG}")
@pytest.mark.parametrize(
    "name",
    [
        "tng50_snap095_broadband_117378",
        "tng50_snap095_broadband_99185",
        "tng100_snap099_broadband_6",
    ],
)
def test_genuine_tng_galaxies_are_read_placed_and_predicted(champion, name):
    galaxy = read_galaxy(TNG / f"{name}.fits", "griz")
    table = files.predict_galaxy(champion, galaxy, [60, 90], 5250.0)
    assert len(table) == 2
    alone = files.predict_galaxy(champion, galaxy, [60], 5250.0)
    np.testing.assert_allclose(alone["D_p"][0].value, table["D_p"][0].value, rtol=1e-5)
    assert np.isfinite(table["D_p"].value).all()
    placed = place_galaxy(
        galaxy,
        [60, 90],
        pixels=128,
        pixel_scale_arcsec=1.36,
        dimming="physical",
        psf_fwhm_arcsec=None,
        law=PAPER,
    ).numpy()
    assert np.isfinite(placed).all()
    if galaxy.images.shape[-1] < 128:  # wholly inside the frame: its flux falls as D^-2
        flux = placed.sum(axis=(1, 2, 3, 4))
        assert flux[0] / flux[1] == pytest.approx((90 / 60) ** 2, rel=0.005)


@pytest.fixture
def parent_600():
    """A real galaxy in a parent image of 600 pixels: smooth, with neighbours over all of it."""
    noise = np.random.default_rng(1).normal(size=(600, 600))
    image = gaussian_filter(noise, 8, mode="wrap").astype(np.float32)
    return Galaxy(
        7,
        image[None, None],
        np.array([np.nan]),
        "nsa:x",
        pixel_scale_arcsec=0.396,
        cz_kms=7000.0,
        cz_flow_kms=7000.0,
        centre_offset=(3.3, -2.6),
    )


def observed_real(galaxy, pixels, section, folder):
    """What fetch's frame and observe make of ten such galaxies: images (10, 1, y, x)."""
    framed = frame(galaxy, pixels)
    rows = [table_row(replace(framed, id=number)) for number in range(10)]
    raw = galaxy_table(rows)
    raw.meta = {"bands": ["r"], "source": "NASA-Sloan Atlas"}
    (folder / "raw").mkdir()
    with ShardWriter(folder / "raw", 10, 64) as shards:
        for _ in range(10):
            shards.append(framed.images)
    write_table(raw, folder / "raw", RAW_COLUMNS)
    observe_dataset(section, "measured", folder / "raw", folder / "measured")
    return Observed.read(folder / "measured").images[np.arange(10)]


def test_predict_and_observe_see_the_same_of_a_parent_image(parent_600, params_file, tmp_path):
    section, pixels = load(Observe, params_file), load(Fetch, params_file).nsa.pixels
    observed = observed_real(parent_600, pixels, section, tmp_path)[3]
    predicted = resample_galaxy(
        parent_600, pixels=128, pixel_scale_arcsec=1.36, psf_fwhm_arcsec=None
    )[0].numpy()
    rms = predicted.std()
    np.testing.assert_allclose(observed, predicted, atol=0.05 * rms)  # the kernel's last lobe
    inner = np.s_[:, 1:-1, 1:-1]
    np.testing.assert_allclose(observed[inner], predicted[inner], atol=1e-4 * rms)


def test_observe_refuses_frames_that_end_within_its_field(parent_600, params_file, tmp_path):
    words = r"fetch\.nsa\.pixels: 256 pixels .* do not cover .*: fetch 440 pixels or more"
    with pytest.raises(InputError, match=words):
        observed_real(parent_600, 256, load(Observe, params_file), tmp_path)
    assert not (tmp_path / "measured").exists()


@given(
    seed=st.integers(0, 99),
    distances=st.lists(st.floats(40, 120), min_size=1, max_size=3),
    cz_kms=st.floats(2500, 8000),
)
def test_a_champion_of_distributions_gives_their_moments_and_posteriors(seed, distances, cz_kms):
    images = np.random.default_rng(seed).random((2, 1, 8, 8), dtype=np.float32)
    galaxy = Galaxy(0, images, np.array([0.5, 0.8]), "x")
    champion = mean_champion(
        network=brightness_distribution, grid_mpc=GRID, pixels=8, sigma_D_mpc=np.nan
    )
    table = files.predict_galaxy(champion, galaxy, distances, cz_kms)
    placed = place_galaxy(
        galaxy,
        distances,
        pixels=8,
        pixel_scale_arcsec=0.396,
        dimming="physical",
        psf_fwhm_arcsec=None,
        law=PAPER,
    )
    p = brightness_distribution(placed.flatten(0, 1)).numpy()
    D_p, error = p @ GRID, np.sqrt(np.einsum("ng,ng->n", p, (GRID - (p @ GRID)[:, None]) ** 2))
    np.testing.assert_allclose(table["D_p"].value, D_p)
    np.testing.assert_allclose(table["D_error"].value, np.hypot(error, 1 / np.sqrt(12)))
    D_z = cz_kms / 70
    np.testing.assert_allclose(table["v_p"].value, 70 * (D_z - D_p), atol=1e-6)
    v = velocity_on_grid(p, GRID, np.full(len(p), D_z), 400, 70)
    np.testing.assert_allclose(table["v_hat"].value, v.mean_kms, rtol=1e-12)
    np.testing.assert_allclose(table["v_error"].value, v.deviation_kms, rtol=1e-12)
    # the image says something: between what it and what the redshift say alone
    assert not np.isclose(table["v_hat"].value, table["v_p"].value, rtol=1e-6, atol=1e-3).any()
    assert (np.abs(table["v_hat"].value - 70 * D_z + 70 * 75) <= 70 * 25).all()


@pytest.mark.parametrize("cz_kms", [12000, 2000])
def test_a_redshift_beyond_the_champion_s_distances_is_flagged(cz_kms):
    galaxy = Galaxy(0, np.ones((2, 1, 8, 8), np.float32), np.array([0.5, 0.8]), "x.fits")
    champion = mean_champion(network=brightness_distribution, grid_mpc=GRID, pixels=8)
    table = files.predict_galaxy(champion, galaxy, [60], cz_kms)
    assert all("cz_beyond" in flags for flags in table["flags"])
    assert np.isfinite(table["D_p"].value).all()
    assert np.isnan(table["v_hat"].value).all()


def test_a_champion_of_distributions_comes_back_from_the_registry(pipeline, tmp_path, monkeypatch):
    folder = shutil.copytree(pipeline, tmp_path / "promoted")
    candidates = promote.candidates

    def pyramid(*arguments):
        return [
            replace(c, against=None) for c in candidates(*arguments) if c.run.network == "pyramid"
        ]

    monkeypatch.setattr(promote, "candidates", pyramid)
    with inside(folder):
        tracking.connect()
        mlflow.MlflowClient().delete_registered_model("peculiar-velocity")
        promote.main([])
        champion = load_champion("peculiar-velocity")
    where = pipeline / "results/train/uniform-pyramid"
    run = record.read_run(where)
    assert champion.version == "1"
    np.testing.assert_array_equal(champion.grid_mpc, run.grid_mpc)
    observed = Observed.read(pipeline / "data/observe/uniform")
    images = torch.from_numpy(observed.images[np.arange(5)])
    with torch.inference_mode():
        expected = record.read_network(where, run).eval()(images)
        torch.testing.assert_close(champion.network(images), expected, rtol=1e-4, atol=1e-6)
    table = predict_images(champion, [View(image) for image in images.numpy()], 5250.0)
    np.testing.assert_allclose(table["D_p"].value, expected.numpy() @ champion.grid_mpc, rtol=1e-5)


def test_a_champion_without_a_grid_gives_distances(champion):
    assert champion.grid_mpc is None  # the tiny pipeline's is cnn2
    assert champion.network(torch.ones(3, 4, 32, 32)).shape == (3,)


@pytest.mark.skipif(not NSA.is_dir(), reason=f"no genuine NSA files at {NSA}")
def test_genuine_galaxies_are_resampled_where_they_are():
    for path in sorted(NSA.glob("*.fits")):
        galaxy = read_nsa(path, "r")
        assert is_real(galaxy)
        same = resample_galaxy(galaxy, pixels=300, pixel_scale_arcsec=0.396, psf_fwhm_arcsec=None)[
            0, 0
        ].double()
        coarse = resample_galaxy(galaxy, pixels=80, pixel_scale_arcsec=1.584, psf_fwhm_arcsec=None)[
            0, 0
        ].double()
        # the files are even or odd in size: the galaxy is at the middle of each frame
        total = galaxy.images.sum(dtype=float)
        assert float(same.sum()) == pytest.approx(total, rel=1e-3)
        assert float(coarse.sum()) * 16 == pytest.approx(total, rel=2e-2)
        table = files.predict_real(mean_champion(), galaxy, None)
        assert table["D_p"][0].value == pytest.approx(float(same.mean()), rel=1e-4)
        # the Atlas' redshifts are heliocentric
        at = SkyCoord(galaxy.ra_deg, galaxy.dec_deg, unit="deg")
        apex = SkyCoord(264.021, 48.253, unit="deg", frame="galactic")
        sun_kms = 369.82 * np.cos(at.separation(apex).rad)
        z_cmb = (1 + galaxy.cz_kms / 299792.458) * (1 + sun_kms / 299792.458) - 1
        theirs = FlatLambdaCDM(H0=70, Om0=0.3, Tcmb0=0)
        assert table["D_z"][0].value == pytest.approx(
            theirs.comoving_distance(z_cmb).value, abs=0.01
        )
        assert table["frame"][0] == "cmb"
        assert "frame" not in table["flags"][0]
        D_flow = theirs.comoving_distance(galaxy.cz_flow_kms / 299792.458).value
        assert table["D_flow"][0].value == pytest.approx(D_flow, rel=1e-5)
        assert table.meta["law"].startswith("flat_lambda_cdm, H0 = 70, Om0 = 0.3")
        other = files.predict_real(mean_champion(), galaxy, 7000.0, cosmology="hubble")
        assert other.meta["law"] == "hubble, H0 = 70"
        assert other["D_z"][0].value == pytest.approx(100)
        assert other["frame"][0] == other.meta["frame"] == "unknown"
        assert "frame" in other["flags"][0].split(", ")


def test_a_champion_of_noisy_images_sees_noise(params_file, standin_file):
    galaxy = read_galaxy(standin_file, "r")
    sdss = load(Observe, params_file).instruments["sdss"]
    champion = mean_champion(instrument=sdss, pixels=64, network=lambda images: images[:, 0, 3, 5])
    margin = len(psf_kernel(sdss, "r", 0.396)) // 2
    placed = place_galaxy(
        galaxy,
        [60],
        pixels=64 + 2 * margin,
        pixel_scale_arcsec=0.396,
        dimming="physical",
        psf_fwhm_arcsec=None,
        law=PAPER,
    )[0].numpy()
    rngs = [np.random.default_rng(number) for number in range(4)]
    seen = observe_through(placed, "r", 0.396, sdss, rngs, margin)
    table = files.predict_galaxy(champion, galaxy, [60], None)
    np.testing.assert_allclose(table["D_p"].value, seen[:, 0, 3, 5])
    clean = files.predict_galaxy(
        replace(champion, survey=champion.survey.model_copy(update={"instrument": None})),
        galaxy,
        [60],
        None,
    )
    assert (clean["D_p"] != table["D_p"]).all()


@pytest.fixture(scope="module")
def script():
    """experiments/real/nsa.py as a module."""
    where = spec_from_file_location("real_galaxies", ROOT / "experiments/real/nsa.py")
    module = module_from_spec(where)
    where.loader.exec_module(module)
    return module


def test_small_cutouts_are_filled_with_sky_noise_about_the_same_middle(script, params_file):
    sdss = load(Observe, params_file).instruments["sdss"]
    champion = mean_champion(pixels=192, instrument=sdss)
    image = np.full((1, 1, 75, 75), 100.0, dtype=np.float32)
    small = Galaxy(5, image, np.array([np.nan]), "nsa:x", pixel_scale_arcsec=0.396)
    filled = script.filled(small, champion)
    seen = resample_galaxy(filled, pixels=192, pixel_scale_arcsec=0.396, psf_fwhm_arcsec=None)[
        0, 0
    ].numpy()
    zeros = resample_galaxy(small, pixels=192, pixel_scale_arcsec=0.396, psf_fwhm_arcsec=None)[
        0, 0
    ].numpy()
    np.testing.assert_allclose(seen[62:130, 62:130], zeros[62:130, 62:130])
    assert (zeros[:50] == 0).all()
    assert (seen != 0).all()
    edge = (filled.images.shape[-1] - 75) // 2
    sky = filled.images[0, 0, : edge - 1]
    assert sky.std() == pytest.approx(sky_noise(sdss, "r", 0.396), rel=0.03)
    np.testing.assert_array_equal(script.filled(small, champion).images, filled.images)
    large = replace(small, images=np.ones((1, 1, 250, 250), dtype=np.float32))
    np.testing.assert_array_equal(script.filled(large, champion).images, large.images)


def test_the_network_for_real_galaxies_is_complete(script, shipped):
    params = script.changed(shipped, 7)
    train = validate(Train, params["train"], "train")
    assert train.items()[0] == ("far", "real")
    assert train.seed == 7
    observe = validate(Observe, params["observe"], "observe")
    assert observe.distances["far"].max_mpc == 350


def test_networks_of_other_parameters_are_refused(script, shipped, tmp_path):
    path = tmp_path / "params.yaml"
    script.check_same(path, shipped)  # nothing there yet
    shipped = script.changed(shipped, 4)
    path.write_text(yaml.safe_dump(shipped))
    script.check_same(path, script.changed(shipped, 6))
    shipped["evaluate"]["bootstrap"] += 1  # no network knows of it
    script.check_same(path, shipped)
    shipped["observe"]["pixels"] += 1
    del shipped["train"]["specs"]["real"]["epochs"]
    words = r"other values of observe\.pixels, train\.specs\.real\.epochs than .*: take another"
    with pytest.raises(InputError, match=words):
        script.check_same(path, shipped)


def test_layouts_are_recognised(standin_file):
    galaxy = read_galaxy(standin_file, "ugriz")
    assert galaxy.source == "stand-in:broadband_3.fits"
    expected = read_broadband(standin_file, "ugriz").images
    np.testing.assert_array_equal(galaxy.images, expected)


def test_faults_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.fits is missing: fetch it, or correct the path"):
        read_galaxy(tmp_path / "gone.fits", "g")
    junk = tmp_path / "junk.fits"
    junk.write_bytes(b"not a FITS file" * 500)
    with pytest.raises(InputError, match=r"junk\.fits"):
        read_galaxy(junk, "g")


def test_no_champion_is_one_sentence(tmp_path):
    with (
        inside(tmp_path),
        pytest.raises(InputError, match=r"there is no champion: .* holds no models; run"),
    ):
        load_champion("x")
    assert not (tmp_path / "mlruns").exists()
