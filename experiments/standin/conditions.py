"""How accuracy depends on what the stand-in simulation assumes, and on the telescope.

    python -m experiments.standin.conditions WORK results/conditions

For each condition, make stand-ins to learn from and others to judge on, fewer than those of
`experiments.standin.ablation`, and train our network on them. A network trained on the shipped
parameters is judged on each condition too ("unforeseen"). `conditions.md` gives both.
"""

import argparse
import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from experiments.datasets import make_dataset
from experiments.spread import spread
from experiments.standin.ablation import OURS, judged
from peculiar.core.dataset import Observed
from peculiar.core.errors import one_sentence
from peculiar.core.params import load
from peculiar.networks.heads import Network
from peculiar.training.params import Train
from peculiar.training.predictions import grid_of, predict_split, predictions_of
from peculiar.training.train import train_network
from peculiar.velocity.metrics import measures

SEEDS = {"learn": 21, "judge": 22}
GALAXIES = {"learn": 400, "judge": 250}
SHOWN = ("l2_d_mpc", "shift_d_mpc", "posterior_rms_kms", "coverage_68", "coverage_95")
SHIPPED = "as shipped"


def standin(**parameters: float) -> dict[str, Any]:
    """A condition of the simulation."""
    return {"fetch": {"standin": parameters}}


def exposed(exposures: float, softening_mag_arcsec2: float) -> dict[str, Any]:
    """SDSS with this number of exposures, not one, and pixels scaled at about their noise."""
    return {"exposures": exposures, "softening_mag_arcsec2": softening_mag_arcsec2}


CONDITIONS: Mapping[str, dict[str, Any]] = {
    SHIPPED: {},
    "sizes scatter half as much": standin(size_scatter=0.5),
    "sizes scatter twice as much": standin(size_scatter=2.0),
    "colours scatter half as much": standin(colour_scatter=0.5),
    "colours scatter twice as much": standin(colour_scatter=2.0),
    "particles of twice the mass": standin(particle_mass_msun=2.52e6),
    "light spread over 32 neighbours": standin(neighbours=32),
    "pixels and PSF twice as wide": {
        "observe": {"pixels": 64, "pixel_scale_arcsec": 2.72, "psf_fwhm_arcsec": 8.16}
    },
    "SDSS, 10,000 exposures": exposed(1e4, 31),
    "SDSS, 100 exposures": exposed(1e2, 28.5),
    "SDSS": exposed(1, 26),
}


def parameters(condition: Mapping[str, Any], name: str) -> dict[str, Any]:
    """`params.yaml` under a condition, for the set to learn from or the one to be judged by."""
    params: dict[str, Any] = deepcopy(yaml.safe_load(Path("params.yaml").read_text()))
    params["fetch"] |= {"source": "standin"}
    own = {"seed": SEEDS[name], "galaxies": GALAXIES[name]}
    params["fetch"]["standin"] |= own | condition.get("fetch", {}).get("standin", {})
    params["observe"] |= {"seed": SEEDS[name]} | condition.get("observe", {})
    if "exposures" in condition:
        instrument = params["observe"]["instruments"]["sdss"]
        deeper = 2.5 * np.log10(condition["exposures"])
        instrument["count_mag"] = {
            band: float(mag + deeper) for band, mag in instrument["count_mag"].items()
        }
        params["observe"] |= {"instrument": "sdss"}
    return params


def prepare(folder: Path, condition: Mapping[str, Any], name: str, raw: Path | None) -> None:
    """Fetch and observe one set; raw images are those of `raw` where the galaxies are the same."""
    make_dataset(folder, parameters(condition, name), raw=raw)


def trained(folder: Path, condition: Mapping[str, Any], train: Train, seed: int) -> Network:
    """Our network, trained on a condition's set."""
    softening = train.specs[OURS].softening_mag_arcsec2
    softening = condition.get("softening_mag_arcsec2", softening)
    spec = train.specs[OURS].model_copy(update={"softening_mag_arcsec2": softening})
    learn = Observed.read(folder / "learn/data/observe/uniform")
    return train_network(learn, spec, seed, lambda *_: None, raw=folder / "learn/data/fetch")


def measured(network: Network, folder: Path) -> dict[str, float]:
    """Accuracy of a network on a condition's judging set."""
    judge = judged(Observed.read(folder / "judge/data/observe/uniform"))
    output = predict_split(network, judge, "judge")
    predicted = predictions_of(judge, "judge", output, 0.0, grid_of(network))
    return measures(predicted, judge.survey.H0_kms_mpc)


def line(name: str, results: list[dict[str, float]] | None) -> str:
    """A row of the table: mean over seeds, and their deviation where there are several."""
    if results is None:
        return f"| {name} | " + " | ".join("-" for _ in SHOWN) + " |"
    cells = []
    for key in SHOWN:
        sign = -1 if key == "shift_d_mpc" else 1  # D_p - D
        digits = {"posterior_rms_kms": 0, "l2_d_mpc": 2, "shift_d_mpc": 2}.get(key, 3)
        cells.append(spread([sign * result[key] for result in results], digits))
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Train, judge and tabulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder for data and results")
    parser.add_argument("output", type=Path, help="folder for the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--only", nargs="+", default=[""], help="conditions that begin so")
    chosen = parser.parse_args()
    header = "| condition | L2(D) [Mpc] | mean D_p - D [Mpc] | posterior rms [km/s] | 68 % | 95 % |"
    lines = [header, "|---" * 6 + "|"]
    with one_sentence():
        train = load(Train)
        first: list[Network] = []
        for name, condition in CONDITIONS.items():
            if name != SHIPPED and not name.startswith(tuple(chosen.only)):
                continue
            folder = chosen.work / name.replace(" ", "-").replace(",", "")
            for part in SEEDS:
                shipped = (chosen.work / SHIPPED.replace(" ", "-") / part / "data/fetch").resolve()
                other = "fetch" in condition or name == SHIPPED
                prepare(folder / part, condition, part, None if other else shipped)
            own = [trained(folder, condition, train, seed) for seed in chosen.seeds]
            first = first or own
            results = [measured(network, folder) for network in own]
            lines.append(line(name, results))
            if name != SHIPPED:
                same = "pixels" not in condition.get("observe", {})
                moved = [measured(network, folder) for network in first] if same else None
                lines.append(line(f"{name}, unforeseen", moved))
            (folder / "results.json").write_text(json.dumps(results))
            print(*lines[-2:], sep="\n", flush=True)
            chosen.output.mkdir(parents=True, exist_ok=True)
            (chosen.output / "conditions.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
