"""What is kept is what would be made, or it is made again."""

import json
from pathlib import Path

import pytest

from peculiar.core.once import remembered


@pytest.fixture
def path(tmp_path):
    return tmp_path / "below" / "kept.json"


def counted(value):
    made = []

    def make():
        made.append(value)
        return value

    return make, made


@pytest.mark.parametrize("value", ["a", 1.1, [0.1 + 0.2, None], {"a": [1, 2]}])
def test_it_is_made_once_for_a_key(path, value):
    make, made = counted(value)
    assert [remembered(path, ["key", 1], make) for _ in range(3)] == [value] * 3
    assert len(made) == 1
    assert [file.name for file in path.parent.iterdir()] == ["kept.json"]


def test_another_key_has_another_value(path):
    for key in (["a", 1], ["a", 2], ["a"], "a", ["a", 1]):
        assert remembered(path, key, lambda key=key: key) == key


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda text: text[: len(text) // 2],
        lambda _: "[]",
        lambda text: json.dumps(json.loads(text) | {"value": "wrong"}),
        lambda text: json.dumps({"key": json.loads(text)["key"]}),
    ],
)
def test_what_is_damaged_is_made_again(path, damage):
    make, made = counted("right")
    remembered(path, 1, make)
    path.write_text(damage(path.read_text()))
    assert [remembered(path, 1, make) for _ in range(2)] == ["right"] * 2
    assert len(made) == 2


def test_where_nothing_can_be_written_it_is_made_each_time(tmp_path):
    (tmp_path / "file").touch()
    make, made = counted("a")
    for _ in range(2):
        assert remembered(tmp_path / "file" / "kept.json", 1, make) == "a"
    assert len(made) == 2


def test_a_failed_write_leaves_nothing(path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert remembered(path, 1, lambda: "a") == "a"
    assert list(path.parent.iterdir()) == []
