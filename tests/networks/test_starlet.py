"""The numbers of starlets by another implementation, what they are blind to, and their reader."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import convolve1d
from torch import nn

from peculiar.core.errors import InputError
from peculiar.networks.heads import all_turns
from peculiar.networks.starlet import Starlet, perceptron

SCALES, LAYERS, STEP, FLOOR = 3, 8, 2.0, 1e-5
seeds, sides = st.integers(0, 999), st.sampled_from([4, 8, 12, 20])


def smooth_image(n=2, bands=2, pixels=16, seed=0, fluctuation=0.3):
    """Scaled pixels of a galaxy that falls from the middle into negative noise at the rim."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((pixels, pixels)) - (pixels - 1) / 2
    profile = rng.uniform(2, 16, (n, bands, 1, 1)) - np.hypot(x, y * 1.3) * 32 / pixels
    noise = rng.normal(0, fluctuation, (n, bands, pixels, pixels))
    return torch.as_tensor(profile.clip(-1) + noise, dtype=torch.float32)


def numbers(scaled):
    """What `Starlet` gives of scaled images, as float32 tensors."""
    return Starlet(scaled.shape[-1])(scaled)


def parts(measured, bands):
    """Numbers by kind: fluxes, strengths (n, scale, layer, band), areas, colours (n, layer, band).

    The names follow from the order that the docstring of `Starlet.forward` gives.
    """
    sizes = [1 + bands, SCALES * LAYERS * bands, LAYERS, LAYERS * bands]
    flux, strength, area, colour = np.split(np.asarray(measured), np.cumsum(sizes)[:-1], axis=1)
    return (
        flux,
        strength.reshape(-1, SCALES, LAYERS, bands),
        area,
        colour.reshape(-1, LAYERS, bands),
    )


def enlarged(image, pixels):
    """A square image linearly interpolated between the middles of its pixels, to another side."""
    side = len(image)
    where = (np.arange(pixels) + 0.5) * side / pixels - 0.5
    for _ in range(2):  # along x and, turned over, along y
        image = np.stack([np.interp(where, np.arange(side), row) for row in image]).T
    return image


def shares(base, pixels):
    """How much of each pixel belongs to each layer, (layer, y, x)."""
    level = enlarged(base, pixels).clip(0, STEP * (LAYERS - 1))
    tops = STEP * np.arange(LAYERS)
    return np.stack([np.interp(level, tops, np.arange(LAYERS) == k) for k in range(LAYERS)])


def independent(image):
    """The numbers of one image (band, y, x) in float64, layer by layer."""
    flux = np.arcsinh(np.sinh(image).sum(axis=(1, 2)))
    measured = [[flux.mean()], flux - flux.mean()]
    wavelets = []
    for scale in range(SCALES):
        if scale:
            side = image.shape[-1] // 2
            image = image.reshape(-1, side, 2, side, 2).mean(axis=(2, 4))
        smooth = image
        for axis in (1, 2):
            smooth = convolve1d(
                smooth, [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16], axis, mode="nearest"
            )
        wavelets.append(image - smooth)
        last, image = image, smooth
    base = image.mean(axis=0)

    def means(map_):
        share = shares(base, map_.shape[-1])
        sums = [[(layer * band).sum() for band in map_] for layer in share]
        return np.array(sums) / (share.sum(axis=(1, 2)) + 1)[:, None]

    measured += [np.log(means(wavelet**2) + FLOOR).ravel() for wavelet in wavelets]
    measured.append(np.log(1 + shares(base, len(base)).sum(axis=(1, 2))))
    measured.append(means(last - last.mean(axis=0)).ravel())
    return np.concatenate(measured)


@given(bands=st.integers(1, 5), pixels=sides, seed=seeds, fluctuation=st.floats(0, 1))
def test_the_numbers_are_those_of_another_implementation(bands, pixels, seed, fluctuation):
    images = smooth_image(2, bands, pixels, seed, fluctuation)
    measured = numbers(images)
    expected = np.stack([independent(image) for image in images.double().numpy()])
    assert measured.shape == (2, Starlet.numbers(bands)) == expected.shape
    assert expected.std() > 0.1
    # float32, in which a mean square of 1e-5 is the rounding of a square of 16
    np.testing.assert_allclose(measured, expected, rtol=1e-4, atol=5e-4)


