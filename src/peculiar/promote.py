"""Stage `promote`: give the alias `champion` to the best network, or say why not."""

import getpass
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from peculiar import tracking, trained
from peculiar.errors import InputError, one_sentence
from peculiar.galaxies import whole_folder
from peculiar.lineage import git_state
from peculiar.metrics import METRICS
from peculiar.params import load
from peculiar.params_networks import Promote, Train

TRAINED, EVALUATED, OUT = Path("results/train"), Path("results/evaluate"), Path("results/promote")
WORDS = {
    "posterior_rms_kms": "posterior velocity rms {:.0f} km/s",
    "l2_dz_mpc": "L2 on D_z {:.1f} Mpc",
}


@dataclass(frozen=True)
class Champion:
    """What the registry says of the present champion; `score` is by the candidates' criterion."""

    run_id: str
    version: str
    data: str
    score: float


def main() -> None:
    """Run the stage from `params.yaml`."""
    with one_sentence():
        promote(load(Promote), load(Train), OUT)


def criterion(run: trained.Run) -> str:
    """The metric on the validation split that decides; less is better.

    For measured distances no true velocity is known, only the label D_z.
    """
    return "l2_dz_mpc" if run.distribution == "measured" else "posterior_rms_kms"


def baseline(run: trained.Run) -> tuple[str, float]:
    """What a network must beat by its criterion on the validation split: its name and score."""
    if run.distribution != "measured":
        return "v = 0", run.zero_rms_kms
    return "a constant distance", run.spread_dz_mpc


def refusal(run: trained.Run, tested: Mapping[str, float] | None) -> str | None:
    """Why a network cannot be promoted at all; None where it can.

    Parameters
    ----------
    run : Run
        The candidate, with its metrics on the validation split.
    tested : mapping or None
        Its metrics on the test split: only whether they are there and finite is asked, so that the
        test split decides nothing.
    """
    for split, metrics in (("validation", run.validation), ("test", tested or {})):
        missing = [key for key in METRICS if key not in metrics]
        if missing:
            return f"its {split} metrics lack {', '.join(missing)}"
        asked = [criterion(run)] if run.distribution == "measured" else METRICS
        broken = [key for key in asked if not math.isfinite(metrics[key])]
        if broken:
            return f"its {split} metrics {', '.join(broken)} are not finite"
    rms, (name, least) = run.validation[criterion(run)], baseline(run)
    if rms >= least:
        return f"its {criterion(run)} {rms:.1f} does not beat {name}, {least:.1f}"
    return None


def stage_of(run: trained.Run) -> str:
    """The DVC stage that trains a network."""
    if run.network == "best":
        return f"train-best@{run.dataset}"
    return f"train@{run.dataset}-{run.network}"


def who() -> str:
    """Name of the user, or the number where it has no name (in a container)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def data_digest(run: trained.Run) -> str:
    """Digest of the observed dataset that a network was trained and validated on."""
    return run.data[f"data/observe/{run.dataset}"]


def kept(run: trained.Run, champion: Champion | None) -> str | None:
    """Why the present champion stays; None where the candidate takes its place."""
    if champion is None:
        return None
    if champion.run_id == run.run_id:
        return "it is the champion already"
    rms = run.validation[criterion(run)]
    if champion.data == data_digest(run) and rms >= champion.score:
        return (
            f"its {criterion(run)} {rms:.1f} is not better than the champion's "
            f"{champion.score:.1f} on the same data"
        )
    return None


def present_champion(model: str, metric: str) -> Champion | None:
    """Read the champion's tags from the registry, and its score by a metric, NaN without it."""
    version = tracking.aliased(model)
    if version is None:
        return None
    tags = version.tags
    return Champion(
        str(version.run_id), str(version.version), tags.get("data", ""),
        float(tags.get(f"validation_{metric}", "nan")),
    )  # fmt: skip


