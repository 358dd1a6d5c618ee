"""Distances drawn, and images as seen from them: once by `observe`, or anew in training."""

from functools import cache

import astropy.units as u
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm, truncnorm, uniform

from builders.surveys import MEASURED
from peculiar.core.cosmography import COSMOLOGIES
from peculiar.core.dataset import (
    RAW_COLUMNS,
    Observed,
    Shards,
    read_table,
    write_table,
)
from peculiar.core.errors import InputError
from peculiar.core.params import load
from peculiar.core.photometry import surface_brightness
from peculiar.core.shard import ShardWriter
from peculiar.core.survey import Normal, Uniform, Volume
from peculiar.mock.distances import draw_distances_mpc
from peculiar.mock.images import BOXES, SLOPES, WIDTHS, draw_kernels, fresh_views, views
from peculiar.mock.instrument import sky_noise
from peculiar.mock.kernels import Kernels
from peculiar.mock.params import Observe
from peculiar.mock.resample import place
from peculiar.pipeline import observe as stage
from peculiar.pipeline.observe import observe_dataset

UNIFORM = Uniform(distribution="uniform", min_mpc=50, max_mpc=100)
NORMAL = Normal(distribution="normal", mean_mpc=75, sigma_mpc=14.5, min_mpc=25)
CPU = torch.device("cpu")
KINDS = ("uniform", "normal", "noisy")


@pytest.fixture(scope="module", autouse=True)
def _on_the_cpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "best_device", lambda: CPU)
        yield


@pytest.fixture(scope="module")
def raw(raw_folder, tmp_path_factory):
    """The shared raw set as faint as the sky, every galaxy off its own way from the middle."""
    folder = tmp_path_factory.mktemp("faint")
    table = read_table(raw_folder, RAW_COLUMNS)
    offset = np.random.default_rng(2).uniform(-4, 4, (len(table), 2))
    table["centre_offset"] = offset * u.pix
    images = Shards(raw_folder)[np.arange(len(table))] * float(surface_brightness(21, "r"))
    with ShardWriter(folder, len(table), per_shard=5) as shards:
        for image in images.astype(np.float32):
            shards.append(image)
    write_table(table, folder, RAW_COLUMNS)
    return folder


@pytest.fixture(scope="module")
def params(params_file):
    """Section observe for images of 10 pixels by cubic resampling."""
    changes = {"pixels": 10, "shard_images": 10, "H0_kms_mpc": 72.0, "psf_fwhm_arcsec": None}
    return load(Observe, params_file).model_copy(update=changes)


@pytest.fixture(scope="module")
def observed_as(raw, params, tmp_path_factory):
    """Data sets of the raw set by kind; noisy ones are uniform and seen with SDSS."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp("views") / kind
        chosen = params.model_copy(update={"instrument": "sdss" if kind == "noisy" else None})
        observe_dataset(chosen, "uniform" if kind == "noisy" else kind, raw, folder)
        found[kind] = Observed.read(folder)
    return found


def with_meta(observed, **changes):
    """The same images, with another table's meta."""
    table = observed.table.copy()
    table.meta |= changes
    return Observed(observed.images, table)


def fresh(observed, raw, label="D", seed=0, pixels=10, kernels=False):
    """A function from rows to images and labels, drawn and made at once."""
    rng = np.random.default_rng(seed)
    draw = fresh_views(observed, raw, pixels, label, rng, CPU, random_kernels=kernels)
    return lambda rows: draw(rows)()


@cache
def opened(raw):
    return Shards(raw), read_table(raw, RAW_COLUMNS)


def placed(raw, row, distance_mpc, pixels=10, scale_arcsec=1.36, kernels=None, psf=None):
    """One camera's image of one galaxy, placed on its own."""
    (images, table), (at, camera) = opened(raw), divmod(int(row), 2)
    return place(
        torch.from_numpy(images[np.array([at])][:, camera]),
        torch.tensor([table["kpc_per_pixel"][at, camera].to_value(u.kpc)]),
        torch.tensor([distance_mpc], dtype=torch.float64),
        pixels=pixels,
        pixel_scale_arcsec=scale_arcsec,
        dimming="physical",
        psf_fwhm_arcsec=psf,
        centre_offset=torch.from_numpy(table["centre_offset"][[at]].to_value(u.pix)),
        kernels=kernels,
    )[0]


