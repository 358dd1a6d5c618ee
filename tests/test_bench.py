"""Benchmarks at tiny sizes: the same results as plain ways, and what is said to have fallen."""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import rows_placing  # noqa: E402
import rows_standin  # noqa: E402
from measuring import Machine, Timing, Work, by_turns, fallen, last_table, markdown, write  # noqa: E402

from builders.standin import small_standin  # noqa: E402
from peculiar.galaxies.standin.simulation import simulate  # noqa: E402
from peculiar.mock.resample import Kernels, _by_matrices, taps  # noqa: E402

ROW = Timing("placing", "one core", "cv2", "images/s", 900, 800, 1000, ratio=2.0, aim=1.0)
HEAD = {"date": "2026-11-24", "commit": "abc", "name": "a machine", "load_average": 0.1}


@pytest.mark.parametrize(
    ("ratio", "said"), [(2.0, False), (1.61, False), (1.59, True), (9.0, False)]
)
def test_what_fell_by_more_than_a_fifth_is_said(tmp_path, ratio, said):
    write(tmp_path, "kept", HEAD, [ROW])
    kept = last_table(tmp_path, "a machine")
    found = fallen([replace(ROW, ratio=ratio), replace(ROW, name="new", ratio=0.1)], kept)
    assert bool(found) == said
    assert all("placing, one core: better than cv2 by 1.59, by 2 on 2026-11-24" in f for f in found)


def test_the_last_table_is_the_newest_of_the_same_machine(tmp_path):
    for day in ("2026-11-25", "2026-11-24"):
        write(tmp_path, day, HEAD | {"date": day}, [ROW])
    write(tmp_path, "other", HEAD | {"date": "2027-01-01", "name": "another"}, [ROW])
    assert last_table(tmp_path, "a machine")["date"] == "2026-11-25"
    assert last_table(tmp_path, "none") is None
    assert Timing(**last_table(tmp_path, "a machine")["rows"][0]) == ROW


@pytest.mark.parametrize(("unit", "ratio"), [("images/s", 3.0), ("s", 3.0)])
def test_ratios_state_how_much_better_ours_is(unit, ratio):
    work = Work("g", "w", unit, 6, {"ours": lambda: 0.5, "theirs": lambda: 1.5}, limit=24.0)
    ours, theirs = by_turns(work, 3)
    assert (ours.ratio, theirs.ratio) == pytest.approx((1, ratio))
    assert ours.median == pytest.approx(12.0 if unit == "images/s" else 0.5)
    assert ours.reached == pytest.approx(0.5 if unit == "images/s" else 48)
    assert theirs.limit is None
    assert replace(theirs, aim=3.1).missed
    assert not theirs.missed
    assert "| w | theirs |" in markdown(HEAD, [ours, theirs])
    assert asdict(ours)["name"] == "ours"


def test_the_limit_is_set_by_what_takes_longest():
    machine = Machine("a machine", 2, 20.0, 10.0, 200.0, 100.0)
    assert machine.seconds(400e9, 20e9) == pytest.approx(2)
    assert machine.seconds(0, 20e9, core=True) == pytest.approx(2)


def test_placing_keeps_light_better_than_what_it_is_compared_with():
    images = rows_placing.galaxies(4, np.random.default_rng(0))
    ratios = rows_placing.ratios_of(np.array([52.0, 66.0, 81.0, 97.0]))
    own = rows_placing.flux_errors(images, ratios, rows_placing.placed_alone)
    assert np.median(own) < 1.3e-3
    theirs = rows_placing.PEERS["cv2.warpAffine, cubic"]
    assert np.median(own) < np.median(rows_placing.flux_errors(images, ratios, theirs))


def test_placing_equals_torch_where_it_has_our_kernel():
    """Where the output ends with whole raw pixels, 128 of 192, the two grids are the same."""
    image = rows_placing.galaxies(1, np.random.default_rng(0))[0]
    ratio = 1.5  # 192 whole pixels
    own = rows_placing.placed_alone(image, ratio)
    theirs = rows_placing.torch_interpolate(image, ratio)
    inside = np.s_[:, 4:-4, 4:-4]  # torch sees nothing of the sky around its pixels
    np.testing.assert_allclose(own[inside], theirs[inside], atol=1e-4 * own.max())


def test_placing_equals_complete_matrices():
    images = torch.as_tensor(rows_placing.galaxies(2, np.random.default_rng(0)))
    ratio = torch.tensor([1.2, 1.9])
    kernels = Kernels(torch.tensor([-0.5, -0.5]), torch.ones(2), torch.zeros(2, dtype=torch.bool))
    both = [taps(ratio, 256, 128, None, kernels)] * 2
    whole = _by_matrices(images, *both)
    for image, one, full in zip(images.numpy(), ratio.numpy(), whole.numpy(), strict=True):
        own = rows_placing.placed_alone(image, float(one))
        np.testing.assert_allclose(own, full, atol=2e-5 * full.max())


def test_stand_in_images_equal_one_kernel_a_particle():
    parameters = small_standin(pixels=64, log10_mass_max=10.1)
    stars = simulate(np.random.default_rng(1), parameters)
    flux, pixels = rows_standin.difference(stars, parameters)
    assert flux < 5e-3
    assert pixels < 0.1
