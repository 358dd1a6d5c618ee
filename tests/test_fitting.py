"""The training loop: it learns, repeats itself, and reads no row it should not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peculiar import fitting
from peculiar.bands import surface_brightness
from peculiar.fitting import batches, fit, load, predict, target_scaling, turn
from peculiar.metrics import l2
from peculiar.networks import build

CPU = torch.device("cpu")
N = 200
D = np.random.default_rng(0).uniform(50, 100, N)
TRAIN, VALIDATION, TEST = np.split(np.random.default_rng(1).permutation(N), [140, 170])


class Recorder:
    """Images whose brightness tells the distance, and which remember the rows asked for."""

    def __init__(self):
        noise = np.random.default_rng(2).normal(1, 0.02, (N, 1, 8, 8))
        level = surface_brightness(24, "r") * np.sinh(D / 50)
        self.images = (level[:, None, None, None] * noise).astype(np.float32)
        self.shape = self.images.shape
        self.asked = []

    def __getitem__(self, rows):
        self.asked.append(np.array(rows))
        return self.images[rows]


def network(seed=1, **changes):
    layers = [SimpleNamespace(filters=8, kernel=3, stride=2)]
    settings = {"batch_norm": False, "softening_mag_arcsec2": 24.0, "target": (50.0, 50.0)}
    return build("cnn", layers, "r", 8, seed=seed, **(settings | changes))


def fitted(
    seed=1,
    images=None,
    epochs=2,
    on_epoch=lambda *_: None,
    augment=True,
    schedule="constant",
    **changes,
):
    net = network(seed, **changes)
    fit(
        net,
        Recorder() if images is None else images,
        D,
        TRAIN,
        VALIDATION,
        epochs=epochs,
        batch_size=16,
        learning_rate=1e-2,
        augment=augment,
        schedule=schedule,
        rng=np.random.default_rng(seed),
        device=CPU,
        on_epoch=on_epoch,
    )
    return net


def test_learns_a_distance_written_in_the_brightness():
    curves = []
    net = fitted(epochs=30, on_epoch=lambda epoch, curve: curves.append((epoch, curve)))
    error = l2(D[TEST], predict(net, Recorder(), TEST, CPU))
    assert error < 0.1 * D.std()
    assert [epoch for epoch, _ in curves] == list(range(1, 31))
    last = curves[-1][1]
    assert set(last) == {"train_l2_mpc", "validation_l2_mpc"}
    assert last["train_l2_mpc"] < 0.3 * curves[0][1]["train_l2_mpc"]
    assert last["validation_l2_mpc"] == l2(D[VALIDATION], predict(net, Recorder(), VALIDATION, CPU))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_same_seed_same_weights(batch_norm):
    a, b, c = (fitted(seed, batch_norm=batch_norm).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["body.0.weight"], c["body.0.weight"])


def test_training_changes_every_weight_but_not_the_scalings():
    before, after = network().state_dict(), fitted().state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith("body.")}


def test_batch_norm_sees_every_step_of_every_epoch_but_no_validation():
    steps = len(list(batches(TRAIN, 16)))
    state = fitted(epochs=3, batch_norm=True).state_dict()
    assert int(state["body.1.num_batches_tracked"]) == 3 * steps


def test_turns_are_used_only_where_asked_for():
    turned, plain = (fitted(augment=augment).state_dict() for augment in (True, False))
    assert not torch.equal(turned["body.0.weight"], plain["body.0.weight"])


def test_a_cosine_schedule_falls_from_the_given_rate_to_zero(monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def recorded(optimiser, *arguments):
        rates.append(optimiser.param_groups[0]["lr"])
        return step(optimiser, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    steps = len(list(batches(TRAIN, 16)))
    fitted(epochs=4, schedule="cosine")
    expected = 1e-2 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose(rates, np.repeat(expected, steps))
    rates.clear()
    fitted(epochs=4)
    assert set(rates) == {1e-2}


@pytest.fixture
def streamed(monkeypatch):
    """Nothing is kept on the device: every batch is read anew."""
    monkeypatch.setattr(fitting, "RESIDENT_BYTES", 0)


def test_images_kept_on_the_device_or_streamed_give_the_same_weights(monkeypatch):
    kept = fitted().state_dict()
    monkeypatch.setattr(fitting, "RESIDENT_BYTES", 0)
    assert all(torch.equal(weights, kept[name]) for name, weights in fitted().state_dict().items())


def test_kept_images_are_read_once():
    images = Recorder()
    fitted(images=images, epochs=3)
    times = np.bincount(np.concatenate(images.asked), minlength=N)
    assert (times[TEST] == 0).all()
    assert (times[TRAIN] == 1).all()
    assert (times[VALIDATION] == 1).all()


@pytest.mark.usefixtures("streamed")
def test_only_training_and_validation_rows_are_read():
    images = Recorder()
    fitted(images=images, epochs=3)
    asked = np.concatenate(images.asked)
    assert not np.isin(asked, TEST).any()
    times = np.bincount(asked, minlength=N)
    assert (times[TRAIN] == 3).all()
    assert (times[VALIDATION] == 3).all()


def test_validation_rows_do_not_touch_the_weights():
    images = Recorder()
    images.images[VALIDATION] = 0
    a, b = fitted().state_dict(), fitted(images=images).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.usefixtures("streamed")
def test_each_epoch_has_its_own_order():
    images = Recorder()
    fitted(images=images, epochs=2)
    steps = [rows for rows in images.asked if np.isin(rows, TRAIN).all()]
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


@pytest.mark.parametrize("distribution", ["uniform", "normal", "none"])
def test_target_scaling(distribution):
    offset, scale = target_scaling(D, distribution)
    normalised = (D - offset) / scale
    if distribution == "uniform":
        assert (normalised.min(), normalised.max()) == pytest.approx((0, 1))
    elif distribution == "normal":
        assert (normalised.mean(), normalised.std()) == pytest.approx((0, 1))
    else:
        assert (offset, scale) == (0, 1)


def test_other_distributions_have_no_scaling():
    with pytest.raises(ValueError, match="no scaling for 'lognormal'"):
        target_scaling(D, "lognormal")


@given(n=st.integers(1, 60), size=st.integers(2, 20))
def test_batches_cover_the_rows_but_for_a_lone_last_one(n, size):
    rows = np.arange(n) + 7
    pieces = list(batches(rows, size))
    lone = n > 1 and n % size == 1
    np.testing.assert_array_equal(np.concatenate(pieces), rows[: n - lone])
    assert all(len(piece) == size for piece in pieces[:-1])
    assert len(pieces[-1]) > 1 or n == 1


def test_turn_draws_the_eight_symmetries_of_a_square():
    images = torch.arange(2 * 3 * 16.0).reshape(2, 3, 4, 4)
    square = [images.rot90(k, dims=(-2, -1)) for k in range(4)]
    square += [image.flip(-1) for image in square]
    rng = np.random.default_rng(0)
    drawn = set()
    for _ in range(100):
        turned = turn(images, rng)
        (which,) = (k for k, image in enumerate(square) if torch.equal(image, turned))
        drawn.add(which)
    assert drawn == set(range(8))


def test_predictions_come_in_the_order_asked_for(monkeypatch):
    net = network()
    alone = {row: predict(net, Recorder(), np.array([row]), CPU)[0] for row in TEST}
    monkeypatch.setattr(fitting, "PREDICT_BATCH", 7)
    predicted = predict(net, Recorder(), TEST, CPU)
    assert predicted.dtype == np.float64
    np.testing.assert_allclose(predicted, [alone[row] for row in TEST], rtol=1e-5)
    np.testing.assert_allclose(
        predict(net, Recorder(), TEST[::-1], CPU), predicted[::-1], rtol=1e-5
    )


def test_predicting_leaves_the_network_as_it_is():
    net = network(batch_norm=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    predict(net, Recorder(), TEST, CPU)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_load_keeps_values_and_puts_channels_last():
    images = np.random.default_rng(0).random((6, 3, 4, 4), dtype=np.float32)
    batch = load(images, np.array([4, 1]), CPU)
    np.testing.assert_array_equal(batch, images[[4, 1]])
    assert batch.is_contiguous(memory_format=torch.channels_last)
