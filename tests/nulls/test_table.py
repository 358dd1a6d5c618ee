"""Null tests as a table."""

from builders.nulls import LIMITS
from builders.pipeline import ROOT
from peculiar.core.params import load
from peculiar.nulls.params import Nulls
from peculiar.nulls.table import null_table
from peculiar.runs.nulls import NullTests, Rendering, Scenes

PARAMS = load(Nulls, ROOT / "params.yaml")


def test_the_table_marks_what_fails_and_says_what_was_not_rendered():
    scenes = Scenes(name="flat field", r=0.5, error=0.03), Scenes(name="x", r=0.05, error=0.03)
    moved = Rendering(
        name="512 raw pixels", change_mpc=-0.1, error_mpc=0.05, l2_mpc=5.4, reference_l2_mpc=5.0
    )
    tests = {
        "a-bad": NullTests(run_id="1", limits=LIMITS, scenes=scenes, renderings=(moved,)),
        "b-good": NullTests(
            run_id="2",
            limits=LIMITS,
            scenes=scenes[1:],
            renderings=(),
            not_applicable="they are real",
        ),
    }
    lines = null_table(tests, {"a": scenes[1:]}, PARAMS).splitlines()
    assert "| test | a-bad | b-good | linear reader, a |" in lines
    assert "| flat field | **r +0.50 ± 0.03** | - | - |" in lines
    assert "| x | r +0.05 ± 0.03 | r +0.05 ± 0.03 | r +0.05 ± 0.03 |" in lines
    assert "| 512 raw pixels | **-0.10 ± 0.05 Mpc, L2 +8%** | - | - |" in lines
    assert "| **verdict** | 2 failed | passes | - |" in lines
    assert lines[-1] == "b-good: not rendered again, since they are real."
    assert "at most 12 epochs" in lines[0]
