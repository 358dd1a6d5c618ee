"""Two processes of torchrun beside one, on the tiny pipeline's data."""

import json
import sqlite3
import subprocess

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from builders.pipeline import ENVIRONMENT, ROOT, inside, tiny_params, write_params
from builders.processes import started
from peculiar.core.errors import InputError
from peculiar.pipeline import train
from peculiar.training import torchrun as ranks

pytestmark = pytest.mark.xdist_group("pipeline")
CPU = torch.device("cpu")


def test_one_process_learns_as_if_nothing_was_there():
    rng = np.random.default_rng(0)
    pieces = [np.arange(3), np.arange(1)]
    assert (ranks.rank(), ranks.world_size()) == (0, 1)
    assert [list(piece) for piece in ranks.shares(pieces)] == [[0, 1, 2], [0]]
    assert ranks.own_stream(rng) is rng
    assert ranks.summed(2.5, CPU) == ranks.agreed(2.5, CPU) == 2.5
    values = np.array([1.0, 2.0])
    assert ranks.agreed_values(values, CPU) is values


@given(sizes=st.lists(st.integers(0, 40), max_size=5), among=st.integers(2, 5))
def test_shares_are_equal_disjoint_and_leave_out_less_than_a_share_each(sizes, among):
    pieces = [np.arange(size) + 100 * k for k, size in enumerate(sizes)]
    kept = [piece for piece in pieces if len(piece) >= 2 * among]
    assume(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "world_size", lambda: among)
        of = []
        for number in range(among):
            patch.setattr(ranks, "rank", lambda number=number: number)
            of.append(ranks.shares(pieces))
    assert all(len(own) == len(kept) for own in of)
    for k, piece in enumerate(kept):
        together = np.concatenate([own[k] for own in of])
        assert len({len(own[k]) for own in of}) == 1
        assert len(set(together)) == len(together) > len(piece) - among
        assert set(together) <= set(piece)


def test_batches_too_small_to_share_are_one_sentence(monkeypatch):
    monkeypatch.setattr(ranks, "world_size", lambda: 5)
    monkeypatch.setattr(ranks, "rank", lambda: 0)
    with pytest.raises(InputError, match="no batch has 2 images for each of 5 processes: raise th"):
        ranks.shares([np.arange(8), np.arange(9)])


def test_more_processes_than_gpus_is_one_sentence(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with (
        pytest.raises(InputError, match="--nproc-per-node is more than the 2 GPUs"),
        ranks.joined(),
    ):
        pass


def torchrun(folder, network):
    """Train one network of `params.yaml` in two processes, as docs/cluster.md says.

    Each has its own launch: processes that begin a second training can wait for each other for
    ever.
    """
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    train = ["-m", "peculiar.pipeline.train", "--dataset", "uniform", "--network", network]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src")}
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with started(*launch, *train, cwd=folder, env=environment, **said) as process:
        out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out


@pytest.fixture(scope="module")
def trained(pipeline, tmp_path_factory):
    """Data of the tiny pipeline, cnn2 trained by one process, and all three networks by two."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    params = tiny_params()
    specs = params["train"]["specs"]
    specs["cnn2"] |= {"batch_norm": False, "epochs": 3}
    specs["pyramid"] |= {"members": 1, "patience": 1, "epochs": 3}
    specs["cnn3"] |= {"epochs": 1, "rounds": 2, "batch_norm": True, "batch_size": 16}
    specs["cnn3"]["layers"] = [{"filters": 4, "kernel": 3, "stride": 2}]
    for folder in (one, two):
        (folder / "data").symlink_to(pipeline / "data")
        write_params(params, folder)
    with inside(one):
        train.main(["--dataset", "uniform", "--network", "cnn2"])
    for network in ("cnn2", "pyramid", "cnn3"):
        torchrun(two, network)
    return one / "results/train", two / "results/train"


def written(folder):
    """Weights and record of a training."""
    return load_file(folder / "weights.safetensors"), json.loads((folder / "run.json").read_text())


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(trained):
    (one, alone), (two, together) = (written(folder / "uniform-cnn2") for folder in trained)
    # batches of 8 have a whole share for each; only rounding differs
    assert one.keys() == two.keys()
    for name, weights in one.items():
        np.testing.assert_allclose(two[name], weights, rtol=1e-3, atol=1e-5)
    expected = pytest.approx(alone["validation"]["l2_d_mpc"], 1e-4)
    assert together["validation"]["l2_d_mpc"] == expected


@pytest.mark.slow
def test_each_training_is_one_run(trained):
    with sqlite3.connect(trained[1].parents[1] / "mlruns/mlflow.db") as database:
        runs = database.execute("select name, status from runs order by name").fetchall()
    assert runs == [(f"uniform-{name}", "FINISHED") for name in ("cnn2", "cnn3", "pyramid")]


@pytest.mark.slow
def test_batch_norm_fresh_distances_and_patience_work_together(trained):
    _, run = written(trained[1] / "uniform-pyramid")
    assert np.isfinite(run["validation"]["l2_d_mpc"])


@pytest.mark.slow
def test_rounds_go_on_alike(trained):
    history = (trained[1] / "uniform-cnn3/history.csv").read_text().splitlines()
    assert len(history) == 1 + 2
