"""The server answers as `peculiar predict` does, flags included, and ends with its process."""

import contextlib
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from builders import champions
from builders.ports import free_port
from builders.processes import answers, started, wait_until
from builders.registries import MODEL, write_registry
from peculiar.core.errors import InputError
from peculiar.predict import server
from peculiar.predict.estimate import predict_images
from peculiar.predict.view import view_images
from peculiar.registry.champion import load_champion
from peculiar.runs.validity import Validity

pytestmark = pytest.mark.xdist_group("mlflow")

VALIDITY = Validity(distance_mpc=(50, 100), mag_ab={"r": (0, 9)}, half_light_arcsec=(0, 9))
DISTRIBUTION = {"network": champions.brightness_distribution, "grid_mpc": champions.GRID}


def champion_of(**changes):
    return champions.mean_champion(**({"pixels": 16, "validity": VALIDITY} | changes))


def images_of(champion):
    """A smooth image, a constant one, an empty one, and one with a bad pixel."""
    y, x = np.mgrid[-1 : 1 : champion.pixels * 1j, -1 : 1 : champion.pixels * 1j]
    smooth = np.exp(-8 * (x**2 + y**2)) * 1e-7
    bad = smooth.copy()
    bad[3, 3] = np.nan
    planes = np.stack([smooth, np.full_like(smooth, 1e-7), np.zeros_like(smooth), bad])
    return np.repeat(planes[:, None], len(champion.bands), axis=1).astype(np.float32)


@pytest.mark.parametrize("changes", [{}, DISTRIBUTION], ids=["distances", "distributions"])
def test_answers_are_those_of_predict(changes):
    champion = champion_of(**changes)
    images = images_of(champion)
    served = server.as_pyfunc(champion).predict(images)
    views = view_images(champion, images, champion.pixel_scale_arcsec)
    table = predict_images(champion, views, np.nan)
    for row, answer in zip(table, served, strict=True):
        assert list(answer) == ["D_p", "D_error", "flags"]
        for name in ("D_p", "D_error"):
            number = np.nan if answer[name] is None else answer[name]
            np.testing.assert_array_equal(number, row[name].value)
        flags = {*row["flags"].split(", ")} - {"no_cz", "dust"} or {"ok"}
        assert {*answer["flags"].split(", ")} == flags
    json.dumps(served, allow_nan=False)
    assert "saturated" in served[1]["flags"]
    assert "brightness" in served[1]["flags"]
    assert served[3] == {"D_p": None, "D_error": None, "flags": "nan_pixels"}


def test_a_galaxy_like_those_of_the_training_is_ok():
    champion = champion_of(validity=None, network=lambda images: images.mean((1, 2, 3)) * 0 + 70)
    answer = server.as_pyfunc(champion).predict(images_of(champion))[2]
    assert answer == {"D_p": 70.0, "D_error": 5.0, "flags": "ok"}


def test_images_of_another_shape_are_refused():
    with pytest.raises(Exception, match="Shape of input"):
        server.as_pyfunc(champion_of()).predict(np.zeros((1, 2, 16, 16), np.float32))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = tmp_path_factory.mktemp("served") / "mlruns"
    write_registry(store)
    return store


@pytest.mark.parametrize("port", [None, 70_000, -1])
def test_a_port_that_cannot_be_used_is_one_sentence(store, port):
    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1] if port is None else port
        with pytest.raises(InputError, match=rf"^--port {port}: cannot be used \(.+\): give ano"):
            server.serve(MODEL, port, store)


@contextlib.contextmanager
def serving(store):
    """A server in a process of its own, when it answers; the process and its URL."""
    port = free_port()
    with started(
        *("-m", "peculiar", "serve", "--port", str(port), "--store", str(store)),
        env=os.environ | {"PYTHONPATH": str(Path(server.__file__).parents[2])},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        url = f"http://{server.HOST}:{port}"
        wait_until(lambda: answers(f"{url}/ping"), process)
        yield process, url


def ended_by(name, process, url):
    """End the command by a signal, after which nothing may answer; what it said."""
    assert psutil.Process(process.pid).children(recursive=True) == []
    process.send_signal(getattr(signal, name))
    process.wait(60)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/ping", timeout=5)
    said = process.stdout.read()
    assert "Traceback" not in said
    return said


@pytest.mark.slow
def test_served_and_local_predictions_agree(store):
    champion = load_champion(MODEL, store)
    images = images_of(champion)
    with serving(store) as (process, url):
        headers = {"Content-Type": "application/json"}

        def ask(values):
            body = json.dumps({"inputs": values.tolist()})
            return requests.post(f"{url}/invocations", data=body, headers=headers, timeout=60)

        answer, refused = ask(images), ask(images[:, :1])
        at = {
            c.laddr.ip
            for c in psutil.net_connections()
            if c.laddr and url.endswith(f":{c.laddr.port}")
        }
        ended_by("SIGTERM", process, url)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == server.Served(champion).predict(images)
    assert refused.status_code == 400
    assert at == {server.HOST}


@pytest.mark.slow
def test_ctrl_c_is_one_sentence(store):
    with serving(store) as (process, url):
        said = ended_by("SIGINT", process, url)
    assert said.endswith("peculiar: interrupted; rerun the same command to resume\n")
