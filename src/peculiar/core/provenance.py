"""Who made a result, of which code and which data: git's commit and DVC's digests."""

import ast
import getpass
import hashlib
import os
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

LOCK = Path("dvc.lock")


def digest(path: Path, root: Path = Path()) -> str:
    """DVC's md5 of a data folder or file that a stage wrote.

    Within `dvc repro` the record in `dvc.lock` is right for what a stage depends on. Outside, when
    a folder may have changed since, the sha256 of its files is taken, marked so that it is never
    mistaken for DVC's. Of a single file, DVC's digest is the plain md5.

    Parameters
    ----------
    path : Path
        Data, below `root`.
    root : Path
        Folder of the repository, which holds `dvc.lock`.

    Returns
    -------
    str
        For example "9c0f...d1.dir"; "sha256:..." of a folder without DVC.
    """
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    lock = root / LOCK
    if "DVC_STAGE" in os.environ and lock.exists():
        stages = (yaml.safe_load(lock.read_text()) or {}).get("stages", {})
        for stage in stages.values():
            for out in stage.get("outs", []):
                if root / out["path"] == path:
                    return str(out["md5"])
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
            total.update(file.name.encode() + b"\0" + content)
    return f"sha256:{total.hexdigest()}"


def digests(paths: Iterable[Path], root: Path = Path()) -> dict[str, str]:
    """`digest` of each path, by its name below `root`."""
    return {path.relative_to(root).as_posix(): digest(path, root) for path in paths}


def code_digest(package: Path = Path(__file__).parents[1]) -> str:
    """sha256 over the sources of this package, so that a study is not continued by other code."""
    total = hashlib.sha256()
    for name in sorted(path.relative_to(package).as_posix() for path in package.rglob("*.py")):
        total.update(name.encode() + b"\0" + (package / name).read_bytes())
    return total.hexdigest()


def imported_code_digest(module: str, source: Path = Path(__file__).parents[2]) -> str:
    """sha256 over the sources of a module and of all that it imports from its own package.

    An edit elsewhere in the package leaves it.

    Parameters
    ----------
    module : str
        For example "peculiar.search.objective".
    source : Path
        Folder that holds the package.

    Returns
    -------
    str
        Hexadecimal digest over names and contents, in the order of the names.
    """
    files: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source_file(name, source)
        if path is not None and path not in files:
            files.add(path)
            waiting += [*_imports(path), name.rpartition(".")[0]]  # an import runs its package too
    total = hashlib.sha256()
    for relative in sorted(path.relative_to(source).as_posix() for path in files):
        total.update(relative.encode() + b"\0" + (source / relative).read_bytes())
    return total.hexdigest()


def _source_file(module: str, source: Path) -> Path | None:
    """The file of a module or package; None for what is not in `source`."""
    path = source.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _imports(path: Path) -> list[str]:
    """Dotted names of the modules that a file imports, also in functions, and of their members."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


@cache
def loaded_code() -> str:
    """`code_digest` when this process first asked: of what it has imported, edited since or not."""
    return code_digest()


def who() -> str:
    """Name of the user, or the number where it has no name (in a container)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def git_state() -> dict[str, str]:
    """Commit and whether the tree differs from it; "unknown" outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        # but for dvc.lock, which DVC rewrites after every stage
        dirty = bool(_git("status", "--porcelain", "--", ".", ":!dvc.lock"))
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": "unknown", "git_dirty": "unknown"}
    return {"git_commit": commit, "git_dirty": str(dirty).lower()}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
