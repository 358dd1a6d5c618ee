"""A pipeline as if its galaxies were real."""

import json
import shutil

from builders.nulls import nulls_of_real, write_nulls
from builders.pipeline import inside, tiny_params, write_params
from builders.surveys import MEASURED
from peculiar.core.dataset import OBSERVED_COLUMNS, read_table, write_table
from peculiar.pipeline import evaluate

NETWORKS = ("cnn2", "pyramid", "starlet", "best")


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
        run = json.loads((trained_at / "run.json").read_text())
        # this copy has no true velocities, so v = 0 must not be a baseline
        run["survey"] |= {"dataset": "measured", "distances": MEASURED}
        run["zero_rms_kms"] = 1.0
        run["data"] = {"data/observe/measured": "0.dir"}
        (trained_at / "run.json").write_text(json.dumps(run))
    with inside(folder):
        evaluate.main([])
    write_nulls(folder, nulls_of_real)
