"""The published Table A2 and the paper's claims, as numbers of any such table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

PUBLISHED = Path(__file__).with_name("table_a2.csv")
METRICS = ("l1_dz_mpc", "l2_dz_mpc", "l1_d_mpc", "l2_d_mpc", "velocity_slope", "velocity_rms_kms")
H0_KMS_MPC = 70  # the paper's
BROKEN = 0.01  # by more than this share rms(v) is not H0 L2(D)


class Rows:
    """Table A2, the published or a measured one.

    Attributes
    ----------
    table : Table
        Forty rows: distances, normalised, label, network, and `METRICS`, Mpc and km/s.
    """

    def __init__(self, table: Table):
        self.table = table

    def least(self, metric: str, *names: str, **which: object) -> int:
        """How many of these networks are the best of all of them in some block of the table."""
        blocks = {tuple(row) for row in self.table["distances", "normalised", "label"]}
        best = set()
        for distances, normalised, label in blocks:
            block = which | {"distances": distances, "normalised": normalised, "label": label}
            best.add(names[int(np.argmin([self.mean(metric, network=n, **block) for n in names]))])
        return len(best)

    def mean(self, metric: str, **which: object) -> float:
        """Mean of a metric over the rows that are like this; `network` is a part of a name.

        NaN where there are none.
        """
        values = self.values(metric, **which)
        return float(np.mean(values)) if values.size else float("nan")

    def values(self, metric: str, **which: object) -> NDArray[np.float64]:
        """A metric of the rows that are like this."""
        chosen = np.ones(len(self.table), dtype=bool)
        for column, value in which.items():
            if column == "network":
                names = self.table["network"]
                chosen &= [str(value) in str(name) for name in names]
            else:
                chosen &= np.asarray(self.table[column]) == value
        if metric not in self.table.colnames:  # the paper does not print it
            return np.full(int(chosen.sum()), np.nan)
        return np.asarray(self.table[metric][chosen], dtype=float)


def published() -> Rows:
    """The published table; rows without peculiar velocities learn from D."""
    table = Table.read(PUBLISHED, format="ascii.csv")
    for column in ("normalised", "peculiar_velocity"):
        table[column] = [str(value).lower() == "true" for value in table[column]]
    table["label"] = np.where(table["peculiar_velocity"], "D_z", "D")
    for metric in METRICS:
        table[metric] = np.ma.filled(np.ma.asarray(table[metric], dtype=float), np.nan)
    return Rows(table)


def measures_of_claims(predicted: Mapping[str, ArrayLike]) -> dict[str, float]:
    """What claims need of a network and the stages do not compute.

    Parameters
    ----------
    predicted : mapping of str to array_like, (n,)
        From `peculiar.training.predictions.prediction_columns`, of the test split.

    Returns
    -------
    dict of str to float
        `l2_near_mpc`, `l2_far_mpc`: L2(D) of the nearest and the farthest fifth of the images;
        `velocity_slow_kms`, `velocity_fast_kms`: rms error of the velocity of the fifths with the
        smallest and the largest |v|; `within_10_percent`: share of D_p within 10 % of D.
    """
    columns = ("D_mpc", "D_p_mpc", "v_kms", "v_p_kms")
    D, D_p, v, v_p = (np.asarray(predicted[name], dtype=float) for name in columns)
    near, far = _rms_of_fifths(D_p - D, D)
    slow, fast = _rms_of_fifths(v_p - v, np.abs(v))
    return {
        "l2_near_mpc": near,
        "l2_far_mpc": far,
        "velocity_slow_kms": slow,
        "velocity_fast_kms": fast,
        "within_10_percent": float(np.mean(np.abs(D_p - D) <= 0.1 * D)),
    }


def _rms_of_fifths(error: NDArray[np.float64], by: NDArray[np.float64]) -> tuple[float, float]:
    """Rms of errors (n,) in the fifths with the smallest and the largest `by` (n,)."""
    fifths = np.array_split(error[np.argsort(by, kind="stable")], 5)
    first, last = (float(np.sqrt(np.mean(fifths[one] ** 2))) for one in (0, -1))
    return first, last


@dataclass(frozen=True)
class Claim:
    """What the paper says.

    Attributes
    ----------
    text, said : str
        The claim, and its number as printed in the paper.
    number : callable
        That number from a table.
    holds_above : float or None
        The claim holds where the number is above this; None for a number without a verdict.
    """

    text: str
    said: str
    number: Callable[[Rows], float]
    holds_above: float | None = 0.0


def _gain(rows: Rows, *, label: str, low: dict[str, object], high: dict[str, object]) -> float:
    """How much lower the mean L1(D) of rows `low` is than that of rows `high`, Mpc."""
    of = "l1_d_mpc"
    return rows.mean(of, label=label, **high) - rows.mean(of, label=label, **low)


def _for_labels(
    text: str, said: tuple[str, str], low: dict[str, object], high: dict[str, object]
) -> list[Claim]:
    """One claim about labels D and another about D_z."""
    return [
        Claim(
            f"{text}, trained on {label}", number, partial(_gain, label=label, low=low, high=high)
        )
        for label, number in zip(("D", "D_z"), said, strict=True)
    ]


CLAIMS = [
    *_for_labels(
        "normalisation lowers the CNNs' L1(D) [Mpc]",
        ("2.452", "1.628"),
        {"network": "CNN", "normalised": True},
        {"network": "CNN", "normalised": False},
    ),
    *_for_labels(
        "CNNs have a lower L1(D) than ResNets, normalised [Mpc]",
        ("3.765", "6.072"),
        {"network": "CNN", "normalised": True},
        {"network": "ResNet"},
    ),
    *_for_labels(
        "ResNet18 has a lower L1(D) than ResNet50 [Mpc]",
        ("4.231", "2.675"),
        {"network": "ResNet18"},
        {"network": "ResNet50"},
    ),
    Claim(
        "CNNs trained on D have a lower L1(D) than on D_z [Mpc]",
        "0.164",
        lambda r: (
            r.mean("l1_d_mpc", label="D_z", network="CNN")
            - r.mean("l1_d_mpc", label="D", network="CNN")
        ),
    ),
    Claim(
        "trained on D_z, L1(D) is lower than L1(D_z) [Mpc]",
        "1.521",
        lambda r: r.mean("l1_dz_mpc", label="D_z") - r.mean("l1_d_mpc", label="D_z"),
    ),
    Claim(
        "the same of CNNs [Mpc]",
        "1.644",
        lambda r: (
            r.mean("l1_dz_mpc", label="D_z", network="CNN")
            - r.mean("l1_d_mpc", label="D_z", network="CNN")
        ),
    ),
    Claim(
        "the same of L2, all networks [Mpc]",
        "lower",
        lambda r: r.mean("l2_dz_mpc", label="D_z") - r.mean("l2_d_mpc", label="D_z"),
    ),
    Claim(
        "no CNN is always the best: how many of the four are somewhere, less one",
        "above 0",
        lambda r: r.least("l1_d_mpc", *(f"{n}-Layer" for n in (2, 3, 4, 5))) - 1,
    ),
    Claim(
        "the CNNs' L2(D) is constant with distance: 0.2 less |ratio of last to first fifth - 1|",
        "above 0",
        lambda r: (
            0.2
            - abs(r.mean("l2_far_mpc", network="CNN") / r.mean("l2_near_mpc", network="CNN") - 1)
        ),
    ),
    Claim(
        "the CNNs' error of v is independent of |v|: 0.2 less |ratio of last to first fifth - 1|",
        "above 0",
        lambda r: (
            0.2
            - abs(
                r.mean("velocity_fast_kms", network="CNN", label="D_z")
                / r.mean("velocity_slow_kms", network="CNN", label="D_z")
                - 1
            )
        ),
    ),
    Claim(
        "normalised CNNs are routinely within 10 %: share of D_p within 10 % of D, less one half",
        "above 0",
        lambda r: r.mean("within_10_percent", network="CNN", normalised=True) - 0.5,
    ),
    Claim(
        "least L1(D), trained on D [Mpc]",
        "4.535",
        lambda r: r.values("l1_d_mpc", label="D").min(),
        None,
    ),
    Claim(
        "least L1(D), trained on D_z [Mpc]",
        "4.901",
        lambda r: r.values("l1_d_mpc", label="D_z").min(),
        None,
    ),
    Claim("least L2(D) [Mpc]", "5.8", lambda r: r.values("l2_d_mpc").min(), None),
    Claim(
        "least velocity rms [km/s]",
        "443.632",
        lambda r: r.values("velocity_rms_kms", label="D_z").min(),
        None,
    ),
    Claim(
        "slopes are within 5 % of one: 0.05 less the largest |slope - 1|",
        "above 0",
        lambda r: 0.05 - np.abs(r.values("velocity_slope", label="D_z") - 1).max(),
    ),
    Claim(
        "most intercepts are small: 25 less the median |intercept| [km/s]",
        "above 0",
        lambda r: 25 - np.median(np.abs(r.values("velocity_intercept_kms", label="D_z"))),
    ),
    Claim(
        "largest |intercept| [km/s]",
        "of order 100",
        lambda r: np.abs(r.values("velocity_intercept_kms", label="D_z")).max(),
        None,
    ),
    Claim(
        "normalisation lowers the CNNs' velocity rms [km/s]",
        "insignificant",
        lambda r: (
            r.mean("velocity_rms_kms", label="D_z", network="CNN", normalised=False)
            - r.mean("velocity_rms_kms", label="D_z", network="CNN", normalised=True)
        ),
        None,
    ),
    Claim(
        "CNNs on uniform distances have a lower velocity rms than on normal ones, at most [km/s]",
        "up to 250",
        lambda r: (
            r.values("velocity_rms_kms", label="D_z", network="CNN", distances="normal")
            - r.values("velocity_rms_kms", label="D_z", network="CNN", distances="uniform")
        ).max(),
    ),
]


def verdict(claim: Claim, numbers: Sequence[float]) -> tuple[str, str]:
    """Ours with its error over seeds, and whether the claim holds, at 95 % by Student's t."""
    mean = float(np.mean(numbers))
    if not np.isfinite(mean):
        return "-", "not measured"
    if len(numbers) == 1:
        return f"{mean:.3f}", "-" if claim.holds_above is None else "one seed"
    error = float(np.std(numbers, ddof=1) / np.sqrt(len(numbers)))
    cell = f"{mean:.3f} ± {error:.3f}"
    if claim.holds_above is None:
        return cell, "-"
    above = mean - claim.holds_above
    if abs(above) <= student.ppf(0.975, len(numbers) - 1) * error:
        return cell, "undecided"
    return cell, "yes" if above > 0 else "no"


