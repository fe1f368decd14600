"""The one way in which tests start a process: `run(...)` for one to its end, `with start(...) as process:` to watch it.

Both take the words after `python`. The fixture `zygote` (tests/support/zygote.py) offers the same two for the project's
commands, as forks of one warm process: a second instead of eight, where the test is not about a fresh interpreter.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

# For whatever a test waits for, which ends as soon as that is there. Sound work must never reach it, on any machine: in
# CI everything may take ten times as long, and a process may stand still for half a minute.
LIMIT_SECONDS = 1200.0
ANSWER_SECONDS = 30.0  # for one request of many, which is repeated until then
SWEEP = ("-m", "fmnist_sweep")
VERB = ("-m", "fmnist_sweep.cli.main")


class Done(subprocess.CompletedProcess[str]):
    """How a process ended: returncode (negative: the signal that ended it), stdout, stderr."""

    @property
    def output(self) -> str:
        """Standard output, then standard error."""
        return f"{self.stdout}{self.stderr}"


class Running(ABC):
    """A process under way, the leader of its own process group. pid: its id; out, err: the files it writes to."""

    def __init__(self, pid: int, out: Path, err: Path) -> None:
        self.pid, self._out, self._err = pid, out, err

    @property
    def stdout(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._err.read_text(errors="replace")

    @property
    def output(self) -> str:
        """What it has said so far: standard output, then standard error."""
        return self.stdout + self.stderr

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Whether it has ended."""

    @abstractmethod
    def end(self, seconds: float = LIMIT_SECONDS) -> Done:
        """Wait for its end."""

    def wait_for(self, what: str | Callable[[], bool], seconds: float = LIMIT_SECONDS) -> None:
        """Wait for words in its output, or for something else that it does."""
        deadline = time.monotonic() + seconds
        while not (what in self.output if isinstance(what, str) else what()):
            assert not self.has_ended, f"it ended before {what}: {self.end()}"
            assert time.monotonic() < deadline, f"it took too long to {what}: {self.output}"
            time.sleep(0.01)

    def send_signal(self, number: int, *, group: bool = False) -> None:
        """Send it a signal; group: to the processes it started too, as a terminal does."""
        (os.killpg if group else os.kill)(self.pid, number)

    def kill(self) -> None:
        """End it and all that it started and that stayed in its group, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class Started(Running):
    """A child of the process that runs the tests."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        super().__init__(process.pid, out, err)
        self._process = process

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def end(self, seconds: float = LIMIT_SECONDS) -> Done:
        code = self._process.wait(seconds)
        return Done(self._process.args, code, self.stdout, self.stderr)


def run(
    *words: str,
    cwd: Path,
    environment: Mapping[str, str | None] | None = None,
    seconds: float = LIMIT_SECONDS,
) -> Done:
    """`python WORDS` to its end; environment: added to that of the tests."""
    with start(*words, cwd=cwd, environment=environment) as process:
        return process.end(seconds)


@contextmanager
def start(
    *words: str, cwd: Path, environment: Mapping[str, str | None] | None = None, stdout: int | None = None
) -> Iterator[Started]:
    """`python WORDS` as long as this lasts; stdout: a descriptor to write to instead of a file."""
    with tempfile.TemporaryDirectory(prefix="said-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=cwd,
                env=build_environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=out_file if stdout is None else stdout,
                stderr=err_file,
                start_new_session=True,
                preexec_fn=heed_signals,
            )
        started = Started(process, out, err)
        try:
            yield started
        finally:
            started.kill()
            process.wait(LIMIT_SECONDS)


def build_environment(more: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """That of the tests, on a terminal of 200 columns, and `more`; None takes a name away."""
    given: dict[str, str | None] = {**os.environ, "COLUMNS": "200", **(more or {})}
    return {name: value for name, value in given.items() if value is not None}


def is_there(pid: int) -> bool:
    """Whether a process has not ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def are_gone(pids: Collection[int], within: float = LIMIT_SECONDS) -> bool:
    """Whether all of these processes end of themselves; within: 0 for whether they have ended."""
    deadline = time.monotonic() + within
    while any(map(is_there, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_there, pids))


def heed_signals() -> None:
    """Undo what a shell (Ctrl-C in the background) and nohup make processes ignore."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
