"""What the networks of `experiments/standin/ablation.py` read, and where they err.

    python -m experiments.standin.audits WORK results/audits

Read the networks "ours" of all seeds and the set that judges them from WORK, change the images
(another resampling kernel, a PSF, the noise of SDSS), and write `audits.md`: accuracy on changed
images, residuals by distance, mass, colour and axis ratio, the correlation of the errors of four
views, and what regressors make of plain photometry. Only the regressors are trained.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import astropy.units as u
import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter

from experiments.spread import spread
from experiments.standin.ablation import OURS, STEPS, judged
from experiments.standin.photometry import regressors
from peculiar.core.cosmography import HUBBLE
from peculiar.core.dataset import RAW_COLUMNS, Observed, open_set
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.params import load, validate
from peculiar.core.photometry import GAUSSIAN_FWHM
from peculiar.core.survey import Instrument
from peculiar.mock.images import ratio_of, views
from peculiar.mock.params import Observe
from peculiar.networks.heads import DistributionNetwork, build
from peculiar.networks.inference import pieces_of
from peculiar.networks.params import NetworkSection
from peculiar.training.params import Train
from peculiar.training.predictions import column_mpc, grid_of, predictions_of
from peculiar.training.prior import distance_prior, law_on_grid
from peculiar.velocity.metrics import measures

AT_ONCE = 64
LAST = STEPS[OURS][-1][0]  # row of the ablation that is our network
Array = NDArray[np.float64]
Pictures = NDArray[np.float32]


class Judge:
    """The set that nothing is learnt from.

    Attributes
    ----------
    images : peculiar.core.dataset.Shards
        Raw, (galaxy, camera, band, y, x), W/m/m^2/sr.
    galaxies, table : QTable
        One row a galaxy, and one row an image with its distance and velocity.
    """

    def __init__(self, folder: Path):
        self.images, self.galaxies = open_set(folder / "data/fetch", RAW_COLUMNS)
        self.observed = judged(Observed.read(folder / "data/observe/uniform"))
        self.table, self.survey = self.observed.table, self.observed.survey
        if self.survey.cosmology != HUBBLE:
            raise InputError(f"{folder}: other resamplers do not dim: set observe.cosmology hubble")
        self.D_mpc = column_mpc(self.observed, "distance_mpc")
        self.D_z_mpc = column_mpc(self.observed, "distance_z_mpc")

    def raw(self, rows: NDArray[np.int64]) -> tuple[Pictures, Array]:
        """Raw images (n, band, y, x) and their pixel scale (n,), kpc, of rows of the table."""
        galaxy, camera = np.divmod(rows, self.images.shape[1])
        kpc = self.galaxies["kpc_per_pixel"].to_value(u.kpc)[galaxy, camera]
        return self.images.pick(galaxy, camera), kpc


def by_pillow(
    judge: Judge, rows: NDArray[np.int64], side: int, kernel: Image.Resampling
) -> Pictures:
    """Images placed by Pillow: an independent resampler with other kernels."""
    images, kpc = judge.raw(rows)
    ratio = ratio_of(kpc, judge.D_mpc[rows], judge.survey)
    out = np.empty((*images.shape[:2], side, side), dtype=np.float32)
    for number, image in enumerate(images):
        half, middle = ratio[number] * side / 2, image.shape[-1] / 2
        box = (middle - half, middle - half, middle + half, middle + half)
        for band, plane in enumerate(image):
            placed = Image.fromarray(plane).resize((side, side), kernel, box=box)
            out[number, band] = np.asarray(placed)
    return out


def by_torch(judge: Judge, rows: NDArray[np.int64], side: int) -> Pictures:
    """Images placed by the other bicubic, a = -0.75 and never widened (torch's grid_sample)."""
    images, kpc = judge.raw(rows)
    ratio = ratio_of(kpc, judge.D_mpc[rows], judge.survey)
    steps = torch.arange(side) - (side - 1) / 2
    along = torch.tensor(ratio)[:, None] * steps / (images.shape[-1] / 2)
    y, x = along[:, :, None].expand(-1, -1, side), along[:, None, :].expand(-1, side, -1)
    grid = torch.stack([x, y], dim=-1).float()
    placed = torch.nn.functional.grid_sample(
        torch.from_numpy(images), grid, mode="bicubic", align_corners=False
    )
    return np.asarray(placed.numpy())


def by_us(
    judge: Judge, rows: NDArray[np.int64], side: int, instrument: Instrument | None = None
) -> Pictures:
    """Images placed as `observe` does, through an instrument if there is one."""
    images, kpc = judge.raw(rows)
    rngs = [np.random.default_rng([1, int(row)]) for row in rows]
    survey = judge.survey.model_copy(update={"instrument": instrument})
    offset = np.zeros((len(rows), 2))
    seen = views(images, kpc, judge.D_mpc[rows], offset, side, survey, rngs, torch.device("cpu"))
    return seen.numpy()


def blurred(judge: Judge, rows: NDArray[np.int64], side: int, fwhm_arcsec: float) -> Pictures:
    """Images behind another Gaussian PSF, beside their own."""
    margin = 8
    sigma = fwhm_arcsec / GAUSSIAN_FWHM / judge.survey.pixel_scale_arcsec
    images = gaussian_filter(by_us(judge, rows, side + 2 * margin), (0, 0, sigma, sigma))
    return np.asarray(images[..., margin:-margin, margin:-margin])


def changes(sdss: Instrument) -> dict[str, Callable[..., Pictures]]:
    """What is done to the images, by name."""
    kernels = {
        kernel: getattr(Image.Resampling, kernel)
        for kernel in ("BICUBIC", "BOX", "BILINEAR", "LANCZOS")
    }
    return {
        "as observed": by_us,
        **{
            f"no PSF; Pillow, {name.lower()}": partial(by_pillow, kernel=kernel)
            for name, kernel in kernels.items()
        },
        "no PSF; the other bicubic (a = -0.75, not widened)": by_torch,
        "another PSF of 1.3 arcsec": partial(blurred, fwhm_arcsec=1.3),
        "another PSF of 2.6 arcsec": partial(blurred, fwhm_arcsec=2.6),
        "SDSS: seeing, sky, noise": partial(by_us, instrument=sdss),
    }


def networks(work: Path) -> Iterator[DistributionNetwork]:
    """The networks "ours" of all seeds."""
    learn = Observed.read(work / "learn/data/observe/uniform")
    paths = sorted((work / "runs").glob(f"{LAST}, seed *.safetensors"))
    if not paths:
        raise InputError(
            f"{work}/runs has no network of ours: run experiments/standin/ablation.py first"
        )
    for path in paths:
        kept = json.loads(path.with_suffix(".json").read_text())
        spec = validate(NetworkSection, kept["spec"], str(path.with_suffix(".json")))
        network = build(
            spec,
            learn.survey.bands,
            learn.images.shape[-1],
            target=(0.0, 1.0),
            prior=distance_prior(learn, spec.label, spec.fresh_mpc),
            seed=0,
            members=spec.members,
        )
        network.load_state_dict(load_file(path))
        assert isinstance(network, DistributionNetwork)
        network.head.set_prior(law_on_grid(learn, network.head.grid_mpc.double().numpy()))
        yield network.eval()


def predicted(
    network: DistributionNetwork, judge: Judge, scaled: Sequence[torch.Tensor]
) -> dict[str, Array]:
    """`prediction_columns` of all images of the set, from what the front gives."""
    p = torch.cat([network.probability(piece) for piece in scaled]).double().numpy()
    return predictions_of(judge.observed, "judge", p, 0.0, grid_of(network))


def accuracy(judge: Judge, train: Train, work: Path, sdss: Instrument) -> Iterator[str]:
    """A table of the accuracy on changed images, mean and deviation over the seeds.

    The front, in which nothing is learnt, is that of all networks.
    """
    yield "| images | L2(D) [Mpc] | mean D_p - D [Mpc] | posterior rms [km/s] | coverage 68, 95 |"
    yield "|---|---|---|---|---|"
    side = train.specs[OURS].crop or judge.observed.images.shape[-1]
    rows = np.arange(len(judge.table))
    pieces = pieces_of(rows, AT_ONCE)
    trained = list(networks(work))
    front = trained[0].front
    for name, change in changes(sdss).items():
        with torch.inference_mode():
            scaled = [front(torch.from_numpy(change(judge, piece, side))) for piece in pieces]
            predictions = [predicted(network, judge, scaled) for network in trained]
        found = [measures(prediction, judge.survey.H0_kms_mpc) for prediction in predictions]
        cells = []
        for key, sign, digits in (
            ("l2_d_mpc", 1, 2),
            ("shift_d_mpc", -1, 2),
            ("posterior_rms_kms", 1, 0),
        ):
            cells.append(spread([sign * f[key] for f in found], digits))
        both = [np.mean([f[key] for f in found]) for key in ("coverage_68", "coverage_95")]
        yield f"| {name} | {' | '.join(cells)} | {both[0]:.3f}, {both[1]:.3f} |"


def axis_ratio(image: Pictures) -> float:
    """Minor over major axis, from second moments of the light (y, x) in a circle."""
    half = (len(image) - 1) / 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    weight = np.sqrt(np.clip(image, 0, None)) * (np.hypot(x, y) <= half)
    tensor = np.array([[(weight * a * b).sum() for a in (x, y)] for b in (x, y)])
    small, large = np.linalg.eigvalsh(tensor)
    return float(np.sqrt(small / large))


def biases(judge: Judge, runs: Sequence[Table]) -> Iterator[str]:
    """Mean residual in fifths of several properties, with errors from whole galaxies."""
    yield "| by | first fifth | second | third | fourth | last |"
    yield "|---|---|---|---|---|---|"
    D_p = np.mean([run["D_p_mpc"] for run in runs], axis=0)
    residual = D_p - judge.D_mpc
    galaxy = np.asarray(judge.table["galaxy"])
    of_galaxy = np.repeat(np.arange(len(judge.galaxies)), judge.images.shape[1])
    mag = judge.galaxies["absolute_mag"].value[of_galaxy]
    bands = list(judge.survey.bands)
    rim = judge.observed.images.shape[-1] // 4
    middle = slice(rim, -rim)
    r = bands.index("r")
    rows = np.arange(len(judge.table))
    ratio = np.concatenate(
        [
            [axis_ratio(i[r, middle, middle]) for i in judge.observed.images[piece]]
            for piece in pieces_of(rows, 256)
        ]
    )
    properties = {
        "distance D": judge.D_mpc,
        "redshift distance D_z": judge.D_z_mpc,
        "predicted D_p": D_p,
        "log10 stellar mass": judge.galaxies["log10_stellar_mass"].value[of_galaxy],
        "colour g - r": mag[:, bands.index("g")] - mag[:, r],
        "axis ratio": ratio,
    }
    for name, value in properties.items():
        fifths = np.array_split(np.argsort(value, kind="stable"), 5)
        yield f"| {name} | {' | '.join(mean_by_galaxy(residual[f], galaxy[f]) for f in fifths)} |"


def mean_by_galaxy(residual: Array, galaxy: NDArray[np.int64]) -> str:
    """Mean of residuals and its error, whose four views a galaxy are not independent."""
    _, which = np.unique(galaxy, return_inverse=True)
    sums = np.bincount(which, residual - residual.mean())
    return f"{residual.mean():+.2f} ± {np.sqrt((sums**2).sum()) / len(residual):.2f}"


def four_views(judge: Judge, runs: Sequence[Table]) -> Iterator[str]:
    """How the errors of a galaxy's views hang together, and what their mean gives."""
    cameras = judge.images.shape[1]
    for number, run in enumerate(runs, start=1):
        residual = (np.asarray(run["D_p_mpc"]) - judge.D_mpc).reshape(-1, cameras)
        pairs = np.asarray(np.corrcoef(residual.T))[np.triu_indices(cameras, 1)]
        yield (
            f"- network {number}: correlation of the errors of two views {pairs.mean():.2f} (each "
            f"at a distance of its own); L2 of one view {np.sqrt((residual**2).mean()):.2f} Mpc, "
            f"of the mean error of four {np.sqrt((residual.mean(axis=1) ** 2).mean()):.2f} Mpc"
        )


def main() -> None:
    """Write `audits.md`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder of experiments/standin/ablation.py")
    parser.add_argument("output", type=Path, help="folder for audits.md")
    chosen = parser.parse_args()
    with one_sentence():
        train, sdss = load(Train), load(Observe).instruments["sdss"]
        judge = Judge(chosen.work / "judge")
        learn = Observed.read(chosen.work / "learn/data/observe/uniform")
        raw = chosen.work / "learn/data/fetch"
        runs = [Table.read(path) for path in sorted(chosen.work.glob(f"runs/{LAST}, seed *.ecsv"))]
        parts = {
            f"Images changed ({judge.survey.source})": accuracy(judge, train, chosen.work, sdss),
            "Mean of D_p - D [Mpc], mean over the seeds": biases(judge, runs),
            "Four views of one galaxy": four_views(judge, runs),
            "Gradient-boosted trees on catalogue numbers, L2(D)": regressors(
                judge.observed, learn, raw
            ),
        }
        chosen.output.mkdir(parents=True, exist_ok=True)
        text = "\n\n".join(f"## {name}\n\n" + "\n".join(lines) for name, lines in parts.items())
        (chosen.output / "audits.md").write_text(text + "\n")
        print(text)


if __name__ == "__main__":
    main()