@given(bands=st.integers(1, 5), pixels=sides, seed=seeds)
def test_rotations_and_reflections_change_nothing_and_shuffled_pixels_do(bands, pixels, seed):
    images = smooth_image(1, bands, pixels, seed)
    measured = numbers(images)
    for turned in all_turns(images)[1:]:
        assert not torch.equal(turned, images)
        torch.testing.assert_close(numbers(turned), measured, rtol=1e-4, atol=5e-4)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(pixels**2))
    shuffled = images.flatten(2)[..., order].reshape(images.shape)
    flux, *others = parts(numbers(shuffled), bands)
    np.testing.assert_allclose(flux, parts(measured, bands)[0], rtol=1e-4, atol=1e-4)
    moved = [abs(a - b).max() for a, b in zip(others, parts(measured, bands)[1:], strict=True)]
    assert max(moved) > 0.01  # twenty times what turns may


@given(seed=seeds)
def test_an_image_does_not_depend_on_its_batch(seed):
    images = smooth_image(5, seed=seed)
    alone = torch.cat([numbers(image[None]) for image in images])
    torch.testing.assert_close(numbers(images), alone, rtol=1e-4, atol=1e-4)


@given(pixels=sides, seed=seeds)
def test_every_pixel_is_shared_out_among_the_layers(pixels, seed):
    starlet, images = Starlet(pixels), smooth_image(2, 2, pixels, seed)
    coarse = torch.nn.functional.avg_pool2d(images.mean(dim=1, keepdim=True), 4)
    for side in (pixels, pixels // 2, pixels // 4):
        ones = torch.ones(2, 1, side, side)
        mean, area = starlet._in_layers(ones, coarse)
        torch.testing.assert_close(area.sum(dim=-1), torch.full((2,), float(side**2)))
        torch.testing.assert_close(mean[..., 0], area / (area + 1))
    _, _, area, _ = parts(numbers(images), 2)
    np.testing.assert_allclose(np.expm1(area).sum(axis=1), (pixels // 4) ** 2, rtol=1e-4)


@given(level=st.floats(-3, 18), difference=st.floats(-2, 2), pixels=sides)
def test_a_uniform_image_has_fluxes_areas_and_colours_but_no_fluctuation(level, difference, pixels):
    scaled = torch.tensor([level, level + difference])[None, :, None, None].expand(
        1, 2, pixels, pixels
    )
    flux, strength, area, colour = parts(numbers(scaled), 2)
    np.testing.assert_allclose(strength, np.log(FLOOR), atol=1e-4)
    each = np.arcsinh(pixels**2 * np.sinh([level, level + difference]))
    np.testing.assert_allclose(flux[0, 0], each.mean(), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(flux[0, 1:], each - each.mean(), rtol=1e-5, atol=1e-4)
    base = np.clip(level + difference / 2, 0, STEP * (LAYERS - 1))
    share = np.maximum(0, 1 - abs(base / STEP - np.arange(LAYERS))) * (pixels // 4) ** 2
    np.testing.assert_allclose(np.expm1(area[0]), share, rtol=1e-3, atol=1e-3)
    half = difference / 2 * np.array([-1, 1])
    expected = half * (share / (share + 1))[:, None]
    np.testing.assert_allclose(colour[0], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, -9.0, 20.0])
def test_blank_and_negative_images_give_finite_numbers(value):
    scaled = torch.full((2, 3, 16, 16), value)
    assert numbers(scaled).isfinite().all()
    scaled[1] += smooth_image(1, 3)[0]
    assert numbers(scaled).isfinite().all()


@given(seed=seeds, scale=st.sampled_from([0, 1, 2]))
def test_twice_the_fluctuation_is_four_times_the_mean_square(seed, scale):
    """At a brightness in the middle of a layer, whose share it hardly changes."""
    noise = np.random.default_rng(seed).normal(0, 1, (1, 1, 32, 32))
    strengths = []
    for contrast in (0.05, 0.1, 0.2):
        scaled = torch.as_tensor(6 + contrast * noise, dtype=torch.float32)
        strengths.append(np.exp(parts(numbers(scaled), 1)[1][0, scale, 3, 0]) - FLOOR)
    np.testing.assert_allclose(np.divide(strengths[1:], strengths[:-1]), 4, rtol=0.1)


@given(seed=seeds)
def test_a_fluctuation_of_one_band_is_seen_in_that_band_alone(seed):
    quiet = torch.full((1, 3, 16, 16), 6.0)
    noisy = quiet.clone()
    noisy[:, 1] += smooth_image(1, 1, 16, seed)[:, 0] * 0.05
    strength = parts(numbers(noisy), 3)[1]
    assert (strength[0, :, 3, 1] > np.log(FLOOR) + 0.1).all()
    np.testing.assert_allclose(strength[..., [0, 2]], np.log(FLOOR), atol=1e-4)


@pytest.mark.parametrize(("wavelength", "strongest"), [(4, 0), (8, 1), (16, 2)])
def test_a_wave_is_strongest_at_its_own_scale(wavelength, strongest):
    x = np.arange(64) / wavelength
    wave = np.tile(6 + 0.3 * np.cos(2 * np.pi * x), (1, 1, 64, 1))
    strength = parts(numbers(torch.as_tensor(wave, dtype=torch.float32)), 1)[1]
    assert strength[0, :, 3, 0].argmax() == strongest


@pytest.mark.parametrize("pixels", [1, 2, 6, 30, 33])
def test_a_side_that_cannot_be_halved_twice_is_refused(pixels):
    with pytest.raises(
        InputError,
        match=rf"^a starlet cannot halve {pixels} pixels 2 times: take a crop that is a multiple "
        "of 4$",
    ):
        Starlet(pixels)


def test_nothing_is_learnt():
    assert list(Starlet(8).parameters()) == []


@given(
    inputs=st.integers(1, 9),
    hidden=st.integers(1, 9),
    outputs=st.integers(1, 9),
    dropout=st.sampled_from([0.0, 0.5]),
)
def test_a_perceptron_has_two_hidden_layers_of_normalised_numbers(inputs, hidden, outputs, dropout):
    network = perceptron(inputs, hidden, outputs, dropout)
    assert network(torch.rand(3, inputs)).shape == (3, outputs)
    linear = [(m.in_features, m.out_features) for m in network if isinstance(m, nn.Linear)]
    assert linear == [(inputs, hidden), (hidden, hidden), (hidden, outputs)]
    norms = [m.num_features for m in network if isinstance(m, nn.BatchNorm1d)]
    assert norms == [inputs, hidden, hidden]


def test_a_share_of_the_hidden_units_is_silent_in_training_alone():
    network, inputs = perceptron(4, 200, 1, 0.3), torch.rand(50, 4)
    hidden = []
    for place, part in enumerate(network):
        if isinstance(part, nn.Dropout):
            network[place].register_forward_hook(lambda *step: hidden.append(step[-1]))
    assert not torch.equal(network(inputs), network(inputs))
    for silent in hidden:
        assert float((silent == 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert len(hidden) == 4
    network.eval()
    hidden.clear()
    assert torch.equal(network(inputs), network(inputs))
    assert not any((unit == 0).any() for unit in hidden)


def test_without_dropout_training_draws_nothing():
    network, inputs = perceptron(4, 20, 1, 0.0), torch.rand(50, 4)
    assert torch.equal(network(inputs), network(inputs))


def test_units_of_the_numbers_do_not_matter_to_a_perceptron():
    network, inputs = perceptron(4, 20, 3, 0.0), torch.randn(50, 4)
    other = inputs * torch.tensor([2.0, 30, 0.5, 7]) + torch.tensor([1.0, -40, 3, 0])
    torch.testing.assert_close(network(other), network(inputs), rtol=1e-3, atol=1e-3)


def test_the_gradient_reaches_every_weight_of_a_perceptron():
    network = perceptron(6, 5, 3, 0.3)
    inputs = torch.randn(40, 6)
    (network(inputs) - inputs[:, :3].square()).square().sum().backward()
    assert all(weight.grad.any() for weight in network.parameters())
    # what the first batch norm adds, the second takes off: only rounding is left
    void = {"0.bias"}
    reached = {name for name, w in network.named_parameters() if w.grad.abs().max() > 1e-3}
    assert reached == {name for name, _ in network.named_parameters()} - void
