"""Results of null tests: which fail, and how they are kept."""

from pathlib import Path

import pytest

from builders.nulls import LIMITS, make_nulls
from peculiar.core.errors import InputError
from peculiar.runs.nulls import NullTests, Rendering, Scenes, read_null_tests, write_null_tests

NAN = float("nan")


@pytest.mark.parametrize(
    ("r", "against"),
    [
        (0.09, None),
        (-0.09, None),
        (0.1, "dots: it predicts D with r = +0.10 (limit 0.1)"),
        (-0.5, "dots: it predicts D with r = -0.50 (limit 0.1)"),
        (NAN, "dots: it predicts D with r = +nan (limit 0.1)"),
    ],
)
def test_a_network_fails_that_predicts_distances_of_scenes(r: float, against: str | None) -> None:
    assert Scenes(name="dots", r=r, error=0.03).against(LIMITS) == against


@pytest.mark.parametrize(
    ("change", "l2", "against"),
    [
        (0.29, 10.4, None),
        (-0.29, 9.6, None),
        (0.3, 10.0, "mass x 2: D_p changes by +0.30 Mpc"),
        (NAN, 10.0, "mass x 2: D_p changes by +nan Mpc"),
        (0.0, 10.6, "mass x 2: L2(D) changes by +6%"),
        (0.0, 9.4, "mass x 2: L2(D) changes by -6%"),
        (0.0, NAN, "mass x 2: L2(D) changes by +nan%"),
    ],
)
def test_a_network_fails_that_changes_with_the_rendering(
    change: float, l2: float, against: str | None
) -> None:
    seen = Rendering(
        name="mass x 2", change_mpc=change, error_mpc=0.1, l2_mpc=l2, reference_l2_mpc=10.0
    )
    assert seen.against(LIMITS) == against


def test_results_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "uniform-starlet.json"
    assert read_null_tests(path) is None
    tests = NullTests(
        run_id="a",
        limits=LIMITS,
        scenes=(Scenes(name="dots", r=0.5, error=0.03),),
        renderings=(
            Rendering(name="m", change_mpc=0, error_mpc=0.1, l2_mpc=9, reference_l2_mpc=9),
        ),
    )
    write_null_tests(path, tests)
    assert read_null_tests(path) == tests
    assert tests.failures == ["dots: it predicts D with r = +0.50 (limit 0.1)"]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    tests = make_nulls()
    path = tmp_path / "uniform-starlet.json"
    path.write_text('{"run_id": ')
    with pytest.raises(InputError, match="is not valid JSON: run `dvc repro nulls`"):
        read_null_tests(path)
    path.write_text(tests.model_dump_json(exclude={"renderings"}))
    with pytest.raises(InputError, match="renderings: key is missing: add it"):
        read_null_tests(path)