def claims(theirs: Rows, ours: Sequence[Rows]) -> list[str]:
    """The paper's claims as a Markdown table."""
    lines = ["| claim | paper's text | paper's table | ours | holds |", "|---|---|---|---|---|"]
    for claim in CLAIMS:
        cell, holds = verdict(claim, [claim.number(rows) for rows in ours])
        table = claim.number(theirs)
        printed = f"{table:.3f}" if np.isfinite(table) else "-"
        # a | would end the cell
        text = claim.text.replace("|", "\\|")
        lines.append(f"| {text} | {claim.said} | {printed} | {cell} | {holds} |")
    return lines


EXPLAINED = (
    "A claim holds (yes) or does not (no) where the mean over seeds of training lies above or "
    "below its threshold (0 unless it says otherwise) by more than the 97.5 % point of Student's t "
    "times the standard error of that mean: equal numbers are called different once in twenty "
    "times. It is undecided where the mean lies nearer, which more seeds would settle. `not "
    "measured`: a row that it needs has diverged or was not trained."
)


def broken(row: Table.Row) -> bool:
    """Whether a row's rms(v) is not H0 L2(D)."""
    expected = H0_KMS_MPC * row["l2_d_mpc"]
    return bool(abs(row["velocity_rms_kms"] / expected - 1) > BROKEN)
