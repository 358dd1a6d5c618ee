"""Datasets that experiments make in folders of their own, with parameters of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError
from peculiar.pipeline import fetch, observe
from peculiar.pipeline.paths import Paths


def make_raw(root: Path, params: Mapping[str, Any]) -> Path:
    """Fetch galaxies below a folder, unless that was done before.

    Parameters
    ----------
    root : Path
        Folder of the galaxies; made if need be.
    params : mapping
        Parameters of all stages; the section `fetch` is written to `params.yaml` there.

    Returns
    -------
    Path
        Folder of the raw images, for `raw` of `make_dataset`.

    Raises
    ------
    InputError
        When the folder holds galaxies of other parameters.
    """
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):  # another process may need them too
        paths = _keep_params(root, {"fetch": params["fetch"]}, ["fetch"])
        if not paths.fetched.exists():
            fetch.main([], root)
    return paths.fetched


def make_dataset(
    root: Path,
    params: Mapping[str, Any],
    dataset: str = "uniform",
    raw: Path | None = None,
    sections: Sequence[str] | None = None,
) -> Observed:
    """Fetch and observe a dataset below a folder, unless that was done before.

    Parameters
    ----------
    root : Path
        Folder of the dataset; made if need be.
    params : mapping
        Parameters of all stages, written to `params.yaml` there.
    dataset : str
        Which of `observe.distances`.
    raw : Path, optional
        Raw images of another folder to take in place of fetching them.
    sections : sequence of str, optional
        Sections in which a `params.yaml` that is there must agree; all if not given.

    Returns
    -------
    Observed

    Raises
    ------
    InputError
        When the folder holds a dataset of other parameters.
    """
    paths = _keep_params(root, params, list(params) if sections is None else sections)
    if raw is not None and not paths.fetched.exists():
        paths.fetched.parent.mkdir(exist_ok=True)
        paths.fetched.symlink_to(raw.resolve())
    if not paths.fetched.exists():
        fetch.main([], root)
    if not paths.observed(dataset).exists():
        observe.main(["--dataset", dataset], root)
    return Observed.read(paths.observed(dataset))


def _keep_params(root: Path, params: Mapping[str, Any], sections: Sequence[str]) -> Paths:
    """Write `params.yaml` into a folder; refuse where one there has another of the sections."""
    paths = Paths(root)
    root.mkdir(parents=True, exist_ok=True)
    if paths.params.exists():
        before = yaml.safe_load(paths.params.read_text())
        for section in sections:
            if before.get(section) != params[section]:
                raise InputError(
                    f"{paths.params} has another section {section}: take another folder, or "
                    f"remove {root}"
                )
    paths.params.write_text(yaml.safe_dump(dict(params)))
    return paths
