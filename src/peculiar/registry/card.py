"""Write the model card of a promoted version: its data, range of validity and metrics (Markdown).

It follows Mitchell et al. 2019, "Model cards for model reporting". MLflow keeps it as the
description of the version, of which it stores 5,000 characters.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from peculiar.runs.nulls import NullTests
from peculiar.runs.record import Predicted, Run
from peculiar.velocity.metrics import METRICS

LONGEST = 5000  # characters of a description in MLflow's database
SAMPLES = 200  # bootstrap samples of an error, which make it accurate to 5 per cent
ROWS = {
    "l1_d_mpc": ("L1(D) [Mpc]", 2),
    "l2_d_mpc": ("L2(D) [Mpc]", 2),
    "l2_dz_mpc": ("L2(D_z) [Mpc]", 2),
    "velocity_rms_kms": ("velocity rms [km/s]", 0),
    "posterior_rms_kms": ("posterior velocity rms [km/s]", 0),
    "coverage_68": ("68% coverage (0.683)", 3),
    "coverage_95": ("95% coverage (0.954)", 3),
}


def span_mpc(run: Run) -> str:
    """Range of a network's training distances, as text."""
    ends = run.survey.range_mpc
    if ends is None and run.validity is not None:
        ends = run.validity.distance_mpc
    elif ends is None and run.grid_mpc is not None:
        ends = run.grid_mpc[0], run.grid_mpc[-1]
    return "not bounded" if ends is None else f"{ends[0]:.0f} to {ends[1]:.0f} Mpc"


def error_of(run: Run) -> str:
    """How a network gives the error of a distance, as text."""
    if run.grid_mpc is None:
        return f"one error for all distances, sigma_D = {run.sigma_D_mpc:.1f} Mpc"
    return f"p(D \\| image) on {len(run.grid_mpc)} distances, calibrated on the validation split"


def model_card(
    model: str,
    version: str,
    run: Run,
    validation: Predicted,
    tested: Mapping[str, float],
    nulls: NullTests,
    decision: Mapping[str, Any],
) -> str:
    """Write the card of one version.

    Parameters
    ----------
    model, version : str
        Name in the registry, and number of the version.
    run : Run
        Its `run.json`.
    validation : dict
        Its `validation.ecsv`.
    tested : mapping
        Its entry in `metrics.json` of `evaluate`: metrics on the test split, and their bootstrap
        errors, with keys that end in `_err`.
    nulls : NullTests
        Its null tests.
    decision : mapping
        `when`, `who` and `why` of the promotion, and the outcome of the `null_tests`.

    Returns
    -------
    str
        Markdown of at most `LONGEST` characters.
    """
    from peculiar.velocity.metrics import (
        bootstrap_errors,  # with torch, which promoting no one needs not
    )

    rng = np.random.default_rng(run.seed)
    errors = bootstrap_errors(validation, run.survey.H0_kms_mpc, SAMPLES, rng)
    of_validation = {**run.validation, **{f"{key}_err": errors[key] for key in METRICS}}
    galaxies = len(np.unique(validation["galaxy"]))
    head = f"""# {model} {version}: {run.survey.dataset}-{run.network}

Distances of nearby galaxies from images in {"".join(run.survey.bands)} ({run.spec.family}, head \
{run.spec.head}, learnt from {run.spec.label}); {error_of(run)}.

## Data
- {run.survey.source}, dataset `{run.survey.dataset}` ({run.survey.distribution}), digest \
`{run.data[f"data/observe/{run.survey.dataset}"]}`
- {run.images["train"]} training and {run.images["validation"]} validation images ({galaxies} \
galaxies); split by {run.survey.split_by}{" (LEAKS)" if run.survey.split_by == "image" else ""}
- velocities of {run.survey.sigma_v_kms:.0f} km/s, H0 = {run.survey.H0_kms_mpc:.0f} km/s/Mpc

## Range of validity
- distances of {span_mpc(run)}; not tested outside
- bands {"".join(run.survey.bands)}, {run.survey.pixels} x {run.survey.pixels} pixels of {
        run.survey.pixel_scale_arcsec:g} \
arcsec, W/m/m^2/sr; other pixel scales are resampled
- dimming {run.survey.dimming}{
        " (PRINTS THE DISTANCE INTO THE PIXELS)" if run.survey.dimming == "literal" else ""
    }
- frames {
        "all taken as 84.4 kpc (A RULER WHERE THEY ARE NOT)"
        if run.survey.scale == "paper"
        else "as wide as their files say"
    }
- {
        "seen through an instrument (sky, seeing, noise)"
        if run.survey.instrument
        else "no sky, seeing or noise: not for real exposures"
    }

"""
    rest = _measured(run, of_validation, tested), _provenance(run, decision)
    room = LONGEST - len(head) - sum(map(len, rest))
    return head + rest[0] + null_table(nulls, decision["null_tests"], room) + rest[1]


def null_table(nulls: NullTests, outcome: str, room: int) -> str:
    """Table of the null tests with their outcome; the outcome alone where there is no room.

    Parameters
    ----------
    nulls : NullTests
        Results of one network.
    outcome : str
        From `decision.null_outcome`.
    room : int
        Greatest number of characters.
    """
    title = f"## Null tests\n{outcome}"
    rows = [f"| {one.name} | r = {one.r:+.2f} ± {one.error:.2f} | |" for one in nulls.scenes]
    rows += [
        f"| {one.name} | {one.change_mpc:+.2f} ± {one.error_mpc:.2f} | "
        f"{one.l2_mpc / one.reference_l2_mpc - 1:+.1%} |"
        for one in nulls.renderings
    ]
    head = "| test | mean change of D_p [Mpc] | of L2(D) |\n|---|---|---|"
    table = "\n".join([f"{title} (limits: {nulls.limits})", head, *rows, "\n"])
    short = f"{title}; each in results/nulls\n\n"
    return table if rows and len(table) <= room else short


def _measured(run: Run, validation: Mapping[str, float], tested: Mapping[str, float]) -> str:
    """Table of the metrics of both splits, with notes."""
    lines = [
        f"## Metrics ({run.survey.source})",
        "| | validation | test |\n|---|---|---|",
        *(
            f"| {name} | {_pm(validation, key, digits)} | {_pm(tested, key, digits)} |"
            for key, (name, digits) in ROWS.items()
        ),
        "\nErrors are standard deviations over bootstrap samples of galaxies. The network was "
        "chosen and calibrated on the validation split; the test split was not used for either. "
        "A calibrated network has coverages near their nominal values.\n\n",
    ]
    return "\n".join(lines)


def _pm(metrics: Mapping[str, float], key: str, digits: int) -> str:
    value = metrics.get(key, np.nan)
    if not np.isfinite(value):
        return "-"
    return f"{value:.{digits}f} ± {metrics[f'{key}_err']:.{digits}f}"


def _provenance(run: Run, decision: Mapping[str, Any]) -> str:
    return f"""## Provenance
- trained by run `{run.run_id}`, seed {run.seed}, commit `{run.code["git_commit"]}`\
{" with changes" if run.code["git_dirty"] == "true" else ""}, source `{run.code["sha256"][:12]}`
- exported model sha256 `{run.model_sha256}`
- promoted {decision["when"]} by {decision["who"]}: {decision["why"]}

## Licence
Weights and code: BSD-3-Clause. The training images have the terms of their makers \
({run.survey.source}).
"""
