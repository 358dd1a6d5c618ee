"""Log a run to MLflow, or keep it in a file and log it later if MLflow does not answer.

A trial may have trained for hours when the tracking server goes down. This then costs a warning and
a file in the spool, `mlruns/spool`, and no trial. Metrics and tags are kept; figures and models are
lost. The driver of the search logs the runs in the spool.
"""

import json
import logging
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock

from peculiar.runs import tracking

LOG = logging.getLogger(__name__)


class Logbook:
    """A run that survives an outage of its server; a context manager like `tracking.run`.

    Parameters
    ----------
    spool : Path
        Folder for runs that cannot be logged.
    experiment_id, name : str
        See `tracking.run`.
    **run
        Further arguments of `tracking.run`.

    Attributes
    ----------
    run_id : str or None
        None if MLflow has not answered yet.
    """

    def __init__(self, spool: Path, experiment_id: str, name: str, **run: Any):
        self.spool, self.down = spool, False
        self.run_id: str | None = None
        self._stack = ExitStack()
        # as text: JSON turns tuples into lists, and MLflow refuses a second value of a parameter
        run |= {"params": tracking.flatten(run.get("params", {}))}
        self._run: dict[str, Any] = {"experiment_id": experiment_id, "name": name, **run}
        self._curves: list[Mapping[str, float]] = []
        self._times_ms: list[int] = []
        self._metrics: dict[str, float] = {}
        self._tags: dict[str, str] = {"peculiar.started_ms": str(tracking.now_ms())}

    def __enter__(self) -> Self:
        self.attempt(self._begin)
        return self

    def _begin(self) -> None:
        self.run_id = self._stack.enter_context(tracking.run(**self._run))

    def attempt(self, tell: Callable[[], object]) -> None:
        """Call MLflow, unless it failed before; the call is not repeated later."""
        if self.down:
            return
        try:
            tell()
        except tracking.FAULTS as error:
            self._lost(error)

    def _lost(self, error: BaseException) -> None:
        self.down = True
        LOG.warning(
            "MLflow does not answer (%s): %s goes to %s and is delivered later",
            _reason(error),
            self._run["name"],
            self.spool,
        )

    def curves(self, row: Mapping[str, float]) -> None:
        """Log one epoch; see `tracking.log_curves`."""
        self._curves.append(row)
        self._times_ms.append(tracking.now_ms())
        self.attempt(lambda: tracking.log_curves(self._id, [row], self._times_ms[-1:]))

    def metrics(self, values: Mapping[str, float], prefix: str = "") -> None:
        """Log final metrics as `prefix + name`."""
        named = {prefix + key: value for key, value in values.items()}
        self._metrics |= named
        self.attempt(lambda: tracking.log_metrics(self._id, named))

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._tags |= tags
        self.attempt(lambda: tracking.tag_run(self._id, tags))

    @property
    def _id(self) -> str:
        assert self.run_id is not None, "the run has not begun"
        return self.run_id

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._stack.__exit__(kind, error, traceback)
        except tracking.FAULTS as fault:
            if fault is error:
                raise
            self._lost(fault)
        if self.down:
            self._keep("FINISHED" if kind is None else "FAILED")

    def _keep(self, status: str) -> None:
        kept = {
            "run": self._run | {"run_id": self.run_id},
            "curves": self._curves,
            "times_ms": self._times_ms,
            "metrics": self._metrics,
            "tags": self._tags | {"peculiar.spooled_ms": str(tracking.now_ms())},
            "status": status,
        }
        self.spool.mkdir(parents=True, exist_ok=True)
        path = self.spool / f"{uuid.uuid4()}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(kept))
        partial.rename(path)


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def deliver(spool: Path) -> int:
    """Log the runs in the spool; returns how many remain because MLflow does not answer."""
    if not spool.is_dir():
        return 0
    with FileLock(spool / ".lock"):
        paths = sorted(spool.glob("*.json"))
        for done, path in enumerate(paths):
            try:
                _deliver(path)
            except tracking.FAULTS as error:
                LOG.warning(
                    "MLflow does not answer (%s): %d runs stay in %s",
                    _reason(error),
                    len(paths) - done,
                    spool,
                )
                return len(paths) - done
            path.unlink()
    return 0


def _deliver(path: Path) -> None:
    kept = json.loads(path.read_text())
    with tracking.run(**kept["run"]) as run_id:
        if kept["run"]["run_id"] is None:  # a second attempt resumes this run
            kept["run"]["run_id"] = run_id
            path.write_text(json.dumps(kept))
        tracking.log_curves(run_id, kept["curves"], kept["times_ms"])
        tracking.log_metrics(run_id, kept["metrics"])
        tracking.tag_run(run_id, kept["tags"])
    tracking.end_run(run_id, kept["status"])
