"""Networks with an output: what p(D | image) is, what it learns from D_z, turns and ensembles."""

from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp
from scipy.stats import norm

from builders.networks import network_section
from peculiar.core.errors import InputError
from peculiar.core.photometry import surface_brightness
from peculiar.networks.heads import (
    DistanceNetwork,
    DistributionNetwork,
    all_turns,
    build,
    ensemble,
)
from peculiar.networks.likelihood import DistanceHead, Prior

KINDS = ["gaussian", "binned"]
GRID = np.linspace(50.5, 99.5, 50)
HILL = np.exp(-0.5 * ((GRID - 70) / 12) ** 2)
PRIOR = Prior(GRID, HILL / HILL.sum(), 400 / 70)
FLAT = Prior(GRID, np.full(50, 1 / 50), 400 / 70)


def build_small(
    bands="gr",
    pixels=8,
    head="gaussian",
    average_turns=False,
    softening=24.0,
    crop=None,
    *,
    family="cnn",
    target=(0.0, 1.0),
    prior=PRIOR,
    seed=1,
    members=1,
    loss="absolute",
    precision="float32",
):
    spec = network_section(
        family,
        head=head,
        loss=loss,
        crop=crop,
        average_turns=average_turns,
        precision=precision,
        softening_mag_arcsec2=softening,
    )
    return build(
        spec, list(bands), pixels, target=target, prior=prior, seed=seed, members=members
    ).eval()


def images(n=4, pixels=8, seed=0):
    rng = np.random.default_rng(seed)
    return torch.as_tensor(1e4 * rng.random((n, 2, pixels, pixels)), dtype=torch.float32)


def raw_numbers(kind, largest=30):
    """Raw numbers of three images for a head of `GRID`."""
    shape = (3, 2 if kind == "gaussian" else len(GRID))
    elements = st.floats(-largest, largest, width=32)
    return arrays(np.float32, shape, elements=elements).map(torch.from_numpy)


heads_with_raw = st.sampled_from(KINDS).flatmap(
    lambda kind: st.tuples(st.just(DistanceHead(kind, PRIOR)), raw_numbers(kind))
)
labels = arrays(np.float32, 3, elements=st.floats(30, 120, width=32)).map(torch.from_numpy)


def raw_of(head, mean, deviation):
    """Raw numbers of a Gaussian likelihood of mean and deviation, Mpc."""
    low, high = float(head.grid_mpc[0]), float(head.grid_mpc[-1])
    step, half = float(head.grid_mpc[1]) - low, (high - low) / 2
    width = log(np.expm1((deviation - step) / half))
    return torch.tensor([[(mean - (low + high) / 2) / half, width]])


WIDE = Prior(np.linspace(-250, 400, 1301), np.full(1301, 1 / 1301), 400 / 70)


@given(heads_with_raw)
def test_probabilities_sum_to_one_and_none_is_negative(head_with_raw):
    head, raw = head_with_raw
    p = head(raw).exp()
    assert p.shape == (3, len(GRID))
    assert (p >= 0).all()
    torch.testing.assert_close(p.sum(dim=-1), torch.ones(3))


@given(heads_with_raw, labels)
def test_the_loss_is_what_scipy_says(head_with_raw, label):
    head, raw = head_with_raw
    log_p = head(raw)
    terms = log_p.double().numpy() + norm.logpdf(label.double()[:, None], GRID, 400 / 70)
    expected = -logsumexp(terms, axis=1)
    np.testing.assert_allclose(head.loss(log_p, label), expected, rtol=1e-4, atol=1e-4)


@given(mean=st.floats(40, 110), s=st.floats(1, 15), D_z=st.floats(30, 120))
def test_a_gaussian_within_a_wide_flat_prior_has_its_closed_form(mean, s, D_z):
    head = DistanceHead("gaussian", WIDE)
    loss = head.loss(head(raw_of(head, mean, s)), torch.tensor([D_z]))
    assert float(loss) == pytest.approx(-norm.logpdf(D_z, mean, np.hypot(s, 400 / 70)), rel=1e-3)


