import json
import math

import optuna
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builders.pipeline import ROOT
from peculiar.core.errors import InputError
from peculiar.core.params import validate
from peculiar.search import space as spaces
from peculiar.search.params import Space
from peculiar.training.params import Train

SHIPPED = yaml.safe_load((ROOT / "params.yaml").read_text())
PAPER = {  # section 3.3: the array of two layers
    "depth": [2],
    "filters": [6, 12, 18, 24],
    "kernel": [3, 5, 7],
    "stride": [1, 2, 3],
    "same_stride": True,
    "learning_rate": [5e-4],
    "max_multiply_adds": 1e9,
}


def space(**changes):
    return validate(Space, SHIPPED["search"]["space"] | changes, "space")


ALL = {
    "family": ["cnn", "pyramid", "starlet", "resnet18"],
    "hidden": [8, 16],
    "weight_decay": {"low": 1e-3, "high": 1e-1},
    "batch_size": [16, 32],
    "softening_mag_arcsec2": {"low": 22.0, "high": 28.0},
    "head": ["gaussian", "binned"],
}


@given(st.integers(0, 2**31), st.sampled_from([{}, {"same_stride": True}, ALL]))
def test_suggestions_stay_in_the_space_and_can_be_built(seed, changes):
    searched_space = space(**changes)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    searched = spaces.suggest(study.ask(), searched_space)
    family = searched.get("family", "cnn")
    assert family in (searched_space.family or ("cnn",))
    assert len(searched["layers"]) in (searched_space.depth if family in spaces.LAYERED else (0,))
    for layer in searched["layers"]:
        assert layer["filters"] in searched_space.filters
        assert layer["kernel"] in searched_space.kernel
        assert layer["stride"] in searched_space.stride
    if searched_space.same_stride:
        assert len({layer["stride"] for layer in searched["layers"]}) == 1
    assert (
        searched_space.learning_rate.low
        <= searched["learning_rate"]
        <= searched_space.learning_rate.high
    )
    if changes is ALL:
        assert 22 <= searched["softening_mag_arcsec2"] <= 28
        assert ("hidden" in searched) == (family in ("pyramid", "starlet"))
    best = SHIPPED["train"]["best"] | {"augment": False}
    train = validate(Train, SHIPPED["train"] | {"best": best}, "train")
    spec = train.best.complete(searched, epochs=1)
    assert spec.family == family
    for name in searched.keys() - {"layers"}:
        assert getattr(spec, name) == searched[name]


def test_the_grid_of_the_paper_s_array_has_each_of_432_networks_once():
    points = spaces.grid(space(**PAPER))
    networks = [spaces.network(point, space(**PAPER)) for point in points]
    assert len({json.dumps(searched) for searched in networks}) == len(points) == 432
    shapes = {
        tuple(layer[key] for layer in searched["layers"] for key in ("kernel", "filters", "stride"))
        for searched in networks
    }
    assert shapes == {
        (k1, f1, s, k2, f2, s)
        for k1 in (3, 5, 7)
        for f1 in (6, 12, 18, 24)
        for s in (1, 2, 3)
        for k2 in (3, 5, 7)
        for f2 in (6, 12, 18, 24)
    }
    assert {searched["learning_rate"] for searched in networks} == {5e-4}
    assert not any(spaces.reasons(spaces.constraints(s, space(**PAPER), 5, 128)) for s in networks)


def test_a_grid_has_no_parameters_of_layers_or_families_that_are_not_there():
    searched_space = space(
        family=["cnn", "pyramid", "starlet"],
        depth=[1, 2],
        filters=[4, 8],
        kernel=[3],
        stride=[1, 2],
        hidden=[8, 16],
        learning_rate=[1e-3, 1e-2],
    )
    points = spaces.grid(searched_space)
    layers = 2 * 2 + (2 * 2) ** 2  # of one layer, and of two
    assert len(points) == 2 * (layers + layers * 2 + 2)
    networks = {json.dumps(spaces.network(point, searched_space)) for point in points}
    assert len(networks) == len(points)
    assert not any("filters_2" in point for point in points if point["depth"] == 1)


def test_a_grid_too_large_to_train_is_refused():
    with pytest.raises(InputError, match=r"search\.space: a grid of \d+ networks: narrow it"):
        spaces.grid(space(learning_rate=[1e-3]))
    with pytest.raises(ValueError, match="a grid has lists of values and no low and high"):
        spaces.grid(space(depth=[1]))


def refusal(searched, searched_space, pixels):
    return spaces.reasons(spaces.constraints(searched, searched_space, 5, pixels))


def test_networks_that_shrink_to_nothing_or_cost_too_much_are_refused():
    layer = {"filters": 8, "kernel": 7, "stride": 3}
    assert refusal({"layers": [layer] * 4}, space(), 32) == "shrinks the image to nothing"
    big = {"filters": 5000, "kernel": 7, "stride": 1}
    assert "max_multiply_adds" in refusal({"layers": [big]}, space(), 128)
    assert refusal({"layers": [layer]}, space(), 32) == ""
    assert refusal({"family": "pyramid", "layers": [layer] * 4}, space(), 32) == ""
    assert spaces.constraints({"family": "starlet", "layers": []}, space(), 5, 32) == {}


def test_constraints_measure_how_far_a_network_is_from_refusal():
    layers = [{"filters": 8, "kernel": 5, "stride": 2}]
    searched_space = space(max_multiply_adds=1e6)
    shrinks, costs = spaces.constraints({"layers": layers}, searched_space, 5, 32).values()
    assert shrinks == 1 - 14
    assert costs == pytest.approx(math.log10(14**2 * 8 * 5 * 25 / 1e6))


@given(st.integers(0, 2**31))
def test_no_network_shrinks_or_costs_more_than_the_corners(seed):
    searched_space = space(depth=[2], hidden=[8], family=["cnn"])
    most = [
        spaces.constraints(corner, searched_space, 5, 64)
        for corner in spaces.corners(searched_space)
    ]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    found = spaces.constraints(spaces.suggest(study.ask(), searched_space), searched_space, 5, 64)
    for name, value in found.items():
        assert value <= max(corner[name] for corner in most)


def test_corners_have_every_family_and_head():
    corners = spaces.corners(space(**ALL))
    assert {corner["family"] for corner in corners} == set(ALL["family"])
    assert {corner["head"] for corner in corners} == set(ALL["head"])
    assert all(len(corner["layers"]) == 0 for corner in corners if corner["family"] == "starlet")