def candidates(train: Train) -> list[tuple[trained.Run, str | None]]:
    """Every trained network with the reason against it, best first on the validation split."""
    path = EVALUATED / "metrics.json"
    if not path.exists():
        raise InputError(f"{path} is missing: run `dvc repro evaluate` first")
    tested = json.loads(path.read_text())
    names = [f"{dataset}-{network}" for dataset, network in train.items()]
    runs = [(trained.read_run(TRAINED / name), tested.get(name)) for name in names]
    judged = [(run, refusal(run, metrics)) for run, metrics in runs]
    return sorted(judged, key=lambda item: (item[1] is not None, _rms(item[0])))


def _rms(run: trained.Run) -> float:
    rms = run.validation.get(criterion(run), math.inf)
    return rms if math.isfinite(rms) else math.inf


def promote(params: Promote, train: Train, folder: Path) -> None:
    """Weigh the networks, move the alias, and write the decision into `folder`.

    Raises
    ------
    InputError
        When no network may be promoted and there is no champion either.
    """
    experiment = tracking.connect()
    judged = candidates(train)
    best, reason = judged[0]
    champion = present_champion(params.model, criterion(best))
    if reason is None:
        reason = kept(best, champion)
    if reason is not None and champion is None:
        raise InputError(f"no network can be promoted; the best, {best.network}: {reason}")
    if not tracking.run_exists(best.run_id) and reason is None:
        raise InputError(
            f"MLflow has no run {best.run_id} of {best.network}: give back its mlruns/, or train "
            f"again with `dvc repro --force --single-item {stage_of(best)}`"
        )
    decision = describe(best, reason, champion, judged)
    with (
        tracking.run(
            experiment, "promote", params=params.model_dump(), tags={"stage": "promote"}
        ),
        whole_folder(folder) as partial,
    ):  # fmt: skip
        if reason is None:
            tags = {key: str(value) for key, value in decision.items() if key != "candidates"}
            version = tracking.promote(params.model, best.model_uri, best.run_id, tags)
            decision["version"] = version.version
        path = partial / "decision.json"
        path.write_text(json.dumps(decision, indent=2) + "\n")
        tracking.log_file(path)
    print(summary(params.model, decision))


def describe(
    best: trained.Run,
    reason: str | None,
    champion: Champion | None,
    judged: list[tuple[trained.Run, str | None]],
) -> dict[str, Any]:
    """Who, when, why and from what."""
    metric, (name, score) = criterion(best), baseline(best)
    beaten = "there was none" if champion is None else f"version {champion.version} before it"
    return {
        "promoted": reason is None,
        "why": reason or f"lowest {metric} on validation; champion: {beaten}",
        "who": who(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "network": best.network,
        "dataset": best.dataset,
        "criterion": metric,
        "data_source": best.data_source,
        "data": data_digest(best),
        "run_id": best.run_id,
        f"validation_{metric}": best.validation.get(metric),
        "baseline": name,
        "baseline_score": score,
        "sigma_D_mpc": best.sigma_D_mpc,
        "grid_mpc": "" if best.grid_mpc is None else json.dumps(best.grid_mpc),
        "sigma_v_kms": best.sigma_v_kms,
        "H0_kms_mpc": best.H0_kms_mpc,
        "bands": "".join(best.bands),
        "pixels": best.pixels,
        "pixel_scale_arcsec": best.pixel_scale_arcsec,
        "dimming": best.dimming,
        "instrument": "" if best.instrument is None else best.instrument.model_dump_json(),
        "split_by": best.split_by,
        "validity": "" if best.validity is None else best.validity.model_dump_json(),
        **git_state(),
        "candidates": {
            f"{run.dataset}-{run.network}": why or run.validation[criterion(run)]
            for run, why in judged
        },
    }


def summary(model: str, decision: Mapping[str, Any]) -> str:
    """What a person reads at the end of `make repro`."""
    name = f"{decision['dataset']}-{decision['network']} ({decision['data_source']} data)"
    if not decision["promoted"]:
        return f"{model}: the champion stays; {name}: {decision['why']}"
    metric = decision["criterion"]
    score = WORDS[metric].format(decision[f"validation_{metric}"])
    return (
        f"{model}: version {decision['version']} is champion: {name}, {score} on validation; "
        f"{decision['baseline']} gives {decision['baseline_score']:.0f}"
    )


if __name__ == "__main__":
    main()