@given(heads_with_raw)
def test_the_loss_is_that_of_a_density_of_labels(head_with_raw):
    head, raw = head_with_raw
    label = torch.linspace(0, 150, 1501)
    for log_p in head(raw):
        density = (-head.loss(log_p.expand(len(label), -1), label)).exp()
        assert float(density.sum()) * 0.1 == pytest.approx(1, abs=1e-3)


def test_raw_zeros_of_a_binned_head_are_the_prior():
    p = DistanceHead("binned", PRIOR)(torch.zeros(2, len(GRID))).exp()
    np.testing.assert_allclose(p, np.tile(PRIOR.p, (2, 1)), rtol=1e-5)


@given(heads_with_raw)
def test_a_sharpness_of_zero_leaves_the_prior_alone(head_with_raw):
    head, raw = head_with_raw
    head.sharpness.fill_(0)
    np.testing.assert_allclose(head(raw).exp(), np.tile(PRIOR.p, (3, 1)), rtol=1e-5)


@given(heads_with_raw, st.floats(0.1, 4))
def test_sharpness_is_a_power_of_the_likelihood(head_with_raw, sharpness):
    head, raw = head_with_raw
    head.sharpness.fill_(sharpness)
    log_likelihood = head.log_likelihood(raw).double().numpy()
    expected = PRIOR.p * np.exp(
        sharpness * (log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    )
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head(raw).exp(), expected, rtol=2e-3, atol=1e-6)


@given(mean=st.floats(20, 130), s=st.floats(2, 15))
def test_a_fourfold_sharpness_halves_the_width(mean, s):
    head = DistanceHead("gaussian", WIDE)
    head.sharpness.fill_(4)
    p = head(raw_of(head, mean, s)).double().exp().numpy()[0]
    assert p @ WIDE.grid_mpc == pytest.approx(mean, abs=1e-2)
    assert np.sqrt(p @ (WIDE.grid_mpc - mean) ** 2) == pytest.approx(s / 2, rel=1e-3)


@given(mean=st.floats(-3, 3), width=st.floats(-1e4, 1e4))
def test_no_likelihood_is_narrower_than_a_cell_of_the_grid(mean, width):
    head = DistanceHead("gaussian", FLAT)
    raw = torch.tensor([[mean, width]])
    neighbours = head.log_likelihood(raw).double().diff(n=2)  # -1 / s^2, s in cells
    assert (neighbours > -1.001 - 1e-6 * float(head.log_likelihood(raw).abs().max())).all()
    assert head.loss(head(raw), torch.tensor([75.0])).isfinite()


