import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

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


def drawn(difference, samples, rng):
    """The share by drawing samples, and its error."""
    of = rng.integers(len(difference), size=(samples, len(difference)))
    share = np.mean(difference[of].sum(axis=1) < 0)
    return share, np.sqrt(max(share * (1 - share), 1 / samples) / samples)


@pytest.mark.parametrize("galaxies", [20, 50, 125])
@pytest.mark.parametrize("better", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_the_share_is_that_of_drawn_samples(galaxies, better):
    rng = np.random.default_rng(galaxies)
    difference = rng.normal(size=galaxies) ** 3 + rng.normal(size=galaxies)
    difference -= difference.mean() + better * difference.std() / np.sqrt(galaxies)
    share, error = drawn(difference, 100_000, rng)
    found = share_better(difference)
    assert found == pytest.approx(share, abs=4 * error + 0.05 * min(share, 1 - share) + 1e-5)
    assert found + share_better(-difference) == pytest.approx(1, abs=1e-9)


def test_far_out_the_share_is_that_of_the_exact_law():
    """Errors of +1 and -1: the number of galaxies drawn that are worse is binomial."""
    difference = np.repeat([-1.0, 1.0], [40, 11])
    exact = stats.binom.sf(25, 51, 11 / 51)
    # an integer's probability is spread over half a step to either side
    at_least, more = exact, stats.binom.sf(26, 51, 11 / 51)
    assert 1e-6 < exact < 1e-5
    assert more < 1 - share_better(difference) < at_least + stats.binom.pmf(25, 51, 11 / 51)


@given(
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=2, max_size=40),
    st.floats(1e-3, 1e3),
)
def test_the_share_is_a_probability_without_unit(values, scale):
    difference = np.array(values)
    share = share_better(difference)
    assert 0 <= share <= 1
    assert share_better(difference * scale) == pytest.approx(share, abs=1e-6)
    np.random.default_rng(0).shuffle(difference)
    assert share_better(difference) == pytest.approx(share, abs=1e-9)


def test_a_network_that_is_nowhere_worse_is_better_unless_all_drawn_are_equal():
    assert share_better(np.array([-1.0, -2.0])) == 1.0
    assert share_better(np.array([-1.0, 0.0])) == pytest.approx(0.75)
    assert share_better(np.array([1.0, 0.0])) == 0.0
    assert share_better(np.zeros(5)) == 0.0


def test_the_interval_is_that_of_samples_of_rows():
    """An independent way: the rms over the rows of each sample."""
    one, other = validation_table(100, 1), validation_table(120, 2)
    found = pair(one, other, RMS, 300, np.random.default_rng(4))
    rows = bootstrap_rows(one["galaxy"], 300, np.random.default_rng(4))
    differences = [
        l2(one["v_kms"][at], one["v_hat_kms"][at]) - l2(other["v_kms"][at], other["v_hat_kms"][at])
        for at in rows
    ]
    ends = np.quantile(differences, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(ends))
    assert found.galaxies == 50


def test_errors_are_summed_over_the_views_of_a_galaxy():
    table = {
        "galaxy": np.array([9, 4, 9]),
        "D_z_mpc": np.array([1.0, 2.0, 3.0]),
        "D_p_mpc": np.array([2.0, 2.0, 5.0]),
    }
    assert squared_errors(table, "l2_dz_mpc").tolist() == [0.0, 5.0]


def test_images_in_another_order_are_not_the_same():
    one = validation_table(100)
    assert same_images(one, validation_table(120, 3))
    assert not same_images(one, {key: value[::-1] for key, value in one.items()})
