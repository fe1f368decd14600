"""The real command as forks of one process that has imported TensorFlow once, killed at a chosen point or moment.

`Zygote` starts `python -m tests.support.zygote`, which imports everything a sweep needs, runs nothing, and forks a process for
each request. That one runs `fmnist_sweep.__main__.main()` as `python -m fmnist_sweep` would, in a second instead of
ten, with the functions that write something durable wrapped: they count, and end their own process by SIGKILL where
the request says so. Nothing in the project knows of this.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import ROOT, replace_everywhere

LIMIT_SECONDS = 120.0

# Everything of an MlflowClient that a sweep changes a store by.
STORE_CALLS = (
    "create_experiment",
    "create_run",
    "update_run",
    "set_terminated",
    "log_batch",
    "set_tag",
    "log_inputs",
    "log_artifacts",
    "create_logged_model",
    "log_model_artifacts",
    "log_outputs",
    "finalize_logged_model",
    "delete_logged_model",
)


@dataclass(frozen=True)
class Kill:
    """Where SIGKILL strikes: around the number-th (from 1) of some calls, or after so many seconds.

    call: "journal" (an event appended), "store" (a call that changes the store), "file" (a checkpoint or a result
    written), or one sort of these ("journal asked", "store create_run", "file 0000/000002.npz"). moment: before or
    after it; for a file also inside: it is written aside and not renamed yet.
    """

    call: str = ""
    number: int = 1
    moment: str = "before"
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.moment} {self.call} {self.number}" if self.seconds is None else f"at {self.seconds:.3f} s"

    @property
    def sort(self) -> str:
        """What it is counted as."""
        return self.call.partition(" ")[0] if self.seconds is None else "moment"


@dataclass(frozen=True)
class Ended:
    """How a process ended. code: its exit code, None when a signal ended it. calls: what was counted, in order."""

    code: int | None
    signal: int | None
    timed_out: bool
    seconds: float
    output: str
    calls: list[str]

    @property
    def killed(self) -> bool:
        return self.signal == signal.SIGKILL and not self.timed_out

    def count(self, sort: str) -> int:
        """How many calls of one sort there were."""
        return sum(call.startswith(f"{sort} ") for call in self.calls)


class Zygote:
    """`with Zygote(folder) as zygote: zygote.run(...)`, from any number of threads; folder: for its own files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._address = str(folder / "socket")

    def __enter__(self) -> Self:
        temporary = self._folder / "tmp"  # what killed processes leave behind stays below the test's own folder
        temporary.mkdir(parents=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.zygote", self._address],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "COLUMNS": "200", "TMPDIR": str(temporary)},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it ends when nobody can ask it for anything any more
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(
        self, *arguments: str, cwd: Path, kill: Kill | None = None, environment: dict[str, str] | None = None
    ) -> Ended:
        """`python -m fmnist_sweep ARGUMENTS` in a folder of its own."""
        return Ended(**self._ask(cwd, arguments=arguments, kill=kill and asdict(kill), environment=environment or {}))

    def call(self, function: str, cwd: Path) -> Any:
        """The answer (JSON) of a function "module:name", called with a folder in a process of its own."""
        ended = Ended(**self._ask(cwd, function=function, kill=None, environment={}))
        assert ended.code == 0, ended
        return json.loads(ended.output)

    def _ask(self, cwd: Path, **request: Any) -> dict[str, Any]:
        cwd.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._address)
            with connection.makefile("rw") as stream:
                stream.write(json.dumps({"cwd": str(cwd), **request}) + "\n")
                stream.flush()
                answer: dict[str, Any] = json.loads(stream.readline())
        return answer


# What follows runs in the zygote and in its forks.


