"""Stage `observe`: draws, splits, identities, and the whole stage on a tiny raw set."""

import shutil
import sys

import astropy.units as u
import numpy as np
import pytest
import torch
import yaml
from astropy.cosmology import FlatLambdaCDM, z_at_value
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm, uniform

from builders.limits import few_files
from peculiar.core.cosmography import Cosmography
from peculiar.core.dataset import (
    RAW_COLUMNS,
    SPLITS,
    TABLE,
    Observed,
    Shards,
    read_table,
    write_table,
)
from peculiar.core.errors import InputError
from peculiar.core.frames import convert_cz_kms
from peculiar.core.params import validate
from peculiar.core.shard import ShardWriter
from peculiar.core.survey import Normal, Uniform
from peculiar.mock import images as views
from peculiar.mock.instrument import observe_through, psf_kernel, sky_noise
from peculiar.mock.params import Observe, Reading, Split
from peculiar.mock.resample import arcsec_per_pixel, place
from peculiar.pipeline import observe as stage
from peculiar.pipeline.observe import observe_dataset
from peculiar.pipeline.tables import draw_splits, draw_table

UNIFORM = Uniform(distribution="uniform", min_mpc=50, max_mpc=100)
NORMAL = Normal(distribution="normal", mean_mpc=75, sigma_mpc=14.5, min_mpc=25)
IDS = np.arange(400) * 3 + 11


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setattr(stage, "best_device", lambda: torch.device("cpu"))


@pytest.fixture
def params(shipped):
    """Section observe for tiny images; split, distances and the rest as shipped."""
    return validate(Observe, shipped["observe"] | {"pixels": 16, "shard_images": 10}, "observe")


def split(by="galaxy", train=0.65, validation=0.1, test=0.25):
    return Split(by=by, train=train, validation=validation, test=test)


@given(
    cameras=st.integers(1, 5),
    galaxies=st.integers(20, 80),
    seed=st.integers(0, 99),
    train=st.sampled_from([0.5, 0.65, 0.8]),
)
def test_splits_by_galaxy_never_straddle(cameras, galaxies, seed, train):
    galaxy = np.repeat(np.arange(galaxies) * 5, cameras)
    rule = split(train=train, validation=0.1, test=0.9 - train)
    name = draw_splits(galaxy, rule, np.random.default_rng(seed))
    of_galaxy = name.reshape(galaxies, cameras)
    assert (of_galaxy == of_galaxy[:, :1]).all()
    for part in SPLITS:
        share = (of_galaxy[:, 0] == part).mean()
        assert share == pytest.approx(getattr(rule, part), abs=1 / galaxies + 1e-9)
        assert share > 0


def test_splits_by_image_have_their_fractions_and_straddle():
    galaxy = np.repeat(np.arange(500), 4)
    name = draw_splits(galaxy, split(by="image"), np.random.default_rng(0))
    assert [(name == part).sum() for part in SPLITS] == [1300, 200, 500]
    of_galaxy = name.reshape(-1, 4)
    assert (of_galaxy != of_galaxy[:, :1]).any(axis=1).mean() > 0.5


def test_splits_do_not_follow_the_order_of_galaxies():
    name = draw_splits(np.arange(1000), split(), np.random.default_rng(0))
    where = np.flatnonzero(name == "test")
    assert kstest(where / 1000, uniform.cdf).pvalue > 0.01


def test_one_galaxy_listed_twice_stays_in_one_split():
    galaxy = np.tile(np.arange(100), 2)
    name = draw_splits(galaxy, split(), np.random.default_rng(0))
    np.testing.assert_array_equal(name[:100], name[100:])


@pytest.mark.parametrize(("by", "galaxies"), [("galaxy", 3), ("galaxy", 1), ("image", 1)])
def test_too_few_galaxies_are_refused(by, galaxies):
    words = rf"observe\.split: \d+ units \(by {by}\) are too few for train, validation, test: f"
    with pytest.raises(InputError, match=words):
        draw_splits(np.repeat(np.arange(galaxies), 4), split(by), np.random.default_rng(0))


def test_both_datasets_share_splits_and_velocities(params):
    a, b = (draw_table(params, law, IDS, 4) for law in (UNIFORM, NORMAL))
    for column in ("galaxy", "camera", "velocity_kms", "split"):
        np.testing.assert_array_equal(a[column], b[column])
    assert not np.isclose(a["distance_mpc"].value, b["distance_mpc"].value).all()


