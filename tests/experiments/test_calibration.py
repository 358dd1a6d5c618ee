"""How well posteriors hold, where the answer is known."""

import numpy as np
import pytest

from experiments.standin import calibration
from peculiar.velocity.posterior import normal


def stated(factor, galaxies=500, views=4):
    """Velocities about known means, whose posteriors are too wide by a factor."""
    rng, n = np.random.default_rng(0), galaxies * views
    mean, true = rng.normal(0, 300, n), rng.uniform(100, 300, n)
    v = rng.normal(mean, true)
    posterior = normal(mean, factor * true)
    columns = {"v_kms": v, "v_hat_kms": mean, "v_error_kms": posterior.deviation_kms}
    for k in (68, 95):
        columns |= {f"v_low{k}_kms": posterior.low_kms[k], f"v_high{k}_kms": posterior.high_kms[k]}
    galaxy = np.repeat(np.arange(galaxies), views)
    return columns | {"pit": posterior.pit(v), "galaxy": galaxy}


def test_true_posteriors_hold_within_the_errors():
    found = calibration.with_errors(stated(1.0), np.random.default_rng(1))
    for name, nominal in calibration.NOMINAL.items():
        assert 0 < found[f"{name}_error"] < 0.05
        assert abs(found[name] - nominal) < 3.5 * found[f"{name}_error"]


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_wrong_widths_are_seen_in_every_third(factor):
    found = calibration.calibration_of(stated(factor, galaxies=5000))
    for name in ("rms_z", "rms_z_narrow", "rms_z_middle", "rms_z_wide"):
        assert found[name] == pytest.approx(1 / factor, rel=0.06)
    assert (found["coverage_68"] > 0.683) == (factor > 1)


def test_the_table_ends_with_the_nominal_values():
    row = {"seed": 4, "sharpness": 1.0, "sharpness_error": 0.1}
    row |= calibration.with_errors(stated(1.0, galaxies=20), np.random.default_rng(1))
    lines = calibration.table([row, row | {"seed": 5}]).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("| 4 | 1.000 ± 0.100 | ")
    assert lines[-1].startswith("| nominal |  | 0.683 | 0.954 | ")
