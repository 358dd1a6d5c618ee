"""What networks are fed: every row, in order, scaled once, and no more than there is room for."""

import re
from contextlib import suppress
from functools import partial
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from builders.brightness import CPU, TEST, TRAIN, D, Recorder, Views, network
from peculiar.core.errors import InputError
from peculiar.networks import inference
from peculiar.networks.inference import in_pieces, load_images, run_network
from peculiar.training import loader
from peculiar.training.loader import (
    batches,
    dense,
    first_images,
    fits_on_device,
    half_the_threads,
    keep_views,
    one_ahead,
    resident_bytes,
    scaled_images,
    turn,
)


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


@pytest.mark.parametrize("head", ["point", "gaussian", "binned"])
def test_predictions_come_in_the_order_asked_for(monkeypatch, head):
    net = network(head=head)
    alone = {row: run_network(net, Recorder(), np.array([row]), CPU)[0] for row in TEST}
    monkeypatch.setattr(inference, "FRONT_BATCH", 7)
    predicted = run_network(net, Recorder(), TEST, CPU)
    assert predicted.dtype == np.float64
    np.testing.assert_allclose(predicted, [alone[row] for row in TEST], rtol=1e-5)
    np.testing.assert_allclose(
        run_network(net, Recorder(), TEST[::-1], CPU), predicted[::-1], rtol=1e-5
    )


@given(n=st.integers(1, 40), piece=st.integers(1, 20))
def test_pieces_are_joined_in_order_and_none_is_larger_than_asked_for(n, piece):
    rows = np.random.default_rng(n).permutation(n)
    sizes = []

    def squares(some):
        sizes.append(len(some))
        return torch.tensor(some, dtype=torch.float32)[:, None] ** torch.tensor([1, 2])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "FRONT_BATCH", piece)
        joined = in_pieces(squares, rows, CPU)
    assert joined.dtype == np.float64
    np.testing.assert_array_equal(joined, np.stack([rows, rows**2], axis=1))
    assert max(sizes) <= piece


def test_predicting_leaves_the_network_as_it_is():
    net = network(batch_norm=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    run_network(net, Recorder(), TEST, CPU)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_load_keeps_values_and_puts_channels_last():
    images = np.random.default_rng(0).random((6, 3, 4, 4), dtype=np.float32)
    batch = load_images(images, np.array([4, 1]), CPU)
    np.testing.assert_array_equal(batch, images[[4, 1]])
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_batches_are_drawn_one_ahead_in_order_and_all():
    begun = [Event() for _ in range(5)]

    def see(number):
        begun[number].set()
        return torch.tensor(number), torch.tensor(number)

    seen = []
    for batch, _ in one_ahead(partial(see, k) for k in range(5)):
        seen.append(int(batch))
        assert begun[min(len(seen), 4)].wait(10)
        assert not any(event.is_set() for event in begun[len(seen) + 1 :])
    assert seen == list(range(5))
    assert list(one_ahead([])) == []


def test_what_fails_in_drawing_ahead_ends_the_training():
    def see():
        raise InputError("no galaxy 1")

    with pytest.raises(InputError, match="no galaxy 1"):
        list(one_ahead([see]))


def test_half_of_the_threads_are_left_and_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with suppress(KeyError), half_the_threads():
            assert torch.get_num_threads() == 2
            raise KeyError
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=4).filter(lambda s: len(s) != 3),
    turned=st.booleans(),
)
def test_dense_keeps_values_and_puts_channels_of_images_last(shape, turned):
    given = torch.rand(shape)
    given = given.transpose(-2, -1) if turned else given
    packed = dense(given)
    torch.testing.assert_close(packed, given, rtol=0, atol=0)
    images = len(shape) == 4
    layout = torch.channels_last if images else torch.contiguous_format
    assert packed.is_contiguous(memory_format=layout)


@given(
    rows=st.integers(1, 50),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_what_fits_is_counted_in_bytes(rows, shape, dtype):
    example = torch.zeros([1, *shape], dtype=dtype)
    size = example.numpy().nbytes * rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "RESIDENT_BYTES", size)
        assert fits_on_device(rows, example)
        patch.setattr(loader, "RESIDENT_BYTES", size - 1)
        assert not fits_on_device(rows, example)


def test_half_of_what_is_free_is_filled(monkeypatch):
    gib = 1024**3
    free = SimpleNamespace(available=5 * gib)
    monkeypatch.setattr(loader.psutil, "virtual_memory", lambda: free)
    assert resident_bytes(CPU) == 2.5 * gib
    free.available = 500 * gib  # of which a job may have a small part
    assert resident_bytes(CPU) == loader.RESIDENT_BYTES
    gpu = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", {gpu: (70 * gib, 80 * gib)}.get)
    monkeypatch.setattr(torch.cuda, "memory_reserved", {gpu: 9 * gib}.get)
    monkeypatch.setattr(torch.cuda, "memory_allocated", {gpu: 1 * gib}.get)
    assert resident_bytes(gpu) == 39 * gib


