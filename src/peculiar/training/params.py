"""The section `train` of `params.yaml`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    model_validator,
)

from peculiar.core.params import DatasetName, Name, Section, check_known, validate
from peculiar.networks.params import NetworkSection, Training


class SearchedNetwork(Training):
    """The network `best`: parameters that the search does not vary; best.yaml holds the others."""

    family: Literal["cnn"]
    hidden: Literal[0]
    dropout: Literal[0]

    def complete(
        self, searched: dict[str, Any], epochs: int | None = None, where: str = "best.yaml"
    ) -> NetworkSection:
        """Complete the network with the searched keys (`peculiar.search.space`).

        Parameters
        ----------
        searched : dict
            Content of best.yaml.
        epochs : int, optional
            Epochs of a trial, in place of those in `params.yaml`. A trial has no calibration
            folds: its value is an error of distances, which the sharpness hardly changes.
        where : str
            File that holds `searched`, for messages.

        Raises
        ------
        InputError
            When a key is unknown, missing or out of range.
        """
        last = {} if epochs is None else {"epochs": epochs, "calibration_folds": 0}
        return validate(NetworkSection, self.model_dump() | searched | last, where)


class Train(Section):
    """Stage `train`."""

    datasets: Annotated[tuple[DatasetName, ...], Field(min_length=1)]
    networks: Annotated[tuple[Name, ...], Field(min_length=1)]
    seed: NonNegativeInt
    best: SearchedNetwork
    specs: Mapping[Name, NetworkSection]

    @model_validator(mode="after")
    def _known(self) -> Self:
        check_known("network", self.networks, self.specs)
        return self

    def items(self) -> list[tuple[str, str]]:
        """(dataset, network) of every network to train; `best` is the last of each dataset."""
        return [(d, n) for d in self.datasets for n in (*self.networks, "best")]
