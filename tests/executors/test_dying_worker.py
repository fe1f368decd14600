"""A worker whose process is dying: killed, and not yet out of its sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection

import pytest

from fmnist_sweep.executors.local import _Worker
from tests.support.process import LIMIT_SECONDS, are_gone

# Its first thread has ended, another one lives: so is every killed process for a moment, until the kernel has ended all
# of its threads and closes its sockets.
DYING = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(100000,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the state of a process")
def test_a_worker_that_is_dying_has_ended_though_its_socket_is_open() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen([sys.executable, "-c", DYING], pass_fds=[theirs.fileno()])
        worker = _Worker(1, None, Connection(os.dup(ours.fileno())), process.pid)  # type: ignore[arg-type]
        try:
            with worker.connection:
                assert are_gone([process.pid])
                ours.setblocking(False)
                with pytest.raises(BlockingIOError):
                    ours.recv(1)
                assert worker.has_ended()
        finally:
            process.kill()
            process.wait(LIMIT_SECONDS)
