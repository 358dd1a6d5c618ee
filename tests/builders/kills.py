"""Kill a process with SIGKILL at a chosen step, of those that change a file."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from builders.pipeline import ENVIRONMENT
from builders.processes import started

# One process imports, and forks for each kill. Python tells of a step before it is done, so the
# kill before the next step is that after this one.
SERVER = """
import os, signal, sys
imports, code, *steps = sys.argv[1:]
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the code prints is no answer
exec(imports)
at = done = 0
def step(event, arguments):
    global done
    if event in steps and (event != "open" or isinstance(arguments[2], int) and arguments[2] & 3):
        done += 1
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)
for line in sys.stdin:
    at, argument = line.rstrip("\\n").split(" ", 1)
    at, (told, tell) = int(at), os.pipe()
    if child := os.fork():
        os.close(tell)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, os.read(told, 99).decode() or at, file=answers, flush=True)
        os.close(told)
        continue
    sys.addaudithook(step)
    status = 1
    try:
        exec(code)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(tell, str(done).encode())
    os._exit(status)
"""
OWN_STEP = "tests.step"  # of `sys.audit` in `imports`
CHANGES = (
    *("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"),
    OWN_STEP,
)
NEVER = 10**9
STATEMENTS = """
import sys
from sqlalchemy import event
from sqlalchemy.engine import Engine

@event.listens_for(Engine, "before_cursor_execute")
def statement(*_):
    sys.audit("tests.step")
"""


@dataclass
class Killing:
    """Runs the code in a new process, as often as it is called.

    Attributes
    ----------
    questions, answers : text streams
        To and from the process that forks.
    steps : int
        Of the last run, to its end or to the kill.
    """

    questions: IO[str]
    answers: IO[str]
    steps: int = 0

    def __call__(self, step: int, argument: str = "") -> bool:
        """Kill it before a step, from 1; whether it was killed, and not at its end before."""
        self.questions.write(f"{step} {argument}\n")
        self.questions.flush()
        answer = self.answers.readline()
        assert answer, "the process that forks has ended: see stderr"
        status, self.steps = map(int, answer.split())
        assert status in (0, -signal.SIGKILL), f"exit code {status} of {argument}: see stderr"
        return status != 0


@contextmanager
def killing(
    imports: str, code: str, folder: Path, steps: tuple[str, ...] = CHANGES
) -> Iterator[Killing]:
    """A process that runs `code` in a folder, after `imports`, as often as it is asked to.

    Parameters
    ----------
    imports : str
        Run once; steps are not counted.
    code : str
        Run in a new process each time; `argument` is what the call gives.
    folder : Path
        The working folder.
    steps : tuple of str
        Audit events that count; of "open" those that open a file to write.
    """
    with started(
        *("-c", SERVER, imports, code, *steps),
        cwd=folder,
        env=ENVIRONMENT
        | {"PYTHONPATH": os.pathsep.join(sys.path), "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield Killing(server.stdin, server.stdout)
