"""A network that reads a ruler fails, an honest one passes."""

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable

from builders.networks import network_section, small
from builders.nulls import LIMITS
from builders.surveys import make_survey
from peculiar.core.dataset import Observed
from peculiar.core.photometry import surface_brightness
from peculiar.nulls.measure import (
    changes,
    correlations,
    learnt_from_scenes,
    pearson,
    predicted_mpc,
    spec_for_scenes,
)
from peculiar.nulls.renderings import REFERENCE
from peculiar.nulls.scenes import KINDS


def drawn(ruler, known=120, unseen=100):
    """Images (n, 2, 16, 16) of noise, whose amplitude tells D if there is a ruler."""
    rng = np.random.default_rng(0)
    counts = np.array([known, 20, unseen]) * len(KINDS)
    D = rng.uniform(50, 100, counts.sum())
    table = QTable()
    table["distance_mpc"] = D * u.Mpc
    table["distance_z_mpc"] = (D + rng.normal(0, 5, len(D))) * u.Mpc
    table["split"] = np.repeat(["train", "validation", "test"], counts)
    table["galaxy"] = np.arange(len(D))
    table["kind"] = np.array(list(KINDS))[np.arange(len(D)) % len(KINDS)]
    table.meta = make_survey(pixels=16).model_dump(mode="json")
    level = 10 ** ((D - 75) / 50) if ruler else 10 ** rng.uniform(-0.5, 0.5, len(D))
    noise = rng.normal(1, 0.1, (len(D), 2, 16, 16)) * float(surface_brightness(23, "r"))
    return Observed((noise * level[:, None, None, None]).astype(np.float32), table)


@pytest.mark.parametrize("head", ["point", "gaussian"])
def test_a_network_learns_a_ruler_and_nothing_where_there_is_none(head):
    spec = network_section(
        head=head, epochs=30, learning_rate=1e-2, batch_norm=True, batch_size=16, fresh=True
    )
    fails, passes = (learnt_from_scenes(drawn(ruler), spec, 30, 1) for ruler in (True, False))
    assert all(test.r > 0.5 for test in fails)
    assert all(test.against(LIMITS) for test in fails)
    assert [test.name for test in passes] == [*KINDS, "all scenes"]
    assert all(abs(test.r) < 4 * test.error for test in passes)


def test_the_spec_for_scenes_draws_no_fresh_distances():
    spec = network_section(fresh=True, views=3, kernels=True, epochs=30)
    own = spec_for_scenes(spec, 12)
    assert (own.fresh, own.views, own.kernels, own.epochs) == (False, None, False, 12)
    assert own == own.__class__.model_validate(own.model_dump())
    assert spec_for_scenes(spec, 100).epochs == 30


def test_pearson_against_its_definition_and_its_error():
    rng = np.random.default_rng(0)
    D = rng.uniform(50, 100, 1000)
    D_p = 0.5 * D + rng.normal(0, 10, 1000)
    r, error = pearson(D, D_p)
    assert r == pytest.approx(np.mean((D - D.mean()) * (D_p - D_p.mean())) / D.std() / D_p.std())
    draws = rng.integers(1000, size=(300, 1000))
    assert error == pytest.approx(np.std([pearson(D[k], D_p[k])[0] for k in draws]), rel=0.2)


def test_one_number_for_all_scenes_is_no_skill_and_nan_fails():
    D = np.linspace(50, 100, 40)
    assert pearson(D, np.full(40, 75.0) + 1e-6 * D)[0] == 0
    scenes = drawn(ruler=False, known=1, unseen=10)
    found = correlations(scenes, np.full(10 * len(KINDS), np.nan))
    assert all(np.isnan(test.r) and test.against(LIMITS) for test in found)


def test_changes_are_means_over_galaxies_with_their_errors():
    rng = np.random.default_rng(0)
    galaxy = np.repeat(np.arange(30), 8)
    D = rng.uniform(50, 100, 240)
    reference = D + rng.normal(0, 5, 240)
    shift = rng.normal(0, 0.5, 30)[galaxy]
    same, moved = changes(D, galaxy, {REFERENCE: reference, "a": reference, "b": reference + shift})
    assert (same.change_mpc, same.error_mpc, same.against(LIMITS)) == (0, 0, None)
    assert same.l2_mpc == same.reference_l2_mpc
    assert moved.change_mpc == pytest.approx(shift.mean())
    assert moved.error_mpc == pytest.approx(shift[::8].std(ddof=1) / np.sqrt(30))
    assert moved.l2_mpc == pytest.approx(np.sqrt(np.mean((reference + shift - D) ** 2)))


class Sharp(torch.nn.Module):
    """D_p from the sharpness of pixels: a reader of the renderer."""

    def forward(self, images):
        squares = images.diff(dim=-1).square().mean(dim=(-1, -2, -3))
        return 75 + 10 * (squares / images.square().mean(dim=(-1, -2, -3))).log()


class Flux(torch.nn.Module):
    """D_p from the total flux."""

    def forward(self, images):
        return 75 - 10 * images.sum(dim=(-1, -2, -3)).log()


@pytest.mark.parametrize(("reader", "fails"), [(Sharp, True), (Flux, False)])
def test_a_reader_of_sharpness_fails_and_one_of_flux_passes(reader, fails):
    """The same stars on coarser pixels: means of 2 x 2, of which light is conserved."""
    rng = np.random.default_rng(0)
    images = rng.lognormal(0, 1, (40, 2, 32, 32)).astype(np.float32)
    coarse = images.reshape(40, 2, 16, 2, 16, 2).mean(axis=(3, 5)).repeat(2, -1).repeat(2, -2)
    with torch.inference_mode():
        D_p = {
            name: reader()(torch.from_numpy(seen)).numpy().astype(float)
            for name, seen in ((REFERENCE, images), ("coarse", coarse))
        }
    (test,) = changes(rng.uniform(50, 100, 40), np.arange(40), D_p)
    assert bool(test.against(LIMITS)) == fails


def test_predictions_are_distances():
    images = np.random.default_rng(0).random((5, 2, 16, 16), dtype=np.float32) * 1e-7
    for head in ("point", "gaussian"):
        D_p = predicted_mpc(small(head=head), images)
        assert D_p.shape == (5,)
        assert np.isfinite(D_p).all()
