"""Record who made a result, with which code and data: git's commit and DVC's digests."""

import ast
import getpass
import hashlib
import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import yaml

from peculiar.core.errors import InputError
from peculiar.core.once import FOLDER, remembered
from peculiar.core.progress import progress_bar

LOCK = Path("dvc.lock")
READ_BYTES = 2**22
SETTLED_S = 2  # much longer than a tick of a file system's clock


def digest(path: Path, root: Path = Path()) -> str:
    """Digest of a data folder or file that a stage wrote.

    For a file it is the md5, as in DVC. For a folder within `dvc repro` it is the md5 in
    `dvc.lock`. Outside `dvc repro` the folder may have changed since, so it is a sha256 of the
    files, with the prefix "sha256:".

    Parameters
    ----------
    path : Path
        Data, below `root`.
    root : Path
        Folder of the repository, which holds `dvc.lock`.

    Returns
    -------
    str
        For example "9c0f...d1.dir" or "sha256:9c0f...".

    Raises
    ------
    InputError
        When there is no such file or folder.
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
    if not path.exists():
        raise InputError(f"{path} is missing: run `dvc repro` to make it")
    return _folder_digest(path, root)


def _folder_digest(path: Path, root: Path) -> str:
    """sha256 of a folder's files, with its prefix; kept while no file changes.

    A file's state has the time of its last change, which no program can set. Files that changed a
    moment ago could change again within the same tick of that clock, so nothing is kept then.
    """
    start, files = time.time(), sorted(file for file in path.rglob("*") if file.is_file())
    states = [_state(file, path) for file in files]
    if max((file.stat().st_ctime for file in files), default=start) > start - SETTLED_S:
        return _sha256_of(files)
    name = f"digest-{str(path).replace('/', '-')}.json"

    def make() -> str:
        found = _sha256_of(files)
        if [_state(file, path) for file in files] != states:
            raise InputError(f"{path} was changed while it was read: run the same command again")
        return found

    return str(remembered(root / FOLDER / name, states, make))


def _state(file: Path, folder: Path) -> list[str | int]:
    """What changes with a file's content, whatever its size and modification time are set to."""
    found = file.stat()
    times = [found.st_mtime_ns, found.st_ctime_ns]
    return [str(file.relative_to(folder)), found.st_dev, found.st_ino, found.st_size, *times]


def _sha256_of(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    with progress_bar("digest", sum(file.stat().st_size for file in files), "B") as bar:
        for file in files:
            content = hashlib.sha256()
            with file.open("rb") as stream:
                while piece := stream.read(READ_BYTES):
                    content.update(piece)
                    bar.update(len(piece))
            total.update(file.name.encode() + b"\0" + content.digest())
    return f"sha256:{total.hexdigest()}"


def digests(paths: Iterable[Path], root: Path = Path()) -> dict[str, str]:
    """Map the name below `root` of each path to its `digest`."""
    return {path.relative_to(root).as_posix(): digest(path, root) for path in paths}


def code_digest(package: Path = Path(__file__).parents[1]) -> str:
    """sha256 over all sources of this package."""
    total = hashlib.sha256()
    for name in sorted(path.relative_to(package).as_posix() for path in package.rglob("*.py")):
        total.update(name.encode() + b"\0" + (package / name).read_bytes())
    return total.hexdigest()


def imported_code_digest(module: str, source: Path = Path(__file__).parents[2]) -> str:
    """sha256 over the sources of a module and of all modules it imports from its package.

    Edits of other modules do not change it.

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
    """The file of a module or package; None where it is not in `source`."""
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
    """`code_digest` at the first call in this process: that of the code it has imported."""
    return code_digest()


def who() -> str:
    """Name of the user, or the number of a user without a name (in a container)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def git_state() -> dict[str, str]:
    """`git_commit`, and `git_dirty`: whether files differ from it; "unknown" without git."""
    try:
        commit = _git("rev-parse", "HEAD")
        # except dvc.lock, which DVC rewrites after every stage
        dirty = bool(_git("status", "--porcelain", "--", ".", ":!dvc.lock"))
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": "unknown", "git_dirty": "unknown"}
    return {"git_commit": commit, "git_dirty": str(dirty).lower()}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
