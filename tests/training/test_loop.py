"""The training loop: it learns, repeats itself, and reads no row it should not."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from builders.brightness import CPU, PRIOR, TEST, TRAIN, VALIDATION, D, N, Recorder, Views, network
from builders.networks import network_section
from peculiar.networks.inference import load_images, run_network
from peculiar.training import loader, loop
from peculiar.training.loader import batches, scaled_images
from peculiar.training.loop import _Best, fit, learning_rate_factor, target_scaling
from peculiar.velocity.metrics import l2


def recipe(views=None, **changes):
    values = {"batch_size": 16, "learning_rate": 1e-2, "augment": True}
    return network_section(views=views, fresh=views is not None, **(values | changes))


def fitted(
    seed=1,
    images=None,
    on_epoch=lambda *_: None,
    head="point",
    batch_norm=False,
    scaled=None,
    fresh=None,
    targets=D,
    **changes,
):
    net = network(seed, head, batch_norm)
    fit(
        net,
        Recorder() if images is None else images,
        targets,
        TRAIN,
        VALIDATION,
        recipe(**changes),
        rng=np.random.default_rng(seed),
        device=CPU,
        on_epoch=on_epoch,
        scaled=scaled,
        fresh=fresh,
    )
    return net


def equal(first, second):
    """Whether two networks have the same weights."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_learns_a_distance_written_in_the_brightness():
    curves = []
    net = fitted(epochs=30, on_epoch=lambda epoch, curve: curves.append((epoch, curve)))
    error = l2(D[TEST], run_network(net, Recorder(), TEST, CPU))
    assert error < 0.1 * D.std()
    assert [epoch for epoch, _ in curves] == list(range(1, 31))
    last = curves[-1][1]
    assert set(last) == {"train_l2_mpc", "validation_l2_mpc"}
    assert last["train_l2_mpc"] < 0.3 * curves[0][1]["train_l2_mpc"]
    assert last["validation_l2_mpc"] == l2(
        D[VALIDATION], run_network(net, Recorder(), VALIDATION, CPU)
    )


@pytest.mark.parametrize("head", ["gaussian", "binned"])
def test_learns_a_distribution_from_the_brightness(head):
    curves = []
    net = fitted(
        head=head,
        batch_norm=True,
        epochs=30,
        schedule="onecycle",
        on_epoch=lambda _, curve: curves.append(curve),
    )
    p = run_network(net, Recorder(), TEST, CPU)
    assert p.shape == (len(TEST), 50)
    assert l2(D[TEST], p @ PRIOR.grid_mpc) < 0.2 * D.std()
    p = run_network(net, Recorder(), VALIDATION, CPU)
    expected = l2(D[VALIDATION], p @ PRIOR.grid_mpc)
    assert curves[-1]["validation_l2_mpc"] == pytest.approx(expected, rel=1e-5)
    assert curves[-1]["train_l2_mpc"] < 0.5 * curves[0]["train_l2_mpc"]


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("head", ["point", "gaussian"])
def test_same_seed_same_weights(head, batch_norm):
    a, b, c = (fitted(seed, head=head, batch_norm=batch_norm, ema=0.5) for seed in (1, 1, 2))
    assert equal(a, b)
    assert not equal(a, c)


@pytest.mark.parametrize("ema", [0, 0.9])
@pytest.mark.parametrize("head", ["point", "gaussian", "binned"])
def test_training_changes_every_weight_but_neither_scalings_nor_prior(head, ema):
    before, after = network(head=head).state_dict(), fitted(head=head, ema=ema).state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith(("body.", "bodies."))}


def test_batch_norm_sees_every_step_of_every_epoch_but_no_validation():
    steps = len(list(batches(TRAIN, 16)))
    state = fitted(epochs=3, batch_norm=True).state_dict()
    assert int(state["body.1.num_batches_tracked"]) == 3 * steps


def test_turns_are_used_only_where_asked_for():
    assert not equal(fitted(augment=True), fitted(augment=False))


def factors(schedule, steps, epochs):
    return np.array([learning_rate_factor(schedule, k, steps, epochs) for k in range(steps)])


schedule_lengths = {"epochs": st.integers(1, 30), "per_epoch": st.integers(1, 20)}


@given(**schedule_lengths)
def test_a_constant_schedule_is_one(epochs, per_epoch):
    assert (factors("constant", epochs * per_epoch, epochs) == 1).all()


