"""Kill a process with SIGKILL at a chosen step, of those that change a file."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from builders.pipeline import ENVIRONMENT

# One process imports, and forks for each kill. Python tells of a step before it is done, so the
# kill before the next step is that after this one.
SERVER = """
import os, signal, sys
imports, code, *steps = sys.argv[1:]
exec(imports)
at = done = 0
def step(event, arguments):
    global done
    if event in steps and (event != "open" or isinstance(arguments[2], int) and arguments[2] & 3):
        done += 1
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)
for line in sys.stdin:
    at = int(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    sys.addaudithook(step)
    status = 1
    try:
        exec(code)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stderr.flush()
    os._exit(status)
"""


OWN_STEP = "tests.step"  # of `sys.audit` in `imports`
CHANGES = (
    *("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"),
    OWN_STEP,
)


class Killed(Protocol):
    """Runs the code, kills it before its n-th step, from 1, and says whether it was killed."""

    def __call__(self, step: int) -> bool: ...


@contextmanager
def killing(
    imports: str, code: str, folder: Path, steps: tuple[str, ...] = CHANGES
) -> Iterator[Killed]:
    """A process that runs `code` in a folder, after `imports`, as often as it is asked to.

    Parameters
    ----------
    imports : str
        Run once; steps are not counted.
    code : str
        Run in a new process each time.
    folder : Path
        The working folder.
    steps : tuple of str
        Audit events that count; of "open" those that open a file to write.
    """
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, imports, code, *steps],
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        pipe, answers = server.stdin, server.stdout

        def killed(step: int) -> bool:
            pipe.write(f"{step}\n")
            pipe.flush()
            code = int(answers.readline())
            assert code in (0, -signal.SIGKILL), f"step {step}: see stderr"
            return code != 0

        yield killed
        pipe.close()