def test_redshift_distance_is_distance_and_velocity(params):
    table = draw_table(params, NORMAL, IDS, 4)
    H0 = params.H0_kms_mpc * u.km / u.s / u.Mpc
    expected = table["distance_mpc"] + table["velocity_kms"] / H0
    np.testing.assert_allclose(table["distance_z_mpc"].to_value(u.Mpc), expected.to_value(u.Mpc))


def test_velocities_are_normal_and_independent(params):
    table = draw_table(params, UNIFORM, IDS, 4)
    v, D = table["velocity_kms"].to_value(u.km / u.s), table["distance_mpc"].value
    assert kstest(v, norm(0, params.sigma_v_kms).cdf).pvalue > 0.01
    assert abs(np.corrcoef(v, D)[0, 1]) < 0.08
    of_galaxy = v.reshape(-1, 4)
    assert abs(np.corrcoef(of_galaxy[:, 0], of_galaxy[:, 1])[0, 1]) < 0.15


def test_rows_go_galaxy_by_galaxy_and_camera_by_camera(params):
    table = draw_table(params, UNIFORM, IDS, 3)
    np.testing.assert_array_equal(table["galaxy"], np.repeat(IDS, 3))
    np.testing.assert_array_equal(table["camera"], np.tile([0, 1, 2], 400))


def test_the_seed_decides_the_table(params):
    a, b = (draw_table(params, UNIFORM, IDS, 2) for _ in range(2))
    c = draw_table(params.model_copy(update={"seed": 99}), UNIFORM, IDS, 2)
    for name in ("distance_mpc", "velocity_kms", "split"):
        np.testing.assert_array_equal(a[name], b[name])
        assert not np.array_equal(a[name], c[name])


@pytest.mark.skipif(sys.platform != "linux", reason="counts the open files in /proc")
def test_few_files_are_open_however_many_shards_there_are(params, raw_folder, tmp_path):
    images = Shards(raw_folder)
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copy(raw_folder / TABLE, raw)
    with ShardWriter(raw, 12, 1) as shards:
        for row in range(12):
            shards.append(images[np.array([row])][0])
    one_each = params.model_copy(update={"shard_images": 1})
    with few_files(6):
        observe_dataset(one_each, "uniform", raw, tmp_path / "uniform")
    assert len(list((tmp_path / "uniform").glob("*.npy"))) == 24
    observe_dataset(params, "uniform", raw_folder, tmp_path / "again")
    np.testing.assert_array_equal(
        *(Shards(tmp_path / name)[np.arange(24)] for name in ("uniform", "again"))
    )


@pytest.mark.parametrize("dimming", ["physical", "literal"])
def test_every_image_is_its_galaxy_at_its_distance(params, raw_folder, tmp_path, dimming):
    params = params.model_copy(update={"dimming": dimming, "psf_fwhm_arcsec": None})
    observe_dataset(params, "normal", raw_folder, tmp_path / "normal")
    observed = Observed.read(tmp_path / "normal")
    assert observed.images.shape == (24, 3, 16, 16)
    assert ("literal dimming" in observed.survey.source) == (dimming == "literal")
    raw, galaxies = Shards(raw_folder), read_table(raw_folder, RAW_COLUMNS)
    ids = list(galaxies["id"])
    for number in (0, 7, 15, 16, 23):
        row = observed.table[number]
        at = ids.index(row["galaxy"])
        alone = place(
            torch.from_numpy(raw[np.array([at])][:, row["camera"]]),
            torch.tensor([galaxies["kpc_per_pixel"][at, row["camera"]].to_value(u.kpc)]),
            torch.tensor([row["distance_mpc"].to_value(u.Mpc)]),
            pixels=16,
            pixel_scale_arcsec=params.pixel_scale_arcsec,
            dimming=dimming,
            psf_fwhm_arcsec=None,
        )
        np.testing.assert_allclose(observed.images[np.array([number])], alone, atol=1e-6)