def _serve(address: str) -> None:
    """Fork a process for each connection until standard input ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        print("ready", flush=True)
        children = 0
        while True:
            readable, _, _ = select.select([listener, sys.stdin], [], [], 1.0)
            while children and os.waitpid(-1, os.WNOHANG)[0]:
                children -= 1
            if sys.stdin in readable:
                return
            if listener in readable:
                connection, _ = listener.accept()
                if os.fork() == 0:
                    listener.close()
                    _answer(connection)
                    os._exit(0)
                connection.close()
                children += 1


def _answer(connection: socket.socket) -> None:
    """Fork the process that a request is about, see to its end, and say how it ended."""
    with connection, connection.makefile("rw") as stream:
        request = json.loads(stream.readline())
        folder = Path(os.environ["TMPDIR"])
        output, calls = folder / f"{os.getpid()}.output", folder / f"{os.getpid()}.calls"
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            connection.close()
            _be(request, output, calls)
        kill = request["kill"] or {}
        status, timed_out = _wait(child, kill.get("seconds"))
        code = os.waitstatus_to_exitcode(status)
        answer = {
            "code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "timed_out": timed_out,
            "seconds": time.monotonic() - begun,
            "output": output.read_text(errors="replace") if output.exists() else "",
            "calls": calls.read_text().splitlines() if calls.exists() else [],
        }
        for path in (output, calls):
            path.unlink(missing_ok=True)
        stream.write(json.dumps(answer) + "\n")
        stream.flush()


def _wait(child: int, kill_after: float | None) -> tuple[int, bool]:
    """The wait status of a child, killed when its time has come, and whether it was killed for taking too long."""
    pid = os.pidfd_open(child)
    try:
        limit = LIMIT_SECONDS if kill_after is None else kill_after
        ready, _, _ = select.select([pid], [], [], limit)
        if not ready:
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1], not ready and kill_after is None
    finally:
        os.close(pid)


def _be(request: dict[str, Any], output: Path, calls: Path) -> None:
    """Become the process that was asked for; never returns."""
    code = 1
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for standard in (1, 2):
            os.dup2(descriptor, standard)
        os.close(descriptor)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device
            os.dup2(nothing.fileno(), 0)
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])
        code = _call(request["function"]) if "function" in request else _sweep(request, calls)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _call(function: str) -> int:
    module, _, name = function.partition(":")
    print(json.dumps(getattr(importlib.import_module(module), name)(Path.cwd())))
    return 0


def _sweep(request: dict[str, Any], calls: Path) -> int:
    from fmnist_sweep.__main__ import __file__, main

    _arm(Kill(**request["kill"]) if request["kill"] else Kill(), calls)
    sys.argv = [str(__file__), *request["arguments"]]
    return main()


def _arm(kill: Kill, calls: Path) -> None:
    """Count every call that leaves something durable, and end this process where the plan says."""
    import mlflow

    from fmnist_sweep.files import write_file_atomically
    from fmnist_sweep.study.journal import Journal

    log = os.open(calls, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    counts: Counter[str] = Counter()

    def die_at(moment: str, *names: str) -> None:
        if moment == kill.moment and kill.call in names and counts[kill.call] == kill.number:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function: Callable[..., Any], sort: str, name: Callable[[Sequence[Any]], str]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            names = sort, f"{sort} {name(arguments)}"
            counts.update(names)
            os.write(log, f"{names[1]}\n".encode())
            die_at("before", *names)
            answer = function(*arguments, **named)
            die_at("after", *names)
            return answer

        return call

    def replace(path: Path, target: Path) -> Path:
        if path.name.startswith(f".{Path(target).name}."):
            die_at("inside", "file", f"file {_short(target)}")
        return really_replace(path, target)

    really_replace = Path.replace
    Path.replace = replace  # type: ignore[method-assign, assignment]
    Journal.append = counted(Journal.append, "journal", lambda given: str(given[1]))  # type: ignore[method-assign]
    wrapped = counted(write_file_atomically, "file", lambda given: _short(given[0]))
    replace_everywhere(write_file_atomically, wrapped)
    for name in STORE_CALLS:
        function = getattr(mlflow.MlflowClient, name)
        setattr(mlflow.MlflowClient, name, counted(function, "store", lambda given, name=name: name))  # type: ignore[misc]


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _import_everything() -> None:
    """What a sweep imports on its way; no operation of TensorFlow and no engine of SQLAlchemy may begin here."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import fmnist_sweep
    from fmnist_sweep.tracking import store
    from fmnist_sweep.training import backend

    store._quiet_mlflow()
    with backend.buffer_stderr():
        for name in (
            "tensorflow",
            "keras",
            "keras_tuner",
            "mlflow",
            "mlflow.keras",
            "mlflow.store.tracking.sqlalchemy_store",
            "mlflow.store.model_registry.sqlalchemy_store",
            "matplotlib.backends.backend_agg",
            "rich.progress",
            "pandas",
        ):
            importlib.import_module(name)
    for module in pkgutil.walk_packages(fmnist_sweep.__path__, "fmnist_sweep."):
        importlib.import_module(module.name)


if __name__ == "__main__":
    _import_everything()
    _serve(sys.argv[1])
