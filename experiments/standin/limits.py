"""What `peculiar predict` says of stand-ins within and beyond what the champion is offered for.

    python -m experiments.standin.limits results/limits --galaxies 250

Simulate galaxies that no training has seen, and place each camera at a distance within the
champion's range, nearer, farther, and within it with the noise of one SDSS exposure. Predict each
with its redshift, and count how many are flagged and how often the true velocity lies in the stated
intervals. The last case is the first in an expanding universe, which the champion has not seen.
Errors are over bootstrap samples of galaxies. Run after `make repro`.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from astropy.table import QTable
from numpy.typing import NDArray

from peculiar.core.cosmography import FLAT_LAMBDA_CDM
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.params import load
from peculiar.core.photometry import BANDS
from peculiar.core.survey import Survey
from peculiar.galaxies.params import Fetch, StandIn
from peculiar.galaxies.standin.simulation import own_field, own_resolution, render, simulate
from peculiar.mock.images import views
from peculiar.mock.params import Observe
from peculiar.predict.estimate import predict_images
from peculiar.predict.view import View
from peculiar.registry.champion import Champion, load_champion
from peculiar.registry.params import Promote
from peculiar.velocity.metrics import bootstrap_rows, coverage

SEED = 20_261_126  # of galaxies, distances and velocities; the pipeline's are 1 to 7
BEYOND_MPC = 10.0  # how far nearer and farther than the range
CAMERAS = 4
Row = dict[str, float]


def cases(survey: Survey, sdss: Survey) -> dict[str, tuple[tuple[float, float], Survey]]:
    """Limits of the distances, Mpc, and survey of each case."""
    if survey.range_mpc is None:
        raise InputError("the champion has no range of distances: promote one with limits")
    low, high = survey.range_mpc
    return {
        "within": ((low, high), survey),
        "nearer": ((low - BEYOND_MPC, low), survey),
        "farther": ((high, high + BEYOND_MPC), survey),
        "noise of one SDSS exposure": ((low, high), sdss),
        # as light comes to us: larger by 1 + z, fainter by (1 + z)^4
        "expanding universe": (
            (low, high),
            survey.model_copy(update={"cosmology": FLAT_LAMBDA_CDM}),
        ),
    }


def seen(
    number: int, standin: StandIn, described: str, limits_mpc: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Images of one galaxy (camera, band, y, x), W/m/m^2/sr, and its distances (camera,), Mpc.

    `described` is the survey as JSON, since an instrument cannot be sent to another process.
    """
    survey = Survey.model_validate_json(described)
    parameters = own_resolution(standin, number)
    stars = simulate(np.random.default_rng([standin.seed, number]), parameters)
    bands = [BANDS.index(band) for band in survey.bands]
    raw = np.ascontiguousarray(render(stars, parameters)[:, bands])
    rng = np.random.default_rng([SEED, number])
    distance_mpc = rng.uniform(*limits_mpc, CAMERAS)
    kpc = np.full(CAMERAS, own_field(standin, stars).field_of_view_kpc / standin.pixels)
    offset, device = np.zeros((CAMERAS, 2)), torch.device("cpu")
    own = rng.spawn(CAMERAS)
    images = views(raw, kpc, distance_mpc, offset, survey.pixels, survey, own, device)
    return images.numpy(), distance_mpc


def predicted(
    champion: Champion, galaxies: Iterator[tuple[NDArray[np.float32], NDArray[np.float64]]]
) -> tuple[QTable, NDArray[np.float64]]:
    """Predictions of all images with a drawn velocity, and these velocities (n,), km/s."""
    rng = np.random.default_rng(SEED)
    shown, distances = zip(*galaxies, strict=True)
    distance_mpc = np.concatenate(distances)
    v_kms = rng.normal(0, champion.sigma_v_kms, len(distance_mpc))
    cz_kms = champion.H0_kms_mpc * distance_mpc + v_kms
    views = [View(one, simulated=True) for g in shown for one in g]
    return predict_images(champion, views, cz_kms), v_kms


def measure(table: QTable, v_kms: NDArray[np.float64], rows: NDArray[np.intp]) -> Row:
    """Shares of flags, coverage of all and of unflagged images, and bias of the velocity, km/s."""
    words = np.asarray(table["flags"])[rows]
    v = v_kms[rows]
    ends = {
        name: table[name].to_value("km/s")[rows]
        for name in ("v_low68", "v_high68", "v_low95", "v_high95", "v_hat")
    }
    known = np.isfinite(ends["v_hat"])
    row = {"flagged": float(np.mean(words != "ok"))}
    for level in (68, 95):
        low, high = ends[f"v_low{level}"][known], ends[f"v_high{level}"][known]
        row[f"coverage_{level}"] = coverage(v[known], low, high)
    D_mpc = table["D_z"].to_value("Mpc") - v_kms / table.meta["H0"]
    row["bias_D_mpc"] = float(np.nanmean((table["D_p"].to_value("Mpc") - D_mpc)[rows]))
    row["bias_kms"] = float(np.mean(ends["v_hat"][known] - v[known]))
    for flag in ("distance", "tension", "noise", "psf", "brightness", "size"):
        row[flag] = float(np.mean([flag in word.split(", ") for word in words]))
    return row


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder for table.md")
    parser.add_argument("--galaxies", type=int, default=250)
    chosen = parser.parse_args()
    with one_sentence():
        champion = load_champion(load(Promote).model)
        standin = load(Fetch).standin.model_copy(update={"seed": SEED})
        instrument = load(Observe).instruments["sdss"]
        noisy = champion.survey.model_copy(update={"instrument": instrument})
        lines: list[str] = []
        number = np.repeat(np.arange(chosen.galaxies), CAMERAS)
        with ProcessPoolExecutor(mp_context=get_context("forkserver")) as pool:
            for name, (limits, survey) in cases(champion.survey, noisy).items():
                show = partial(
                    seen,
                    standin=standin,
                    described=survey.model_dump_json(),
                    limits_mpc=limits,
                )
                table, v_kms = predicted(champion, pool.map(show, range(chosen.galaxies)))
                whole = measure(table, v_kms, np.arange(len(v_kms)))
                rng = np.random.default_rng(1)
                samples = [measure(table, v_kms, r) for r in bootstrap_rows(number, 200, rng)]
                errors = {key: np.std([s[key] for s in samples], ddof=1) for key in whole}
                if not lines:
                    lines = [
                        f"| {len(v_kms)} images | distances [Mpc] | {' | '.join(whole)} |",
                        "|---" * (2 + len(whole)) + "|",
                    ]
                cells = [
                    f"{value:.{digits}f} ± {errors[key]:.{digits}f}"
                    for key, value in whole.items()
                    for digits in [{"bias_kms": 0, "bias_D_mpc": 1}.get(key, 3)]
                ]
                lines.append(f"| {name} | {limits[0]:g}-{limits[1]:g} | {' | '.join(cells)} |")
                print(lines[-1], flush=True)
        chosen.output.mkdir(parents=True, exist_ok=True)
        (chosen.output / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