def test_images_of_an_expanding_universe_are_larger_and_fainter(params, raw_folder, tmp_path):
    """By 1 + z and (1 + z)^4, with the distances, velocities and D_z of the paper's law."""
    expanding = params.model_copy(update={"cosmology": "flat_lambda_cdm"})
    for name, chosen in (("plain", params), ("expanding", expanding)):
        observe_dataset(chosen, "uniform", raw_folder, tmp_path / name)
    plain, ours = (Observed.read(tmp_path / name) for name in ("plain", "expanding"))
    for column in ("distance_mpc", "distance_z_mpc", "velocity_kms"):
        np.testing.assert_array_equal(plain.table[column], ours.table[column])
    assert ours.survey.source == "test galaxies, dimmed by (1+z)^4"
    assert ours.survey.law == Cosmography("flat_lambda_cdm", 70)
    mpc = ours.table["distance_mpc"].to_value(u.Mpc)
    z = z_at_value(FlatLambdaCDM(H0=70, Om0=0.3, Tcmb0=0).comoving_distance, mpc * u.Mpc).value
    rows = np.arange(24)
    # these fields fill the frame, so that their brightness alone tells
    ratio = ours.images[rows].sum(axis=(1, 2, 3)) / plain.images[rows].sum(axis=(1, 2, 3))
    np.testing.assert_allclose(ratio, (1 + z) ** -4, rtol=0.02)


def test_the_paper_s_literal_dimming_is_of_its_euclidean_images(shipped):
    shipped["observe"] |= {"cosmology": "flat_lambda_cdm"}
    assert validate(Observe, shipped["observe"], "observe").cosmology == "flat_lambda_cdm"
    shipped["observe"]["datasets"] = ["uniform", "paper-uniform"]
    sentence = "dimming literal is of the paper's Euclidean images: paper-uniform takes cosmology"
    with pytest.raises(InputError, match=f"{sentence} hubble"):
        validate(Observe, shipped["observe"], "observe")


def test_the_paper_s_datasets_are_read_as_it_reads_and_say_so(params, raw_folder, tmp_path):
    for name in ("uniform", "paper-uniform"):
        observe_dataset(params, name, raw_folder, tmp_path / name)
    ours, paper = (Observed.read(tmp_path / name) for name in ("uniform", "paper-uniform"))
    np.testing.assert_array_equal(ours.table["distance_mpc"], paper.table["distance_mpc"])
    assert ours.survey.source == "test galaxies"
    assert paper.survey.source == (
        "test galaxies, every frame taken as 84.4 kpc, literal dimming, cubic resampling"
    )
    assert (paper.survey.scale, paper.survey.dimming) == ("paper", "literal")
    assert paper.survey.psf_fwhm_arcsec is None
    raw, mpc = Shards(raw_folder), paper.table["distance_mpc"].to_value(u.Mpc)
    alone = place(
        torch.from_numpy(raw[np.array([7])][0]),
        torch.full((2,), 84.4 / 24, dtype=torch.float64),  # whatever the table says
        torch.from_numpy(mpc[14:16]),
        pixels=16,
        pixel_scale_arcsec=params.pixel_scale_arcsec,
        dimming="literal",
        psf_fwhm_arcsec=None,
    )
    np.testing.assert_allclose(paper.images[np.array([14, 15])], alone, atol=1e-6)


def test_the_paper_s_reading_is_never_the_default(shipped):
    observe = validate(Observe, shipped["observe"], "observe")
    assert observe.scale == "header"
    assert observe.dimming == "physical"
    named = {*observe.datasets, *shipped["train"]["datasets"], shipped["search"]["dataset"]}
    assert named.isdisjoint(observe.readings)
    for name, reading in observe.readings.items():
        assert reading == Reading(scale="paper", dimming="literal", psf_fwhm_arcsec=None)
        assert observe.distances[name] == observe.distances[name.removeprefix("paper-")]


def test_table_has_units_and_records_how_it_was_made(params, raw_folder, tmp_path):
    observe_dataset(params, "uniform", raw_folder, tmp_path / "uniform")
    table = Observed.read(tmp_path / "uniform").table
    assert table["distance_mpc"].unit == table["distance_z_mpc"].unit == u.Mpc
    assert table["velocity_kms"].unit == u.km / u.s
    assert dict(table.meta) == {
        "dataset": "uniform",
        "distances": {"distribution": "uniform", "min_mpc": 50, "max_mpc": 100},
        "bands": ["g", "r", "i"],
        "source": "test galaxies",
        "H0_kms_mpc": params.H0_kms_mpc,
        "sigma_v_kms": params.sigma_v_kms,
        "pixels": 16,
        "pixel_scale_arcsec": params.pixel_scale_arcsec,
        "scale": "header",
        "dimming": "physical",
        "cosmology": "hubble",
        "psf_fwhm_arcsec": params.psf_fwhm_arcsec,
        "instrument": None,
        "measured_frame": "unknown",  # these are not measured
        "split_by": "galaxy",
    }
    assert Observed.read(tmp_path / "uniform").survey.cz_frame == "cmb"


