"""Limits of this process, for a while."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def few_files(more: int) -> Iterator[None]:
    """Allow only so many more open files than there are now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    now = max(int(handle.name) for handle in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (now + 1 + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