def test_fresh_images_are_read_with_the_scale_of_their_dataset(raw, params, tmp_path):
    as_paper = params.model_copy(update={"scale": "paper"})
    observe_dataset(as_paper, "uniform", raw, tmp_path / "paper")
    observed = Observed.read(tmp_path / "paper")
    images, (mpc,) = fresh(observed, raw)(np.array([5]))
    side = Shards(raw).shape[-1]
    expected = place(
        torch.from_numpy(Shards(raw)[np.array([2])][:, 1]),
        torch.tensor([84.4 / side], dtype=torch.float64),
        mpc[None].double(),
        pixels=10,
        pixel_scale_arcsec=1.36,
        dimming="physical",
        psf_fwhm_arcsec=None,
        centre_offset=torch.from_numpy(opened(raw)[1]["centre_offset"][[2]].to_value(u.pix)),
    )
    np.testing.assert_allclose(images, expected, rtol=1e-4, atol=1e-5)


def test_uniform_distances_fill_their_range():
    D = draw_distances_mpc(UNIFORM, 20_000, np.random.default_rng(0))
    assert D.min() >= 50
    assert D.max() <= 100
    assert kstest(D, uniform(50, 50).cdf).pvalue > 0.01


def test_distances_in_a_volume_have_as_many_galaxies_in_each_shell():
    volume = Volume(distribution="volume", min_mpc=50, max_mpc=100)
    D = draw_distances_mpc(volume, 20_000, np.random.default_rng(0))
    assert D.min() >= 50
    assert D.max() <= 100
    assert kstest(D**3, uniform(50**3, 100**3 - 50**3).cdf).pvalue > 0.01


def test_normal_distances_have_the_papers_mean_and_deviation():
    D = draw_distances_mpc(NORMAL, 40_000, np.random.default_rng(0))
    assert D.mean() == pytest.approx(75, abs=0.3)
    assert D.std() == pytest.approx(14.5, abs=0.2)
    assert (D < 50).mean() == pytest.approx(norm(75, 14.5).cdf(50), abs=0.005)  # not cut at 50
    assert kstest(D, truncnorm(-50 / 14.5, np.inf, 75, 14.5).cdf).pvalue > 0.01


def test_normal_distances_nearer_than_the_limit_are_drawn_again():
    near = Normal(distribution="normal", mean_mpc=75, sigma_mpc=30, min_mpc=60)
    D = draw_distances_mpc(near, 20_000, np.random.default_rng(0))
    assert len(D) == 20_000
    assert D.min() >= 60
    assert kstest(D, truncnorm(-0.5, np.inf, 75, 30).cdf).pvalue > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_what_observe_wrote(raw, params, observed_as, kind):
    """In another order, and not in observe's batches of galaxies."""
    observed, galaxies = observed_as[kind], read_table(raw, RAW_COLUMNS)
    rows = np.random.default_rng(0).permutation(24)[:7]
    galaxy, camera = np.divmod(rows, 2)
    seen = views(
        Shards(raw)[galaxy][np.arange(7), camera],
        galaxies["kpc_per_pixel"].to_value(u.kpc)[galaxy, camera],
        observed.table["distance_mpc"].to_value(u.Mpc)[rows],
        galaxies["centre_offset"].to_value(u.pix)[galaxy],
        10,
        observed.survey,
        [np.random.default_rng([params.seed, stage.NOISE, int(row)]) for row in rows],
        CPU,
    )
    expected = observed.images[rows]
    assert seen.dtype == torch.float32
    np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@given(
    rows=st.lists(st.integers(0, 23), min_size=1, max_size=6),
    label=st.sampled_from(["D", "D_z"]),
    kind=st.sampled_from(["uniform", "normal"]),
    seed=st.integers(0, 99),
)
def test_fresh_views_show_the_row_s_own_galaxy_at_the_distance_of_their_label(
    raw, observed_as, rows, label, kind, seed
):
    """Also that each image keeps its peculiar velocity, whatever its distance."""
    observed = observed_as[kind]
    draw = fresh(observed, raw, label, seed)
    velocity = observed.table["velocity_kms"].to_value(u.km / u.s)
    for _ in range(2):
        images, labels = draw(np.array(rows))
        assert images.shape == (len(rows), 3, 10, 10)
        assert labels.dtype == images.dtype == torch.float32
        assert len(set(labels.tolist())) == len(rows)  # also of rows that stand there twice
        for image, row, distance in zip(images, rows, labels.tolist(), strict=True):
            true = distance - (velocity[row] / 72 if label == "D_z" else 0)
            expected = placed(raw, row, true)
            torch.testing.assert_close(image, expected, rtol=0, atol=1e-4 * float(expected.max()))