@pytest.fixture
def real_folder(raw_folder, tmp_path):
    """The raw set as if of real galaxies: redshifts and angular pixel scales, no sizes."""
    folder = shutil.copytree(raw_folder, tmp_path / "real")
    table = read_table(folder, RAW_COLUMNS)
    rng = np.random.default_rng(4)
    table["kpc_per_pixel"] = np.full((12, 2), np.nan) * u.kpc
    table["pixel_scale_arcsec"] = np.full(12, 0.4) * u.arcsec
    table["cz_flow_kms"] = rng.uniform(3500, 7000, 12) * u.km / u.s
    table["cz_kms"] = table["cz_flow_kms"] + rng.normal(0, 300, 12) * u.km / u.s
    table["centre_offset"] = rng.uniform(-0.5, 0.5, (12, 2)) * u.pix
    rewrite(table, folder)
    return folder


def rewrite(table, folder):
    (folder / "table.ecsv").unlink()
    write_table(table, folder, RAW_COLUMNS)


@pytest.mark.parametrize("dataset", ["uniform", "normal", "measured"])
def test_the_law_of_distances_can_be_read_back(params, real_folder, raw_folder, tmp_path, dataset):
    params = with_laws(params, pixels=12, pixel_scale_arcsec=0.8)
    raw = real_folder if dataset == "measured" else raw_folder
    observe_dataset(params, dataset, raw, tmp_path / "out")
    survey = Observed.read(tmp_path / "out").survey
    assert survey.distances == params.distances[dataset]
    assert survey.range_mpc == ((50, 100) if dataset == "uniform" else None)


def with_laws(params, **changes):
    return params.model_copy(update=changes)


def test_real_galaxies_stay_where_they_are(params, real_folder, tmp_path):
    params = with_laws(params, pixels=12, pixel_scale_arcsec=0.8)
    observe_dataset(params, "measured", real_folder, tmp_path / "measured")
    observed, raw = Observed.read(tmp_path / "measured"), read_table(real_folder, RAW_COLUMNS)
    table = observed.table
    kms = u.km / u.s
    np.testing.assert_allclose(
        table["distance_z_mpc"].value, np.repeat(raw["cz_kms"].to_value(kms), 2) / params.H0_kms_mpc
    )
    np.testing.assert_allclose(
        table["distance_mpc"].value,
        np.repeat(raw["cz_flow_kms"].to_value(kms), 2) / params.H0_kms_mpc,
    )
    # two input pixels a side become one, wherever the galaxy is
    images = Shards(real_folder)[np.array([5])][0]
    expected = place(
        torch.from_numpy(images),
        torch.ones(2),
        torch.ones(2),
        pixels=12,
        pixel_scale_arcsec=2 * float(arcsec_per_pixel(torch.ones(1), torch.ones(1))[0]),
        dimming="physical",
        psf_fwhm_arcsec=None,
        centre_offset=torch.from_numpy(raw["centre_offset"].value[[5, 5]]),
    )
    np.testing.assert_allclose(observed.images[np.array([10, 11])], expected, atol=1e-5)


def with_frames(folder, frames, ra_deg):
    table = read_table(folder, RAW_COLUMNS)
    table["cz_frame"], table["ra_deg"] = frames, ra_deg * u.deg
    table["dec_deg"] = np.linspace(-60, 60, len(table)) * u.deg
    rewrite(table, folder)
    return table


def test_measured_redshifts_are_converted_to_the_frame_of_the_cmb(
    params, real_folder, tmp_path, capsys
):
    params = with_laws(params, pixels=12, pixel_scale_arcsec=0.8)
    raw = with_frames(real_folder, ["heliocentric"] * 11 + ["cmb"], np.linspace(0, 330, 12))
    observe_dataset(params, "measured", real_folder, tmp_path / "measured")
    assert capsys.readouterr().err.count("warning") == 0
    observed = Observed.read(tmp_path / "measured")
    assert observed.survey.cz_frame == "cmb"
    cz = raw["cz_kms"].to_value(u.km / u.s)
    at = raw["ra_deg"].value, raw["dec_deg"].value
    expected = np.append(convert_cz_kms(cz, *at, "heliocentric", "cmb")[:11], cz[11])
    assert np.abs(expected - cz).max() > 200
    found = observed.table["distance_z_mpc"].value[::2] * params.H0_kms_mpc
    np.testing.assert_allclose(found, expected)


