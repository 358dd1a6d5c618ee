"""Coverage and speed of `peculiar predict` on stand-ins, with the champion (the promoted network).

`coverage` simulates galaxies that no training has seen, places each camera at a fresh distance with
a fresh velocity (and an error of the redshift), predicts them as a catalogue, and counts how often
the true velocity is within the stated intervals. `speed` repeats a few stand-in files at fresh
distances to a catalogue of any length (145,115 rows: that of the companion paper), predicts it and
prints throughput and peak memory. Run from the top of the repository after `make repro`:

    .venv/bin/python -m experiments.standin.coverage coverage /tmp/coverage --galaxies 500
    .venv/bin/python -m experiments.standin.coverage speed /tmp/speed --rows 145115
"""

import argparse
import csv
import resource
import time
from pathlib import Path

import numpy as np
from astropy.table import QTable

from peculiar.core.errors import InputError, one_sentence
from peculiar.core.params import load
from peculiar.galaxies.params import Fetch
from peculiar.galaxies.standin.simulation import make_broadband
from peculiar.predict.batch import predict_catalogue
from peculiar.predict.images import Files
from peculiar.predict.rows import Job
from peculiar.registry.champion import Champion, load_champion
from peculiar.registry.params import Promote
from peculiar.velocity.posterior import SIGMAS

CAMERAS = 4
SEED = 20_261_124  # of galaxies and distances; the pipeline's are 1 to 5
COLUMNS = ("path", "camera", "distance_mpc", "cz_kms", "cz_error_kms")


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["coverage", "speed"])
    parser.add_argument("folder", type=Path, help="keeps the files and the tables")
    parser.add_argument("--galaxies", type=int, help="stand-ins: 500 for coverage, 4 for speed")
    parser.add_argument("--rows", type=int, default=145_115, help="of the catalogue, for speed")
    parser.add_argument("--cz-error", type=float, default=30.0, metavar="KM/S")
    parser.add_argument("--scheduler", metavar="TCP://...", help="Dask's")
    parser.add_argument("--output", default="predicted.fits", help="name of the table")
    chosen = parser.parse_args()
    with one_sentence():
        champion = load_champion(load(Promote).model)
        galaxies = chosen.galaxies or {"coverage": 500, "speed": 4}[chosen.what]
        rows = galaxies * CAMERAS if chosen.what == "coverage" else chosen.rows
        make_files(chosen.folder, galaxies)
        true = write_catalogue(chosen.folder, champion, galaxies, rows, chosen.cz_error)
        seconds = predict(chosen.folder, champion, chosen.output, chosen.scheduler)
        table = QTable.read(chosen.folder / chosen.output) if chosen.what == "coverage" else None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"stand-in, {rows} rows of {galaxies} galaxies, champion {champion.version} "
            f"({champion.digest[:12]}): {seconds:.1f} s, {rows / seconds:.0f} rows/s, "
            f"peak memory {peak:.0f} MiB"
        )
        if table is not None:
            print(coverage(table, true, galaxies))


def make_files(folder: Path, galaxies: int) -> None:
    """Stand-in files that are not there yet, with the shape of the champion's training data."""
    folder.mkdir(parents=True, exist_ok=True)
    parameters = load(Fetch).standin.model_copy(update={"seed": SEED})
    for number in range(galaxies):
        path = folder / f"broadband_{number}.fits"
        if not path.exists():
            partial = folder / f"part_broadband_{number}.fits"
            make_broadband(partial, number, parameters)
            partial.rename(path)


def write_catalogue(
    folder: Path, champion: Champion, galaxies: int, rows: int, error_kms: float
) -> np.ndarray:
    """Write `catalogue.csv`, galaxy by galaxy, and give the true velocities (rows,), km/s."""
    if champion.range_mpc is None:
        raise InputError(
            "the champion does not say which distances it was trained on: promote "
            "it again with `dvc repro --force --single-item promote`"
        )
    rng = np.random.default_rng(SEED)
    distance = rng.uniform(*champion.range_mpc, rows)
    velocity = rng.normal(0, champion.sigma_v_kms, rows)
    cz = champion.H0_kms_mpc * distance + velocity + rng.normal(0, error_kms, rows)
    image = np.arange(rows) * galaxies * CAMERAS // rows  # neighbours share a file
    with (folder / "catalogue.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for k in range(rows):
            galaxy, camera = divmod(int(image[k]), CAMERAS)
            writer.writerow([f"broadband_{galaxy}.fits", camera, distance[k], cz[k], error_kms])
    return np.asarray(velocity)


def predict(folder: Path, champion: Champion, output: str, scheduler: str | None) -> float:
    """Predict the catalogue; seconds that it took."""
    source = Files(folder.resolve())
    job = Job(champion.model, champion.version, champion.digest, source, float("nan"), None)
    start = time.monotonic()
    predict_catalogue(champion, job, folder / "catalogue.csv", folder / output, scheduler)
    return time.monotonic() - start


def coverage(table: QTable, v_kms: np.ndarray, galaxies: int) -> str:
    """How often the true velocity is within each interval; the error is over whole galaxies."""
    lines = []
    for level, stated in zip(SIGMAS, (0.683, 0.954), strict=True):
        low, high = (table[f"v_{end}{level}"].to_value("km/s") for end in ("low", "high"))
        inside = ((low <= v_kms) & (v_kms <= high)).reshape(galaxies, CAMERAS).mean(axis=1)
        error = inside.std(ddof=1) / np.sqrt(galaxies)
        lines.append(
            f"{level} %: {inside.mean():.3f} ± {error:.3f} of the velocities are within "
            f"(stated {stated})"
        )
    rms = np.sqrt(np.nanmean((table["v_hat"].to_value("km/s") - v_kms) ** 2))
    ok = (np.asarray(table["flags"]).astype(str) == "ok").mean()  # bytes, from FITS
    lines.append(
        f"posterior rms {rms:.0f} km/s, v = 0 gives {np.sqrt((v_kms**2).mean()):.0f}; "
        f"{ok:.0%} without a flag"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
