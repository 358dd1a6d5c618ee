"""Scenes hold no information on distance but what pixels and resampling put there."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st

from builders.nulls import LIMITS
from builders.surveys import MEASURED, make_survey
from peculiar.core.dataset import OBSERVED_COLUMNS, Observed, write_table
from peculiar.core.photometry import surface_brightness
from peculiar.core.shard import ShardWriter
from peculiar.mock.resample import kpc_per_arcsec
from peculiar.nulls.measure import correlations
from peculiar.nulls.reader import linear_reader, read_scenes, sharpness
from peculiar.nulls.scenes import (
    BRIGHTNESS,
    FLAT,
    KINDS,
    RawGrid,
    blobs,
    flat_field,
    of_kind,
    scene_table,
    scene_views,
)

PIXELS, RAW = 64, 128
GRID = RawGrid(RAW, np.array([84.4 / 256]), np.array([np.nan]))
SURVEY = make_survey(pixels=PIXELS, bands="gr")


def dataset(survey=SURVEY, n=40):
    """A dataset whose images are not needed."""
    table = QTable()
    table["distance_mpc"] = np.linspace(50, 99, n) * u.Mpc
    table["distance_z_mpc"] = np.linspace(51, 100, n) * u.Mpc
    table["split"] = np.repeat(["train", "test"], n // 2)
    table.meta = survey.model_dump(mode="json")
    return Observed(np.zeros((n, 2, PIXELS, PIXELS), np.float32), table)


def written(folder, scenes, unseen, survey=SURVEY, grid=GRID):
    """Scenes as the stage writes them, in one process."""
    table = scene_table(dataset(survey), grid, scenes, unseen, seed=1)
    folder.mkdir()
    kinds = table["kind"].tolist()
    D, kpc = table["distance_mpc"].to_value(u.Mpc), table["kpc_per_pixel"].to_value(u.kpc)
    with ShardWriter(folder, len(table), 512) as shards:
        for first in range(0, len(table), 32):
            at = slice(first, first + 32)
            images = scene_views(survey, grid.pixels, kinds[at], D[at], kpc[at], 1, first)
            for image in images:
                shards.append(image)
    write_table(table, folder, OBSERVED_COLUMNS)
    return Observed.read(folder)


@given(sigma=st.sampled_from([0.5, 1.0, 2.0]), pixels=st.sampled_from([16, 48, 96]))
def test_blobs_on_coarse_pixels_are_means_of_those_on_fine_ones(sigma, pixels):
    coarse, fine = (
        blobs(np.random.default_rng(3), sigma, "gr", np.linspace(-24, 24, n + 1), 48)
        for n in (pixels, 2 * pixels)
    )
    means = fine.reshape(2, pixels, 2, pixels, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(coarse, means, rtol=2e-4, atol=1e-6 * means.max())


def test_one_blob_has_the_flux_and_the_deviation_of_its_gaussian(monkeypatch):
    monkeypatch.setattr("peculiar.nulls.scenes.MARGIN", -20)  # near the middle
    monkeypatch.setattr("peculiar.nulls.scenes.BLOBS", 1)
    monkeypatch.setattr("peculiar.nulls.scenes.SKY", 0.0)
    edges = np.linspace(-32, 32, 257)
    alone = 0
    for seed in range(20):
        image = blobs(np.random.default_rng(seed), 2.0, "r", edges, 64)[0].astype(float)
        probe = np.random.default_rng(seed)
        probe.uniform()
        if probe.poisson(1) != 1:
            continue
        alone += 1
        x = (edges[1:] + edges[:-1]) / 2
        profile = image.sum(axis=0) / image.sum()
        mean = profile @ x
        assert np.sqrt(profile @ (x - mean) ** 2 - (edges[1] - edges[0]) ** 2 / 12) == (
            pytest.approx(2.0, rel=1e-3)
        )
        assert image.sum() / 16 == pytest.approx(image.max() * 2 * np.pi * 4, rel=1e-2)
    assert alone > 3


def test_a_flat_field_has_one_brightness_in_each_band():
    image = flat_field(np.random.default_rng(0), "gr", 8)
    assert image.shape == (2, 8, 8)
    assert np.ptp(image, axis=(1, 2)).max() == 0
    bright, faint = (surface_brightness(mag, "r") for mag in (BRIGHTNESS[0] - 2, BRIGHTNESS[1] + 2))
    assert faint < image[1, 0, 0] < bright


def test_a_scene_far_away_is_the_same_scene():
    """Blobs of two pixels show the same picture at any distance."""
    kinds, kpc = ["structure of 1 pixel"] * 2, np.full(2, 84.4 / 256)
    near, far = (scene_views(SURVEY, RAW, kinds, np.full(2, D), kpc, 5, 0) for D in (50.0, 70.0))
    middle = (..., slice(8, -8), slice(8, -8))
    assert np.abs(near - far)[middle].max() < 0.03 * near.max()
    assert np.abs(near[0] - near[1]).max() > 0.1 * near.max()  # two scenes are two


def test_no_pixel_of_a_scene_is_exactly_zero():
    """Trees told the distance (r = 0.66) by the number of zeros between the narrow blobs."""
    survey, n = make_survey(pixels=128, bands="gr", psf_fwhm_arcsec=4.08), 4
    kinds, D, kpc = ["structure of 0.5 pixels"] * n, np.linspace(50, 99, n), np.full(n, 0.33)
    assert (scene_views(survey, 320, kinds, D, kpc, 5, 0) > 0).all()


def test_each_scene_has_its_own_random_stream():
    n = len(KINDS)
    kinds, D, kpc = [*KINDS], np.full(n, 60.0), np.full(n, 84.4 / 256)
    whole = scene_views(SURVEY, RAW, kinds, D, kpc, 5, 0)
    part = scene_views(SURVEY, RAW, kinds[2:], D[2:], kpc[2:], 5, 2)
    np.testing.assert_array_equal(whole[2:], part)


def test_the_table_has_as_many_of_each_kind_in_each_split():
    table = scene_table(dataset(), GRID, 30, 7, seed=1)
    for split, number in (("train", 30), ("validation", 10), ("test", 7)):
        kinds = table["kind"][np.asarray(table["split"]) == split]
        assert {kind: (kinds == kind).sum() for kind in KINDS} == dict.fromkeys(KINDS, number)
    D, D_z = (table[f"distance{z}_mpc"].to_value(u.Mpc) for z in ("", "_z"))
    assert 50 <= D.min() < D.max() <= 100
    assert np.std(D_z - D) == pytest.approx(400 / 70, rel=0.2)
    np.testing.assert_allclose(table["velocity_kms"].to_value(u.km / u.s), 70 * (D_z - D))


def test_scenes_of_real_galaxies_have_their_distances_and_angular_pixels():
    survey = make_survey(pixels=PIXELS, bands="gr", distances=MEASURED)
    grid = RawGrid(RAW, np.array([np.nan]), np.array([0.7]))
    table = scene_table(dataset(survey), grid, 10, 5, seed=1)
    D = table["distance_mpc"].to_value(u.Mpc)
    assert set(D) <= set(np.linspace(50, 99, 40)[:20])  # of the training split
    np.testing.assert_allclose(table["distance_z_mpc"].to_value(u.Mpc) - D, 1)
    np.testing.assert_allclose(table["kpc_per_pixel"].to_value(u.kpc), 0.7 * kpc_per_arcsec(D))


def test_scenes_have_the_pixels_that_the_paper_s_scale_gives():
    survey = make_survey(pixels=PIXELS, bands="gr", scale="paper")
    grid = RawGrid(RAW, np.array([1.5]), np.array([np.nan]))
    table = scene_table(dataset(survey), grid, 10, 5, seed=1)
    np.testing.assert_allclose(table["kpc_per_pixel"].to_value(u.kpc), 84.4 / RAW)


def test_the_grid_is_that_of_the_raw_images(raw_folder):
    grid = RawGrid.read(raw_folder)
    assert grid.pixels == 24
    assert grid.kpc_per_pixel.shape == grid.scale_arcsec.shape == (24,)
    kpc = grid.draw_kpc(np.linspace(50, 100, 30), np.random.default_rng(0))
    assert set(kpc) <= set(grid.kpc_per_pixel)


def test_one_kind_alone():
    table = scene_table(dataset(), GRID, 8, 3, seed=1)
    scenes = Observed(np.zeros((len(table), 1, 2, 2), np.float32), table)
    some = of_kind(scenes, FLAT)
    assert {*np.asarray(some.table["kind"])[some.rows("test")]} == {FLAT}
    assert [len(some.rows(split)) for split in ("train", "validation", "test")] == [8, 10, 3]
    assert len(scenes.rows("train")) == 8 * len(KINDS)


def test_a_linear_reader_recovers_a_line_and_nothing_from_noise():
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(2, 300, 4))
    weights = np.array([3.0, 0, -2, 1])
    found = linear_reader(x, 70 + x @ weights, new)
    np.testing.assert_allclose(found, 70 + new @ weights, atol=0.1)
    noise = linear_reader(x, rng.normal(70, 14, 300), new)
    assert abs(np.corrcoef(noise, rng.normal(70, 14, 300))[0, 1]) < 0.25


def test_sharpness_does_not_depend_on_brightness():
    images = np.random.default_rng(0).random((3, 2, 16, 16), dtype=np.float32)
    np.testing.assert_allclose(sharpness(images), sharpness(1e-7 * images), atol=1e-4)
    assert np.isfinite(sharpness(np.zeros_like(images))).all()


@pytest.mark.slow
def test_the_cubic_s_sharpness_is_a_ruler_and_scenes_find_it(tmp_path):
    """One kernel for raw pixels of 0.5 to 1 output pixel: a regression reads D from small blobs."""
    from peculiar.mock.images import views
    from peculiar.nulls import scenes as module
    from peculiar.nulls.resamplers import kernels_of

    def cubic(images, *arguments):
        return views(images, *arguments, kernels=kernels_of(len(images), box=False))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "views", cubic)
        grid = RawGrid(256, np.array([84.4 / 256]), np.array([np.nan]))
        survey = make_survey(pixels=128, bands="gri")
        observed = written(tmp_path / "scenes", 250, 100, survey, grid)
    found = {s.name: s for s in correlations(observed, read_scenes(observed))}
    assert found["structure of 0.5 pixels"].r > 0.5
    assert found["structure of 1 pixel"].r > 0.2  # with 250 scenes to learn from
    assert all(found[name].against(LIMITS) for name in list(KINDS)[:2])
