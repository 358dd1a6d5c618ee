"""Fronts and bodies of networks: the paper's sizes, what a pyramid sees, refusals."""

import csv
from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from builders.networks import network_section
from peculiar.core.errors import InputError
from peculiar.core.params import load
from peculiar.networks.bodies import Pyramid, body, cnn, front, multiply_adds, output_pixels
from peculiar.networks.params import LayerSection
from peculiar.networks.scaling import Pixels
from peculiar.networks.starlet import Starlet
from peculiar.training.params import Train

PAPER = ["cnn2", "cnn3", "cnn4", "cnn5"]
FAMILIES = ["cnn", "pyramid", "resnet18"]


def layer(filters, kernel, stride):
    return LayerSection(filters=filters, kernel=kernel, stride=stride)


def layer_lists(kernels):
    each = st.builds(layer, st.integers(1, 3), kernels, st.integers(1, 4))
    return st.lists(each, min_size=1, max_size=4)


SMALL = [layer(3, 3, 2), layer(3, 3, 1), layer(4, 3, 2)]


def spec(family, crop=None):
    layers = SMALL if family in ("cnn", "pyramid") else []
    return network_section(
        family, layers=layers, batch_norm=True, crop=crop, softening_mag_arcsec2=28.0
    )


def images(n=4, bands=2, pixels=16, seed=0):
    return torch.as_tensor(
        np.random.default_rng(seed).random((n, bands, pixels, pixels)), dtype=torch.float32
    )


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
    assert (spec.family, spec.head, spec.schedule) == ("cnn", "point", "constant")
    assert not any((spec.batch_norm, spec.augment, spec.fresh, spec.average_turns))
    assert (spec.members, spec.weight_decay, spec.ema, spec.patience) == (1, 0, 0, None)


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
    network = cnn(layers, 5, 128, 1, batch_norm=False)
    assert sum(p.numel() for p in network.parameters()) == expected
    assert name != "cnn2" or expected == 8593


def test_multiply_adds_of_one_layer_and_of_the_paper(specs):
    assert multiply_adds([layer(4, 3, 2)], bands=2, pixels=9) == 4**2 * 4 * 2 * 3**2
    assert multiply_adds(specs["cnn2"].layers, 5, 128) == 5_550_540


@given(layers=layer_lists(st.integers(1, 7)), pixels=st.integers(1, 40))
def test_output_pixels_is_what_a_forward_pass_leaves(layers, pixels):
    side = output_pixels(layers, pixels)
    if side < 1:
        with pytest.raises(InputError, match=f"shrink {pixels} pixels to nothing: take smaller"):
            cnn(layers, 2, pixels, 3, batch_norm=False)
        return
    network = cnn(layers, 2, pixels, 3, batch_norm=False)
    maps = network[:-2](torch.zeros(1, 2, pixels, pixels))
    assert maps.shape == (1, layers[-1].filters, side, side)
    assert network(torch.zeros(4, 2, pixels, pixels)).shape == (4, 3)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_batch_norm_follows_each_convolution_where_asked_for(batch_norm):
    network = cnn([layer(3, 3, 1), layer(4, 3, 1)], 2, 12, 1, batch_norm=batch_norm)
    norms = [part.num_features for part in network if isinstance(part, nn.BatchNorm2d)]
    assert norms == ([3, 4] if batch_norm else [])
    assert sum(isinstance(part, nn.ReLU) for part in network) == 2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_every_family_takes_any_number_of_bands_and_gives_any_of_numbers(family, bands):
    network = body(spec(family), bands, 32, outputs=bands + 1)
    assert network(images(2, bands, 32)).shape == (2, bands + 1)


def test_resnet50_takes_five_bands():
    network = body(spec("resnet50"), 5, 64, outputs=1)
    assert network(images(2, 5, 64)).shape == (2, 1)
    assert network.fc.out_features == 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("crop", [None, 4])
def test_the_front_of_other_families_gives_their_pixels(family, crop):
    expected = Pixels("gr", 28.0, crop)(images())
    assert expected.shape[-1] == (crop or 16)
    torch.testing.assert_close(front(spec(family, crop), "gr", 16)(images()), expected)


@pytest.mark.parametrize("crop", [None, 8])
@pytest.mark.parametrize("bands", ["r", "gri", "ugriz"])
def test_the_body_of_a_starlet_takes_the_numbers_of_its_front(bands, crop):
    brightness, starlet = images(3, len(bands)), spec("starlet", crop)
    seen = front(starlet, bands, 16)(brightness)
    assert seen.shape == (3, Starlet.numbers(len(bands)))
    scaled = Pixels(bands, 28.0, crop)(brightness)
    torch.testing.assert_close(seen, Starlet(crop or 16)(scaled))
    assert body(starlet, len(bands), crop or 16, 4)(seen).shape == (3, 4)


