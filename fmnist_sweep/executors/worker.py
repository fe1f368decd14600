"""A worker process: it receives specs and sends events, and knows neither oracle nor store nor journal.

It talks to its supervisor through a socket. When the socket is closed, for whatever reason, the worker ends at once.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from fmnist_sweep.executors.messages import (
    DESCRIPTOR_BYTE,
    ErrorMessage,
    ImagesMessage,
    MeasureRequest,
    ReadyMessage,
    StopRequest,
    TrainRequest,
)
from fmnist_sweep.executors.shared_images import attach_images
from fmnist_sweep.process.interpreter import build_child_environment, build_python_command
from fmnist_sweep.training.own_code import ensure_active
from fmnist_sweep.training.probe import measure_training_cost

if TYPE_CHECKING:
    from fmnist_sweep.data import Splits

_PR_SET_PDEATHSIG = 1


class _Inbox:
    """Requests, read by a thread of their own, so that the supervisor's end is noticed in the middle of an epoch."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection
        self._requests: queue.SimpleQueue[TrainRequest | MeasureRequest] = queue.SimpleQueue()
        self._stop_event = threading.Event()
        self.images: dict[str, Splits] = {}  # by sha256

    def start(self) -> None:
        """Start the thread that reads."""
        threading.Thread(target=self._read_requests, name="inbox", daemon=True).start()

    def _read_requests(self) -> None:
        try:
            while True:
                request = self._connection.recv()
                match request:
                    case ImagesMessage(layout):
                        with socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
                            _, (descriptor,), _, _ = socket.recv_fds(wire, len(DESCRIPTOR_BYTE), 1)
                        self.images[layout.sha256] = attach_images(layout, descriptor)
                        os.close(descriptor)
                    case StopRequest():
                        self._stop_event.set()
                    case _:
                        self._requests.put(request)
        except (EOFError, OSError):
            os._exit(1)  # TensorFlow may be in the middle of an epoch, which nobody waits for any more
        except BaseException:  # without this thread no request would ever arrive again
            traceback.print_exc()
            os._exit(1)

    def take_request(self) -> TrainRequest | MeasureRequest:
        return self._requests.get()

    def is_stopping(self) -> bool:
        return self._stop_event.is_set()


def serve_requests(connection: Connection[Any, Any], threads: int) -> None:
    """Answer requests until the supervisor ends. threads: the number of cores that TensorFlow may use."""
    inbox = _Inbox(connection)
    inbox.start()
    from fmnist_sweep.training import backend, trial

    backend.set_threads(threads)
    backend.share_gpus()
    connection.send(ReadyMessage(os.getpid()))
    while True:
        request = inbox.take_request()
        splits = inbox.images[request.images_sha256]
        try:
            match request:
                case TrainRequest(spec):
                    for event in trial.run_trial(spec, splits, inbox.is_stopping):
                        connection.send(event)
                case MeasureRequest(settings=settings, plugins=plugins):
                    ensure_active(plugins)
                    connection.send(measure_training_cost(settings, splits))
        except Exception as error:  # the supervisor raises it again
            connection.send(ErrorMessage(_make_portable(error), traceback.format_exc()))


def _make_portable(error: Exception) -> Exception:
    """The error itself, or one with the same message where the error cannot be sent to another process."""
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))  # noqa: S301 - what was pickled here just now
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return copy


def start_process(descriptor: int, threads: int) -> subprocess.Popen[bytes]:
    """Start a worker in a fresh interpreter, as a child of this process. descriptor: of its socket."""
    return subprocess.Popen(
        build_python_command(__name__, str(descriptor), str(threads), str(os.getpid())),
        env=build_child_environment(),
        stdin=subprocess.DEVNULL,
        pass_fds=(descriptor,),
    )


def main() -> None:
    """Serve, with the arguments of `start_process`."""
    run(*map(int, sys.argv[1:]))


def run(descriptor: int, threads: int, parent_pid: int) -> None:
    """Serve a supervisor through this socket. parent_pid: the process that this one ends with."""
    end_with_parent(parent_pid)
    serve_requests(Connection(descriptor), threads)


def end_with_parent(parent_pid: int) -> None:
    """Let the kernel end this process with its parent, even while it is stopped or stuck. On Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent_pid:  # the parent ended before that
        os._exit(1)
