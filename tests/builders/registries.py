"""A store with one promoted version of a tiny network, made without training."""

import hashlib
import json

import numpy as np

from builders.networks import small, small_blueprint
from builders.records import make_run
from peculiar.core.files import files_sha256
from peculiar.registry import exchange, models
from peculiar.registry.tags import SURVEY
from peculiar.runs import logged, record, tracking
from peculiar.runs.validity import Validity

MODEL = "peculiar-velocity"
VALIDITY = Validity(
    distance_mpc=(50, 100),
    mag_ab={"g": (10, 20), "r": (10, 20)},
    half_light_arcsec=(1, 30),
    prior="flat",
)


def tags_of(run):
    """Tags of a version, of those that `promote` sets the ones that are read again."""
    return {
        "network": run.network,
        "dataset": run.survey.dataset,
        "data_source": run.survey.source,
        "data": run.data["data/observe/uniform"],
        "run_id": run.run_id,
        "comparison": "0",
        models.DIGEST: run.model_sha256,
        "validation_posterior_rms_kms": "350.5",
        "sigma_D_mpc": str(run.sigma_D_mpc),
        "grid_mpc": "" if run.grid_mpc is None else json.dumps(run.grid_mpc),
        SURVEY: run.survey.model_dump_json(),
        "validity": run.validity.model_dump_json(),
    }


def write_registry(store, **changes):
    """Log a tiny network, register it and make it champion; its run and tags."""
    changes = {"head": "gaussian", "family": "apertures", "layers": (), "hidden": 5} | changes
    blueprint = small_blueprint(validity=VALIDITY, **changes)
    experiment = tracking.connect(store)
    folder = store.parent / "run"
    folder.mkdir()
    said = {"galaxy": np.array([7, 9]), "D_p_mpc": np.array([60.0, 70.0])}
    with tracking.run(experiment, "x", params={}, system_metrics=False) as run_id:
        network = small(**changes)
        uri = logged.log_model(network, blueprint)
        run = make_run(
            **dict(blueprint),
            run_id=run_id,
            model_uri=uri,
            model_sha256=logged.model_sha256(uri),
            code={"git_commit": "c0de", "git_dirty": "false", "sha256": "5" * 64},
        )
        record.write(folder, network, [{"epoch": 1}], said, run)
        (folder / "params.yaml").write_text("{}\n")
        for name in (record.RUN, record.VALIDATION, "params.yaml"):
            tracking.log_file(folder / name)
    tags = tags_of(run)
    models.describe(models.register(MODEL, uri, run_id, tags), "# card\n")
    models.move(MODEL, {"champion": "1"}, {"what": "promote", "who": "me", "when": "now"})
    return run, tags


def write_export(folder):
    """Export a tiny registry into a folder below `folder`; returns it."""
    store = folder / "mlruns"
    write_registry(store)
    exchange.export(MODEL, folder / "export", store)
    return folder / "export"


def signed_again(folder, *, digest=True):
    """Make all digests of an export right again, as who wants to deceive would."""
    path = folder / exchange.INDEX
    if digest:
        index = json.loads(path.read_text())
        total = files_sha256(folder / "versions/1/model")
        index["versions"]["1"]["tags"][models.DIGEST] = total
        path.write_text(json.dumps(index))
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}\n"
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith(exchange.SUMS)
    ]
    (folder / exchange.SUMS).write_text("".join(lines))