def test_the_images_that_the_paper_learns_from_are_kept():
    rows = round(0.75 * 18_568)
    assert 4 * 5 * 128**2 * rows < loader.RESIDENT_BYTES


@pytest.mark.parametrize("family", ["cnn", "starlet"])
@pytest.mark.parametrize("front_batch", [1, 16, 500])
def test_scaled_images_are_those_of_the_front_kept_or_streamed(monkeypatch, family, front_batch):
    monkeypatch.setattr(loader, "FRONT_BATCH", front_batch)
    front, images = network(family=family).front, Recorder()
    kept = scaled_images(front, images, TRAIN, CPU)
    monkeypatch.setattr(loader, "RESIDENT_BYTES", 0)
    streamed = scaled_images(front, images, TRAIN, CPU)
    some = TRAIN[[7, 3, 100, 3]]
    expected = front(torch.from_numpy(images.images[some]))
    images.asked.clear()
    torch.testing.assert_close(kept(some), expected)
    assert images.asked == []
    torch.testing.assert_close(streamed(some), expected)
    (asked,) = images.asked
    np.testing.assert_array_equal(asked, some)


class Numbered:
    """Fresh views, each brighter than the one before, which remember what was asked for."""

    def __init__(self):
        self.images, self.labels, self.asked, self.made = [], [], [], []

    def __call__(self, rows):
        seen = sum(map(len, self.asked))
        self.asked.append(np.array(rows))
        brighter = torch.arange(seen + 1, seen + 1 + len(rows))[:, None, None, None]
        self.images.append(brighter * torch.from_numpy(Recorder().images[rows]))
        self.labels.append(torch.tensor(D[rows] + seen, dtype=torch.float32))
        made = rows, self.images[-1], self.labels[-1]
        return partial(self.see, *made)

    def see(self, rows, images, labels):
        self.made.append(rows)
        return images, labels


@pytest.mark.parametrize("family", ["cnn", "starlet"])
@pytest.mark.parametrize("views", [1, 3])
def test_kept_views_are_what_the_front_gives_of_each_in_order(family, views):
    fresh, net = Numbered(), network(family=family, head="gaussian")
    kept, labels, _ = keep_views(net, fresh, TRAIN, views)
    np.testing.assert_array_equal(np.concatenate(fresh.asked), np.tile(TRAIN, views))
    torch.testing.assert_close(kept, net.front(torch.cat(fresh.images)))
    torch.testing.assert_close(labels, torch.cat(fresh.labels), rtol=0, atol=0)
    assert dense(kept) is kept


def test_more_views_come_after_the_others_and_change_none():
    net, more = network(family="starlet", head="gaussian"), Numbered()
    alone = keep_views(net, Numbered(), TRAIN, 2)
    both = keep_views(net, Numbered(), TRAIN, 2, (more, TRAIN[:5]))
    np.testing.assert_array_equal(both.rows, [*TRAIN, *TRAIN, *TRAIN[:5], *TRAIN[:5]])
    number = len(alone.rows)
    assert torch.equal(both.scaled[:number], alone.scaled)
    assert torch.equal(both.labels_mpc[:number], alone.labels_mpc)
    torch.testing.assert_close(both.scaled[number:], net.front(torch.cat(more.images)))
    assert torch.equal(both.labels_mpc[number:], torch.cat(more.labels))


@pytest.mark.parametrize("resident_bytes", [0, loader.RESIDENT_BYTES])
def test_more_rows_are_scaled_as_the_others(monkeypatch, resident_bytes):
    monkeypatch.setattr(loader, "RESIDENT_BYTES", resident_bytes)
    front, images = network().front, Recorder()
    both = scaled_images(front, images, TRAIN[:20], CPU, TRAIN[20:50])
    rows = TRAIN[15:45]
    torch.testing.assert_close(both(rows), front(load_images(images, rows, CPU)))


@given(rows=st.integers(1, 20), views=st.integers(1, 4), at_once=st.integers(1, 12))
def test_a_row_is_read_for_all_its_views_before_the_rows_behind_it(rows, views, at_once):
    """So that its raw image is still in memory: of the rows between, there are few."""
    fresh = Numbered()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "FRONT_BATCH", at_once)
        keep_views(network(family="starlet", head="gaussian"), fresh, TRAIN[:rows], views)
    assert sum(map(len, fresh.made)) == rows * views
    # a piece at the end of a view goes on with the first rows of the next
    order = [int(np.flatnonzero(piece[0] == TRAIN)[0]) for piece in fresh.made]
    assert order == sorted(order)


