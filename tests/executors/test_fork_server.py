"""The process that workers are forks of: what it starts, how that ends, and what its own end costs."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from fmnist_sweep.executors import fork_server
from fmnist_sweep.executors.fork_server import ForkServer, can_fork
from fmnist_sweep.executors.local import LocalExecutor
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.training.events import EpochEnd, TrialEvent, TrialResult, TrialSpec, TrialStart, WorkerLost
from tests.support.forks import check_ends
from tests.support.process import LIMIT_SECONDS, are_gone
from tests.support.small import TINY, spec


@pytest.mark.slow
def test_how_each_fresh_interpreter_ends_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of forks: tests/executors/test_executors.py, which has a server."""
    monkeypatch.setattr(fork_server, "can_fork", lambda: False)
    server = ForkServer(1)
    check_ends(server)
    server.close()
    assert server.has_ended


def test_a_worker_whose_server_has_ended_is_known_to_have_ended() -> None:
    server = ForkServer(1)
    server.close()
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            worker = server.start_worker(theirs)
        worker.kill()
        assert worker.wait() == -signal.SIGKILL
        assert ours.recv(1) == b""


def test_nothing_is_forked_beside_a_gpu_or_on_macos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fork_server, "_DEVICES", tmp_path)
    assert can_fork()
    (tmp_path / "nvidia0").touch()
    assert not can_fork()
    (tmp_path / "nvidia0").unlink()
    monkeypatch.setattr("sys.platform", "darwin")
    assert not can_fork()


@pytest.mark.slow
def test_a_lost_server_costs_the_epochs_under_way_and_another_takes_its_place() -> None:
    def next_event() -> TrialEvent:
        event = executor.next_event(LIMIT_SECONDS)
        assert event is not None
        return event

    given: TrialSpec = spec([*TINY, "train.epochs=100000"])
    with LocalExecutor(2, 1, Stop()) as executor:
        for number in range(2):
            executor.submit(TrialSpec(**{**vars(given), "trial_id": str(number)}))
        events = [next_event()]
        while {event.trial_id for event in events if isinstance(event, EpochEnd)} != {"0", "1"}:
            events.append(next_event())
        pids = [int(event.worker.split("process ")[1].rstrip(")")) for event in events if isinstance(event, TrialStart)]
        os.kill(int(Path(f"/proc/{pids[0]}/stat").read_text().split(")")[1].split()[1]), signal.SIGKILL)
        lost: list[WorkerLost] = []
        while len(lost) < 2:
            lost += [event for event in [next_event()] if isinstance(event, WorkerLost)]
        assert {event.trial_id for event in lost} == {"0", "1"}
        assert all("SIGKILL" in event.reason for event in lost)
        assert are_gone(pids)
        executor.submit(spec(TINY))
        event = next_event()
        while not isinstance(event, TrialResult):
            event = next_event()
