"""Results of the null tests of one trained network, which `promote` reads.

A network must not predict the distances of scenes that hold no information on distance, and its
predictions must not change when the same stars are rendered in another way (docs/results/nulls.md).
"""

import json
from pathlib import Path

from pydantic import ConfigDict, PositiveFloat

from peculiar.core.errors import InputError
from peculiar.core.files import write_atomically
from peculiar.core.params import Section, validate


class Limits(Section):
    """What a network must stay below to pass.

    Attributes
    ----------
    r : float
        Correlation of D_p and D over scenes that know nothing of D.
    change_mpc : float
        Mean change of D_p under another rendering, Mpc.
    change_of_l2 : float
        Relative change of L2(D).
    """

    r: PositiveFloat
    change_mpc: PositiveFloat
    change_of_l2: PositiveFloat

    def __str__(self) -> str:
        """For tables and cards."""
        return (
            f"|r| {self.r:g}, change {self.change_mpc:g} Mpc and {self.change_of_l2:.0%} of L2(D)"
        )


class Scenes(Section):
    """Correlation of predicted and true distance over scenes without information on distance.

    Attributes
    ----------
    name : str
        Kind of scenes, for example "structure of 1 pixel".
    r, error : float
        Pearson correlation of a network that was trained on such scenes, and its standard error.
    """

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")

    name: str
    r: float
    error: float

    def against(self, limits: Limits) -> str | None:
        """Why the network fails; None if it passes. NaN fails."""
        if abs(self.r) < limits.r:
            return None
        return f"{self.name}: it predicts D with r = {self.r:+.2f} (limit {limits.r:g})"


class Rendering(Section):
    """Predictions of the same stars, rendered as in training and in another way.

    Attributes
    ----------
    name : str
        What differs, for example "particle mass x 2".
    change_mpc, error_mpc : float
        Mean change of D_p, and its standard error over galaxies, Mpc.
    l2_mpc, reference_l2_mpc : float
        L2(D) of this rendering and of the one as in training, Mpc.
    """

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")

    name: str
    change_mpc: float
    error_mpc: float
    l2_mpc: float
    reference_l2_mpc: float

    def against(self, limits: Limits) -> str | None:
        """Why the network fails; None if it passes. NaN fails."""
        if not abs(self.change_mpc) < limits.change_mpc:
            return f"{self.name}: D_p changes by {self.change_mpc:+.2f} Mpc"
        change = self.l2_mpc / self.reference_l2_mpc - 1
        if not abs(change) < limits.change_of_l2:
            return f"{self.name}: L2(D) changes by {change:+.0%}"
        return None


class NullTests(Section):
    """Null tests of one network.

    Attributes
    ----------
    run_id : str
        MLflow run that trained the network; a network trained again must be tested again.
    limits : Limits
        From the section `nulls` of `params.yaml`.
    scenes : tuple of Scenes
        Null test (a).
    renderings : tuple of Rendering
        Null test (b).
    not_applicable : str
        Why there are no renderings, for example since the galaxies are real; empty if there are.
    """

    run_id: str
    limits: Limits
    scenes: tuple[Scenes, ...]
    renderings: tuple[Rendering, ...]
    not_applicable: str = ""

    @property
    def failures(self) -> list[str]:
        """One phrase for each test that the network fails."""
        reasons = [scenes.against(self.limits) for scenes in self.scenes]
        reasons += [rendering.against(self.limits) for rendering in self.renderings]
        return [reason for reason in reasons if reason]


def write_null_tests(path: Path, tests: NullTests) -> None:
    """Write the results of one network as JSON."""
    write_atomically(path, (tests.model_dump_json(indent=2) + "\n").encode())


def read_null_tests(path: Path) -> NullTests | None:
    """Read the results of one network; None if it has not been tested.

    Raises
    ------
    InputError
        When the file is no such result.
    """
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError(f"{path} is not valid JSON: run `dvc repro nulls` again") from None
    return validate(NullTests, values, str(path))