def test_redshifts_without_frame_or_position_are_taken_as_they_are_and_said(
    params, real_folder, tmp_path, capsys
):
    params = with_laws(params, pixels=12, pixel_scale_arcsec=0.8)
    observe_dataset(params, "measured", real_folder, tmp_path / "old")
    assert "taken as they are (frame: unknown)" in capsys.readouterr().err
    assert Observed.read(tmp_path / "old").survey.cz_frame == "unknown"
    ra = np.linspace(0, 330, 12)
    ra[3] = np.nan
    raw = with_frames(real_folder, ["heliocentric"] * 12, ra)
    observe_dataset(params, "measured", real_folder, tmp_path / "measured")
    assert "taken as they are (frame: heliocentric)" in capsys.readouterr().err
    observed = Observed.read(tmp_path / "measured")
    assert observed.survey.cz_frame == "heliocentric"  # of all, not of one
    found = observed.table["distance_z_mpc"].value[::2] * params.H0_kms_mpc
    np.testing.assert_allclose(found, raw["cz_kms"].to_value(u.km / u.s))
    with_frames(real_folder, ["heliocentric"] * 11 + ["lg"], ra)
    words = "its redshift cannot be converted to the CMB's frame, and others have another frame"
    with pytest.raises(InputError, match=words):
        observe_dataset(params, "measured", real_folder, tmp_path / "mixed")


