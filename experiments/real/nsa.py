"""Try networks trained on stand-ins on real galaxies of the NASA-Sloan Atlas.

    python -m experiments.real.nsa ../shared/data/nsa_r WORK docs/results/real_galaxies

Train one network per seed in the folder WORK, on r-band stand-ins as SDSS would have seen them, and
write `table.md` and `figure.png` into the last folder. The stages are the pipeline's own; only the
parameters below differ from `params.yaml`. About 20 minutes on two cores. Networks that are in WORK
already are reused if their parameters are the same.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import yaml
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr

from peculiar.core.cosmography import FLAT_LAMBDA_CDM, Cosmography
from peculiar.core.dataset import RAW_COLUMNS, read_table
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.frames import in_cmb_frame
from peculiar.core.photometry import ARCSEC_RAD, ab_mag
from peculiar.galaxies.galaxy import Galaxy
from peculiar.galaxies.nsa import read_nsa
from peculiar.mock.instrument import sky_noise
from peculiar.pipeline import fetch, observe, train
from peculiar.pipeline.paths import Paths
from peculiar.predict import files
from peculiar.registry.champion import Champion
from peculiar.runs import record

SEEDS = (4, 5, 6)
CHANGES: dict[str, Any] = {
    "fetch.bands": ["r"],
    "fetch.standin.galaxies": 1200,
    "fetch.standin.size_factor": 1.0,  # sizes as observed (Shen+2003), not as in Illustris
    "observe.datasets": ["far"],
    # the real galaxies are at 86 to 297 Mpc
    "observe.distances.far": {"distribution": "uniform", "min_mpc": 50, "max_mpc": 350},
    "observe.psf_fwhm_arcsec": None,  # SDSS's seeing is enough
    "observe.instrument": "sdss",
    "observe.pixels": 192,
    "observe.pixel_scale_arcsec": 0.396,
    "train.datasets": ["far"],
    "train.networks": ["real"],
    "train.specs.real": {
        "family": "cnn",
        "label": "D_z",
        "normalise": True,
        "head": "point",
        "loss": "absolute",
        "rounds": 1,
        "batch_norm": True,
        "hidden": 0,
        "dropout": 0,
        "crop": None,
        "softening_mag_arcsec2": 24,
        "fresh": False,
        "views": None,
        "kernels": False,
        "fresh_mpc": None,
        "images_per_galaxy": None,
        "augment": True,
        "average_turns": False,
        "precision": "float32",
        "calibration_folds": None,
        "members": 1,
        "batch_size": 16,
        "schedule": "cosine",
        "learning_rate": 2e-3,
        "weight_decay": 0,
        "ema": 0,
        "patience": None,
        "epochs": 20,
        "layers": [
            {"filters": 12, "kernel": 7, "stride": 3},
            {"filters": 24, "kernel": 5, "stride": 2},
            {"filters": 32, "kernel": 3, "stride": 2},
            {"filters": 32, "kernel": 3, "stride": 2},
        ],
    },
}
DECIDE = ("fetch.source", "fetch.bands", "fetch.standin.", "observe.", "train.")
"""Keys that decide what the networks are; the stand-ins know nothing of the rest."""
Array = NDArray[np.float64]


def changed(params: dict[str, Any], seed: int) -> dict[str, Any]:
    """`params.yaml` with `CHANGES` and a seed for the network."""
    for key, value in [*CHANGES.items(), ("train.seed", seed)]:
        *above, last = key.split(".")
        section = params
        for name in above:
            section = section[name]
        section[last] = value
    return params


def leaves(section: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested sections with its dotted key."""
    if isinstance(section, dict):
        for key, value in section.items():
            yield from leaves(value, f"{name}.{key}" if name else key)
    else:
        yield name, section


def check_same(path: Path, params: dict[str, Any]) -> None:
    """Refuse networks that were trained with other parameters, apart from the seed."""
    if not path.exists():
        return
    there, here = dict(leaves(yaml.safe_load(path.read_text()))), dict(leaves(params))
    keys = [key for key in here | there if key.startswith(DECIDE) and key != "train.seed"]
    other = [key for key in keys if there.get(key) != here.get(key)]
    if other:
        raise InputError(
            f"{path} has other values of {', '.join(other)} than params.yaml and this script: "
            "take another folder for networks of the present ones"
        )


