"""What is known of other processes: here of real ones, alive, exited and dying."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest

from fmnist_sweep.executors.local import _Worker
from fmnist_sweep.process.states import count_memory_bytes, list_pids, read_state
from tests.support.process import LIMIT_SECONDS, are_gone

# Its first thread has ended, another one lives: so is every killed process for a moment, until the kernel has ended all
# of its threads and closes its sockets.
DYING = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(100000,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the state of a process")


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_living_process_has_a_session_and_memory() -> None:
    state = read_state(os.getpid())
    assert state is not None and not state.has_ended and state.session == os.getsid(0)
    assert os.getpid() in list_pids()
    assert count_memory_bytes(os.getpid()) > 2**20


def test_a_process_that_nobody_has_waited_for_has_ended_and_later_is_unknown() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        assert are_gone([process.pid])
        state = read_state(process.pid)
        assert state is not None and state.has_ended
    assert read_state(process.pid) is None
    assert count_memory_bytes(process.pid) == 0


def test_a_worker_that_is_dying_has_ended_though_its_socket_is_open(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = sockets
    process = subprocess.Popen([sys.executable, "-c", DYING], pass_fds=[theirs.fileno()])
    try:
        theirs.close()
        worker = _Worker(1, None, Connection(os.dup(ours.fileno())), process.pid)  # type: ignore[arg-type]
        with worker.connection:
            assert are_gone([process.pid])
            ours.setblocking(False)
            with pytest.raises(BlockingIOError):
                ours.recv(1)
            assert worker.has_ended()
    finally:
        process.kill()
        process.wait(LIMIT_SECONDS)
