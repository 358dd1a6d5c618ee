import numpy as np
import pytest

from builders.nulls import make_nulls
from builders.records import BINNED, make_run
from builders.surveys import NORMAL
from peculiar.registry.card import LONGEST, model_card, null_table
from peculiar.velocity.metrics import METRICS

DECISION = {
    "when": "2026-11-24T00:00:00+00:00",
    "who": "somebody",
    "why": "lower rms",
    "null_tests": "2 of 2 passed",
}
TESTED = dict.fromkeys(METRICS, 1.0) | {f"{key}_err": 0.5 for key in METRICS}


def predicted():
    rng = np.random.default_rng(0)
    v, D = rng.normal(0, 400, 80), rng.uniform(50, 100, 80)
    ends = {
        f"v_{end}{k}_kms": v + s * 300 for k in (68, 95) for end, s in (("low", -1), ("high", 1))
    }
    return {
        "galaxy": np.repeat(np.arange(20), 4),
        "D_mpc": D,
        "D_z_mpc": D + v / 70,
        "D_p_mpc": D + rng.normal(0, 5, 80),
        "v_kms": v,
        "v_hat_kms": v * 0.5,
        **ends,
    }


def written(**changes):
    run = make_run(**{"validation": dict.fromkeys(METRICS, 2.0), **changes})
    return model_card("velocity", "3", run, predicted(), TESTED, make_nulls(), DECISION)


def test_a_card_has_data_range_and_metrics():
    text = written()
    for wanted in (
        "# velocity 3: uniform-",
        "stand-in",
        "50 to 100 Mpc",
        "1.36 arcsec",
        "(20 galaxies)",
        "BSD-3-Clause",
        "sigma_D = 0.3 Mpc",
        "0.683",
        "f00d",
        "by somebody: lower rms",
        "no sky, seeing or noise",
    ):
        assert wanted in text, wanted
    row = next(line for line in text.splitlines() if line.startswith("| L1(D)"))
    assert "| 2.00 ± 0." in row
    assert row.endswith("| 1.00 ± 0.50 |")
    assert len(text) < LONGEST


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"split_by": "image"}, "(LEAKS)"),
        ({"dimming": "literal"}, "(PRINTS THE DISTANCE INTO THE PIXELS)"),
        ({"scale": "paper"}, "(A RULER WHERE THEY ARE NOT)"),
        ({"distances": NORMAL}, "distances of not bounded"),
        (BINNED, "p(D \\| image) on"),
    ],
)
def test_a_card_warns(changes, wanted):
    assert wanted in written(**changes)


def test_what_is_not_known_is_a_dash():
    metrics = dict.fromkeys(METRICS, 2.0) | {"coverage_68": float("nan")}
    row = next(line for line in written(validation=metrics).splitlines() if "68% cov" in line)
    assert "| - | 1.000 ± 0.500 |" in row


def test_a_card_has_the_null_tests():
    text = written()
    assert (
        "## Null tests\n2 of 2 passed (limits: |r| 0.1, change 0.3 Mpc and 5% of L2(D))\n| test"
        in text
    )
    assert "| structure of 1 pixel | r = +0.02 ± 0.03 | |" in text
    assert "| particle mass x 2 | -0.10 ± 0.05 | +2.0% |\n\n## Provenance" in text


def test_where_the_table_of_null_tests_has_no_room_the_outcome_stands_alone():
    many = make_nulls(renderings=make_nulls().renderings * 100)
    assert null_table(many, "all", 500) == "## Null tests\nall; each in results/nulls\n\n"
    assert len(null_table(many, "all", 10_000)) > 500
    text = model_card("velocity", "3", make_run(), predicted(), TESTED, many, DECISION)
    assert len(text) < LONGEST
    none = make_nulls(scenes=(), renderings=())
    assert "not applicable; each" in null_table(none, "not applicable", 500)
