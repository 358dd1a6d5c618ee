"""The search space: parameters of a network, and which networks are refused before training."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Protocol

from peculiar.core.errors import InputError
from peculiar.networks.bodies import multiply_adds, output_pixels
from peculiar.networks.params import MEASURED, LayerSection
from peculiar.search.params import Range, Space

Values = Range | tuple[Any, ...]  # all numbers between two, or choices
LAYERED = ("cnn", "pyramid")
LARGEST_GRID = 10_000  # networks


class Draws(Protocol):
    """The part of an Optuna trial that draws parameters."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """A number between two."""
        ...


def families(space: Space) -> tuple[str, ...]:
    """Families of the space; a CNN if it names none, as `train.best` is."""
    return space.family or ("cnn",)


def parameters(space: Space, family: str, depth: int) -> dict[str, Values]:
    """Names and values of the parameters of a network of a family and depth, in order.

    The parameters of layer i are `filters_i`, `kernel_i` and `stride_i`, from 1, or `stride` where
    all have the same.
    """
    drawn: dict[str, Values] = {}
    if family in LAYERED:
        for i in range(1, depth + 1):
            drawn |= {f"filters_{i}": space.filters, f"kernel_{i}": space.kernel}
            drawn |= {"stride" if space.same_stride else f"stride_{i}": space.stride}
    optional: dict[str, Values | None] = {
        "hidden": space.hidden if family in ("pyramid", *MEASURED) else None,
        "learning_rate": space.learning_rate,
        "weight_decay": space.weight_decay,
        "batch_size": space.batch_size,
        "softening_mag_arcsec2": space.softening_mag_arcsec2,
        "head": space.head,
    }
    return drawn | {name: values for name, values in optional.items() if values is not None}


def suggest(trial: Draws, space: Space) -> dict[str, Any]:
    """Draw a network; returns the keys of best.yaml."""
    (family, *others), depth = families(space), 0
    if others:
        family = trial.suggest_categorical("family", families(space))
    if family in LAYERED:
        depth = trial.suggest_categorical("depth", space.depth)
    drawn = {
        name: _draw(trial, name, values)
        for name, values in parameters(space, family, depth).items()
    }
    return network(drawn | {"family": family, "depth": depth}, space)


def _draw(trial: Draws, name: str, values: Values) -> Any:
    if isinstance(values, Range):
        log = name in ("learning_rate", "weight_decay")
        return trial.suggest_float(name, values.low, values.high, log=log)
    return trial.suggest_categorical(name, values)


def network(drawn: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The keys of best.yaml: `layers`, `learning_rate` and the other searched ones."""
    layers = [
        {
            "filters": drawn[f"filters_{i}"],
            "kernel": drawn[f"kernel_{i}"],
            "stride": drawn["stride" if space.same_stride else f"stride_{i}"],
        }
        for i in range(1, drawn["depth"] + 1)
    ]
    searched = {} if space.family is None else {"family": drawn["family"]}
    alone = parameters(space, drawn["family"], depth=0)
    others = {name: drawn[name] for name in alone}
    return searched | {"layers": layers} | others


def grid(space: Space) -> list[dict[str, Any]]:
    """List the parameters of every network of a space of choices, each once.

    Raises
    ------
    InputError
        When there are more than `LARGEST_GRID`.
    """
    branches = [
        {"family": (family,), "depth": (depth,), **parameters(space, family, depth)}
        for family in families(space)
        for depth in (space.depth if family in LAYERED else (0,))
    ]
    size = sum(
        math.prod(len(_choices(values)) for values in branch.values()) for branch in branches
    )
    if size > LARGEST_GRID:
        raise InputError(
            f"params.yaml: search.space: a grid of {size} networks: narrow it to {LARGEST_GRID}"
        )
    return [
        dict(zip(branch, values, strict=True))
        for branch in branches
        for values in product(*map(_choices, branch.values()))
    ]


def _choices(values: Values) -> tuple[Any, ...]:
    if isinstance(values, Range):
        raise ValueError("a grid has lists of values and no low and high")
    return values


def constraints(
    searched: Mapping[str, Any], space: Space, bands: int, pixels: int
) -> dict[str, float]:
    """How close a network is to being refused; a positive value is a reason to refuse it.

    Parameters
    ----------
    searched : mapping
        From `suggest` or `network`.
    space : Space
        Its `max_multiply_adds` is the limit.
    bands, pixels : int
        Channels and side of the images.

    Returns
    -------
    dict
        `shrinks the image to nothing`, pixels that are missing at the end, and `costs more than
        search.space.max_multiply_adds`, decades; nothing of networks without layers.
    """
    layers = [LayerSection(**layer) for layer in searched["layers"]]
    if not layers:
        return {}
    padded = searched.get("family", "cnn") == "pyramid"
    left = output_pixels(layers, pixels, padded=padded)
    cost = multiply_adds(layers, bands, pixels, padded=padded)
    return {
        "shrinks the image to nothing": 1.0 - left,
        "costs more than search.space.max_multiply_adds": (
            math.log10(max(cost, 1) / space.max_multiply_adds)
        ),
    }


def reasons(constraint: Mapping[str, float]) -> str:
    """Why a network is refused; empty if it is not."""
    return ", ".join(name for name, value in constraint.items() if value > 0)


def corners(space: Space) -> list[dict[str, Any]]:
    """The networks of each family, depth and head that shrink an image most and cost most."""
    return [
        network(_corner(space, family, depth, stride) | {"head": head}, space)
        for family in families(space)
        for depth in (space.depth if family in LAYERED else (0,))
        for stride in (min(space.stride), max(space.stride))
        for head in space.head or ("",)
    ]


def _corner(space: Space, family: str, depth: int, stride: int) -> dict[str, Any]:
    corner: dict[str, Any] = {"family": family, "depth": depth}
    for name, values in parameters(space, family, depth).items():
        if name.startswith("stride"):
            corner[name] = stride
        else:
            corner[name] = values.high if isinstance(values, Range) else max(values)
    return corner
