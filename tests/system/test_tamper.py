"""Every file of an export is tampered with: it is refused, or what is imported is only numbers.

The digests stay as they were, or are made right again, as who wants to deceive would. The long form
has 20 of each, and imports the first 30 that are not refused: `make torture`.
"""

import random
import shutil
import sys

import numpy as np
import pytest
import torch

from builders.fuzz import check, outcome
from builders.registries import MODEL, signed_again, write_export
from peculiar.core.errors import InputError
from peculiar.registry import exchange
from peculiar.registry.champion import load_champion

pytestmark = pytest.mark.xdist_group("mlflow")
RUN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class")
RAN: list[str] = []
WATCHED: list[bool] = []


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("sender"))


@pytest.fixture
def watched():
    """Programs started and pickles read while a test runs; the hook cannot be removed."""

    def hook(event, arguments):
        if WATCHED and event in RUN:
            RAN.append(f"{event} {arguments}")

    sys.addaudithook(hook)
    RAN.clear()
    WATCHED.append(True)
    yield RAN
    WATCHED.clear()


def flip(folder, name, dice):
    content = bytearray((folder / name).read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    (folder / name).write_bytes(content)


def cut(folder, name, dice):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: dice.randrange(len(content))])


def remove(folder, name, _):
    (folder / name).unlink()


def replace(folder, name, dice):
    (folder / name).write_bytes(dice.randbytes(100))


def add(folder, name, _):
    added = folder / name
    added.with_name(f"added{added.suffix}").write_bytes(added.read_bytes())


def swap(folder, name, dice):
    others = [other for other in files_of(folder) if other != name]
    other = dice.choice(others)
    one, two = (folder / name).read_bytes(), (folder / other).read_bytes()
    (folder / name).write_bytes(two)
    (folder / other).write_bytes(one)


CHANGES = (flip, cut, remove, replace, add, swap)


def files_of(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def tampered(export, folder, name, change, seed):
    """A copy of the export in which one file, or two, are changed."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(export, folder)
    change(folder, name, random.Random(seed))
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_with_the_old_digests_every_change_is_refused(export, tmp_path, change):
    for seed, name in enumerate(files_of(export)):
        folder = tampered(export, tmp_path / "copy", name, change, seed)
        with pytest.raises(InputError) as refusal:
            exchange.adopt(folder, tmp_path / "mlruns")
        assert "\n" not in str(refusal.value)
    assert not (tmp_path / "mlruns").exists()


def deceived(folder, name):
    """Digests made right, as far as the index can be read."""
    try:
        signed_again(folder, digest="/model/" in name)
    except (ValueError, LookupError, TypeError, FileNotFoundError):
        signed_again(folder, digest=False)


@pytest.mark.parametrize(
    ("seeds", "imports"),
    [
        pytest.param(1, 2, id="short"),
        pytest.param(20, 30, id="long", marks=[pytest.mark.torture, pytest.mark.slow]),
    ],
)
def test_with_right_digests_nothing_runs_and_what_is_read_is_valid(
    export, tmp_path, watched, seeds, imports
):
    found = {}
    for change in CHANGES:
        for name in files_of(export):
            for seed in range(seeds):
                folder = tampered(export, tmp_path / "copy", name, change, seed)
                deceived(folder, name)
                case = f"{change.__name__} {name} {seed}"
                found[case] = outcome(lambda folder=folder: exchange.check(folder) and None, None)
                if found[case] == "same" and imports:
                    imports, store = imports - 1, tmp_path / f"new{len(found)}"
                    found[case] = outcome(lambda f=folder, s=store: numbers_of(f, s), True)
    check(found)
    assert watched == []


def numbers_of(folder, store):
    """Import and predict; whether the distances are on the network's grid."""
    exchange.adopt(folder, store / "mlruns")
    champion = load_champion(MODEL, store / "mlruns")
    shape = (2, len(champion.bands), champion.pixels, champion.pixels)
    with torch.inference_mode():
        p = champion.network(torch.zeros(shape)).double().numpy()
    shutil.rmtree(store)
    assert champion.grid_mpc is not None
    return bool(np.isfinite(p).all()) and p.shape == (2, len(champion.grid_mpc))
