"""A pipeline small enough to run within a test: 80 stand-in galaxies of 32 pixels."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

ROOT = Path(__file__).resolve().parents[2]


def tiny_params(bands: str = "griz") -> dict[str, Any]:
    """The shipped parameters, reduced in size."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["fetch"]["bands"] = list(bands)
    params["fetch"]["shard_galaxies"] = 32
    params["fetch"]["standin"] |= {
        "galaxies": 80,
        "pixels": 80,
        "particle_mass_msun": 2e7,
        "resolution_factor": 1.0,
        "log10_mass_max": 10.15,
        "size_scatter": 0.3,
    }
    params["observe"] |= {"datasets": ["uniform"], "pixels": 32, "pixel_scale_arcsec": 5.44}
    params["observe"] |= {"psf_fwhm_arcsec": 10.88}
    params["observe"]["split"] |= {"train": 0.5, "validation": 0.25, "test": 0.25}
    params["search"] |= {"trials": 2, "epochs": 1}
    params["search"]["space"] |= {"depth": [2, 3], "stride": [1, 2], "filters": [4, 8]}
    params["train"]["networks"] = ["cnn2", "pyramid", "starlet"]
    params["train"]["best"] |= {"epochs": 2, "batch_size": 8}
    cnn2 = params["train"]["specs"]["cnn2"]
    cnn2 |= {"epochs": 12, "learning_rate": 3e-3, "batch_norm": True, "batch_size": 8}
    cnn2["layers"] = [{"filters": 8, "kernel": 5, "stride": 2}] * 2
    pyramid = params["train"]["specs"]["pyramid"]
    pyramid |= {"epochs": 2, "members": 2, "batch_size": 8, "hidden": 8, "crop": None}
    pyramid["layers"] = [{"filters": 8, "kernel": 3, "stride": 2}] * 2
    params["train"]["specs"]["starlet"] |= {"epochs": 2, "views": 2, "batch_size": 8, "hidden": 8}
    params["evaluate"]["bootstrap"] = 20
    params["nulls"] |= {"scenes": 8, "unseen": 10, "epochs": 1, "galaxies": 2, "distances": 1}
    # so few galaxies and epochs decide nothing, and some network must be promoted
    params["nulls"] |= {"pixels": [48], "limits": {"r": 1.1, "change_mpc": 99, "change_of_l2": 9}}
    params["promote"]["bootstrap"] = 500
    return params


def write_params(params: dict[str, Any], folder: Path) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Stages read and write below the working folder."""
    with contextlib.chdir(folder):
        yield


class Here:
    """An executor that runs a task in this process, when it is submitted."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(task(*arguments))
        return done


def run_stages(folder: Path, params: dict[str, Any]) -> None:
    """All stages in order, in this process, without DVC.

    Processes of a stage would import torch anew; under DVC, `dvc_folder`, they are started.
    """
    from peculiar import parallel
    from peculiar.pipeline import evaluate, fetch, nulls, observe, promote, search, train

    write_params(params, folder)
    with inside(folder), mock.patch.object(parallel, "ProcessPoolExecutor", Here):
        fetch.main([])
        observe.main(["--dataset", "uniform"])
        search.main([])
        for network in (*params["train"]["networks"], "best"):
            train.main(["--dataset", "uniform", "--network", network])
        evaluate.main([])
        nulls.main([])
        promote.main([])


def clone(folder: Path) -> None:
    """A checkout of the working tree with a new history, for runs of DVC."""
    folder.mkdir(exist_ok=True)
    for name in (".gitignore", ".dvcignore", "dvc.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".dvc").mkdir()
    for name in (".gitignore", "config"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    identity = {
        f"GIT_{who}_{what}": "test@localhost"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True, env=os.environ | identity)


# folders of the user's work
for other in ("MLFLOW_TRACKING_URI", "PECULIAR_HOME", "DASK_SCHEDULER_ADDRESS"):
    os.environ.pop(other, None)
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": "src",
    "OMP_NUM_THREADS": "1",
}


def python(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a module in a clone, with the clone's package."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def dvc(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return python(folder, "dvc", *arguments, check=check)
