"""Tables and picture of `experiments.paper.which_reading`."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import torch

from experiments.paper import claims
from experiments.spread import spread
from peculiar.cli.figures import greys
from peculiar.core.dataset import RAW_COLUMNS, open_set
from peculiar.core.survey import Scale
from peculiar.mock.images import read_kpc
from peculiar.mock.resample import place

PAPERS_NAME = {"cnn2": "2-Layer CNN", "cnn3": "3-Layer CNN"}
SHOWN = {
    "l1_d_mpc": ("L1(D) [Mpc]", 2),
    "l2_d_mpc": ("L2(D) [Mpc]", 2),
    "l1_dz_mpc": ("L1(D_z) [Mpc]", 2),
    "l2_dz_mpc": ("L2(D_z) [Mpc]", 2),
    "velocity_rms_kms": ("velocity rms [km/s]", 0),
}
FRAMES: Mapping[Scale, str] = {"header": "own frame", "paper": "taken as 84.4 kpc"}
RADII_KPC, SHOWN_MPC, BAND = (3.0, 12.0), (50.0, 100.0), "r"
Found = Mapping[tuple[str, str], Mapping[int, Mapping[str, float]]]
"""Measures of each seed, of each reading and network."""


def published() -> dict[str, dict[str, float]]:
    """Table A2's rows: uniform, normalised, learnt from D_z; the velocity is 70 x L2(D)."""
    table = claims.published().table
    wanted = table[
        (table["distances"] == "uniform") & table["normalised"] & (table["label"] == "D_z")
    ]
    rows = {}
    for network, name in PAPERS_NAME.items():
        (row,) = wanted[wanted["network"] == name]
        rows[network] = {key: float(row[key]) for key in SHOWN}
        rows[network]["velocity_rms_kms"] = claims.H0_KMS_MPC * rows[network]["l2_d_mpc"]
    return rows


def table_lines(results: Found, galaxies: int) -> Iterator[str]:
    """Means and deviations over seeds in Markdown, beside the paper's numbers."""
    heads = [head for head, _ in SHOWN.values()]
    yield f"| network | reading | seeds | {' | '.join(heads)} | L2(D) over the paper's |"
    yield "|---" * (4 + len(SHOWN)) + "|"
    for network, row in published().items():
        cells = [f"**{row[key]:.{digits}f}**" for key, (_, digits) in SHOWN.items()]
        yield f"| {network} | **the paper, Table A2** | | {' | '.join(cells)} | 1 |"
        for (reading, _), found in ((k, v) for k, v in results.items() if k[1] == network):
            cells = [
                spread([measured[key] for measured in found.values()], digits)
                for key, (_, digits) in SHOWN.items()
            ]
            ratio = np.mean([one["l2_d_mpc"] for one in found.values()]) / row["l2_d_mpc"]
            yield f"| | {reading} | {len(found)} | {' | '.join(cells)} | {ratio:.2f} |"
    yield ""
    yield (
        f"{galaxies} stand-in galaxies, four images each; the test split, a quarter of them. "
        "± is the deviation over seeds of training. The paper's velocity is 70 x its L2(D): its "
        "own column has the normalised and the other rows swapped."
    )


def write_tables(results: Found, galaxies: int, folder: Path) -> None:
    """Write `table.md`, and `table.csv` with a row a training."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text("\n".join(table_lines(results, galaxies)) + "\n")
    rows = [
        {"reading": "the paper, Table A2", "network": network, "seed": "", **row}
        for network, row in published().items()
    ]
    rows += [
        {"reading": reading, "network": network, "seed": seed, **measured}
        for (reading, network), found in results.items()
        for seed, measured in found.items()
    ]
    with (folder / "table.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)


def draw_frames(raw: Path, observe: Mapping[str, Any], path: Path) -> None:
    """Draw a small and a large galaxy in their own frame, and in one taken as 84.4 kpc.

    Parameters
    ----------
    raw : Path
        Stand-ins in frames of ten half-mass radii.
    observe : mapping
        Section `observe` of `params.yaml`, for pixels and PSF.
    path : Path
        Picture to write.
    """
    images, galaxies = open_set(raw, RAW_COLUMNS)
    radius = galaxies["half_mass_radius_kpc"].to_value(u.kpc)
    rows = [int(np.argmin(np.abs(np.log(radius / wanted)))) for wanted in RADII_KPC]
    band = list(galaxies.meta["bands"]).index(BAND)
    seen, mpc = images[np.array(rows)][:, 0, band], torch.tensor(SHOWN_MPC).double()
    panels, columns = [], []
    for scale, words in FRAMES.items():
        stated = galaxies["kpc_per_pixel"].to_value(u.kpc)[rows, 0]
        kpc = read_kpc(scale, stated, seen.shape[-1])
        placed = place(
            torch.from_numpy(np.repeat(seen, len(mpc), axis=0)[:, None]),
            torch.from_numpy(np.repeat(kpc, len(mpc))),
            mpc.repeat(len(rows)),
            pixels=observe["pixels"],
            pixel_scale_arcsec=observe["pixel_scale_arcsec"],
            dimming="physical",
            psf_fwhm_arcsec=observe["psf_fwhm_arcsec"],
        ).numpy()
        panels.append(placed.reshape(len(rows), len(mpc), *placed.shape[-2:]))
        columns += [f"{words}\n{distance:g} Mpc" for distance in SHOWN_MPC]
    shown = np.concatenate(panels, axis=1)
    names = [f"half-mass radius {radius[row]:.1f} kpc" for row in rows]
    tops = [float(row.max()) for row in shown]
    title = f"{galaxies.meta['source']}, {BAND}, physical dimming"
    greys(shown, tops, names, columns, title).savefig(path, dpi=100)
