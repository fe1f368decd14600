"""What runs in the zygote (tests/support/zygote.py) and in its forks: the command, killed where a request says so."""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import altered, replace_everywhere, steering, warm_workers
from tests.support.caches import pack_once
from tests.support.process import LIMIT_SECONDS
from tests.support.zygote import Kill, Places

FORK_SECONDS = LIMIT_SECONDS  # after which a fork is killed

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
        out, err, calls = (folder / f"{os.getpid()}.{name}" for name in ("out", "err", "calls"))
        for path in (out, err, calls):
            path.touch()
        begun = time.monotonic()
        reached, request["mark"] = os.pipe()
        child = os.fork()
        if child == 0:
            connection.close()
            _be(request, out, err, calls)
        os.close(request["mark"])
        with suppress(OSError):  # it does so itself; whoever is first
            os.setpgid(child, child)
        print(json.dumps({"pid": child, "out": str(out), "err": str(err)}), file=stream, flush=True)
        status, timed_out = _wait(child, Kill(**request["kill"] or {}), reached)
        answer = {
            "arguments": request["arguments"],
            "status": os.waitstatus_to_exitcode(status),
            "timed_out": timed_out,
            "seconds": time.monotonic() - begun,
            "stdout": out.read_text(errors="replace"),
            "stderr": err.read_text(errors="replace"),
            "calls": calls.read_text().splitlines(),
        }
        for path in (out, err, calls):
            path.unlink(missing_ok=True)
        print(json.dumps(answer), file=stream, flush=True)


def _wait(child: int, kill: Kill, reached: int) -> tuple[int, bool]:
    """The wait status of a child, killed when its time has come, and whether it was killed for taking too long.

    reached: what can be read once the child has come to the call from which on that time counts.
    """
    pid = os.pidfd_open(child)
    try:
        counts = kill.seconds is not None
        if counts and kill.call:
            counts = bool(select.select([pid, reached], [], [], FORK_SECONDS)[0])
        ready, _, _ = select.select([pid], [], [], kill.seconds if counts else FORK_SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1], not ready and not counts
    finally:
        os.close(pid)