def train_seeds(params: dict[str, Any], work: Path) -> Iterator[tuple[int, Champion]]:
    """Run fetch and observe once, train for each seed, and yield what predicts."""
    work.mkdir(parents=True, exist_ok=True)
    paths = Paths(work)
    check_same(paths.params, changed(params, SEEDS[0]))
    for seed in SEEDS:
        paths.params.write_text(yaml.safe_dump(changed(params, seed)))
        if not paths.fetched.exists():
            fetch.main([], work)
        if not paths.observed("far").exists():
            observe.main(["--dataset", "far"], work)
        kept = paths.trained(f"seed-{seed}")
        if not kept.exists():
            train.main(["--dataset", "far", "--network", "real"], work)
            paths.trained("far-real").rename(kept)
        run = record.read_run(kept)
        assert run.survey.instrument is not None
        yield (
            seed,
            Champion(
                network=record.read_network(kept, run).eval(),
                grid_mpc=None if run.grid_mpc is None else np.array(run.grid_mpc),
                version=f"seed {seed}",
                survey=run.survey,
                sigma_D_mpc=run.sigma_D_mpc,
            ),
        )


def filled(galaxy: Galaxy, champion: Champion) -> Galaxy:
    """The galaxy with sky noise around the cut-out, as far as the network sees."""
    assert champion.instrument is not None
    size, scale = galaxy.images.shape[-1], galaxy.pixel_scale_arcsec
    reach = champion.pixels * champion.pixel_scale_arcsec / scale
    edge = max(ceil((reach - size) / 2) + 2, 0)  # and the pixels that interpolation looks at
    rng = np.random.default_rng(galaxy.id)  # the same sky for every network
    noise = sky_noise(champion.instrument, "r", scale)
    images = rng.normal(0, noise, (1, 1, size + 2 * edge, size + 2 * edge)).astype(np.float32)
    images[..., edge : edge + size, edge : edge + size] = galaxy.images
    return replace(galaxy, images=images)


def predicted(champion: Champion, galaxies: list[Galaxy]) -> Array:
    """D_p, Mpc, of every galaxy."""
    tables = [files.predict_real(champion, galaxy, None) for galaxy in galaxies]
    return np.array([float(table["D_p"][0].to_value("Mpc")) for table in tables])


def apparent_mag(galaxy: Galaxy) -> float:
    """AB magnitude of all light in the image."""
    solid_angle_sr = (galaxy.pixel_scale_arcsec * ARCSEC_RAD) ** 2
    return float(ab_mag(galaxy.images.sum(dtype=float) * solid_angle_sr, "r"))


def figure(D_flow: Array, D_p: Array, error: Array, note: str) -> Figure:
    """Predicted distance against cz/H0 corrected for flows."""
    drawn = Figure(figsize=(5, 5), layout="constrained")
    axes = drawn.add_subplot(
        xlabel="flow-model distance c ZDIST / H0 [Mpc]", ylabel="$D_p$ [Mpc]", title=note
    )
    axes.errorbar(D_flow, D_p, error, fmt="o", markersize=4, elinewidth=1)
    axes.axline((100, 100), slope=1, color="red", linewidth=1)
    axes.set(xlim=(50, 350), ylim=(50, 350), aspect="equal")
    return drawn


def redshift_distances_mpc(galaxies: list[Galaxy], H0_kms_mpc: float) -> Array:
    """Comoving distances (galaxy,), Mpc, of the redshifts in the CMB's frame."""
    cz = np.array([galaxy.cz_kms for galaxy in galaxies])
    at = np.array([(galaxy.ra_deg, galaxy.dec_deg) for galaxy in galaxies]).T
    cz, frames = in_cmb_frame(cz, [galaxy.cz_frame for galaxy in galaxies], *at)
    for galaxy, frame in zip(galaxies, frames, strict=True):
        if frame != "cmb":
            raise InputError(f"{galaxy.source} has no position: its redshift cannot be converted")
    return Cosmography(FLAT_LAMBDA_CDM, H0_kms_mpc).distance_mpc(cz)


def correlations(x: Array, y: Array) -> str:
    """Pearson's and Spearman's coefficients with p values."""
    (r, p), (rho, q) = pearsonr(x, y), spearmanr(x, y)
    return f"r = {r:.2f} (p = {p:.3f}), rho = {rho:.2f} (p = {q:.3f})"


def fillings(D_flow: Array, rows: dict[str, Array]) -> list[str]:
    """Markdown: a line for each way to fill the frame, from D_p (galaxy,) by its name."""
    lines = [
        "| around the cut-out | r | rho | mean of D_p - D [Mpc] | rms [Mpc] |",
        "|---" * 5 + "|",
    ]
    for name, D_p in rows.items():
        r, rho = pearsonr(D_flow, D_p).statistic, spearmanr(D_flow, D_p).statistic
        bias, rms = np.mean(D_p - D_flow), np.sqrt(np.mean((D_p - D_flow) ** 2))
        lines.append(f"| {name} | {r:.2f} | {rho:.2f} | {bias:.1f} | {rms:.1f} |")
    return lines


