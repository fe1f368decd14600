"""The real command as forks of one process that has imported TensorFlow once, killed at a chosen point or moment.

`Zygote` starts `python -m tests.support.zygote_forks`, which imports everything a sweep needs, runs nothing, and forks
a process for each request. That one runs `fmnist_sweep.__main__.main()` as `python -m fmnist_sweep` would, in a second
instead of eight, with the functions that write something durable wrapped: they count, and end their own process by
SIGKILL where the request says so; its workers are forks of it too (tests/support/warm_workers.py). Nothing in the
project knows of this. Tests use the one of their session, which is the fixture `zygote`.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import ROOT
from tests.support.process import LIMIT_SECONDS, Done, Running, build_environment, heed_signals

SWEEP, VERB = "fmnist_sweep.__main__:main", "fmnist_sweep.cli.main:main"


@dataclass(frozen=True)
class Kill:
    """Where SIGKILL strikes: around the number-th (from 1) of some calls, or so many seconds after it or the start.

    call: "journal" (an event appended), "store" (a call that changes the store), "file" (a checkpoint or a result
    written), "table" (a statement that makes or alters the store's tables, where they are not copied), or one sort of
    these ("journal asked", "store create_run", "file 0000/000002.npz"). moment: before or after it; for a file also
    inside: it is written aside and not renamed yet. seconds: after this call, or after the start without one. points:
    instead of all that, whichever of these is reached first: moments of places ("before journal asked 0001 1").
    """

    call: str = ""
    number: int = 1
    moment: str = "before"
    seconds: float | None = None
    points: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.points:
            return self.points[0] + f" or at {len(self.points) - 1} later points" * (len(self.points) > 1)
        where = f"{self.call} {self.number}"
        if self.seconds is None:
            return f"{self.moment} {where}"
        return f"{self.seconds:.3f} s after {where if self.call else 'the start'}"

    @property
    def sort(self) -> str:
        """What it is counted as."""
        if self.points:
            return "point"
        return self.call.partition(" ")[0] if self.seconds is None else "moment"


class Places:
    """Names counted calls so that a continued sweep has the names of one that was never stopped.

    An event or a file goes by itself, and a call to the store by the event or file that it follows.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._last = "the start"

    def name(self, call: str) -> str:
        """The place of the next call, given in the words of Ended.calls."""
        place = f"{call} after {self._last}" if call.startswith("store ") else call
        self._counts[place] += 1
        if place == call:
            self._last = f"{call} {self._counts[call]}"
        return f"{place} {self._counts[place]}"


def name_places(calls: Sequence[str]) -> list[str]:
    """The places of the calls of a process."""
    places = Places()
    return [places.name(call) for call in calls]


class Ended(Done):
    """How a fork ended. code: its exit code, None when a signal ended it.

    calls: what was counted, in order: sort and name, and of an event the trial that it is about.
    """

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["arguments"], answer["status"], answer["stdout"], answer["stderr"])
        self.code: int | None = self.returncode if self.returncode >= 0 else None
        self.timed_out: bool = answer["timed_out"]
        self.seconds: float = answer["seconds"]
        self.calls: list[str] = answer["calls"]

    @property
    def killed(self) -> bool:
        return self.returncode == -signal.SIGKILL and not self.timed_out

    def count(self, sort: str) -> int:
        """How many calls of one sort there were."""
        return sum(call.startswith(f"{sort} ") for call in self.calls)


class Forked(Running):
    """A fork of the zygote under way."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb", buffering=0)  # what has not been read can be waited for
        begun = json.loads(self._stream.readline())
        super().__init__(begun["pid"], Path(begun["out"]), Path(begun["err"]))
        self._ended: Ended | None = None

    @property
    def has_ended(self) -> bool:
        return self._ended is not None or bool(select.select([self._connection], [], [], 0)[0])

    @property
    def stdout(self) -> str:
        if self._ended is None:
            with suppress(FileNotFoundError):
                return super().stdout
        return self.end().stdout

    @property
    def stderr(self) -> str:
        if self._ended is None:
            with suppress(FileNotFoundError):
                return super().stderr
        return self.end().stderr

    def end(self, seconds: float = LIMIT_SECONDS) -> Ended:
        if self._ended is None:
            self._ended = Ended(json.loads(self._stream.readline()))
        return self._ended

    def kill(self) -> None:
        if self._ended is None:
            super().kill()


class Zygote:
    """`with Zygote(folder) as zygote: zygote.run(...)`, from any number of threads.

    folder: for its own files; tables: what the tables of its forks' stores are copied from (tests/support/tables.py).
    """

    def __init__(self, folder: Path, tables: Path | None = None) -> None:
        self._folder = folder
        self._given: dict[str, str | None] = {"TMPDIR": str(folder / "tmp"), "FAULTS_TABLES": str(tables or "")}
        self._address = str(folder / "socket")

    def __enter__(self) -> Self:
        temporary = self._folder / "tmp"  # what killed processes leave behind stays below the test's own folder
        temporary.mkdir(parents=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.zygote_forks", self._address],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=build_environment({"TMPDIR": str(temporary)}),
            start_new_session=True,
            preexec_fn=heed_signals,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it ends when nobody can ask it for anything any more
        self._process.wait(LIMIT_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(
        self,
        *arguments: str,
        cwd: Path,
        kill: Kill | None = None,
        environment: Mapping[str, str | None] | None = None,
        entry: str = SWEEP,
    ) -> Ended:
        """`python -m fmnist_sweep ARGUMENTS` to its end, or another entry."""
        with self.start(*arguments, cwd=cwd, kill=kill, environment=environment, entry=entry) as forked:
            return forked.end()

    @contextmanager
    def start(
        self,
        *arguments: str,
        cwd: Path,
        kill: Kill | None = None,
        environment: Mapping[str, str | None] | None = None,
        entry: str = SWEEP,
    ) -> Iterator[Forked]:
        """The same as long as this lasts. entry: a "module:function" that takes its arguments from sys.argv."""
        given = build_environment(self._given | dict(environment or {}))
        with self._ask(cwd, arguments=arguments, kill=kill and asdict(kill), environment=given, entry=entry) as forked:
            yield forked

    def call(self, function: str, cwd: Path) -> Any:
        """The answer (JSON) of a function "module:name", called with a folder in a process of its own."""
        ended = self.ask(function, cwd)
        assert ended.code == 0, ended
        return json.loads(ended.stdout)

    def ask(
        self, function: str, cwd: Path, *, kill: Kill | None = None, environment: Mapping[str, str | None] | None = None
    ) -> Ended:
        """How such a function ended."""
        given = build_environment(self._given | dict(environment or {}))
        with self._ask(cwd, arguments=[], kill=kill and asdict(kill), environment=given, function=function) as forked:
            return forked.end()

    @contextmanager
    def _ask(self, cwd: Path, **request: Any) -> Iterator[Forked]:
        cwd.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._address)
            connection.sendall((json.dumps({"cwd": str(cwd), **request}) + "\n").encode())
            forked = Forked(connection)
            try:
                yield forked
            finally:
                forked.kill()
                forked.end()
