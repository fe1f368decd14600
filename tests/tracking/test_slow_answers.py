"""A server whose answers drip is given up, however steadily its bytes come; one that is slow and sound is not."""

from __future__ import annotations

import contextlib
import io
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fmnist_sweep.errors import ExitCode
from fmnist_sweep.tracking import slow_answers
from fmnist_sweep.tracking.slow_answers import PacedReader
from tests.support.in_process import clean_environment, run_command, run_verb
from tests.support.small import SMALLEST

HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class _Clock:
    """A clock that each look moves on."""

    def __init__(self, step: float) -> None:
        self.time, self.step = 0.0, step

    def __call__(self) -> float:
        self.time += self.step
        return self.time


class _Drip(io.RawIOBase):
    """Endless bytes, so many at a time."""

    def __init__(self, count: int) -> None:
        self.count = count

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        buffer[: self.count] = b"x" * self.count
        return self.count


def test_bytes_that_come_too_slowly_on_the_average_are_given_up() -> None:
    reader = io.BufferedReader(PacedReader(_Drip(1), grace=60, read_clock=_Clock(5)))
    with pytest.raises(TimeoutError, match=r"too slowly: 1\d bytes in 6\d seconds"):
        reader.read(1000)


def test_bytes_that_come_slowly_but_come_are_read_to_the_end() -> None:
    reader = io.BufferedReader(PacedReader(_Drip(8000), grace=60, read_clock=_Clock(5)))
    assert len(reader.read(1_000_000)) == 1_000_000


class _Dripping(socketserver.StreamRequestHandler):
    """Answers some requests at once, and drips its other answers: their headers, or their bodies."""

    drips = "body"
    clock = 0.0
    answers: ClassVar[dict[bytes, bytes]] = {b"/health": b"OK"}

    def handle(self) -> None:
        request = self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        for path, body in self.answers.items():
            if path in request:
                self.wfile.write(HEADERS % len(body) + body)
                return
        if self.drips == "body":
            self.wfile.write(HEADERS % 1_000_000)
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: " if self.drips == "headers" else b"{")
            while True:
                self.wfile.write(b" ")
                _Dripping.clock += 30
                time.sleep(0.01)


def _heed_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    paced = partial(slow_answers.PacedReader, read_clock=lambda: _Dripping.clock)
    monkeypatch.setattr(slow_answers, "PacedReader", paced)


@pytest.fixture(params=["body", "headers"])
def dripping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that drips: a byte every thirty seconds of a clock that moves by nothing else."""
    _heed_its_clock(monkeypatch)
    with _serve(type("Handler", (_Dripping,), {"drips": request.param})) as address:
        yield address


EXPERIMENT = {
    "experiment_id": "1",
    "name": "fashion-mnist",
    "artifact_location": "mlflow-artifacts:/1",
    "lifecycle_stage": "active",
}


@pytest.fixture
def flagging(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that drips as soon as it has said which experiment there is."""
    _heed_its_clock(monkeypatch)
    known = {b"/experiments/get-by-name": json.dumps({"experiment": EXPERIMENT}).encode()}
    with _serve(type("Handler", (_Dripping,), {"answers": _Dripping.answers | known})) as address:
        yield address


@contextlib.contextmanager
def _serve(handler: type[socketserver.BaseRequestHandler]) -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


ENVIRONMENT = clean_environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")


@pytest.mark.parametrize("verb", [("compare",), ("report",), ("history",), ("promote", "plan=true")])
def test_a_verb_ends_in_a_sentence_where_its_server_drips(verb: tuple[str, ...], dripping: str, tmp_path: Path) -> None:
    done = run_verb(*verb, "--uri", dripping, cwd=tmp_path, environment=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (ExitCode.STORE, ""), done.stderr
    assert done.stderr.startswith(f"fmnist-sweep: {dripping} cannot be used as an MLflow store: API request to ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", [("compare",), ("report",), ("history",), ("rollback",), ("reproduce", "1")])
def test_a_verb_ends_in_a_sentence_where_its_server_goes_away_while_it_reads(
    verb: tuple[str, ...], flagging: str, tmp_path: Path
) -> None:
    done = run_verb(*verb, "--uri", flagging, cwd=tmp_path, environment=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (ExitCode.STORE, ""), done.stderr
    assert done.stderr.startswith("fmnist-sweep: the tracking store does not answer any more (API request to ")
    assert done.stderr.endswith("type the same command again when it does.\n")
    assert done.stderr.count("\n") == 1


def test_a_sweep_ends_in_a_sentence_where_its_server_drips(dripping: str, tmp_path: Path) -> None:
    words = (*SMALLEST, f"tracking.uri={dripping}", "executor=in_process")
    done = run_command(*words, cwd=tmp_path, environment=ENVIRONMENT)
    assert done.returncode == ExitCode.STORE, done.stdout + done.stderr
    assert f"{dripping} cannot be used as an MLflow store" in done.stderr
    assert "Traceback" not in done.stderr
