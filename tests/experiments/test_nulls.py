"""Parts of images, shuffled redshifts and metadata, beyond the stage `nulls`."""

import numpy as np
import pytest

from experiments.nulls import metadata, shown, suite
from peculiar.core.errors import InputError
from peculiar.training.predictions import column_mpc


def test_parts_show_only_what_they_say():
    images = np.random.default_rng(0).random((3, 2, 32, 32), dtype=np.float32)
    rim, background, flux = (shown.PARTS[name](images) for name in list(shown.PARTS)[1:])
    assert (rim[..., 8:-8, 8:-8] == 0).all()
    np.testing.assert_array_equal(rim[..., :8, :], images[..., :8, :])
    assert (background[..., 16, 1:-1] == 0).all()
    assert background[0, 0, 0, 0] == images[0, 0, 0, 0]
    np.testing.assert_allclose(flux.sum(axis=(-2, -1)), images.sum(axis=(-2, -1)), rtol=1e-5)
    profile = flux / flux.sum(axis=(-2, -1), keepdims=True)
    np.testing.assert_allclose(profile, profile[:1, :1].repeat(3, 0).repeat(2, 1), rtol=1e-4)
    np.testing.assert_array_equal(shown.PARTS["all"](images), images)


def test_a_part_of_a_dataset_is_changed_when_read(observed):
    dark = shown.part_of(observed, shown.rim_alone)
    assert dark.images.shape == observed.images.shape
    assert dark.images[np.arange(3)].shape == (3, 2, 8, 8)


def test_shuffled_redshifts_stay_within_bins_and_splits(observed):
    bins = shown.bins_of(shown.r_magnitude(observed), 5)
    assert np.ptp(np.bincount(bins)) <= 1
    other = shown.shuffled(observed, bins, np.random.default_rng(0))
    D, new = (column_mpc(one, "distance_mpc") for one in (observed, other))
    z, new_z = (column_mpc(one, "distance_z_mpc") for one in (observed, other))
    for split in ("train", "validation"):
        for k in range(5):
            rows = observed.rows(split)[bins[observed.rows(split)] == k]
            assert set(zip(D[rows], z[rows], strict=True)) == set(
                zip(new[rows], new_z[rows], strict=True)
            )
    assert (new != D)[observed.rows("train")].mean() > 0.8
    np.testing.assert_array_equal(D[observed.rows("test")], new[observed.rows("test")])


def test_nothing_is_left_within_bins_of_itself():
    values = np.random.default_rng(0).normal(size=400)
    bins = shown.bins_of(values, 40)
    assert shown.within_bins(values, bins).std() < 0.2 * values.std()
    assert np.bincount(bins, shown.within_bins(values, bins)) == pytest.approx(0)


def test_trees_find_a_distance_in_metadata_and_none_in_places(observed):
    D = column_mpc(observed, "distance_mpc")
    columns = metadata.places(observed, 100) | {"leak": np.round(D)[:, None]}
    found = metadata.readable(observed, columns)
    assert found["leak"][0] > 0.95
    # galaxies are in random order
    assert all(abs(r) < 4 * error for name, (r, error) in found.items() if name != "leak")


def test_traces_count_zeros_and_bits(observed):
    found = metadata.traces(shown.part_of(observed, shown.rim_alone))
    assert {name: len(numbers) for name, numbers in found.items()} == dict.fromkeys(found, 240)
    assert found["bits of the corner"].shape == (240, 32)
    assert ((found["bits of the corner"] >= 0) & (found["bits of the corner"] <= 1)).all()
    assert (found["zeros"][:, 0] == 0).all()  # a rim of 8 pixels is all of 8 pixels


def test_numbers_of_other_parameters_are_not_taken_for_these(tmp_path):
    path, one, other = tmp_path / "x.json", suite.identity({"unseen": 1}), suite.identity({})
    assert suite.kept(path, one, lambda: {"all": {"r": 0.5}}) == {"all": {"r": 0.5}}
    assert suite.kept(path, one, dict) == {"all": {"r": 0.5}}  # not made again
    with pytest.raises(InputError, match="other parameters, data or code: take another folder"):
        suite.kept(path, other, dict)