@pytest.mark.parametrize(
    ("kind", "dataset", "changes", "words"),
    [
        ("real", "uniform", {}, r"distances\.uniform: real galaxies .* cannot be moved: take"),
        ("simulated", "measured", {}, r"distances\.measured: the galaxies are simulated and have"),
        ("real", "measured", {"instrument": "sdss"}, r"has real images, .*instrument to null"),
        ("real", "measured", {"dimming": "literal"}, r"has real images, .*dimming to physical"),
        ("real", "measured", {"scale": "paper"}, r"has real images, .*its scale to header"),
    ],
)
def test_real_and_simulated_galaxies_are_not_mixed_up(
    params, raw_folder, real_folder, tmp_path, kind, dataset, changes, words
):
    raw = {"real": real_folder, "simulated": raw_folder}[kind]
    with pytest.raises(InputError, match=words):
        observe_dataset(with_laws(params, **changes), dataset, raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_real_frames_smaller_than_the_field_are_refused(params, real_folder, tmp_path):
    params = with_laws(params, pixel_scale_arcsec=0.61)  # 16 x 0.61 = 24.4 x 0.4 arcsec
    words = r"fetch\.nsa\.pixels: 24 pixels of 0\.4 arcsec .*: fetch 25 pixels or more"
    with pytest.raises(InputError, match=words):
        observe_dataset(params, "measured", real_folder, tmp_path / "out")
    observe_dataset(
        with_laws(params, pixel_scale_arcsec=0.6), "measured", real_folder, tmp_path / "out"
    )


@pytest.mark.parametrize("wrong", [np.nan, 0.0, -100.0])
def test_a_real_galaxy_needs_its_redshifts(params, real_folder, tmp_path, wrong):
    params = with_laws(params, pixel_scale_arcsec=0.6)
    table = read_table(real_folder, RAW_COLUMNS)
    table["cz_flow_kms"][3] = wrong * u.km / u.s
    rewrite(table, real_folder)
    with pytest.raises(InputError, match=r"galaxy 24 \(test\) has no redshift of a flow model"):
        observe_dataset(params, "measured", real_folder, tmp_path / "out")


def test_an_instrument_adds_its_noise_and_is_named(params, raw_folder, tmp_path, monkeypatch):
    observe_dataset(params, "uniform", raw_folder, tmp_path / "clean")
    noisy = with_laws(params, instrument="sdss")
    observe_dataset(noisy, "uniform", raw_folder, tmp_path / "noisy")
    monkeypatch.setattr(stage, "GALAXIES_AT_ONCE", 5)
    observe_dataset(noisy, "uniform", raw_folder, tmp_path / "again")
    clean, seen, again = (Observed.read(tmp_path / name) for name in ("clean", "noisy", "again"))
    sdss = params.instruments["sdss"]
    assert seen.survey.instrument == sdss
    assert clean.survey.instrument is None
    assert seen.survey.source == "test galaxies, seen with sdss"
    rows = np.arange(24)
    # noise belongs to the image, not to the batch; convolutions differ by rounding
    sky = [sky_noise(sdss, band, params.pixel_scale_arcsec) for band in "gri"]
    np.testing.assert_allclose(
        seen.images[rows] / np.array(sky)[:, None, None],
        again.images[rows] / np.array(sky)[:, None, None],
        rtol=1e-4,
        atol=1e-3,
    )
    bands = seen.survey.bands
    scale = params.pixel_scale_arcsec
    margin = max(len(psf_kernel(sdss, band, scale)) // 2 for band in bands)
    wide = with_laws(params, pixels=params.pixels + 2 * margin)
    observe_dataset(wide, "uniform", raw_folder, tmp_path / "wide")
    image = Observed.read(tmp_path / "wide").images[rows[7:8]]
    noise = [np.random.default_rng([params.seed, 1, 7])]
    expected = observe_through(image, bands, scale, sdss, noise, margin)
    np.testing.assert_allclose(seen.images[rows[7:8]], expected, rtol=1e-5, atol=1e-3 * max(sky))
    assert not np.allclose(seen.images[rows], clean.images[rows], rtol=1e-3)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_same_seed_same_bytes(params, raw_folder, tmp_path):
    other = params.model_copy(update={"seed": params.seed + 1})
    for name, chosen in (("a", params), ("b", params), ("c", other)):
        observe_dataset(chosen, "uniform", raw_folder, tmp_path / name)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys() == {f"images-00{k}.npy" for k in range(3)} | {"table.ecsv"}
    assert all(a[name] != c[name] for name in a)


def test_nothing_is_left_after_a_failure(params, raw_folder, tmp_path, monkeypatch):
    calls = []

    def failing(*arguments, **settings):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("half-way")
        return place(*arguments, **settings)

    monkeypatch.setattr(views, "place", failing)
    with pytest.raises(RuntimeError, match="half-way"):
        observe_dataset(params, "uniform", raw_folder, tmp_path / "uniform")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("short", ["table", "images"])
def test_raw_images_and_table_of_different_lengths_are_refused(params, raw_folder, tmp_path, short):
    raw = shutil.copytree(raw_folder, tmp_path / "raw")
    if short == "table":
        write_table(QTable(read_table(raw, RAW_COLUMNS)[:-2]), tmp_path, RAW_COLUMNS)
        shutil.move(tmp_path / "table.ecsv", raw / "table.ecsv")
    else:
        (raw / "images-002.npy").unlink()
    with pytest.raises(InputError):
        observe_dataset(params, "uniform", raw, tmp_path / "uniform")


def test_main_reads_params_and_writes_the_named_dataset(shipped, raw_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped["observe"] |= {"pixels": 8}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(shipped))
    shutil.copytree(raw_folder, "data/fetch")
    stage.main(["--dataset", "normal"])
    assert Observed.read(tmp_path / "data/observe/normal").images.shape == (24, 3, 8, 8)
    with pytest.raises(
        SystemExit, match=r"observe\.distances has no 'flat': take measured, normal, paper-normal, "
    ):
        stage.main(["--dataset", "flat"])
    shutil.rmtree("data/fetch")
    with pytest.raises(SystemExit, match=r"data/fetch has no images: run `dvc repro`"):
        stage.main(["--dataset", "normal"])


def test_dask_s_workers_place_the_same_images(
    params, raw_folder, tmp_path, dask_scheduler, monkeypatch
):
    noisy = with_laws(params, instrument="sdss")
    monkeypatch.setattr(stage, "GALAXIES_AT_ONCE", 5)  # a last piece that is not whole
    observe_dataset(noisy, "uniform", raw_folder, tmp_path / "here")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", dask_scheduler)
    observe_dataset(noisy, "uniform", raw_folder, tmp_path / "there")
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("here", "there")
    )
    assert one == other
