"""All that is needed to build a network again and to predict with it, but its weights."""

from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import ConfigDict, model_validator

from peculiar.core.params import Section
from peculiar.core.survey import Survey
from peculiar.networks.params import NetworkSection
from peculiar.runs.validity import Validity

if TYPE_CHECKING:  # slow to import torch, which readers of `run.json` do not need
    from peculiar.networks.heads import Network


class Blueprint(Section):
    """Plan of a network. Its error may be NaN after a failed training.

    Attributes
    ----------
    survey : Survey
        Properties that all images share.
    spec : NetworkSection
        Its architecture and training.
    seed : int
        Seed of the training.
    target_mpc : tuple of float or None
        Offset and scale of the targets of a point head, Mpc; None for other heads.
    grid_mpc : tuple of float or None
        Distances of p(D | image), Mpc, ascending; None for a point head.
    sigma_D_mpc : float
        Error of the distances on the validation split, Mpc.
    validity : Validity or None
        Ranges of the training images; None in older runs.
    """

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")

    survey: Survey
    spec: NetworkSection
    seed: int
    target_mpc: tuple[float, float] | None
    grid_mpc: tuple[float, ...] | None
    sigma_D_mpc: float
    validity: Validity | None = None

    @classmethod
    def of(
        cls,
        network: "Network",
        survey: Survey,
        spec: NetworkSection,
        seed: int,
        sigma_D_mpc: float,
        validity: Validity | None = None,
    ) -> "Blueprint":
        """Describe a trained network; see the attributes."""
        from peculiar.networks.heads import DistanceNetwork

        target = grid = None
        if isinstance(network, DistanceNetwork):
            target = float(network.offset_mpc), float(network.scale_mpc)
        else:
            grid = tuple(network.head.grid_mpc.double().tolist())
        return Blueprint(
            survey=survey,
            spec=spec,
            seed=seed,
            target_mpc=target,
            grid_mpc=grid,
            sigma_D_mpc=sigma_D_mpc,
            validity=validity,
        )

    @model_validator(mode="after")
    def _headed(self) -> Self:
        if (self.spec.head == "point") != (self.grid_mpc is None):
            raise ValueError(
                "grid_mpc must be set for heads that give distributions, and only them"
            )
        if self.grid_mpc is not None:
            steps = np.diff(self.grid_mpc)
            if not (len(steps) and np.isfinite(self.grid_mpc).all() and (steps > 0).all()):
                raise ValueError("grid_mpc must list two distances or more, in ascending order")
        return self

    @model_validator(mode="after")
    def _same_bands(self) -> Self:
        if self.validity is not None:
            for ranges in (self.validity.mag_ab, self.validity.pixel_noise_w_m3_sr):
                if ranges is not None and set(ranges) != set(self.survey.bands):
                    raise ValueError(
                        f"validity must have the bands {''.join(self.survey.bands)}, not "
                        f"{''.join(ranges)}"
                    )
        return self

    @property
    def blueprint(self) -> "Blueprint":
        """These values alone, without those that a subclass adds."""
        return Blueprint(**{key: getattr(self, key) for key in Blueprint.model_fields})

    def fresh_network(self) -> "Network":
        """Build the network with initial weights."""
        from peculiar.networks.heads import build
        from peculiar.networks.likelihood import Prior

        grid = self.grid_mpc
        prior = None  # its values are among the weights and replace those set here
        if grid is not None:
            prior = Prior(np.array(grid), np.full(len(grid), 1 / len(grid)), 1.0)
        return build(
            self.spec,
            self.survey.bands,
            self.survey.pixels,
            target=self.target_mpc or (0.0, 1.0),
            prior=prior,
            seed=self.seed,
            members=self.spec.members,
        )
