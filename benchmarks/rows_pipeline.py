"""DVC with nothing to do, the start-up of each stage, and MLflow's share of a training."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from measuring import Machine, Timing, Work, by_turns

from peculiar.core.survey import Survey, Uniform
from peculiar.networks.heads import Network
from peculiar.runs import logged, tracking
from peculiar.runs.blueprint import Blueprint

GROUP = "pipeline"
STAGES = ("fetch", "observe", "search", "train", "evaluate", "nulls", "promote")
SHARE = 0.02  # of a training, that its records may take
# a paper's CNN by default: 20 epochs of 1,300 images at this rate, images/s
EPOCHS, IMAGES, RATE = 20, 1300, 1500.0


def command(*arguments: str, folder: Path | None = None) -> Callable[[], None]:
    """A fresh process of this interpreter."""

    def run() -> None:
        environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")

    return run


def matrix_pipeline(folder: Path, items: int) -> None:
    """A repository whose one stage has this number of matrix items, all done."""
    folder.mkdir()
    (folder / "given.txt").write_text("given\n")
    stage = {
        "matrix": {"item": [f"i{k}" for k in range(items)]},
        "cmd": "echo ${item.item} > out-${item.item}.txt",
        "deps": ["given.txt"],
        "outs": ["out-${item.item}.txt"],
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"many": stage}}))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    for arguments in (("init", "-q"), ("config", "core.analytics", "false"), ("repro", "-q")):
        command("-m", "dvc", *arguments, folder=folder)()


def rows(_: Machine, repeats: int, quick: bool, device: torch.device) -> Iterator[Timing]:
    """Seconds; less is better."""
    del device
    repeats = min(repeats, 3)
    with tempfile.TemporaryDirectory() as name:
        competitors = {}
        for items in (3,) if quick else (10, 60):
            folder = Path(name) / str(items)
            matrix_pipeline(folder, items)
            competitors[f"ours, {items} items"] = command("-m", "dvc", "repro", folder=folder)
        competitors["dvc --version"] = command("-m", "dvc", "--version")
        yield from by_turns(
            Work(GROUP, "dvc repro with nothing to do", "s", 1, competitors), repeats, warm=False
        )
    imports = {"ours, " + stage: command("-c", f"import peculiar.{stage}") for stage in STAGES}
    imports |= {
        name: command("-c", f"import {name}")
        for name in ("torch", "torchvision", "mlflow", "numpy")
    }
    yield from by_turns(Work(GROUP, "imports of a stage", "s", 1, imports), repeats)
    yield from mlflow_rows(5 if quick else 50)


def mlflow_rows(epochs: int) -> Iterator[Timing]:
    """What one run and one epoch cost, beside the training that they record."""
    here, training = Path.cwd(), EPOCHS * IMAGES / RATE
    server = os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            parts = measured_parts(Path(name), epochs)
        finally:
            os.chdir(here)
            if server is not None:
                os.environ["MLFLOW_TRACKING_URI"] = server
    for part, (seconds, times) in parts.items():
        share = times * float(np.median(seconds)) / training
        note = f"{100 * share:.2g} % of {EPOCHS} epochs of {IMAGES} images at {RATE:.0f}/s"
        median, low, high = float(np.median(seconds)), min(seconds), max(seconds)
        yield Timing(
            GROUP, "MLflow", part, "s", median, low, high, SHARE / share, note=note, aim=1.0
        )


def measured_parts(folder: Path, epochs: int) -> dict[str, tuple[list[float], int]]:
    """Seconds of each call, and how often a run makes it."""
    found: dict[str, list[float]] = {"start and end of a run": [], "an epoch": [], "a model": []}
    experiment = tracking.connect(folder / "mlruns")
    for number in range(3):
        start = time.perf_counter()
        logging = 0.0
        params: dict[str, Any] = {"seed": number}
        with tracking.run(experiment, f"run {number}", params=params) as run_id:
            for epoch in range(1, epochs + 1):
                row = {"epoch": epoch, "train_l2_mpc": 1.0, "validation_l2_mpc": 1.0}
                log = partial(tracking.log_curves, run_id, [row])
                logging += timed(found["an epoch"], log)
            log_model = partial(logged.log_model, *described())
            logging += timed(found["a model"], log_model)
        found["start and end of a run"].append(time.perf_counter() - start - logging)
    times = {"start and end of a run": 1, "an epoch": EPOCHS, "a model": 1}
    return {part: (seconds, times[part]) for part, seconds in found.items()}


def described() -> tuple[Network, Blueprint]:
    """A network of the paper, with all that is needed to build it again."""
    from rows_training import PIXELS, network_of, spec_of

    spec = spec_of("cnn2")
    network = network_of(spec)
    survey = Survey(
        dataset="uniform",
        source="benchmark",
        distances=Uniform(distribution="uniform", min_mpc=50, max_mpc=100),
        bands=("u", "g", "r", "i", "z"),
        pixels=PIXELS,
        pixel_scale_arcsec=1.36,
        dimming="physical",
        instrument=None,
        H0_kms_mpc=70,
        sigma_v_kms=400,
        split_by="galaxy",
    )
    return network, Blueprint.of(network, survey, spec, seed=1, sigma_D_mpc=5.0)


def timed(into: list[float], call: Callable[[], object]) -> float:
    """Seconds of a call, noted too."""
    start = time.perf_counter()
    call()
    into.append(time.perf_counter() - start)
    return into[-1]


def profile() -> str:
    """Where the time of logging a model goes, s."""
    import cProfile
    import pstats

    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            experiment = tracking.connect(Path(name) / "mlruns")
            with tracking.run(experiment, "profile", params={}):
                logged.log_model(*described())
                profiler = cProfile.Profile()
                profiler.runcall(logged.log_model, *described())
        finally:
            os.chdir(here)
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    wanted = (
        "write_",
        "create_logged",
        "finalize_logged",
        "log_outputs",
        "log_model_artifacts",
    )
    spent = {
        f"{Path(file).stem}.{name}": cumulative
        for (file, _, name), (_, _, _, cumulative, _) in stats.items()
        if any(name.startswith(w) for w in wanted) and cumulative > 0.05
    }
    parts = ", ".join(
        f"{name} {s:.2f}" for name, s in sorted(spent.items(), key=lambda x: -x[1])[:8]
    )
    return f"logging a model, s (a part holds those it calls): {parts}"
