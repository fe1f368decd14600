"""Stores that cannot be reached, read or written: one sentence, and nothing that was there is touched."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from fmnist_sweep.errors import ExitCode
from fmnist_sweep.tracking.store import build_default_uri, open_store
from tests.support.refusals import VERBS, check_refused, run_without_data

QUICK = ("data=drawn", "data.images=200", "train.epochs=1", "search.max_trials=1")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def told_by_the_store(ended: subprocess.CompletedProcess[str], words: Sequence[str]) -> None:
    assert ended.returncode == ExitCode.STORE, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert [word for word in words if word not in ended.stderr] == [], ended.stderr


def test_a_store_at_an_address_of_unknown_kind_is_refused(empty: Path) -> None:
    ended = run_without_data(empty, *QUICK, "tracking.uri=ftp://x")
    told_by_the_store(ended, ["tracking.uri=ftp://x", "sqlite:///FILE", "http://HOST:PORT"])
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("command", [("data=drawn", "plan=true", "tracking.uri={uri}"), ("compare", "--uri", "{uri}")])
def test_a_store_that_is_a_pipe_is_refused_and_stays_what_it_is(command: tuple[str, ...], empty: Path) -> None:
    pipe = empty.parent / "pipe"
    os.mkfifo(pipe)
    words = [word.format(uri=f"sqlite:///{pipe}") for word in command]
    module = "fmnist_sweep" if "plan=true" in words else "fmnist_sweep.cli.main"
    check_refused(
        run_without_data(empty, *words, module=module),
        ExitCode.STORE,
        [str(pipe), "device or a pipe", "name a file"],
        empty,
    )
    assert pipe.is_fifo()


@pytest.mark.parametrize("plan", ["true", "false"])
@pytest.mark.parametrize(
    "address",
    [
        *("sqlite:x.db", "sqlite:/x.db", "sqlite://x.db", "x.db", "mlruns", "/x.db", "file:///x", "http:/h:5000"),
        *("http://", "http://:5000", "http://h:nan", "https://h:99999", "databricks", "h:5000", "http://[::1"),
    ],
)
def test_an_address_that_is_none_is_refused_whether_planned_or_run(address: str, plan: str, empty: Path) -> None:
    ended = run_without_data(empty, *QUICK, f"tracking.uri={address}", f"plan={plan}")
    told_by_the_store(ended, [f"tracking.uri={address}", "sqlite:///FILE", "http://HOST:PORT"])
    assert list(empty.iterdir()) == []


def test_a_store_that_cannot_be_written_is_refused(empty: Path) -> None:
    ended = run_without_data(empty, *QUICK, "tracking.uri=sqlite:////proc/nope/x.db")
    told_by_the_store(ended, ["/proc/nope/x.db", "cannot be written", "tracking.uri=sqlite:///FILE"])
    assert list(empty.iterdir()) == []


def test_a_store_whose_folder_is_a_file_is_refused_and_the_file_is_left_alone(empty: Path) -> None:
    (empty / "mlruns").write_text("mine")
    ended = run_without_data(empty, *QUICK)
    told_by_the_store(ended, ["mlruns/mlflow.db", "cannot be written"])
    assert [path.name for path in empty.iterdir()] == ["mlruns"]
    assert (empty / "mlruns").read_text() == "mine"


def test_a_database_of_something_else_is_refused_and_left_alone(empty: Path) -> None:
    (empty / "other.db").write_text("this is no database, and it is somebody's" * 100)
    before = (empty / "other.db").read_bytes()
    ended = run_without_data(empty, *QUICK, "tracking.uri=sqlite:///other.db")
    told_by_the_store(ended, ["other.db"])
    assert (empty / "other.db").read_bytes() == before


def test_a_tracking_server_that_is_not_there_is_told_within_seconds(empty: Path) -> None:
    address = f"http://127.0.0.1:{closed_port()}"
    ended = run_without_data(empty, *QUICK, f"tracking.uri={address}")
    told_by_the_store(ended, [f"tracking.uri={address}", "no tracking server answers"])
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("verb", ["ui", "promote"])
def test_a_verb_without_a_store_says_how_to_get_one(verb: str, empty: Path) -> None:
    ended = run_without_data(empty, verb, module=VERBS, process=verb == "ui")
    check_refused(ended, ExitCode.STORE, ["mlruns/mlflow.db does not exist", "run a sweep", "--uri"], empty)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which no trial has been logged."""
    folder = tmp_path_factory.mktemp("store")
    open_store(build_default_uri(folder), "fashion-mnist")
    return folder


def told(ended: subprocess.CompletedProcess[str], words: Sequence[str]) -> None:
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert [word for word in words if word not in ended.stderr] == [], ended.stderr


def test_promoting_a_run_that_is_not_there_is_refused(store: Path) -> None:
    ended = run_without_data(store, "promote", "--run", "nonsense", module=VERBS)
    assert ended.returncode == ExitCode.REFUSED, ended.stderr
    told(ended, ["nonsense", "fmnist-sweep ui"])


def test_an_experiment_that_is_not_in_the_store_is_told(store: Path) -> None:
    ended = run_without_data(store, "promote", "--experiment", "other", module=VERBS)
    assert ended.returncode == ExitCode.STORE
    told(ended, ["other", "--experiment"])


def test_a_port_that_is_taken_is_told(store: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run_without_data(store, "ui", "--port", str(port), module=VERBS)
    assert ended.returncode == ExitCode.CONFIG
    told(ended, [f"--port={port}", "name a free one"])
