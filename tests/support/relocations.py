"""Stores that are moved or copied: a small one, what is in its folder, and calls in forks that are killed."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from fmnist_sweep.study.journal import Journal, read_events
from fmnist_sweep.tracking.store import Store, build_default_uri, open_store, point_mlflow_at

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.truncate", "sqlite3.connect")  # and what is opened to write


def write_run(store: Store, model_name: str = "") -> str:
    """A finished run with an artifact, and with a model if it has a name; that is registered."""
    client = store.client
    run_id = str(client.create_run(store.experiment_id).info.run_id)
    client.log_text(run_id, "what is in it", "note.txt")
    if model_name:
        model = client.create_logged_model(store.experiment_id, name="model", source_run_id=run_id)
        client.create_registered_model(model_name)
        folder = Path(model.artifact_location.removeprefix("file://"))
        folder.mkdir(parents=True)
        (folder / "MLmodel").write_text("flavors: {}")
        client.finalize_logged_model(model.model_id, "READY")
        with point_mlflow_at(store):
            client.create_model_version(model_name, f"models:/{model.model_id}", run_id, model_id=model.model_id)
    client.set_terminated(run_id, "FINISHED")
    return run_id


def write_journal(state: Path, kind: str, name: str, uri: str, command: str = "python -m fmnist_sweep") -> Path:
    """A journal of a study or sweep ("studies" or "sweeps") with a few events."""
    path = state / kind / name / "journal.db"
    path.parent.mkdir(parents=True)
    journal = Journal.create(
        path, kind, {"id": name, "uri": uri, "experiment": "fashion-mnist", "command": command, "token": name}
    )
    journal.append("opened", command=command, sweep_id="s")
    for number in range(3):
        journal.append("asked", trial_id=str(number), values={"rate": 0.1 * number, "text": "é"})
    journal.append("closed")
    journal.close()
    return path


def write_store(folder: Path) -> Path:
    """The folder with a store: two runs, a registered model, a study and a sweep."""
    store = open_store(build_default_uri(folder), "fashion-mnist")
    write_run(store, "fashion-mnist")
    write_run(store)
    for kind in ("studies", "sweeps"):
        write_journal(folder / "mlruns", kind, "abc123def456", store.uri)
    return folder


def list_addresses(folder: Path) -> set[str]:
    """Every text in the tables of a folder's store that holds a path of this machine or the address of a file."""
    found = set()
    file = folder / "mlruns" / "mlflow.db"
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                found |= {value for value in row if isinstance(value, str) and value.startswith(("/", "file:"))}
    return found


def list_journals(folder: Path) -> dict[str, list[Any]]:
    """The events of every journal in a folder."""
    return {str(path.relative_to(folder)): read_events(path) for path in sorted(folder.glob("mlruns/s*/*/journal.db"))}


def look_at_contents(folder: Path) -> dict[str, str]:
    """The content of all files in a folder but one that SQLite's readers write to."""
    return {name: content for name, (_, content) in look_at_files(folder).items() if not name.endswith("-shm")}


def look_at_files(folder: Path) -> dict[str, tuple[int, str]]:
    """The time of the last change and the content of all in a folder."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in [folder, *sorted(folder.rglob("*"))]
    }


def run_forked(call: Callable[[], object]) -> None:
    """Call in a fork, which leaves no connection to a store open."""
    assert _fork(call) == 0


def run_killed(call: Callable[[], object], number: int = 0) -> int:
    """Call in a fork, with SIGKILL before the number-th step (from 1; 0: none); how many steps were done.

    A step is a call of the system that may leave something on the disk, or a statement of SQLite but SELECT.
    """
    read_end, write_end = os.pipe()

    def count_and_call() -> None:
        _kill_before(number, write_end)
        call()

    status = _fork(count_and_call)
    assert status == (-signal.SIGKILL if number else 0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        return len(pipe.read())


def _fork(call: Callable[[], object]) -> int:
    """How a fork ended that makes this call: 0, or less the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            call()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _kill_before(number: int, pipe: int) -> None:
    """Count this process's steps from now on, a byte each, and end it before one of them."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(pipe, b".")

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            step()

    def hear_statement(statement: str) -> None:
        if not statement.startswith("SELECT"):
            step()

    def connect(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = really_connect(*arguments, **named)
        connection.set_trace_callback(hear_statement)
        return connection

    really_connect = sqlite3.connect
    sqlite3.connect = connect  # type: ignore[assignment]
    sys.addaudithook(hear)
