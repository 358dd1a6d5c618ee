import numpy as np
import pytest

from experiments.promotion.ratchet import (
    Setting,
    advantage_needed,
    after,
    before,
    comparison,
    ratchet,
    squared_errors,
)


@pytest.mark.parametrize(
    "setting", [Setting(correlation=0.95), Setting(candidates=3), Setting(heavy=True)], ids=str
)
def test_twenty_equal_networks_seldom_displace_the_champion(setting):
    """0.04 to 0.06, and 0.34 to 0.47 by the rule of before: docs/results/promotion.md."""
    now = ratchet(setting, after, 200, np.random.default_rng(1))
    then = ratchet(setting, before, 200, np.random.default_rng(1))
    assert now.displaced <= 0.10 < then.displaced
    assert 0 <= now.flattered < then.flattered / 2


def test_the_errors_that_are_drawn_correlate_as_assumed():
    setting = Setting(galaxies=2000, correlation=0.8)
    one, other = squared_errors(setting, 2, 20, np.random.default_rng(2))
    assert one.shape == (20, 2000)
    assert one.mean() == pytest.approx(4, rel=0.02)  # four views of variance 1
    # squares of normal errors with correlation rho correlate as rho^2
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] == pytest.approx(0.64, abs=0.02)


def test_a_better_network_is_promoted_sooner_at_an_early_comparison():
    setting = Setting(correlation=0.95)
    required = [after(comparison(number, 1), 50) for number in (1, 20)]
    needed = advantage_needed(setting, required, 20, np.random.default_rng(3))
    assert np.all(needed[:, 0] < needed[:, 1])
    assert 0.03 < np.median(needed[:, 0]) < 0.1