def test_another_camera_galaxy_or_distance_would_be_noticed(raw):
    """What the test above rests on: each changes an image by far more than it allows."""
    image = placed(raw, 5, 75)
    for other in (placed(raw, 4, 75), placed(raw, 7, 75), placed(raw, 5, 75.5)):
        assert float((other - image).abs().max()) > 1e-3 * float(image.max())


@pytest.mark.parametrize("cosmology", COSMOLOGIES)
@pytest.mark.parametrize("pixels", [4, 8])
def test_smaller_fresh_views_are_the_middle_of_larger_ones(raw, observed_as, pixels, cosmology):
    rows, edge = np.array([1, 20, 7, 7]), (10 - pixels) // 2
    observed = with_meta(observed_as["uniform"], cosmology=cosmology)
    whole, labels = fresh(observed, raw)(rows)
    part, same = fresh(observed, raw, pixels=pixels)(rows)
    assert torch.equal(labels, same)
    middle = whole[..., edge:-edge, edge:-edge]
    torch.testing.assert_close(part, middle, rtol=0, atol=1e-5 * float(whole.max()))


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_fresh_distances_follow_the_law_of_the_data_set(raw, observed_as, kind):
    law = {
        "uniform": {"distribution": "uniform", "min_mpc": 60, "max_mpc": 75},
        "normal": {"distribution": "normal", "mean_mpc": 70, "sigma_mpc": 8, "min_mpc": 66},
    }[kind]
    observed = with_meta(observed_as[kind], distances=law)
    draw = fresh(observed, raw, "D", 0)
    labels = torch.cat([draw(np.arange(24))[1] for _ in range(40)])
    expected = {"uniform": uniform(60, 15), "normal": truncnorm(-0.5, np.inf, 70, 8)}[kind]
    assert kstest(labels, expected.cdf).pvalue > 0.01
    assert len(labels.unique()) > 0.99 * len(labels)


def test_the_seed_decides_fresh_views(raw, observed_as):
    seen = []
    for seed in (1, 1, 2):
        draw = fresh(observed_as["noisy"], raw, "D_z", seed)
        seen.append([draw(np.array([3, 8])) for _ in range(2)])
    for call in range(2):
        for a, b, c in zip(*(one[call] for one in seen), strict=True):
            assert torch.equal(a, b)
            assert not torch.isclose(a, c).all()


@pytest.mark.parametrize("kind", ["uniform", "noisy"])
def test_what_is_drawn_can_be_made_in_any_order(raw, observed_as, kind):
    """The same bytes, with random kernels or noise."""
    rng = np.random.default_rng(0)
    draw = fresh_views(observed_as[kind], raw, 10, "D", rng, CPU, random_kernels=kind == "uniform")
    at_once = fresh(observed_as[kind], raw, kernels=kind == "uniform")
    some = [np.array(rows) for rows in ([3, 8], [0, 1, 2], [3, 8], [23])]
    expected = [at_once(rows) for rows in some]
    later = [draw(rows) for rows in some]
    for number in (2, 0, 3, 1, 0):
        for made, wanted in zip(later[number](), expected[number], strict=True):
            assert torch.equal(made, wanted)


def test_an_instrument_adds_other_noise_to_each_fresh_view(raw, params, observed_as):
    """At a distance that hardly varies, only the noise is left to differ."""
    law = {"distribution": "uniform", "min_mpc": 60, "max_mpc": 60 + 1e-6}
    rows = np.tile([3, 8, 8], 20)
    clean, noisy = (
        fresh(with_meta(observed_as[kind], distances=law), raw) for kind in ("uniform", "noisy")
    )
    first, again = clean(rows)[0], clean(rows)[0]
    torch.testing.assert_close(first, again, rtol=1e-4, atol=1e-6 * float(first.max()))
    sdss = params.instruments["sdss"]
    sky = torch.tensor([sky_noise(sdss, band, params.pixel_scale_arcsec) for band in "gri"])
    a, b = noisy(rows)[0] / sky[:, None, None], noisy(rows)[0] / sky[:, None, None]
    pairs = {"two calls": (a, b), "two images of one call": (a[1::3], a[2::3])}
    for one, other in pairs.values():
        deviation = (one - other).std(dim=(0, 2, 3)) / np.sqrt(2)
        # no less than the sky's; the galaxies, as bright as it, add their own
        assert (deviation > 0.95).all()
        assert (deviation < 2).all()
        noise = torch.stack([one - one.mean(dim=0), other - other.mean(dim=0)]).flatten(1)
        if one is a[1::3]:  # of one galaxy and distance: its mean takes away all but the noise
            assert abs(float(torch.corrcoef(noise)[0, 1])) < 0.05


