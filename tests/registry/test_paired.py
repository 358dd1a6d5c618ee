import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.validation import validation_table
from peculiar.registry.paired import pair, same_images, share_better, squared_errors
from peculiar.velocity.metrics import bootstrap_rows, l2

RMS = "posterior_rms_kms"


def test_galaxies_are_drawn_with_all_their_images():
    """The error of a mean over 50 galaxies of four equal views is that of 50, not 200."""
    better, worse = validation_table(100), validation_table(130)
    found = pair(better, worse, RMS, 2000, np.random.default_rng(0))
    rms = np.sqrt(np.mean((better["v_kms"] - better["v_hat_kms"]) ** 2))
    assert found.difference == pytest.approx(-0.3 * rms)
    assert found.share == 1.0  # each galaxy's error is less
    # Normal errors: the relative deviation of an rms of n is 1 / sqrt(2 n)
    half = 2 * 0.3 * rms / np.sqrt(2 * 50)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.3)


def test_the_first_is_the_better_of_the_pair_and_equal_is_not_better():
    rng = np.random.default_rng
    there = pair(validation_table(100, 1), validation_table(120, 2), RMS, 500, rng(0))
    back = pair(validation_table(120, 2), validation_table(100, 1), RMS, 500, rng(0))
    assert there.share == pytest.approx(1 - back.share)
    assert there.difference == -back.difference
    assert pair(validation_table(100), validation_table(100), RMS, 500, rng(0)).share == 0.0


def test_images_in_another_order_are_not_the_same():
    one = validation_table(100)
    assert same_images(one, validation_table(120, 3))
    assert not same_images(one, {key: value[::-1] for key, value in one.items()})
