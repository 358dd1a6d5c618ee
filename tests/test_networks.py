"""Networks: the paper's sizes, seeds, scalings, refusals."""

import csv
from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from peculiar.bands import surface_brightness
from peculiar.errors import InputError
from peculiar.networks import asinh, build, cnn, multiply_adds, output_pixels
from peculiar.params import load
from peculiar.params_networks import Train

SETTINGS = {"batch_norm": False, "softening_mag_arcsec2": 24.0, "target": (0.0, 1.0), "seed": 1}
PAPER = ["cnn2", "cnn3", "cnn4", "cnn5"]


def layer(filters, kernel, stride):
    return SimpleNamespace(filters=filters, kernel=kernel, stride=stride)


layer_lists = st.lists(
    st.builds(layer, st.integers(1, 3), st.integers(1, 7), st.integers(1, 4)),
    min_size=1,
    max_size=4,
)
SMALL = [layer(3, 3, 2)]


def small(**changes):
    return build("cnn", SMALL, "gr", 8, **(SETTINGS | changes))


@pytest.fixture(scope="module")
def specs(params_file):
    return load(Train, params_file).specs


@pytest.fixture(scope="module")
def table_a1(reference):
    """Rows of Table A1 by our name of the network."""
    with (reference / "table_a1.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return {f"cnn{name[0]}": list(group) for name, group in groupby(rows, lambda r: r["network"])}


@pytest.mark.parametrize("name", PAPER)
def test_specs_are_table_a1(specs, table_a1, name):
    spec, rows = specs[name], table_a1[name]
    ours = [(n, x.filters, x.kernel, x.stride) for n, x in enumerate(spec.layers, start=1)]
    keys = ("layer", "filters", "kernel", "stride")
    assert ours == [tuple(int(row[key]) for key in keys) for row in rows]
    assert {spec.learning_rate} == {float(row["learning_rate"]) for row in rows}
    assert not spec.batch_norm
    assert not spec.augment


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("cnn2", [41, 13]),
        ("cnn3", [41, 13, 4]),
        ("cnn4", [41, 37, 11, 5]),
        ("cnn5", [41, 18, 7, 4, 2]),
    ],
)
def test_more_than_one_pixel_is_left_at_the_end(specs, name, sides):
    layers = specs[name].layers
    assert [output_pixels(layers[: n + 1], 128) for n in range(len(layers))] == sides


@pytest.mark.parametrize("name", PAPER)
def test_parameters_are_counted_by_hand(specs, name):
    layers = specs[name].layers
    expected, channels = 0, 5
    for each in layers:
        expected += each.filters * (channels * each.kernel**2 + 1)
        channels = each.filters
    expected += channels * output_pixels(layers, 128) ** 2 + 1
    body = cnn(layers, 5, 128, batch_norm=False)
    assert sum(p.numel() for p in body.parameters()) == expected
    assert name != "cnn2" or expected == 8593


def test_multiply_adds_of_one_layer_and_of_the_paper(specs):
    assert multiply_adds([layer(4, 3, 2)], bands=2, pixels=9) == 4**2 * 4 * 2 * 3**2
    assert multiply_adds(specs["cnn2"].layers, 5, 128) == 5_550_540


@given(layers=layer_lists, pixels=st.integers(1, 40))
def test_output_pixels_is_what_a_forward_pass_leaves(layers, pixels):
    side = output_pixels(layers, pixels)
    if side < 1:
        with pytest.raises(InputError, match=f"shrink {pixels} pixels to nothing: take smaller"):
            cnn(layers, 2, pixels, batch_norm=False)
        return
    body = cnn(layers, 2, pixels, batch_norm=False)
    maps = body[:-2](torch.zeros(1, 2, pixels, pixels))
    assert maps.shape == (1, layers[-1].filters, side, side)
    assert body(torch.zeros(3, 2, pixels, pixels)).shape == (3, 1)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_batch_norm_follows_each_convolution_where_asked_for(batch_norm):
    body = cnn([layer(3, 3, 1), layer(4, 3, 1)], 2, 12, batch_norm=batch_norm)
    norms = [part.num_features for part in body if isinstance(part, nn.BatchNorm2d)]
    assert norms == ([3, 4] if batch_norm else [])
    assert sum(isinstance(part, nn.ReLU) for part in body) == 2


@pytest.mark.parametrize("bands", ["r", "gri", "ugriz"])
def test_resnets_take_any_number_of_bands(bands):
    network = build("resnet18", [], bands, 32, **SETTINGS)
    assert network(torch.rand(2, len(bands), 32, 32)).shape == (2,)


def test_resnet50_takes_five_bands():
    network = build("resnet50", [], "ugriz", 64, **SETTINGS)
    assert network(torch.rand(2, 5, 64, 64)).shape == (2,)
    assert network.body.fc.out_features == 1


def test_an_unknown_family_is_refused():
    with pytest.raises(InputError, match="'vgg': take cnn, resnet18, resnet50"):
        build("vgg", [], "r", 8, **SETTINGS)


def test_the_seed_decides_the_weights():
    a, b, c = (small(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["body.0.weight"], c["body.0.weight"])


def test_torch_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    small()
    assert torch.equal(torch.random.get_rng_state(), before)


@given(x=st.floats(-(2**60), 2**60, width=32))
def test_asinh_agrees_with_numpy_and_leaves_its_input(x):
    given = torch.tensor([x])
    assert float(asinh(given)) == pytest.approx(np.arcsinh(x), rel=1e-6, abs=1e-6)
    assert float(given) == x


def test_pixels_enter_as_asinh_and_distances_leave_in_mpc():
    network = small(target=(50.0, 25.0))
    images = torch.rand(4, 2, 8, 8) * 1e4
    soft = torch.tensor([float(surface_brightness(24, band)) for band in "gr"])[:, None, None]
    expected = 50 + 25 * network.body(torch.asinh(images / soft)).squeeze(-1)
    torch.testing.assert_close(network(images), expected)


def test_both_scalings_travel_with_the_weights():
    first = small(target=(50.0, 25.0), softening_mag_arcsec2=22.0)
    second = small(seed=5)
    images = torch.rand(4, 2, 8, 8) * 1e4
    assert not torch.allclose(first(images), second(images))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images), second(images))
    assert not {"softening", "offset_mpc", "scale_mpc"} & dict(second.named_parameters()).keys()


def test_an_image_does_not_depend_on_its_batch():
    network = build("cnn", SMALL, "gr", 8, **(SETTINGS | {"batch_norm": True})).eval()
    images = torch.as_tensor(np.random.default_rng(0).random((6, 2, 8, 8)), dtype=torch.float32)
    alone = torch.cat([network(images[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(network(images), alone)
