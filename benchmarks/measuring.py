"""Tools of all benchmarks: competitors by turns, limits of the machine, rows and tables."""

import csv
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

FELL = 0.2  # a ratio that lost so much of itself is reported
COPY_BYTES, SQUARE = 2**28, 2048


@dataclass(frozen=True)
class Timing:
    """One competitor on the same work as the others: a row of the table.

    Attributes
    ----------
    group, work : str
        Part of the benchmark, and what was done.
    name : str
        Who did it; "ours" is what this project does by default.
    unit : str
        "images/s" and such, where more is better, or "s", where less is.
    median, low, high : float
        Over the repeats, in `unit`.
    ratio : float
        How much better ours is than this competitor: median over the repeats, which were by turns.
    limit : float or None
        What the machine can do on paper, in `unit`, and `limit_by` what sets it.
    note : str
        Difference of the results, or what else is worth knowing.
    aim : float or None
        The ratio that is wished for.
    """

    group: str
    work: str
    name: str
    unit: str
    median: float
    low: float
    high: float
    ratio: float
    limit: float | None = None
    limit_by: str = ""
    note: str = ""
    aim: float | None = None

    @property
    def reached(self) -> float | None:
        """Fraction of the limit."""
        if self.limit is None:
            return None
        return self.limit / self.median if self.unit == "s" else self.median / self.limit

    @property
    def missed(self) -> bool:
        """Whether the aim was missed."""
        return self.aim is not None and not self.ratio >= self.aim


@dataclass(frozen=True)
class Work:
    """The same work for several competitors.

    Attributes
    ----------
    group, name, unit : str
        See `Timing`.
    amount : float
        Images (or galaxies, networks) in one go; 1 where the unit is seconds.
    competitors : mapping
        Name to a function that does the work, or that does it and gives the seconds itself; the
        first is "ours".
    limit, limit_by
        See `Timing`.
    notes, aims, amounts : mapping
        By competitor: note; ratio wished for; amount, where it has less to do than the others.
    """

    group: str
    name: str
    unit: str
    amount: float
    competitors: Mapping[str, Callable[[], float | None]]
    limit: float | None = None
    limit_by: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    aims: Mapping[str, float] = field(default_factory=dict)
    amounts: Mapping[str, float] = field(default_factory=dict)