def test_what_takes_long_is_shown_and_what_does_not_is_not(monkeypatch, capsys):
    net = network()
    for delay, shown in ((2, False), (0, True)):
        monkeypatch.setattr("peculiar.core.progress.SILENT_S", delay)
        keep_views(net, Views(), TRAIN[:20], 1)
        assert ("making views" in capsys.readouterr().err) == shown
        scaled_images(net.front, Recorder(), TRAIN, CPU)
        assert ("scaling images" in capsys.readouterr().err) == shown
        run_network(net, Recorder(), TEST, CPU, "predicting")
        assert ("predicting" in capsys.readouterr().err) == shown
        run_network(net, Recorder(), TEST, CPU)
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("rows", "free_gib", "words"),
    [
        (2 * 3 * 1024**2, 4, "need 3 GiB of memory (cpu), of which 2 may be used"),
        (2 * 3 * 1024**2, 4, "(docs/cluster.md): free 6 GiB of memory to keep them"),
        (2 * 7 * 1024**2, 64, "need 7 GiB of memory (cpu), of which 6 may be used"),
        (2 * 7 * 1024**2, 64, "(docs/cluster.md): take a smaller crop to keep them"),
    ],
)
def test_what_does_not_fit_says_how_much_it_needs(monkeypatch, rows, free_gib, words):
    free = SimpleNamespace(available=free_gib * 1024**3)
    monkeypatch.setattr(loader.psutil, "virtual_memory", lambda: free)
    said = loader.streamed(rows, torch.zeros(1, 2, 8, 8))
    assert words in said
    assert said.startswith(f"{rows} images need")


def test_images_that_are_streamed_say_so(monkeypatch, capsys):
    scaled_images(network().front, Recorder(), TRAIN, CPU)
    assert "files" not in capsys.readouterr().err
    monkeypatch.setattr(loader, "RESIDENT_BYTES", 0)
    scaled_images(network().front, Recorder(), TRAIN, CPU)
    (line,) = capsys.readouterr().err.splitlines()
    assert "they are read from their files again in each epoch" in line


@pytest.mark.parametrize("family", ["cnn", "starlet"])
def test_kept_views_do_not_depend_on_how_many_are_made_at_once(monkeypatch, family):
    net = network(family=family, head="gaussian")
    kept = []
    for front_batch in (16, 50, 1000):
        monkeypatch.setattr(loader, "FRONT_BATCH", front_batch)
        kept.append(keep_views(net, Views(), TRAIN, 2))
    for pair in kept[1:]:
        torch.testing.assert_close(pair[:2], kept[0][:2])


def test_a_network_can_learn_from_kept_views():
    """They were made without gradients, and must not forbid them."""
    net = network(family="starlet", head="gaussian")
    kept, labels, _ = keep_views(net, Views(), TRAIN, 1)
    net.learn(kept[torch.arange(9)], labels[torch.arange(9)])[0].backward()
    assert net.bodies[0][0].weight.grad.abs().max() > 1e-6


def test_views_that_do_not_fit_are_refused_before_more_are_made(monkeypatch):
    fresh, size = Numbered(), 2 * len(TRAIN) * 8 * 8 * 4
    monkeypatch.setattr(loader, "RESIDENT_BYTES", size)
    assert len(keep_views(network(), fresh, TRAIN, 2).rows) == 2 * len(TRAIN)
    monkeypatch.setattr(loader, "RESIDENT_BYTES", size - 1)
    fresh.made.clear()
    sentence = (
        f"params.yaml: train: 2 views of 140 images need more than {(size - 1) / 1024**3:.3g} GiB: "
        "take fewer views, a smaller crop, or null for new ones each epoch"
    )
    with pytest.raises(InputError, match=re.escape(sentence)):
        keep_views(network(), fresh, TRAIN, 2)
    assert len(fresh.made) <= 2  # one is drawn ahead


def test_all_threads_are_back_after_views_are_kept():
    before = torch.get_num_threads()
    during = []
    torch.set_num_threads(4)
    try:
        front = torch.nn.Identity()
        front.register_forward_hook(lambda *_: during.append(torch.get_num_threads()))
        net = network()
        net.front = front
        keep_views(net, Views(), TRAIN[:20], 1)
        assert during == [2, 2]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_a_survey_has_the_first_images_of_each_training_galaxy(observed):
    """Validation and test stay as they are, and so does the dataset given."""
    before = np.asarray(observed.table["split"]).copy()
    assert first_images(observed, None) is observed
    once = first_images(observed, 1)
    camera = np.asarray(observed.table["camera"])
    expected = np.where((before == "train") & (camera > 0), "unused", before)
    assert np.asarray(once.table["split"]).tolist() == expected.tolist()
    assert (expected == "unused").any()
    assert np.asarray(observed.table["split"]).tolist() == before.tolist()
    ids = np.asarray(observed.table["galaxy"])
    assert len(once.rows("train")) == len(np.unique(ids[before == "train"]))
    for split in ("validation", "test"):
        assert once.rows(split).tolist() == observed.rows(split).tolist()