def report(
    galaxies: list[Galaxy],
    D: dict[int, Array],
    D_filled: dict[int, Array],
    champions: dict[int, Champion],
    standin_mag: Array,
) -> str:
    """Markdown: a line a galaxy, and what the lines say together."""
    H0 = next(iter(champions.values())).H0_kms_mpc
    D_z = redshift_distances_mpc(galaxies, H0)
    D_flow = np.array([galaxy.cz_flow_kms for galaxy in galaxies]) / H0
    every = np.array(list(D.values()))
    mean, spread = every.mean(axis=0), every.std(axis=0, ddof=1)
    seeds = ", ".join(map(str, D))
    mag = np.array([apparent_mag(galaxy) for galaxy in galaxies])
    absolute = mag - 5 * np.log10(D_flow * 1e5)
    heads = [
        "NSAID",
        "D_z, CMB [Mpc]",
        "c ZDIST/H0 [Mpc]",
        "M_r",
        f"D_p, seeds {seeds} [Mpc]",
        "spread",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for galaxy, z, flow, M, d, s in zip(galaxies, D_z, D_flow, absolute, mean, spread, strict=True):
        lines.append(f"| {galaxy.id} | {z:.1f} | {flow:.1f} | {M:.2f} | {d:.1f} | {s:.1f} |")
    lines += [
        "",
        f"D_p against D_z: {correlations(D_z, mean)}.",
        f"D_p against c ZDIST/H0: {correlations(D_flow, mean)}.",
        f"Mean of D_p - c ZDIST/H0: {np.mean(mean - D_flow):.1f} Mpc; "
        f"rms {np.sqrt(np.mean((mean - D_flow) ** 2)):.1f} Mpc; guessing the mean of the 24 "
        f"distances gives {np.std(D_flow):.1f} Mpc.",
    ]
    sizes = np.array([galaxy.images.shape[-1] for galaxy in galaxies])
    pixels = next(iter(champions.values())).pixels
    full, small = np.mean(list(D_filled.values()), axis=0), sizes < pixels
    lines += [
        "",
        f"{small.sum()} of {len(sizes)} cut-outs are smaller than the {pixels} pixels "
        f"of the frame ({sizes[small].min()} to {sizes[small].max()}); with sky noise around "
        f"them, their D_p changes by {np.mean((full - mean)[small]):+.1f} Mpc on average, "
        f"rms {np.sqrt(np.mean((full - mean)[small] ** 2)):.1f} Mpc.",
        "",
        *fillings(D_flow, {"zeros": mean, "SDSS sky noise": full}),
    ]
    percentiles = "{:.2f} ({:.2f} to {:.2f})".format
    lines += [
        "",
        "Median M_r (16th to 84th percentile): "
        f"real {percentiles(*np.percentile(absolute, [50, 16, 84]))}, "
        f"stand-ins {percentiles(*np.percentile(standin_mag, [50, 16, 84]))}.",
        f"Magnitude r against c ZDIST/H0: {correlations(D_flow, mag)}.",
        f"D_p against r: {correlations(mag, mean)}.",
        f"log(D_p / D) against M_r: {correlations(absolute, np.log10(mean / D_flow))}.",
        "",
    ]
    for seed, champion in champions.items():
        rms = np.sqrt(np.mean((D[seed] - D_flow) ** 2))
        lines.append(
            f"Seed {seed}: sigma_D on the stand-in's validation split {champion.sigma_D_mpc:.1f} "
            f"Mpc; real galaxies: rms {rms:.1f} Mpc, {correlations(D_flow, D[seed])}."
        )
    return "\n".join(line and f"{line}  " if not line.startswith("|") else line for line in lines)


def main() -> None:
    """Train, predict, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="folder of single-band r cut-outs")
    parser.add_argument("work", type=Path, help="folder for stand-ins and networks")
    parser.add_argument("output", type=Path, help="folder for table.md and figure.png")
    chosen = parser.parse_args()
    galaxies = [read_nsa(path, "r") for path in sorted(chosen.images.glob("*.fits"))]
    params = yaml.safe_load(Path("params.yaml").read_text())
    with one_sentence():
        champions = dict(train_seeds(params, chosen.work))
    D = {seed: predicted(champion, galaxies) for seed, champion in champions.items()}
    D_filled = {
        seed: predicted(champion, [filled(galaxy, champion) for galaxy in galaxies])
        for seed, champion in champions.items()
    }
    every = np.array(list(D.values()))
    D_flow = np.array([galaxy.cz_flow_kms for galaxy in galaxies])
    D_flow /= next(iter(champions.values())).H0_kms_mpc
    note = "24 real galaxies, networks trained on stand-ins"
    drawn = figure(D_flow, every.mean(axis=0), every.std(axis=0, ddof=1), note)
    raw = read_table(chosen.work / "data/fetch", RAW_COLUMNS)
    standin_mag = raw["absolute_mag"].to_value(u.mag)[:, 0]
    chosen.output.mkdir(parents=True, exist_ok=True)
    drawn.savefig(chosen.output / "figure.png", dpi=110)
    (chosen.output / "table.md").write_text(report(galaxies, D, D_filled, champions, standin_mag))


if __name__ == "__main__":
    main()
