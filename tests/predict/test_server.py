import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
import requests
import torch

from builders.pipeline import inside
from builders.ports import free_port
from peculiar.core.dataset import Observed
from peculiar.predict import server
from peculiar.registry.champion import load_champion
from peculiar.runs import record
from peculiar.velocity.grid import moments

pytestmark = pytest.mark.xdist_group("pipeline")


@pytest.fixture(scope="module")
def champion(pipeline):
    with inside(pipeline):
        return load_champion("peculiar-velocity")


@pytest.fixture(scope="module")
def images(pipeline):
    return Observed.read(pipeline / "data/observe/uniform").images[np.arange(5)]


def test_a_distance_is_served_with_the_champion_s_error(champion, images):
    with torch.inference_mode():
        served = server.Served(champion)(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(served[:, 0], champion.network(torch.from_numpy(images)))
    np.testing.assert_allclose(served[:, 1], champion.sigma_D_mpc, rtol=1e-6)


def test_a_distribution_is_served_as_its_moments(pipeline, champion, images, tmp_path):
    run = record.read_run(pipeline / "results/train/uniform-pyramid")
    network = record.read_network(pipeline / "results/train/uniform-pyramid", run).eval()
    pyramid = replace(champion, network=network, grid_mpc=np.array(run.grid_mpc))
    server.save(pyramid, tmp_path / "served")
    with torch.inference_mode():
        p = network(torch.from_numpy(images)).double().numpy()
        served = mlflow.pytorch.load_model(str(tmp_path / "served"))  # as MLflow's server does
        served = served(torch.from_numpy(images)).numpy()
    assert served.shape == (5, 2)
    np.testing.assert_allclose(served, np.transpose(moments(p, pyramid.grid_mpc)), rtol=1e-5)
    files = [path for path in (tmp_path / "served").rglob("*") if path.is_file()]
    assert not any(path.suffix in (".pkl", ".pth", ".py") for path in files)


@pytest.mark.slow
def test_served_and_local_predictions_agree(pipeline, champion, images):
    port = free_port()
    source = str(Path(server.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-m", "peculiar", "serve", "--port", str(port)],
        cwd=pipeline,
        env=os.environ | {"PYTHONPATH": source},
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    url = f"http://{server.HOST}:{port}"
    try:
        deadline = time.monotonic() + 100
        while True:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            try:
                if requests.get(f"{url}/ping", timeout=5).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.2)
        body = json.dumps({"inputs": images.tolist()})
        headers = {"Content-Type": "application/json"}
        answer = requests.post(f"{url}/invocations", data=body, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        served = np.array(answer.json()["predictions"])
        wrong = json.dumps({"inputs": images[:, :2].tolist()})
        refused = requests.post(f"{url}/invocations", data=wrong, headers=headers, timeout=60)
        assert refused.status_code == 400
        at = {c.laddr.ip for c in psutil.net_connections() if c.laddr and c.laddr.port == port}
        assert at == {server.HOST}
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has failed by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    with torch.inference_mode():
        D_p = champion.network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(served[:, 0], D_p, rtol=1e-5)
    np.testing.assert_allclose(served[:, 1], champion.sigma_D_mpc, rtol=1e-5)