def by_turns(work: Work, repeats: int, *, warm: bool = True) -> list[Timing]:
    """Let all competitors do the work by turns, so that what else the machine does hits all."""
    seconds: dict[str, list[float]] = {name: [] for name in work.competitors}
    for _ in range(repeats + warm):
        for name, run in work.competitors.items():
            start = time.perf_counter()
            own = run()
            seconds[name].append(time.perf_counter() - start if own is None else own)
    first, timings = next(iter(work.competitors)), []

    def values(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        taken = np.array(seconds[name][warm:])
        return taken if work.unit == "s" else work.amounts.get(name, work.amount) / taken

    for name in work.competitors:
        found, ours = values(name), values(first)
        ratios = found / ours if work.unit == "s" else ours / found
        timings.append(
            Timing(
                work.group,
                work.name,
                name,
                work.unit,
                float(np.median(found)),
                float(found.min()),
                float(found.max()),
                float(np.median(ratios)),
                work.limit if name == first else None,
                work.limit_by if name == first else "",
                work.notes.get(name, ""),
                work.aims.get(name),
            )
        )
    return timings


def threads(number: int) -> None:
    """Let torch, and OpenCV where it is loaded, use this number of threads."""
    import cv2

    torch.set_num_threads(number)
    cv2.setNumThreads(number)


@dataclass(frozen=True)
class Machine:
    """What was run on, and the two limits that were measured on it.

    Attributes
    ----------
    name : str
        Kind of machine: tables of one kind are compared.
    cores : int
        Cores that this process may use.
    copy_gb_s, copy_core_gb_s : float
        Bytes read and written by a copy, all cores and one, GB/s.
    gflops, gflops_core : float
        Multiplications and additions of a float32 matrix product, all cores and one, 1e9/s.
    """

    name: str
    cores: int
    copy_gb_s: float
    copy_core_gb_s: float
    gflops: float
    gflops_core: float

    def seconds(self, operations: float, bytes_moved: float, *, core: bool = False) -> float:
        """Least possible time for these operations and bytes."""
        flops, copy = (
            (self.gflops_core, self.copy_core_gb_s) if core else (self.gflops, self.copy_gb_s)
        )
        return max(operations / flops, bytes_moved / copy) / 1e9


def best_of(run: Callable[[], object], repeats: int = 5) -> float:
    """Least seconds of several runs: for limits, which neighbours can only lower."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def copy_gb_s(device: torch.device, size: int = COPY_BYTES) -> float:
    """Bytes read and written by a copy, GB/s, with torch's threads."""
    a = torch.ones(size // 4, device=device)
    b = torch.empty_like(a)

    def copy() -> None:
        b.copy_(a)
        _wait(device)

    copy()
    return 2 * size / best_of(copy) / 1e9


def gflops(device: torch.device, side: int = SQUARE) -> float:
    """Multiplications and additions of a float32 matrix product, 1e9/s, with torch's threads."""
    a = torch.ones(side, side, device=device)

    def product() -> None:
        a @ a
        _wait(device)

    product()
    return 2 * side**3 / best_of(product) / 1e9


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def machine(device: torch.device) -> Machine:
    """Measure the machine at hand."""
    cores = len(os.sched_getaffinity(0))
    found = []
    for number in (cores, 1):
        threads(number)
        found.append((copy_gb_s(device), gflops(device)))
    threads(cores)
    (copy, flops), (copy_core, flops_core) = found
    name = torch.cuda.get_device_name() if device.type == "cuda" else _processor()
    return Machine(f"{name}, {cores} cores", cores, copy, copy_core, flops, flops_core)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def header(measured: Machine) -> dict[str, Any]:
    """When, on what, and of which code a table is."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": date.today().isoformat(),
        "commit": commit,
        **asdict(measured),
        "load_average": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
    }


def shown(value: float | None) -> str:
    """Three digits, without an exponent."""
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(head: Mapping[str, Any], timings: Sequence[Timing]) -> str:
    """The table for people."""
    about = ", ".join(
        f"{key} {shown(value) if isinstance(value, float) else value}"
        for key, value in head.items()
    )
    lines = [f"{about}.", ""]
    for group in dict.fromkeys(t.group for t in timings):
        lines += [
            f"### {group}",
            "",
            "| work | who | unit | median | low to high | ours over it | limit | of it | note |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for t in timings:
            if t.group == group:
                aim = f" (aim {shown(t.aim)})" if t.aim is not None else ""
                limit = "-" if t.limit is None else f"{shown(t.limit)} ({t.limit_by})"
                reached = "-" if t.reached is None else f"{100 * t.reached:.0f} %"
                cells = [
                    t.work,
                    t.name,
                    t.unit,
                    shown(t.median),
                    f"{shown(t.low)} to {shown(t.high)}",
                    f"{shown(t.ratio)}{aim}",
                    limit,
                    reached,
                    t.note,
                ]
                lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def write(folder: Path, stem: str, head: Mapping[str, Any], timings: Sequence[Timing]) -> None:
    """Write `STEM.md`, `.csv` and `.json`, of which the last is what the next table is held to."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [asdict(t) for t in timings]
    (folder / f"{stem}.md").write_text(markdown(head, timings))
    (folder / f"{stem}.json").write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n")
    with (folder / f"{stem}.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def last_table(folder: Path, name: str) -> dict[str, Any] | None:
    """The newest kept table of a kind of machine; None where there is none."""
    tables = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    own = [table for table in tables if table["name"] == name]
    return max(own, key=lambda table: str(table["date"]), default=None)


def fallen(timings: Sequence[Timing], kept: Mapping[str, Any]) -> list[str]:
    """What fell by more than `FELL` since a kept table: its ratios, row by row.

    Ratios to competitors and not rates, which depend on what else the machine does.
    """
    before = {(row["group"], row["work"], row["name"]): row["ratio"] for row in kept["rows"]}
    found = []
    for t in timings:
        old = before.get((t.group, t.work, t.name))
        if old is not None and t.ratio < (1 - FELL) * old:
            found.append(
                f"{t.group}, {t.work}: better than {t.name} by {shown(t.ratio)}, "
                f"by {shown(old)} on {kept['date']} ({kept['commit']})"
            )
    return found
