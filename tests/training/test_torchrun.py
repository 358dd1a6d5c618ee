"""Two processes of torchrun beside one, on the tiny pipeline's data."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from builders.pipeline import ENVIRONMENT, ROOT, inside, tiny_params, write_params
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


def torchrun(folder, network, processes=2):
    """Train a network of `params.yaml` as docs/cluster.md says."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "-m",
        "peculiar.pipeline.train",
        "--dataset",
        "uniform",
        "--network",
        network,
    ]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    limit = threading.Timer(240, os.killpg, [process.pid, signal.SIGKILL])
    limit.start()
    out, err = process.communicate()
    limit.cancel()
    return process.returncode, out + err


@pytest.fixture
def folder(pipeline, tmp_path):
    """Data of the tiny pipeline, with runs of its own."""
    (tmp_path / "data").symlink_to(pipeline / "data")
    params = tiny_params()
    specs = params["train"]["specs"]
    specs["cnn2"] |= {"batch_norm": False, "epochs": 3}
    specs["pyramid"] |= {"members": 1, "patience": 1, "epochs": 3}
    specs["cnn3"] |= {"epochs": 1, "rounds": 2, "batch_norm": True, "batch_size": 16}
    specs["cnn3"]["layers"] = [{"filters": 4, "kernel": 3, "stride": 2}]
    write_params(params, tmp_path)
    return tmp_path


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(folder):
    with inside(folder):
        train.main(["--dataset", "uniform", "--network", "cnn2"])
    made = folder / "results/train/uniform-cnn2"
    one = load_file(made / "weights.safetensors"), json.loads((made / "run.json").read_text())
    shutil.rmtree(made)
    code, said = torchrun(folder, "cnn2")
    assert code == 0, said
    with sqlite3.connect(folder / "mlruns/mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchall() == [(2,)]
    two = load_file(made / "weights.safetensors"), json.loads((made / "run.json").read_text())
    # batches of 8 have a whole share for each; only rounding differs
    assert one[0].keys() == two[0].keys()
    for name, weights in one[0].items():
        np.testing.assert_allclose(two[0][name], weights, rtol=1e-3, atol=1e-5)
    assert two[1]["validation"]["l2_d_mpc"] == pytest.approx(one[1]["validation"]["l2_d_mpc"], 1e-4)


@pytest.mark.slow
def test_batch_norm_fresh_distances_and_patience_work_together(folder):
    code, said = torchrun(folder, "pyramid")
    assert code == 0, said
    run = json.loads((folder / "results/train/uniform-pyramid/run.json").read_text())
    assert np.isfinite(run["validation"]["l2_d_mpc"])
    with sqlite3.connect(folder / "mlruns/mlflow.db") as database:
        runs = database.execute("select name, status from runs").fetchall()
    assert runs == [("uniform-pyramid", "FINISHED")]


@pytest.mark.slow
def test_rounds_go_on_alike(folder):
    code, said = torchrun(folder, "cnn3")
    assert code == 0, said
    history = (folder / "results/train/uniform-cnn3/history.csv").read_text().splitlines()
    assert len(history) == 1 + 2
