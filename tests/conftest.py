"""What several tests share: one thread, the Hypothesis profile, tiny data sets."""

import json
import os
import shutil
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import torch
import yaml
from astropy.table import QTable
from hypothesis import settings

from builders.pipeline import clone, dvc, run_stages, tiny_params, write_params
from builders.surveys import survey_meta
from peculiar.core.dataset import OBSERVED_COLUMNS, RAW_COLUMNS, Observed, write_table
from peculiar.core.files import files_sha256
from peculiar.core.photometry import surface_brightness
from peculiar.core.shard import ShardWriter

ROOT = Path(__file__).resolve().parents[1]
MEMORY = Path("/dev/shm")

# On a disk, half of the time is spent waiting for it: databases and DVC write through to it often.
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 8 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

torch.set_num_threads(1)
settings.register_profile("peculiar", deadline=None, max_examples=30)
settings.load_profile("peculiar")


@pytest.fixture(scope="session")
def params_file():
    """The shipped params.yaml."""
    return ROOT / "params.yaml"


@pytest.fixture(scope="session")
def _parsed(params_file):
    return yaml.safe_load(params_file.read_text())


@pytest.fixture
def shipped(_parsed):
    """The shipped params.yaml as plain values, to be changed at will."""
    return json.loads(json.dumps(_parsed))  # a copy that shares nothing, as YAML's anchors do


@pytest.fixture(scope="session")
def reference():
    """The folder of the paper's tables."""
    folder = ROOT.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip(f"no tables of the paper at {folder}")
    return folder


@pytest.fixture(scope="session")
def observed_folder(tmp_path_factory):
    """60 galaxies x 4 cameras of 2 x 8 x 8 pixels, whose brightness tells the distance."""
    folder = tmp_path_factory.mktemp("observed")
    rng = np.random.default_rng(0)
    galaxy = np.repeat(np.arange(100, 160), 4)
    n = len(galaxy)
    distance, velocity = rng.uniform(50, 100, n), rng.normal(0, 400, n)
    table = QTable()
    table["galaxy"] = galaxy
    table["camera"] = np.tile(np.arange(4), 60)
    table["distance_mpc"] = distance * u.Mpc
    table["velocity_kms"] = velocity * u.km / u.s
    table["distance_z_mpc"] = (distance + velocity / 70) * u.Mpc
    table["split"] = np.repeat(["train", "validation", "test"], [140, 40, 60])
    table.meta = survey_meta()
    level = np.sinh(distance / 50)[:, None] * [surface_brightness(24, band) for band in "gr"]
    noise = rng.normal(1, 0.02, (n, 2, 8, 8))
    with ShardWriter(folder, n, per_shard=100) as shards:
        for image in (level[..., None, None] * noise).astype(np.float32):
            shards.append(image)
    write_table(table, folder, OBSERVED_COLUMNS)
    return folder


@pytest.fixture(scope="session")
def observed(observed_folder):
    """The data set of `observed_folder`, open."""
    return Observed.read(observed_folder)


@pytest.fixture(scope="session")
def raw_folder(tmp_path_factory):
    """12 galaxies x 2 cameras x 3 bands x 24^2 pixels, as `fetch` writes them."""
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(1)
    table = QTable()
    unknown = np.full(12, np.nan)
    table["id"] = np.arange(12) * 7 + 3
    table["log10_stellar_mass"] = rng.uniform(10, 12, 12)
    table["half_mass_radius_kpc"] = unknown * u.kpc
    table["absolute_mag"] = np.full((12, 3), np.nan) * u.mag
    table["mag_ab"] = np.full((12, 2, 3), np.nan) * u.mag
    table["kpc_per_pixel"] = rng.uniform(0.5, 2, (12, 2)) * u.kpc
    table["pixel_scale_arcsec"] = unknown * u.arcsec
    table["cz_kms"] = table["cz_flow_kms"] = unknown * u.km / u.s
    table["centre_offset"] = np.zeros((12, 2)) * u.pix
    table["source"] = ["test"] * 12
    table["sha256"] = ["0"] * 12
    table.meta = {"bands": ["g", "r", "i"], "source": "test galaxies"}
    with ShardWriter(folder, 12, per_shard=5) as shards:
        for image in rng.random((12, 2, 3, 24, 24), dtype=np.float32):
            shards.append(image)
    write_table(table, folder, RAW_COLUMNS)
    return folder


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory):
    """Folder in which all stages have run on a tiny stand-in, to a champion.

    A test that changes data or results copies them.
    """
    folder = tmp_path_factory.mktemp("pipeline")
    run_stages(folder, tiny_params())
    before = [files_sha256(folder / name) for name in ("data", "results")]
    yield folder
    after = [files_sha256(folder / name) for name in ("data", "results")]
    assert after == before, f"a test changed {folder}"


@pytest.fixture(scope="session")
def dask_scheduler():
    """Address of a scheduler on loopback with one worker, a process of two threads."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Headless Chromium."""
    from builders.browser import chromium

    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="session")
def dvc_folder(tmp_path_factory):
    """A clone in which `dvc repro` has run on a tiny stand-in, to a champion."""
    folder = tmp_path_factory.mktemp("dvc") / "peculiar"
    clone(folder)
    write_params(tiny_params(), folder)
    dvc(folder, "repro")
    return folder


@pytest.fixture
def predicted():
    """Distances and velocities of 50 galaxies, true and predicted."""
    rng = np.random.default_rng(0)
    D, v = rng.uniform(50, 100, 50), rng.normal(0, 400, 50)
    D_p = D + rng.normal(0, 5, 50)
    return {
        "D_mpc": D,
        "D_z_mpc": D + v / 70,
        "D_p_mpc": D_p,
        "v_kms": v,
        "v_p_kms": v + 70 * (D - D_p),
        "v_hat_kms": v / 2,
    }
