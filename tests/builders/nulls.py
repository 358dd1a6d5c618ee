"""Null tests of networks, as the stage `nulls` leaves them."""

from peculiar.pipeline.paths import Paths
from peculiar.runs import record
from peculiar.runs.nulls import Limits, NullTests, Rendering, Scenes, write_null_tests

LIMITS = Limits(r=0.1, change_mpc=0.3, change_of_l2=0.05)


def make_nulls(run_id="f00d", **changes):
    """Null tests that pass."""
    values = {
        "run_id": run_id,
        "limits": LIMITS,
        "scenes": (Scenes(name="structure of 1 pixel", r=0.02, error=0.03),),
        "renderings": (
            Rendering(
                name="particle mass x 2",
                change_mpc=-0.1,
                error_mpc=0.05,
                l2_mpc=5.1,
                reference_l2_mpc=5.0,
            ),
        ),
    }
    return NullTests(**(values | changes))


def failing_nulls(run_id="f00d"):
    """Null tests of which two fail."""
    scenes = tuple(Scenes(name=f"scenes {i}", r=0.5, error=0.03) for i in range(2))
    return make_nulls(run_id, scenes=scenes)


def nulls_of_real(run_id="f00d"):
    """No null tests, since the galaxies are real."""
    return make_nulls(run_id, scenes=(), renderings=(), not_applicable="the galaxies are real")


def write_nulls(folder, build=make_nulls):
    """Write null tests, by default passing ones, of every network trained in a folder."""
    paths = Paths(folder)
    paths.nulls.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("results/train/*/run.json"):
        run_id = record.read_run(path.parent).run_id
        write_null_tests(paths.nulls / f"{path.parent.name}.json", build(run_id))
