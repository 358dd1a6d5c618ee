"""Shards on disk: few open files, and refusals of what is not what it was."""

import os
import sys

import numpy as np
import pytest

from builders.limits import few_files
from peculiar.core.dataset import Shards
from peculiar.core.errors import InputError
from peculiar.core.shard import ShardWriter


@pytest.fixture
def folder(tmp_path):
    """Six items of 2 x 3 x 4 x 4, two a shard."""
    images = np.arange(6 * 96, dtype=np.float32).reshape(6, 2, 3, 4, 4)
    with ShardWriter(tmp_path, 6, 2) as shards:
        for image in images:
            shards.append(image)
    return tmp_path


def index(shards):
    return shards[np.array([0, 3])]


def pick(shards):
    return shards.pick(np.array([0, 3]), np.array([1, 0]), middle=2)


def replaced(path):
    path.write_bytes(path.read_bytes())


def same_size_and_time(path):
    """As DVC or rsync would put back another version."""
    before, other = path.stat(), path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def cut_short(path):
    os.truncate(path, 200)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the open files in /proc")
def test_any_number_of_shards_is_read_with_two_open_files(tmp_path):
    with ShardWriter(tmp_path, 300, 1) as shards:
        for number in range(300):
            shards.append(np.full((1, 1, 2, 2), number, np.float32))
    rows = np.random.default_rng(0).permutation(300)
    with few_files(2):
        shards = Shards(tmp_path)
        np.testing.assert_array_equal(shards[rows][:, 0, 0, 0, 0], rows)
        picked = shards.pick(rows, np.zeros(300, int))
        np.testing.assert_array_equal(picked[:, 0, 0, 0], rows)


@pytest.mark.parametrize("read", [index, pick])
@pytest.mark.parametrize("change", [replaced, same_size_and_time, cut_short, os.remove])
def test_a_shard_that_changes_while_it_is_read_is_refused(folder, read, change):
    shards = Shards(folder)
    read(shards)
    change(folder / "images-001.npy")
    words = r"images-001\.npy was replaced while it was being read: run the same command again$"
    with pytest.raises(InputError, match=words):
        read(shards)


def test_a_file_that_ends_early_is_refused(folder, monkeypatch):
    """Where a network file system says that it is still complete."""
    shards = Shards(folder)
    cut_short(folder / "images-001.npy")
    monkeypatch.setattr("peculiar.core.shard._version", lambda _: shards._shards[1].version)
    with pytest.raises(InputError, match=r"images-001\.npy was replaced"):
        shards[np.array([3])]


def version_2(path):
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.zeros((2, 96), np.float32), version=(2, 0))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (version_2, r"images-001\.npy has a header of another version"),
        (lambda path: np.save(path, np.zeros((2, 2, 3, 4, 4))), "not hold float32 in C order"),
        (lambda path: np.save(path, np.asfortranarray(np.eye(3, 2, dtype="f4"))), "in C order"),
        (lambda path: np.save(path, np.float32(1)), "in C order"),
        (lambda path: np.save(path, np.array([{}])), "in C order"),
        (lambda path: os.truncate(path, 500), r"images-001\.npy lacks its last 396 bytes"),
    ],
)
def test_another_kind_of_file_is_a_damaged_shard(folder, damage, reason):
    damage(folder / "images-001.npy")
    with pytest.raises(InputError, match=rf"damaged shard \(.*{reason}\): run `dvc checkout`"):
        Shards(folder)
