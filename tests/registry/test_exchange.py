import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.pipeline import inside
from builders.ports import free_port
from builders.processes import answers, started, wait_until
from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError
from peculiar.pipeline import promote
from peculiar.registry import exchange, models
from peculiar.registry.champion import load_champion
from peculiar.runs import tracking
from peculiar.runs.logged import BESIDE

pytestmark = pytest.mark.xdist_group("pipeline")
MODEL = "peculiar-velocity"


@pytest.fixture(scope="module")
def exported(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "registry"
    with inside(pipeline):
        assert exchange.export(MODEL, folder) == f"wrote 1 versions of {MODEL} to {folder}"
    return folder


@pytest.fixture
def copy(exported, tmp_path):
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def predicted(folder, images):
    with inside(folder), torch.inference_mode():
        return load_champion(MODEL).network(torch.from_numpy(images)).numpy()


def test_an_export_is_plain_files_that_sha256sum_checks(exported):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", exchange.SUMS], cwd=exported, capture_output=True
    )
    assert done.returncode == 0
    assert (exported / "versions/1/run/validation.ecsv").exists()
    assert (exported / "versions/1/run/cards/version-1.md").read_text().startswith("# peculiar")
    assert not list(exported.rglob(BESIDE))


def test_another_store_has_the_same_champion_once(pipeline, exported, tmp_path):
    with inside(tmp_path):
        said = exchange.adopt(exported)
        assert said == f"imported 1 of 1 versions of {MODEL}, set 2 aliases"
        with inside(pipeline):
            tracking.connect()
            here = models.find(MODEL, "champion")
        tracking.connect()
        there = models.find(MODEL, "champion")
        assert there.description == here.description
        assert there.tags["imported_run_id"] == here.run_id
        assert {k: v for k, v in there.tags.items() if not k.startswith("imported")} == here.tags
        # it can be compared with, and is known again
        holder = promote.holder_of(MODEL, "champion")
        assert holder.run_id == here.run_id
        assert holder.validation is not None
        (event,) = models.history(MODEL)
        assert event["what"] == "import"
        assert event["history"][0]["what"] == "promote"
        again = exchange.adopt(exported)
        assert again.startswith("imported 0 of 1 versions")
        assert again.endswith("set 0 aliases; champion, champion-uniform-stand-in stay as they are")
        assert len(models.versions(MODEL)) == len(models.history(MODEL)) == 1
    images = Observed.read(pipeline / "data/observe/uniform").images[np.arange(3)]
    np.testing.assert_array_equal(predicted(tmp_path, images), predicted(pipeline, images))


def test_a_flipped_bit_a_missing_and_an_added_file_are_refused(copy, tmp_path):
    path = copy / "versions/1/model/weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        InputError, match=r"weights\.safetensors is not what was exported: export again"
    ):
        exchange.check(copy)
    path.unlink()
    with pytest.raises(InputError, match=r"weights\.safetensors is missing, or was not exported"):
        exchange.check(copy)
    path.write_bytes(content)
    exchange.check(copy)
    (copy / "more").touch()
    with pytest.raises(InputError, match="more is missing, or was not exported"):
        exchange.check(copy)
    (copy / exchange.SUMS).unlink()
    with pytest.raises(InputError, match="has no SHA256SUMS, so it is not an export"):
        exchange.adopt(copy)
    assert not (tmp_path / "mlruns").exists()


def test_a_model_that_is_not_the_promoted_one_is_refused(copy):
    """Though its sums were made anew."""
    path = copy / exchange.INDEX
    index = json.loads(path.read_text())
    index["versions"]["1"]["tags"][models.DIGEST] = "0" * 64
    path.write_text(json.dumps(index))
    sums = (copy / exchange.SUMS).read_text().splitlines()
    kept = [line for line in sums if not line.endswith(exchange.INDEX)]
    new = f"{exchange._sha256(path)}  {exchange.INDEX}"
    (copy / exchange.SUMS).write_text("\n".join([*kept, new]) + "\n")
    with pytest.raises(
        InputError,
        match=r"model is not what was promoted as version 1 of peculiar-velocity: export",
    ):
        exchange.check(copy)


def test_nothing_is_overwritten_and_nothing_is_no_export(pipeline, exported, tmp_path):
    with inside(pipeline), pytest.raises(InputError, match="exists already: name a new folder"):
        exchange.export(MODEL, exported)
    with inside(tmp_path), pytest.raises(InputError, match="there is no champion"):
        exchange.export(MODEL, tmp_path / "export")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """MLflow's tracking server on a database and artifacts of its own."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with started(*command, env=environment, **quiet) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/health"), process)
        yield url


@pytest.mark.slow
def test_a_server_takes_an_export_and_gives_it_again(
    pipeline, exported, server, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    images = Observed.read(pipeline / "data/observe/uniform").images[np.arange(3)]
    with inside(tmp_path):
        assert exchange.adopt(exported).endswith("set 2 aliases")
        there = predicted(tmp_path, images)
        exchange.export(MODEL, tmp_path / "back")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    np.testing.assert_array_equal(there, predicted(pipeline, images))
    for name in ("weights.safetensors", "MLmodel"):
        files = [folder / "versions/1/model" / name for folder in (exported, tmp_path / "back")]
        assert files[0].read_bytes() == files[1].read_bytes()
