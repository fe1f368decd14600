"""Local workers as forks of the warm process: the server that they are forks of need not import TensorFlow anew.

A fork of the zygote (tests/support/zygote.py) that is to run a sweep with `executor=local` forks itself once more
before anything has run in it. That child ignores signals, ends with its parent and waits; the first fork server that
the sweep starts is that child, and calls the real server's `main` with the real arguments. A second server of the same
sweep, and those of sweeps in fresh interpreters, start as they always do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


class _Child:
    """A forked child, as far as a fork server asks a `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()  # who waits for it is more than one thread

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
            return self.returncode

    def wait(self) -> int:
        with suppress(ChildProcessError):  # another thread has found its end
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        code = self.poll()
        assert code is not None
        return code

    def kill(self) -> None:
        with self._lock:
            if self.returncode is None:
                os.kill(self.pid, signal.SIGKILL)


def keep_server_ready() -> None:
    """Fork the process that this sweep's first fork server will be."""
    from fmnist_sweep.executors import fork_server

    ours, theirs = socket.socketpair()
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        ours.close()
        _become_server(theirs, supervisor)
    theirs.close()
    fork_server.start_server = _take_once(_Child(child), ours, fork_server.start_server)  # type: ignore[assignment]


def _take_once(
    child: _Child, wire: socket.socket, start: Callable[[int, int], subprocess.Popen[bytes]]
) -> Callable[[int, int], subprocess.Popen[bytes] | _Child]:
    """What starts a server: the child that waits, and after that a new process."""

    def start_server(descriptor: int, threads: int) -> subprocess.Popen[bytes] | _Child:
        if wire.fileno() < 0:
            return start(descriptor, threads)
        with wire:
            socket.send_fds(wire, [json.dumps(threads).encode()], [descriptor])
        return child

    return start_server


def _become_server(wire: socket.socket, supervisor: int) -> NoReturn:
    """Wait for the order, then be the server; never returns."""
    try:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        from fmnist_sweep.executors import fork_server, worker

        worker.end_with_parent(supervisor)
        with wire:
            threads, descriptors, _, _ = socket.recv_fds(wire, 100, 1)
        if descriptors:  # else the supervisor has ended without one
            how = "fork" if fork_server.can_fork() else "spawn"
            sys.argv = [fork_server.__name__, str(descriptors[0]), str(json.loads(threads)), str(supervisor), how]
            fork_server.main()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)
