"""Workers of a fork server, without an executor."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from fmnist_sweep.executors.fork_server import ForkServer, WorkerProcess
from tests.support.process import LIMIT_SECONDS


@contextmanager
def start_worker(server: ForkServer) -> Iterator[tuple[WorkerProcess, socket.socket]]:
    """A worker and the supervisor's end of its socket, once the worker has said that it is ready."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            worker = server.start_worker(theirs)
        ours.settimeout(LIMIT_SECONDS)
        assert ours.recv(4096)
        yield worker, ours


def check_ends(server: ForkServer) -> None:
    """Check that a server tells how its workers end: by a kill, and because the supervisor is gone."""
    with start_worker(server) as (killed, _), start_worker(server) as (closed, connection):
        killed.kill()
        assert killed.wait() == -signal.SIGKILL
        killed.kill()  # once more does no harm
        connection.close()
        assert closed.wait() == 1