@given(**schedule_lengths)
def test_a_cosine_schedule_is_that_of_torch(epochs, per_epoch):
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs)
    expected = []
    for _ in range(epochs):
        expected += per_epoch * cosine.get_last_lr()
        optimiser.step()
        cosine.step()
    np.testing.assert_allclose(
        factors("cosine", epochs * per_epoch, epochs), expected, rtol=1e-6, atol=1e-9
    )


@given(**schedule_lengths)
def test_a_cycle_rises_to_one_in_a_fifth_and_falls_to_zero(epochs, per_epoch):
    steps = epochs * per_epoch
    rates = factors("onecycle", steps, epochs)
    top = rates.argmax()
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()
    assert ((rates > 0) & (rates <= 1)).all()
    assert top + 1 == pytest.approx(0.2 * (steps + 1), abs=1)
    if steps >= 20:
        assert rates[top] > 0.85
        assert rates[-1] < 0.01
        assert rates[0] < 0.25


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
def test_steps_are_taken_at_the_rates_of_the_schedule(monkeypatch, schedule):
    rates = []
    step = torch.optim.AdamW.step

    def recorded(optimiser, *arguments):
        rates.append(optimiser.param_groups[0]["lr"])
        return step(optimiser, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    steps = 4 * len(list(batches(TRAIN, 16)))
    fitted(epochs=4, schedule=schedule)
    np.testing.assert_allclose(rates, 1e-2 * factors(schedule, steps, 4), rtol=1e-6)


def by_hand(optimiser, epochs=2, head="point", batch_norm=False):
    """Weights after each step of plain training, without turns, at a constant rate."""
    net = network(1, head, batch_norm).train().to(memory_format=torch.channels_last)
    step = optimiser(net.parameters(), lr=1e-2)
    rng = np.random.default_rng(1)
    images, weights = load_images(Recorder().images, np.arange(N), CPU), []
    for _ in range(epochs):
        for rows in batches(rng.permutation(TRAIN), 16):
            loss, _ = net.learn(net.front(images[rows]), torch.tensor(D[rows]).float())
            step.zero_grad()
            loss.backward()
            step.step()
            weights.append({name: w.clone() for name, w in net.state_dict().items()})
    return weights


@pytest.mark.parametrize("head", ["point", "gaussian"])
@pytest.mark.parametrize(
    ("weight_decay", "optimiser"),
    [(0, torch.optim.Adam), (0.3, partial(torch.optim.AdamW, weight_decay=0.3))],
)
def test_training_is_adam_with_decoupled_weight_decay(head, weight_decay, optimiser):
    ours = fitted(head=head, augment=False, weight_decay=weight_decay).state_dict()
    for name, expected in by_hand(optimiser, head=head)[-1].items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ema", [0.5, 0.9])
def test_the_running_mean_of_the_weights_is_kept(ema):
    curves = []
    net = fitted(
        ema=ema, augment=False, batch_norm=True, on_epoch=lambda _, curve: curves.append(curve)
    )
    steps = by_hand(torch.optim.Adam, batch_norm=True)
    ours = net.state_dict()
    for name, expected in steps[0].items():
        # a count, and noise: a bias means nothing before batch norm, which takes the mean off
        if name in ("body.1.num_batches_tracked", "body.0.bias", "body.1.running_mean"):
            continue
        for weights in steps[1:]:  # running variances of batch norm too
            expected = ema * expected + (1 - ema) * weights[name]
        torch.testing.assert_close(ours[name], expected, rtol=1e-4, atol=1e-5)
    error = l2(D[VALIDATION], run_network(net, Recorder(), VALIDATION, CPU))
    assert curves[-1]["validation_l2_mpc"] == pytest.approx(error, rel=1e-5)


def scripted(monkeypatch, losses):
    """`fit` is told these validation losses, one an epoch."""
    told = iter(losses)
    monkeypatch.setattr(loop, "l2", lambda *_: next(told))


@pytest.mark.parametrize("ema", [0, 0.5])
@pytest.mark.parametrize(
    ("losses", "patience", "ends", "best"),
    [
        ([5, 4, 6, 4.5, 3, 2], 2, 4, 2),
        ([5, 4, 6, 4.5, 3, 2], 3, 6, 6),
        ([5, 4, 6, 3, 4, 3], 3, 6, 4),
        ([1, 2, 3, 4, 5, 6], 1, 2, 1),
        ([6, 6, 6, 6, 6, 6], 3, 4, 1),
        ([5, 4, math.nan, math.inf, 3, 2], 2, 4, 2),
    ],
)
def test_patience_ends_with_the_weights_of_the_best_epoch(
    monkeypatch, losses, patience, ends, best, ema
):
    seen = []
    scripted(monkeypatch, losses)
    net = fitted(epochs=6, patience=patience, ema=ema, on_epoch=lambda epoch, _: seen.append(epoch))
    assert seen == list(range(1, ends + 1))
    scripted(monkeypatch, losses)
    assert equal(net, fitted(epochs=best, ema=ema))


def test_the_loss_of_the_best_epoch_is_that_of_the_network_given_back():
    curves = []
    mixed = np.array(D)
    mixed[VALIDATION] = D[VALIDATION][::-1]  # what is learnt does not hold there
    net = fitted(
        epochs=40,
        patience=2,
        targets=mixed,
        on_epoch=lambda _, curve: curves.append(curve["validation_l2_mpc"]),
    )
    assert len(curves) == np.argmin(curves) + 3 < 40
    error = l2(mixed[VALIDATION], run_network(net, Recorder(), VALIDATION, CPU))
    assert min(curves) == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("resident_bytes", [0, loader.RESIDENT_BYTES])
def test_fresh_views_take_the_place_of_training_images_alone(monkeypatch, resident_bytes):
    monkeypatch.setattr(loader, "RESIDENT_BYTES", resident_bytes)
    images, fresh = Recorder(), Views()
    fitted(images=images, fresh=fresh, epochs=3)
    times = np.bincount(np.concatenate(fresh.asked), minlength=N)
    assert (times[TRAIN] == 3).all()
    assert times.sum() == 3 * len(TRAIN)
    assert set(np.concatenate(images.asked)) == set(VALIDATION)


@pytest.mark.parametrize("head", ["point", "binned"])
def test_fresh_views_equal_to_the_stored_images_change_nothing(head):
    assert equal(fitted(head=head, fresh=Views()), fitted(head=head))


def test_labels_of_fresh_views_are_learnt_and_stored_ones_are_not():
    net = fitted(fresh=Views(np.full(N, 80.0)), epochs=20)
    np.testing.assert_allclose(run_network(net, Recorder(), TEST, CPU), 80, atol=5)
    stored = np.array(D)
    stored[TRAIN] = np.nan
    assert equal(fitted(fresh=Views()), fitted(fresh=Views(), targets=stored))


@pytest.mark.parametrize("views", [1, 3])
def test_an_epoch_takes_every_kept_view_and_no_later_one_draws_again(views):
    images, fresh = Recorder(), Views()
    asked = []
    state = fitted(
        images=images,
        fresh=fresh,
        views=views,
        epochs=4,
        batch_size=10,
        batch_norm=True,
        on_epoch=lambda *_: asked.append(len(np.concatenate(fresh.asked))),
    ).state_dict()
    assert asked == 4 * [views * len(TRAIN)]
    assert (np.bincount(np.concatenate(fresh.asked), minlength=N)[TRAIN] == views).all()
    assert int(state["body.1.num_batches_tracked"]) == 4 * views * len(TRAIN) / 10
    assert set(np.concatenate(images.asked)) == set(VALIDATION)


def test_one_kept_view_equal_to_the_stored_images_is_learnt_from_like_them():
    """Not to the bit: a kept view has another row number, and each epoch another order."""
    net = fitted(fresh=Views(), views=1, epochs=30)
    assert l2(D[TEST], run_network(net, Recorder(), TEST, CPU)) < 0.1 * D.std()


def test_labels_of_kept_views_are_learnt_and_stored_ones_are_not():
    net = fitted(fresh=Views(np.full(N, 80.0)), views=3, epochs=10)
    np.testing.assert_allclose(run_network(net, Recorder(), TEST, CPU), 80, atol=5)
    stored = np.array(D)
    stored[TRAIN] = np.nan
    kept = [fitted(fresh=Views(), views=2, targets=targets) for targets in (D, stored)]
    assert equal(*kept)


@pytest.mark.parametrize("head", ["point", "gaussian"])
def test_kept_views_repeat_themselves_with_the_seed(head):
    a, b, c = (fitted(seed, head=head, fresh=Views(), views=3) for seed in (1, 1, 2))
    assert equal(a, b)
    assert not equal(a, c)
    assert not equal(a, fitted(head=head, fresh=Views(), views=2))


@pytest.mark.parametrize("resident_bytes", [0, loader.RESIDENT_BYTES])
def test_without_fresh_distances_views_change_nothing(monkeypatch, resident_bytes):
    monkeypatch.setattr(loader, "RESIDENT_BYTES", resident_bytes)
    images = Recorder()
    assert equal(fitted(views=3, images=images), fitted())
    assert set(np.concatenate(images.asked)) == {*TRAIN, *VALIDATION}


def test_kept_views_are_shuffled_anew_each_epoch(monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "batches", lambda rows, _: seen.append(rows) or iter([rows]))
    fitted(fresh=Views(), views=2, epochs=2)
    _, first, second = seen  # before them the steps are counted
    assert set(first) == set(second) == set(range(2 * len(TRAIN)))
    assert not np.array_equal(first, second)


@pytest.fixture
def streamed(monkeypatch):
    """Nothing is kept on the device: every batch is read anew."""
    monkeypatch.setattr(loader, "RESIDENT_BYTES", 0)


def test_images_kept_on_the_device_or_streamed_give_the_same_weights(monkeypatch):
    kept = fitted()
    monkeypatch.setattr(loader, "RESIDENT_BYTES", 0)
    assert equal(fitted(), kept)


def test_shared_scaled_images_are_read_no_more_and_give_the_same_weights():
    rows = np.concatenate([VALIDATION, TRAIN])
    shared = scaled_images(network().front, Recorder(), rows, CPU)
    images = Recorder()
    assert equal(fitted(images=images, scaled=shared), fitted())
    assert images.asked == []


def test_kept_images_are_read_once():
    images = Recorder()
    fitted(images=images, epochs=3)
    times = np.bincount(np.concatenate(images.asked), minlength=N)
    assert (times[TEST] == 0).all()
    assert times[TRAIN[0]] == 2  # it also tells the shape of what is kept
    assert (times[TRAIN[1:]] == 1).all()
    assert (times[VALIDATION] == 1).all()


@pytest.mark.usefixtures("streamed")
def test_only_training_and_validation_rows_are_read():
    images = Recorder()
    fitted(images=images, epochs=3)
    asked = np.concatenate(images.asked[1:])  # the first is asked for its shape
    assert not np.isin(asked, TEST).any()
    times = np.bincount(asked, minlength=N)
    assert (times[TRAIN] == 3).all()
    assert (times[VALIDATION] == 3).all()


def test_validation_rows_do_not_touch_the_weights():
    images = Recorder()
    images.images[VALIDATION] = 0
    assert equal(fitted(), fitted(images=images))


@pytest.mark.usefixtures("streamed")
def test_each_epoch_has_its_own_order():
    images = Recorder()
    fitted(images=images, epochs=2)
    steps = [rows for rows in images.asked[1:] if np.isin(rows, TRAIN).all()]
    first, second = np.concatenate(steps).reshape(2, len(TRAIN))
    assert set(first) == set(second) == set(TRAIN)
    assert not np.array_equal(first, second)


def test_what_the_callback_raises_ends_the_training():
    seen = []

    def stop(epoch, _):
        seen.append(epoch)
        if epoch == 2:
            raise StopIteration

    with pytest.raises(StopIteration):
        fitted(epochs=9, on_epoch=stop)
    assert seen == [1, 2]


@pytest.mark.parametrize("distribution", ["uniform", "normal", "measured", "none"])
def test_target_scaling(distribution):
    offset, scale = target_scaling(D, distribution)
    normalised = (D - offset) / scale
    if distribution == "uniform":
        assert (normalised.min(), normalised.max()) == pytest.approx((0, 1))
    elif distribution in ("normal", "measured"):
        assert (normalised.mean(), normalised.std()) == pytest.approx((0, 1))
    else:
        assert (offset, scale) == (0, 1)


def test_other_distributions_have_no_scaling():
    with pytest.raises(ValueError, match="no scaling for 'lognormal'"):
        target_scaling(D, "lognormal")


def test_a_first_epoch_without_a_number_is_bettered_by_any_other():
    best, network = _Best(), torch.nn.Linear(1, 1)
    assert [best.see(loss, network) for loss in (float("nan"), 5.0, 6.0, 4.0)] == [0, 0, 1, 0]
