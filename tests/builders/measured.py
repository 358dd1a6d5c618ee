"""A pipeline as if its galaxies were real."""

import json
import shutil
from pathlib import Path

from builders.nulls import nulls_of_real, write_nulls
from builders.pipeline import inside, tiny_params, write_params
from builders.surveys import MEASURED
from peculiar.core.dataset import OBSERVED_COLUMNS, read_table, write_table
from peculiar.pipeline import evaluate
from peculiar.runs import logged, stored, tracking

NETWORKS = ("cnn2", "pyramid", "starlet", "best")


def resurvey(trained_at, survey, **changes):
    """Change what a run and its logged model say of their images, as if trained on such."""
    path = trained_at / "run.json"
    run = json.loads(path.read_text())
    (plan,) = Path("mlruns").rglob(
        f"{run['model_uri'].removeprefix('models:/')}/**/{stored.NETWORK}"
    )
    blueprint = json.loads(plan.read_text())
    for said in (run, blueprint):
        said["survey"] |= survey
    plan.write_text(json.dumps(blueprint))
    tracking.connect()
    changes["model_sha256"] = logged.model_sha256(run["model_uri"])
    path.write_text(json.dumps(run | changes))


def as_measured(pipeline, folder):
    """A copy of the pipeline as if its images were of real galaxies, evaluated and tested."""
    shutil.copytree(pipeline, folder)
    params = tiny_params()
    params["train"]["datasets"] = ["measured"]
    write_params(params, folder)
    observed = folder / "data/observe"
    (observed / "uniform").rename(observed / "measured")
    table = read_table(observed / "measured", OBSERVED_COLUMNS)
    table.meta |= {"distances": MEASURED, "dataset": "measured"}
    (observed / "measured/table.ecsv").unlink()
    write_table(table, observed / "measured", OBSERVED_COLUMNS)
    for name in NETWORKS:
        trained_at = folder / f"results/train/measured-{name}"
        trained_at.with_name(f"uniform-{name}").rename(trained_at)
        # this copy has no true velocities, so v = 0 must not be a baseline
        changes = {"zero_rms_kms": 1.0, "data": {"data/observe/measured": "0.dir"}}
        with inside(folder):
            resurvey(trained_at, {"dataset": "measured", "distances": MEASURED}, **changes)
    with inside(folder):
        evaluate.main([])
    write_nulls(folder, nulls_of_real)