def _be(request: dict[str, Any], out: Path, err: Path, calls: Path) -> None:
    """Become the process that was asked for; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for standard, path in ((0, Path(os.devnull)), (1, out), (2, err)):
            descriptor = os.open(path, os.O_RDWR)
            os.dup2(descriptor, standard)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(request["environment"])
        named = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        sys.path[1:1] = [entry for entry in named if entry not in sys.path]
        os.chdir(request["cwd"])
        code = _call(request["function"]) if "function" in request else _enter(request, calls)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
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


def _enter(request: dict[str, Any], calls: Path) -> int:
    """Call the entry as `python -m` would; its exit code."""
    name, _, function = request["entry"].partition(":")
    module = importlib.import_module(name)
    altered.alter()
    if steering.is_steered():
        steering.steer()
    if "executor=local" in request["arguments"]:
        warm_workers.keep_server_ready()
    _arm(Kill(**request["kill"] or {}), calls, request["mark"])
    sys.argv = [str(module.__file__), *request["arguments"]]
    sys.modules["__main__"].__package__ = module.__package__  # the name that click calls it by
    return int(getattr(module, function)() or 0)


def _arm(kill: Kill, calls: Path, mark: int) -> None:
    """Count every call that leaves something durable, and end this process where the plan says.

    mark: what to write to when the call is reached after which others are to end this process in so many seconds.
    """
    import mlflow

    from fmnist_sweep.files import write_file_atomically
    from fmnist_sweep.study.journal import Journal

    log = os.open(calls, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    counts: Counter[str] = Counter()
    places = Places()
    place = ""

    def die_at(moment: str, where: str, *names: str) -> None:
        is_there = moment == kill.moment and kill.call in names and counts[kill.call] == kill.number
        if is_there and kill.seconds is not None:
            os.write(mark, b".")
        elif is_there or f"{moment} {where}" in kill.points:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function: Callable[..., Any], sort: str, name: Callable[[Sequence[Any]], str]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal place
            names = sort, f"{sort} {name(arguments)}"
            counts.update(names)
            trial = named.get("proposal", named).get("trial_id")
            told = names[1] if trial is None else f"{names[1]} {trial}"
            os.write(log, f"{told}\n".encode())
            place = here = places.name(told)
            die_at("before", here, *names)
            answer = function(*arguments, **named)
            die_at("after", here, *names)
            return answer

        return call

    def replace(path: Path, target: Path) -> Path:
        if path.name.startswith(f".{Path(target).name}."):
            die_at("inside", place, "file", f"file {_short(target)}")
        return really_replace(path, target)

    def count_table(word: str) -> None:
        counts.update(["table"])
        os.write(log, f"table {word}\n".encode())
        die_at("before", "", "table")

    if not os.environ.get("FAULTS_TABLES"):
        _count_tables(count_table)
    really_replace = Path.replace
    Path.replace = replace  # type: ignore[method-assign, assignment]
    Journal.append = counted(Journal.append, "journal", lambda given: str(given[1]))  # type: ignore[method-assign]
    wrapped = counted(write_file_atomically, "file", lambda given: _short(given[0]))
    replace_everywhere(write_file_atomically, wrapped)
    for name in STORE_CALLS:
        function = getattr(mlflow.MlflowClient, name)
        setattr(mlflow.MlflowClient, name, counted(function, "store", lambda given, name=name: name))  # type: ignore[misc]


def _count_tables(count: Callable[[str], None]) -> None:
    """Count the statements by which MLflow makes a store's tables."""
    from sqlalchemy import Engine, event

    def hear(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        words = statement.split(maxsplit=1)
        if words and words[0] in ("CREATE", "ALTER", "DROP"):
            count(words[0])

    event.listen(Engine, "before_cursor_execute", hear)


def _short(path: Path) -> str:
    return (
        path.name if path.name == "owner.json" else f"{path.parent.name}/{path.name}"
    )  # some folders' names are drawn


def _import_everything() -> None:
    """What a sweep imports on its way; no operation of TensorFlow and no engine of SQLAlchemy may begin here."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import fmnist_sweep
    from fmnist_sweep.tracking.connection import quiet_mlflow
    from fmnist_sweep.training import backend

    quiet_mlflow()
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
            # What these import when they are first used.
            *("alembic.command", "hydra.core.plugins", "jinja2.compiler", "mlflow.pyfunc"),
            *("plotly.graph_objects", "mlflow.store.tracking.sqlalchemy_workspace_store"),
            *("sklearn.metrics", "sqlalchemy.dialects.sqlite", "filelock", "tests.support.tables"),
        ):
            importlib.import_module(name)
    for module in pkgutil.walk_packages(fmnist_sweep.__path__, "fmnist_sweep."):
        importlib.import_module(module.name)
    _use_once()


def _use_once() -> None:
    """Fill what libraries keep once they have been used: the same in every fork, and a second and a half of it."""
    import sqlalchemy
    from hydra.core.plugins import Plugins
    from mlflow.utils import requirements_utils

    from fmnist_sweep.config.compose import compose_job
    from fmnist_sweep.data.description import LABELS
    from fmnist_sweep.report import kept_parts, markup
    from fmnist_sweep.report.charts import make_chart
    from fmnist_sweep.report.figures import canvas, plots
    from fmnist_sweep.report.plotly_chart import read_plotly_script
    from fmnist_sweep.training.evaluation import evaluate_predictions

    Plugins.instance()
    compose_job([])
    requirements_utils._init_modules_to_packages_map()
    sqlalchemy.orm.configure_mappers()
    make_chart(100).encode_json()
    templates = markup._load_environment()
    for name in templates.list_templates(extensions=["html"]):
        templates.get_template(name)
    pack_once()
    kept_parts._pack(read_plotly_script())
    kept_parts._digest_code()
    canvas.encode_png(plots.draw_confusion_matrix(np.eye(len(LABELS), dtype=int).tolist(), LABELS, "once"))
    evaluate_predictions(np.arange(len(LABELS)), np.eye(len(LABELS), dtype=np.float32), LABELS)


if __name__ == "__main__":
    _import_everything()
    gc.collect()
    gc.freeze()  # what a fork never searches it never writes to, and need not copy
    _serve(sys.argv[1])
