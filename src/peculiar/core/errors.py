"""One clear sentence for the user instead of a traceback."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MENDABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST),  # a file where a folder is meant, or vice versa
)


class InputError(Exception):
    """Something the user can mend; the message names the file or key, and the mend."""


class NotFinite(InputError):
    """An image has pixels that are not numbers."""


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what a user can mend into one line on stderr and exit code 1.

    Everything else keeps its traceback: it is a bug of ours.
    """
    try:
        yield
    except InputError as error:
        sys.exit(f"peculiar: {error}")
    except BrokenPipeError:  # of a reader that has seen enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit("peculiar: interrupted; the same command starts this stage again")
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        where = f" at {error.filename}" if error.filename else ""
        sys.exit(f"peculiar: {error.strerror}{where}: mend that and run the same command again")
