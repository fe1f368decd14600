"""A process that has imported TensorFlow once, and of which every worker process of this machine is a fork.

A fork is ready in a fraction of a second, shares the memory of what was imported, and does not take the import's
seconds from cores that train. Where a fork of TensorFlow is not safe (macOS; a GPU, whose driver does not survive a
fork), the same process starts a fresh interpreter for each worker instead. The standard library's fork server
(multiprocessing) would import from the working directory, and heeds signals that only the supervisor decides on.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fmnist_sweep.executors import worker
from fmnist_sweep.executors.messages import DESCRIPTOR_BYTE
from fmnist_sweep.process.interpreter import build_child_environment, build_python_command

_DEVICES = Path("/dev")
_GPU_DEVICES = ("nvidiactl", "nvidia0", "kfd", "dxg")  # of NVIDIA, of AMD, and of Linux within Windows
_END_TIMEOUT_SECONDS = 60  # after which a server that does not say how a worker ended is given up


@dataclass(frozen=True)
class StartRequest:
    """Start a worker; the descriptor of its socket follows. number: counts the workers of this server."""

    number: int


@dataclass(frozen=True)
class KillRequest:
    """Kill a worker, if it has not ended."""

    number: int


@dataclass(frozen=True)
class EndMessage:
    """A worker has ended. code: its exit code, or minus the number of the signal that ended it."""

    number: int
    code: int


def can_fork() -> bool:
    """Whether a process that has imported TensorFlow can be forked on this machine."""
    return sys.platform == "linux" and not any((_DEVICES / name).exists() for name in _GPU_DEVICES)


class ForkServer:
    """The supervisor's end of one such process, which starts with this object and whose workers end with it.

    threads: the number of cores that TensorFlow may use in each worker.
    """

    def __init__(self, threads: int) -> None:
        parent_socket, child_socket = socket.socketpair()
        with child_socket:
            self._process = start_server(child_socket.fileno(), threads)
        self._connection: Connection[Any, Any] = Connection(parent_socket.detach())
        self._count = 0
        self._codes: dict[int, int] = {}
        self._is_heard = True  # whether more may be heard of it
        self._changed = threading.Condition()
        threading.Thread(target=self._listen, name="fork server", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def start_worker(self, child_socket: socket.socket) -> WorkerProcess:
        """Start a worker that is reached through the other end of this socket."""
        self._count += 1
        # If the server has just ended, the worker's socket closes as if the worker had ended.
        with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
            self._connection.send(StartRequest(self._count))
            socket.send_fds(wire, [DESCRIPTOR_BYTE], [child_socket.fileno()])
        return WorkerProcess(self, self._count)

    def close(self) -> None:
        """End the process. On Linux the kernel ends its workers with it."""
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        try:
            while True:
                message: EndMessage = self._connection.recv()
                with self._changed:
                    self._codes[message.number] = message.code
                    self._changed.notify_all()
        except (EOFError, OSError):
            with self._changed:
                self._is_heard = False
                self._changed.notify_all()

    def _kill_worker(self, number: int) -> None:
        with suppress(OSError):
            self._connection.send(KillRequest(number))

    def _wait_for_worker(self, number: int) -> int:
        with self._changed:
            if not self._changed.wait_for(
                lambda: number in self._codes or not self._is_heard, timeout=_END_TIMEOUT_SECONDS
            ):
                self._process.kill()
        return self._codes[number] if number in self._codes else self._process.wait()


@dataclass(frozen=True, eq=False)
class WorkerProcess:
    """A worker that a fork server has started."""

    _server: ForkServer
    _number: int

    def kill(self) -> None:
        """Kill the worker, if it has not ended."""
        self._server._kill_worker(self._number)

    def wait(self) -> int:
        """Wait until the worker has ended, and return its exit code.

        It is the server's exit code where that ended before it could tell.
        """
        return self._server._wait_for_worker(self._number)


def start_server(descriptor: int, threads: int) -> subprocess.Popen[bytes]:
    """Start the process as a child of this one. descriptor: of its socket."""
    # A terminal's Ctrl-C and a scheduler's SIGTERM go to every process of a job; the supervisor alone decides on
    # them. They are ignored before anything is imported: libraries start threads, and importing takes a while.
    ignore_signals = "import signal; [signal.signal(each, signal.SIG_IGN) for each in (1, 2, 15)]"
    arguments = (descriptor, threads, os.getpid(), "fork" if can_fork() else "spawn")
    return subprocess.Popen(
        build_python_command(__name__, *map(str, arguments), before=ignore_signals),
        env=build_child_environment(),
        stdin=subprocess.DEVNULL,
        pass_fds=(descriptor,),
    )


# What follows runs in the server and in its forks.


class _Server:
    """It serves one request after the other, without a thread: a fork of a process with threads may never run."""

    def __init__(self, connection: Connection[Any, Any], threads: int, forks: bool) -> None:
        self._connection, self._threads, self._forks = connection, threads, forks
        self._numbers: dict[int, int] = {}  # by process
        self._wake_reader, self._wake_writer = os.pipe()

    def serve(self) -> None:
        """Serve until the supervisor ends."""
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        while True:
            ready = wait([self._connection, self._wake_reader])
            if self._wake_reader in ready:
                os.read(self._wake_reader, 4096)
                self._tell_ends()
            if self._connection in ready:
                self._answer(self._connection.recv())

    def _tell_ends(self) -> None:
        for process, number in list(self._numbers.items()):
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                del self._numbers[process]
                self._connection.send(EndMessage(number, os.waitstatus_to_exitcode(status)))

    def _answer(self, request: StartRequest | KillRequest) -> None:
        match request:
            case StartRequest(number):
                with socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
                    _, (descriptor,), _, _ = socket.recv_fds(wire, len(DESCRIPTOR_BYTE), 1)
                try:
                    self._numbers[self._start_worker(descriptor)] = number
                except (
                    OSError
                ) as error:  # no memory, or too many processes: the supervisor tries again, or goes without
                    sys.stderr.write(f"fmnist_sweep: no worker process could be started ({error})\n")
                    self._connection.send(EndMessage(number, 1))
                os.close(descriptor)
            case KillRequest(number):
                for process in [process for process, each in self._numbers.items() if each == number]:
                    os.kill(process, signal.SIGKILL)

    def _start_worker(self, descriptor: int) -> int:
        if not self._forks:
            return worker.start_process(descriptor, self._threads).pid
        server = os.getpid()
        process = os.fork()
        if process == 0:
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self._connection.close()
                os.close(self._wake_reader)
                os.close(self._wake_writer)
                worker.run(descriptor, self._threads, server)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        return process


def main() -> None:
    """Serve, with the arguments of `start_server`."""
    descriptor, threads, supervisor_pid = map(int, sys.argv[1:4])
    worker.end_with_parent(supervisor_pid)
    forks = sys.argv[4] == "fork" and _prepare_forks()
    with suppress(EOFError, ConnectionError):  # the supervisor has ended
        _Server(Connection(descriptor), threads, forks).serve()
    os._exit(1)


def _prepare_forks() -> bool:
    """Import what workers need; whether they can be forked: not if TensorFlow found a GPU all the same."""
    from fmnist_sweep.training import backend, trial  # noqa: F401 - for the forks

    backend.import_tensorflow()
    gc.collect()
    gc.freeze()  # what is never collected is never written to, and stays shared
    return not backend.has_gpu()