@pytest.mark.parametrize("kind", KINDS)
def test_p_has_the_width_of_distances_and_not_of_their_labels(kind):
    """Raw numbers that all galaxies share, learnt from D_z: the distribution of D."""
    rng = np.random.default_rng(0)
    D = rng.normal(75, 6, 20_000)
    D_z = D + rng.normal(0, 400 / 70, len(D))
    grid = np.linspace(30.5, 119.5, 90)
    head = DistanceHead(kind, Prior(grid, np.full(90, 1 / 90), 400 / 70))
    raw = torch.zeros(1, head.raw_numbers, requires_grad=True)
    label = torch.tensor(D_z, dtype=torch.float32)
    optimiser = torch.optim.LBFGS([raw], max_iter=40, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        mean = head.loss(head(raw).expand(len(D), -1), label).mean()
        mean.backward()
        return mean

    optimiser.step(loss)
    p = head(raw).detach().exp()[0].numpy()
    mean = p @ grid
    assert mean == pytest.approx(D.mean(), abs=0.2)
    assert np.sqrt(p @ (grid - mean) ** 2) == pytest.approx(6, rel=0.04)
    assert D_z.std() > 8


@pytest.mark.parametrize("average_turns", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_gives_the_mean_of_its_members(kind, average_turns):
    members = [
        build_small(head=kind, average_turns=average_turns, seed=seed, members=count, prior=FLAT)
        for seed, count in ((1, 1), (2, 1), (3, 2))
    ]
    full = ensemble(members).eval()
    first, second, third = (member(images()) for member in members)
    torch.testing.assert_close(full(images()), (first + second + 2 * third) / 4)
    assert not torch.allclose(first, second, rtol=1e-3)
    rebuilt = build_small(head=kind, average_turns=average_turns, members=4)
    rebuilt.load_state_dict(full.state_dict())
    assert torch.equal(rebuilt(images()), full(images()))


@pytest.mark.parametrize("average_turns", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_can_be_replaced_afterwards_exactly(kind, average_turns):
    """Also that of an ensemble: p under any prior is p under a flat one times it."""
    network = build_small(head=kind, average_turns=average_turns, members=3)
    hill = network(images()).detach().double()
    network.head.set_prior(None)
    flat = network(images()).detach().double()
    expected = flat * torch.from_numpy(PRIOR.p)
    torch.testing.assert_close(
        hill, expected / expected.sum(dim=-1, keepdim=True), rtol=1e-5, atol=1e-8
    )
    network.head.set_prior(PRIOR.p)
    torch.testing.assert_close(network(images()).detach().double(), hill)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_without_galaxies_at_some_distances_has_finite_gradients(kind):
    p = np.where((GRID > 60) & (GRID < 90), 1.0, 0)
    head = DistanceHead(kind, Prior(GRID, p / p.sum(), 400 / 70))
    raw = torch.full((3, head.raw_numbers), 0.3, requires_grad=True)
    log_p = head(raw)
    head.loss(log_p, torch.tensor([10.0, 75.0, 200.0])).sum().backward()
    assert (log_p.exp()[:, p == 0] == 0).all()
    assert raw.grad.isfinite().all()
    assert raw.grad.abs().max() > 0


@given(mean=st.floats(-50, 250), s=st.floats(1, 15))
def test_a_parabola_reaches_beyond_the_training_distances(mean, s):
    """Its scale is that of the training distances; a flat prior afterwards leaves it whole."""
    grid = WIDE.grid_mpc
    p = np.where((grid > 50) & (grid < 100), 1.0, 0)
    head = DistanceHead("gaussian", Prior(grid, p / p.sum(), 400 / 70))
    middle, half, step = float(head.middle_mpc), float(head.half_mpc), grid[1] - grid[0]
    assert (middle, half) == pytest.approx((75, 25), abs=step)
    raw = torch.tensor([[(mean - middle) / half, log(np.expm1((s - step) / half))]])
    head.set_prior(None)
    found = head(raw).exp().double().numpy()[0]
    assert found @ grid == pytest.approx(mean, abs=0.02)
    assert np.sqrt(found @ (grid - found @ grid) ** 2) == pytest.approx(s, rel=0.01)


def test_weights_of_before_the_wide_grid_are_read_with_the_scale_of_their_grid():
    network = build_small(prior=FLAT)
    older = {
        k: v for k, v in network.state_dict().items() if not k.endswith(("half_mpc", "le_mpc"))
    }
    assert len(older) == len(network.state_dict()) - 2
    second = build_small(prior=Prior(GRID + 20, FLAT.p, 1.0), seed=2)
    second.load_state_dict(older)
    assert torch.equal(second(images()), network(images()))


def test_members_begin_with_weights_of_their_own():
    first, second, third = (body[0].weight for body in build_small(members=3).bodies)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


@given(side=st.integers(2, 5), seed=st.integers(0, 99))
def test_the_turns_are_the_eight_symmetries_of_a_square(side, seed):
    def drawn(images):
        return {tuple(image.flatten().tolist()) for image in all_turns(images)}

    image = torch.randperm(side**2, generator=torch.Generator().manual_seed(seed))
    image = image.reshape(1, 1, side, side)
    assert len(drawn(image)) == 8
    assert tuple(image.flatten().tolist()) in drawn(image)
    for turned in all_turns(image):  # a group: a turn of a turn is a turn
        assert drawn(turned) == drawn(image)


@pytest.mark.parametrize("kind", KINDS)
def test_turns_make_no_difference_where_they_are_averaged(kind):
    turned = torch.cat(all_turns(images(1)))
    averaged, plain = (
        build_small(head=kind, average_turns=asked, prior=FLAT) for asked in (True, False)
    )
    torch.testing.assert_close(
        averaged(turned), averaged(turned)[:1].expand(8, -1), rtol=1e-5, atol=1e-5
    )
    expected = plain(turned).mean(dim=0)
    torch.testing.assert_close(averaged(turned)[0], expected)
    assert (plain(turned) - expected).abs().max() > 1e-4


def test_turns_are_averaged_outside_training_alone():
    averaged, plain = (build_small(average_turns=asked) for asked in (True, False))
    assert not torch.allclose(averaged(images()), plain(images()))
    assert torch.equal(averaged.train()(images()), plain.train()(images()))


@pytest.mark.parametrize("kind", KINDS)
def test_distributions_learn_the_mean_loss_of_their_labels(kind):
    network = build_small(head=kind, average_turns=True).train()
    scaled, D_z = network.front(images()), torch.tensor([60.0, 80, 95, 40])
    loss, D = network.learn(scaled, D_z)
    expected = network.head.loss(network.probability(scaled).log(), D_z).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(D, network.distance(scaled))


def test_the_distance_of_a_distribution_is_its_mean():
    network = build_small(members=2, average_turns=True)
    p = network(images()).detach().double().numpy()
    np.testing.assert_allclose(
        network.distance(network.front(images())).detach(), p @ GRID, rtol=1e-5
    )


@given(offset=st.floats(-100, 100), scale=st.floats(0.5, 60))
def test_a_point_head_learns_the_mean_square_in_units_of_its_scale(offset, scale):
    network = build_small(head="point", target=(offset, scale), prior=None)
    assert isinstance(network, DistanceNetwork)
    scaled, D = network.front(images()), torch.tensor([60.0, 80, 95, 40])
    loss, D_p = network.learn(scaled, D)
    out = network.body(scaled).squeeze(-1)
    torch.testing.assert_close(D_p, offset + scale * out)
    torch.testing.assert_close(
        loss, ((D - offset) / scale - out).square().mean(), rtol=1e-4, atol=0
    )
    assert torch.equal(D_p, network(images()))


@given(offset=st.floats(-100, 100), scale=st.floats(0.5, 60))
def test_a_point_head_may_learn_the_mean_square_of_fractions(offset, scale):
    network = build_small(head="point", loss="fractional", target=(offset, scale), prior=None)
    D = torch.tensor([60.0, 80, 95, 40])
    loss, D_p = network.learn(network.front(images()), D)
    torch.testing.assert_close(loss, (D_p / D - 1).square().mean(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", ["point", *KINDS])
def test_bfloat16_is_for_the_products_while_learning_alone(kind):
    """Eight bits of a product: 0.4 %, of which a sum over many keeps less."""
    full, half = (
        build_small(head=kind, target=(50.0, 50.0), precision=p) for p in ("float32", "bfloat16")
    )
    scaled, labels = torch.rand(64, 2, 8, 8), torch.linspace(50, 100, 64)
    (loss, D_p), (rough_loss, rough) = (n.learn(scaled, labels) for n in (full, half))
    assert rough.dtype == rough_loss.dtype == torch.float32
    assert 1e-4 < (rough - D_p).abs().max() < 0.5
    assert rough_loss.item() == pytest.approx(loss.item(), rel=0.01)
    rough_loss.backward()
    assert all(p.grad.dtype == p.dtype == torch.float32 for p in half.parameters())
    torch.testing.assert_close(half.distance(scaled), full.distance(scaled), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["point", *KINDS])
def test_pixels_enter_as_asinh_of_their_softening(kind):
    network = build_small(head=kind, softening=23.0)
    soft = torch.tensor([float(surface_brightness(23, band)) for band in "gr"])[:, None, None]
    scaled = torch.asinh(images() / soft)
    torch.testing.assert_close(network.front(images()), scaled)
    expected = network.distance(scaled) if kind == "point" else network.probability(scaled)
    torch.testing.assert_close(network(images()), expected)


@pytest.mark.parametrize("kind", ["point", *KINDS])
@pytest.mark.parametrize("crop", [4, 6, 8, None])
def test_only_the_middle_is_looked_at_where_cropped(kind, crop):
    network, rim = build_small(head=kind, crop=crop), (8 - (crop or 8)) // 2
    assert network.front(images()).shape == (4, 2, crop or 8, crop or 8)
    middle = torch.zeros(8, 8, dtype=torch.bool)
    middle[rim : 8 - rim, rim : 8 - rim] = True
    other = torch.where(middle, images(), images(seed=1))
    assert torch.equal(network(images()), network(other))
    inside = build_small(head=kind, pixels=crop or 8)
    inside.load_state_dict(network.state_dict())
    torch.testing.assert_close(
        inside(images()[..., rim : 8 - rim, rim : 8 - rim]), network(images())
    )
    other = torch.where(middle, images(seed=1), images())
    assert not torch.allclose(network(images()), network(other))


@pytest.mark.parametrize("crop", [10, 7, 3])
@pytest.mark.parametrize("kind", ["point", *KINDS])
def test_a_crop_without_a_middle_is_refused(kind, crop):
    with pytest.raises(InputError, match=f"crop {crop} is not the middle of 8 pixels: take an"):
        build_small(head=kind, crop=crop)


def test_an_ensemble_looks_at_what_its_members_do():
    members = [build_small(crop=4, seed=seed, prior=FLAT) for seed in (1, 2)]
    expected = (members[0](images()) + members[1](images())) / 2
    torch.testing.assert_close(ensemble(members).eval()(images()), expected)


@pytest.mark.parametrize("kind", ["point", *KINDS])
@pytest.mark.parametrize("family", ["cnn", "pyramid"])
def test_the_seed_decides_the_weights(kind, family):
    a, b, c = (build_small(head=kind, family=family, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


@pytest.mark.parametrize("kind", ["point", *KINDS])
def test_torch_global_generator_is_left_alone(kind):
    before = torch.random.get_rng_state()
    build_small(head=kind)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_distribution_without_a_prior_is_refused(kind):
    with pytest.raises(ValueError, match=f"head {kind} needs a prior"):
        build_small(head=kind, prior=None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_distribution_network_has_as_many_members_as_asked_for(kind):
    network = build_small(head=kind, members=3)
    assert isinstance(network, DistributionNetwork)
    assert len(network.bodies) == 3
    assert network.raw(network.front(images())).shape == (3, 4, 2 if kind == "gaussian" else 50)


@pytest.mark.parametrize("kind", KINDS)
def test_prior_grid_sharpness_and_softening_travel_with_the_weights(kind):
    first = build_small(head=kind, softening=22.0, seed=1)
    first.head.sharpness.fill_(0.7)
    other = Prior(GRID + 10, FLAT.p, 1.0)
    second = build_small(head=kind, prior=other, seed=2)
    assert not torch.allclose(first(images()), second(images()))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images()), second(images()))
    scaled, D_z = first.front(images()), torch.tensor([60.0, 80, 95, 40])
    for ours, theirs in zip(first.learn(scaled, D_z), second.learn(scaled, D_z), strict=True):
        assert torch.equal(ours, theirs)
    assert all(name.startswith("bodies.") for name, _ in second.named_parameters())


def test_both_scalings_of_a_point_head_travel_with_the_weights():
    first = build_small(head="point", target=(50.0, 25.0), softening=22.0)
    second = build_small(head="point", seed=5)
    assert not torch.allclose(first(images()), second(images()))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images()), second(images()))
    assert (
        not {"front.softening", "offset_mpc", "scale_mpc"} & dict(second.named_parameters()).keys()
    )