@pytest.mark.parametrize("family", [*FAMILIES, "starlet"])
def test_a_front_has_nothing_to_learn_and_refuses_what_has_no_middle(family):
    assert list(front(spec(family), "gr", 16).parameters()) == []
    with pytest.raises(InputError, match="crop 13 is not the middle of 16 pixels"):
        front(spec(family, 13), "gr", 16)


def test_a_starlet_must_halve_the_middle_and_not_the_image():
    front(spec("starlet", 12), "gr", 18)
    with pytest.raises(InputError, match="cannot halve 14 pixels"):
        front(spec("starlet", 14), "gr", 16)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_does_not_depend_on_its_batch(family):
    network = body(spec(family), 2, 16, 3).eval()
    alone = torch.cat([network(image[None]) for image in images(6)])
    torch.testing.assert_close(network(images(6)), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_blank_images_give_finite_numbers_and_gradients(family):
    network = body(spec(family), 2, 16, 3)
    blank = torch.zeros(4, 2, 16, 16)
    network(blank).square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
    assert network.eval()(blank).isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_reaches_every_weight(family):
    network = body(spec(family), 2, 32, 3)
    network(images(8, pixels=32)).square().sum().backward()
    still = [name for name, weight in network.named_parameters() if not weight.grad.any()]
    assert still == []


def by_scale(layers):
    """The last layer of each scale: a scale begins with each stride beyond the first layer's."""
    last = []
    for number, each in enumerate(layers):
        if each.stride > 1 or not last:
            last.append(number)
        else:
            last[-1] = number
    return last


def features(pyramid, scaled):
    """What its perceptron is given."""
    inputs_seen = []
    perceptron = pyramid.perceptron
    hook = perceptron.register_forward_pre_hook(lambda _, inputs: inputs_seen.append(*inputs))
    pyramid(scaled)
    hook.remove()
    return inputs_seen[0]


@given(layers=layer_lists(st.sampled_from([1, 3, 5, 7])), pixels=st.integers(1, 20))
def test_a_pyramid_sees_the_last_maps_of_each_scale(layers, pixels):
    pyramid = Pyramid(layers, 2, hidden=5, outputs=3).eval()
    assert pyramid.seen == by_scale(layers)
    assert pyramid(images(pixels=pixels)).shape == (4, 3)
    filters = sum(layers[number].filters for number in by_scale(layers))
    assert features(pyramid, images(pixels=pixels)).shape == (4, filters)


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_the_features_of_a_scale_come_from_it_and_finer_ones_alone(scale):
    layers = [*SMALL, layer(5, 3, 1), layer(6, 3, 2)]
    pyramid = Pyramid(layers, 2, hidden=5, outputs=1)
    of_scales = features(pyramid, images()).split([layers[n].filters for n in pyramid.seen], dim=1)
    (of_scales[scale] * torch.rand_like(of_scales[scale])).sum().backward()
    reached = [
        number
        for number, convolution in enumerate(pyramid.convolutions)
        if convolution[0].weight.grad.any()
    ]
    assert reached == list(range(pyramid.seen[scale] + 1))


def test_features_are_logarithms_of_means_of_maps():
    pyramid = Pyramid([layer(4, 3, 2)], 2, hidden=5, outputs=1).eval()
    (convolution,) = pyramid.convolutions
    expected = np.log(convolution(images()).detach().numpy().mean(axis=(2, 3)) + 1e-3)
    np.testing.assert_allclose(features(pyramid, images()).detach(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("second", "shortcut"), [((4, 3, 1), True), ((5, 3, 1), False), ((4, 3, 2), False)]
)
def test_a_convolution_that_keeps_the_shape_has_a_shortcut(second, shortcut):
    pyramid = Pyramid([layer(4, 3, 2), layer(*second)], 2, hidden=5, outputs=1).eval()
    silent = pyramid.convolutions[1]
    nn.init.zeros_(silent[1].weight)  # of its batch norm: it gives zeros
    below = pyramid.convolutions[0](images()).mean(dim=(2, 3))
    expected = below if shortcut else torch.zeros(4, second[0])
    seen = features(pyramid, images())[:, -second[0] :]
    torch.testing.assert_close(seen, (expected + Pyramid.FLOOR).log())


@given(factor=st.floats(0.2, 5))
def test_a_brightness_common_to_a_batch_is_normalised_away_in_training(factor):
    pyramid = Pyramid(SMALL, 2, hidden=5, outputs=1)
    # not quite: batch norm adds 1e-5 to the variance
    torch.testing.assert_close(
        features(pyramid, factor * images()), features(pyramid, images()), rtol=0, atol=0.02
    )


def test_even_kernels_of_a_pyramid_are_refused():
    with pytest.raises(InputError, match="kernel 4 of a pyramid has no middle: take odd kernels"):
        Pyramid([LayerSection(filters=3, kernel=4, stride=2)], 5, 4, 1)
