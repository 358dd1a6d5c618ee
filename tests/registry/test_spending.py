import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from peculiar.registry.spending import (
    Round,
    percent,
    probability_spent,
    required_share,
    rounds_of,
)


def make_round(number=1, data="d", holder="old", candidates=("a",)):
    return Round(data=data, number=number, holder=holder, candidates=candidates)


def test_all_comparisons_together_spend_what_one_may():
    spent = [probability_spent(number, 0.95) for number in range(1, 10_001)]
    assert spent == sorted(spent, reverse=True)
    assert 0.0499 < sum(spent) < 0.05


@given(st.integers(1, 1000), st.integers(1, 50), st.floats(0.5, 0.999))
def test_the_share_grows_with_comparisons_and_candidates(number, galaxies, confidence):
    galaxies += 1
    one = required_share(make_round(number), confidence, galaxies)
    later = required_share(make_round(number + 1), confidence, galaxies)
    more = required_share(make_round(number, candidates=("a", "b")), confidence, galaxies)
    assert confidence <= one <= min(later, more) <= 1


def test_of_many_galaxies_the_share_is_one_less_the_probability_spent():
    required = required_share(make_round(3, candidates=("a", "b")), 0.95, 10**7)
    assert required == pytest.approx(1 - 0.05 / 12 / 2, abs=1e-7)


def test_the_mean_of_few_normal_values_passes_as_often_as_it_may():
    """Student's test: a share of the bootstrap is a normal deviate with divisor n."""
    n = 10
    required = required_share(make_round(), 0.9, n)
    deviate = stats.norm.ppf(required) * ((n - 1) / n) ** 0.5
    assert stats.t.sf(deviate, n - 1) == pytest.approx(0.05)


def test_of_one_galaxy_nothing_is_promoted():
    assert required_share(make_round(), 0.95, 1) == 1.0


def test_pairs_are_counted_once_and_per_validation_set_and_champion():
    ledger = [make_round(1, candidates=("a", "b"))]
    assert rounds_of(ledger, "d", "old", ["b"]) == {"b": ledger[0]}
    both = rounds_of(ledger, "d", "old", ["a", "c", "e"])
    assert both["a"] == ledger[0]
    assert both["c"] == both["e"] == make_round(2, candidates=("c", "e"))
    assert rounds_of(ledger, "d", "new", ["a"])["a"].number == 2
    assert rounds_of(ledger, "other", "old", ["a"])["a"].number == 1
    assert rounds_of(ledger, "d", "old", []) == {}


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.00%"),
        (0.1234, "12.34%"),
        (0.975, "97.50%"),
        (0.99712, "99.71%"),
        (1 - 1.2e-4, "99.988%"),
        (1 - 5e-6, "99.99950%"),
        (1.0, "100.00%"),
    ],
)
def test_shares_are_told_from_all(share, text):
    assert percent(share) == text
