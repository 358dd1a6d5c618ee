"""Errors for users, and their display as one sentence instead of a traceback."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

FIXABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST),  # a file in place of a folder, or vice versa
)


STORES = ("mlflow.", "sqlalchemy.", "sqlite3.")
"""Libraries whose errors are of a database or server that fails in the middle of a command."""

PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s]*@")


def redacted(text: str) -> str:
    """A text without the passwords in its URLs."""
    return PASSWORD.sub(r"\1:***@", text)


class PeculiarError(Exception):
    """Base of all errors that this package raises for its users; it shows no password of a URL."""

    def __str__(self) -> str:
        return redacted(super().__str__())


class InputError(PeculiarError):
    """An error the user can fix; the message names the file, row or key, and the fix."""


class NotFinite(InputError):
    """An image has pixels that are not finite."""


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn an error the user can fix into one line on stderr and exit code 1.

    Any other error is a bug and keeps its traceback.
    """
    try:
        yield
    except PeculiarError as error:
        sys.exit(f"peculiar: {error}")
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit("peculiar: interrupted; rerun the same command to resume")
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            sys.exit(
                f"peculiar: {error.strerror}{where}: raise the limit with `ulimit -n 1024` and "
                "rerun the same command"
            )
        if error.errno not in FIXABLE:
            raise
        sys.exit(f"peculiar: {error.strerror}{where}: fix that and rerun the same command")
    except Exception as error:
        if not f"{type(error).__module__}.".startswith(STORES):
            raise
        reason = redacted(" ".join(str(error).split("\n", 1)[0].split())) or type(error).__name__
        sys.exit(
            f"peculiar: the store of runs and models failed ({reason}): see that its database is "
            "whole or its server runs, then rerun the same command"
        )
