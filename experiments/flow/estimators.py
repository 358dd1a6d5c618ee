"""How well the bulk flow of mock galaxies is found, and by which columns it must not be sought.

    python -m experiments.flow.estimators WORK OUT --mocks 100 --galaxies 20000

Each mock catalogue has a flow of 300 km/s. It is sought by `peculiar flow` and by least squares (a
dipole and a constant) of the columns that one might average instead. Each mock is kept in WORK: if
interrupted, rerun the same command to resume. Writes OUT/bulk_flow.md.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.flow.mocks import Drawn, Mock, drawn
from experiments.kept import identity_of, read_kept
from peculiar.core.files import replace_file
from peculiar.flow import fit, likelihood
from peculiar.flow.likelihood import Galaxies
from peculiar.velocity.grid import moments
from peculiar.velocity.posterior import velocity_on_grid

Array = NDArray[np.float64]
SIGMA_D_MPC = (10.0, 20.0)
FIELDS = ("V", "error")  # of a kept estimate, with the monopole: (4,) each, km/s


def by_flow(mock: Mock, galaxies: Galaxies) -> tuple[Array, Array]:
    """V and the monopole at the mean depth, and their errors, (4,) each, km/s, by our command."""
    found = fit.fit_flow([galaxies], mock.H0_kms_mpc)
    scale: Array = np.array([1, 1, 1, mock.H0_kms_mpc * found.depth_mpc])
    V = np.append(found.V_kms, found.zero_point)
    errors: Array = np.sqrt(np.diag(found.covariance))
    return V * scale, errors * scale


def least_squares(v_kms: Array, towards: Array) -> tuple[Array, Array]:
    """Dipole of velocities (n,), km/s, and their constant, and the errors, (4,) each, km/s."""
    design = np.column_stack([towards, np.ones(len(v_kms))])
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ design.T @ v_kms
    variance = np.sum((v_kms - design @ found) ** 2) / (len(v_kms) - 4)
    return np.asarray(found), np.asarray(np.sqrt(variance * np.diag(inverse)))


def of_v_hat(mock: Mock, one: Drawn) -> Array:
    """Posterior means (n,), km/s, under N(0, sigma_v)."""
    known = one.galaxies
    return velocity_on_grid(
        known.p, known.x_mpc, known.X_mpc, mock.sigma_v_kms, mock.H0_kms_mpc
    ).mean_kms


def of_v_p(mock: Mock, one: Drawn, p: Array) -> Array:
    """v_p = H0 (D_z - D_p) (n,), km/s."""
    D_p, _ = moments(p, one.galaxies.x_mpc)
    return np.asarray(mock.H0_kms_mpc * (one.galaxies.X_mpc - D_p))


def of_eta(mock: Mock, one: Drawn) -> Array:
    """H0 D_z ln(10) eta (n,), km/s, the velocity to first order."""
    D_z = np.maximum(one.galaxies.X_mpc, 1e-3)
    eta = np.log10(D_z) - one.galaxies.p @ np.log10(one.galaxies.x_mpc)
    return np.asarray(mock.H0_kms_mpc * D_z * np.log(10) * eta)


ESTIMATORS: Mapping[str, Callable[[Mock, Drawn], tuple[Array, Array]]] = {
    "`peculiar flow`, prior of the survey": lambda mock, one: by_flow(mock, one.galaxies),
    "`peculiar flow`, uniform prior": lambda mock, one: by_flow(
        mock, replace(one.galaxies, p=one.flat)
    ),
    "v_p, prior of the survey": lambda mock, one: least_squares(
        of_v_p(mock, one, one.galaxies.p), one.galaxies.towards
    ),
    "v_p, uniform prior": lambda mock, one: least_squares(
        of_v_p(mock, one, one.flat), one.galaxies.towards
    ),
    "eta, prior of the survey": lambda mock, one: least_squares(
        of_eta(mock, one), one.galaxies.towards
    ),
    "v_hat": lambda mock, one: least_squares(of_v_hat(mock, one), one.galaxies.towards),
}


def one_mock(mock: Mock, seed: int, work: Path) -> dict[str, dict[str, list[float]]]:
    """Estimates of one mock catalogue, kept in `work`."""
    path = work / f"{mock.sigma_D_mpc:g}_mpc" / f"{seed}.json"
    code = [
        sha256(Path(str(module.__file__)).read_bytes()).hexdigest() for module in (fit, likelihood)
    ]
    identity = identity_of(asdict(mock), seed, code, sorted(ESTIMATORS))
    before = read_kept(path, identity)
    if before is None:
        one = drawn(mock, np.random.default_rng(seed))
        found = {
            name: dict(zip(FIELDS, (part.tolist() for part in estimate(mock, one)), strict=True))
            for name, estimate in ESTIMATORS.items()
        }
        before = {"identity": identity, "found": found}
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as partial:
            partial.write_text(json.dumps(before))
    return dict(before["found"])


def judged(mock: Mock, V: Array, errors: Array) -> list[str]:
    """Cells of a row, of V, the monopole and their errors (mocks, 4), km/s."""
    true = np.array(mock.flow_kms)
    along = V[:, :3] @ true / np.linalg.norm(true)
    within = (np.abs(V[:, :3] - true) < errors[:, :3]).mean(axis=1)
    return [
        mean_said(along, 1),
        f"{np.std(along, ddof=1):.1f}",
        f"{errors[:, :3].mean():.1f}",
        mean_said(within, 3),
        mean_said(V[:, 3], 0),
    ]


def mean_said(values: Array, digits: int) -> str:
    """Mean of mocks and its error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.{digits}f} ± {error:.{digits}f}"


def table(mock: Mock, found: Sequence[Mapping[str, Mapping[str, list[float]]]]) -> str:
    """Markdown: a row an estimator."""
    columns = [
        "mean along the flow [km/s]",
        "scatter",
        "stated error",
        "68 % coverage",
        "monopole [km/s]",
    ]
    lines = [f"| sought in | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in ESTIMATORS:
        V, errors = (np.array([one[name][field] for one in found]) for field in FIELDS)
        lines.append(f"| {name} | {' | '.join(judged(mock, V, errors))} |")
    return "\n".join(lines)


def main() -> None:
    """Run the mocks that are missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mocks", type=int, default=100)
    parser.add_argument("--galaxies", type=int, default=Mock().galaxies)
    arguments = parser.parse_args()
    lines = []
    for sigma_D in SIGMA_D_MPC:
        mock = replace(Mock(), galaxies=arguments.galaxies, sigma_D_mpc=sigma_D)
        found = [one_mock(mock, seed, arguments.work) for seed in range(arguments.mocks)]
        lines += [
            f"{arguments.mocks} mocks of {mock.galaxies:,} galaxies, sigma_D = {sigma_D:g} Mpc, "
            f"sigma_v = {mock.sigma_v_kms:g} km/s, flow {np.linalg.norm(mock.flow_kms):.0f} km/s:",
            "",
            table(mock, found),
            "",
        ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "bulk_flow.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