def test_kernels_are_drawn_between_their_ends():
    kernels = draw_kernels(4000, np.random.default_rng(0))
    for drawn, (low, high) in ((kernels.slope, SLOPES), (kernels.width, WIDTHS)):
        assert kstest(drawn.numpy(), uniform(low, high - low).cdf).pvalue > 0.01
    numbers = np.stack([kernels.slope, kernels.width, kernels.box])
    assert np.abs(np.corrcoef(numbers) - np.eye(3)).max() < 0.05
    assert kernels.box.double().mean() == pytest.approx(BOXES, abs=0.03)


@pytest.mark.parametrize("pixels", [10, 4])
def test_random_kernels_are_those_of_the_generator(raw, observed_as, pixels):
    """What is cut off the raw image before it is placed is beyond the widest kernel's reach."""
    rows = np.array([1, 20, 7, 7])
    images, labels = fresh(observed_as["uniform"], raw, seed=3, pixels=pixels, kernels=True)(rows)
    rng = np.random.default_rng(3)
    D = draw_distances_mpc(observed_as["uniform"].survey.distances, 4, rng)
    np.testing.assert_allclose(labels, D, rtol=1e-6)
    kernels = draw_kernels(4, rng)
    for i, image in enumerate(images):
        own = Kernels(kernels.slope[[i]], kernels.width[[i]], kernels.box[[i]])
        expected = placed(raw, rows[i], D[i], pixels, kernels=own)
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-5 * float(expected.max()))
        usual = placed(raw, rows[i], D[i], pixels)
        assert float((image - usual).abs().max()) > 1e-3 * float(usual.max())


@pytest.mark.parametrize("pixels", [10, 4])
def test_fresh_views_have_the_psf_of_their_dataset(raw, observed_as, pixels):
    """What is cut off the raw image before it is placed is beyond the reach of the PSF."""
    rows = np.array([1, 20, 7, 7])
    observed = with_meta(observed_as["uniform"], psf_fwhm_arcsec=2.72)
    images, labels = fresh(observed, raw, seed=3, pixels=pixels)(rows)
    for row, image, D in zip(rows, images, labels.double(), strict=True):
        expected = placed(raw, row, float(D), pixels, psf=2.72)
        torch.testing.assert_close(image, expected, rtol=0, atol=2e-5 * float(expected.max()))
    with pytest.raises(
        InputError, match=r"has a PSF of 2\.72 arcsec .*: set kernels: false in train"
    ):
        fresh(observed, raw, kernels=True)


@pytest.mark.parametrize("label", ["D", "D_z"])
def test_rows_that_are_not_asked_for_are_not_needed(raw, observed_as, label):
    """Of the test split neither the table nor an image is looked at."""
    observed = observed_as["uniform"]
    table, test = observed.table.copy(), observed.rows("test")
    for name in ("distance_mpc", "distance_z_mpc", "velocity_kms"):
        table[name][test] = np.nan
    rows = observed.rows("train")
    seen = [
        fresh(Observed(images, data), raw, label)(rows)
        for images, data in (
            (observed.images, observed.table),
            (np.full(observed.images.shape, np.nan), table),
        )
    ]
    for a, b in zip(*seen, strict=True):
        assert torch.equal(a, b)


def test_real_galaxies_are_not_moved(raw, observed_as):
    real = with_meta(observed_as["uniform"], distances=MEASURED, dataset="atlas")
    words = r"dataset atlas has real galaxies, which cannot be moved to .*: set fresh: false in"
    with pytest.raises(InputError, match=words):
        fresh(real, raw, "D_z", 0)


@pytest.mark.parametrize("change", ["fewer", "order", "others", "cameras"])
def test_raw_images_of_other_galaxies_are_refused(raw, observed_as, tmp_path, change):
    table = read_table(raw, RAW_COLUMNS)
    images = Shards(raw)[np.arange(12)]
    if change == "fewer":
        table, images = table[:-1], images[:-1]
    elif change == "order":
        table = table[::-1]
    elif change == "others":
        table["id"] += 1
    else:
        images = images[:, :1]
    with ShardWriter(tmp_path, len(table), per_shard=5) as shards:
        for image in images:
            shards.append(image)
    write_table(table, tmp_path, RAW_COLUMNS)
    words = r"does not hold the galaxies of dataset uniform: run `dvc repro observe`"
    with pytest.raises(InputError, match=words):
        fresh(observed_as["uniform"], tmp_path)


def test_fresh_views_need_the_raw_images(observed_as, tmp_path):
    with pytest.raises(InputError, match="has no images: run `dvc repro`"):
        fresh(observed_as["uniform"], tmp_path)
