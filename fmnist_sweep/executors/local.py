"""Trials in worker processes of this machine. Each worker trains one trial at a time; a dead worker is replaced.

Workers are plain processes (`fork_server` starts them), each with a socket of its own, and no pool: one dead worker
breaks a whole pool (concurrent.futures, loky), and a killed one can leave a shared queue locked. Here a worker's death
ends its own socket, and one attempt.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import struct
import sys
import threading
import traceback
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from fmnist_sweep.data import DataConfig, Splits, load_splits
from fmnist_sweep.executors.concurrent import ConcurrentExecutor
from fmnist_sweep.executors.fork_server import ForkServer, WorkerProcess
from fmnist_sweep.executors.messages import (
    DESCRIPTOR_BYTE,
    ErrorMessage,
    ImagesMessage,
    MeasureRequest,
    ReadyMessage,
    StopRequest,
    TrainRequest,
)
from fmnist_sweep.executors.shared_images import SharedImages, share_images
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.process.states import count_memory_bytes, read_state
from fmnist_sweep.search.space import read_replicas
from fmnist_sweep.training.events import EpochEnd, TrialEvent, TrialSpec, TrialStart, WorkerLost
from fmnist_sweep.training.own_code import PluginSource
from fmnist_sweep.training.probe import TrainingCost

_SEND_TIMEOUT_SECONDS = 60  # after which a worker that reads nothing is given up
_MEASURE_TIMEOUT_SECONDS = 300  # after which workers that measure and say nothing count as stuck
# How much a worker may grow beyond its first trial. Where every trial has other shapes TensorFlow goes on holding some
# megabytes of each, outside of Python (benchmarks/memory.py).
_MAX_GROWTH_BYTES = 128 * 2**20
_MAX_FALSE_STARTS = 3  # how many workers in a row may end before they are ready


@dataclass(eq=False)
class _Worker:
    """A worker process and its trial.

    image_hashes: the sha256 of each set of images that it was sent. first_bytes: of memory that it had after its first
    trial; None before that ends.
    """

    number: int
    process: WorkerProcess
    connection: Connection[Any, Any]
    pid: int | None = None  # None before it is ready
    trial_id: str | None = None
    first_bytes: int | None = None
    image_hashes: set[str] = field(default_factory=set)
    replicas: int | None = None  # among which its cores are shared out; None before its first trial
    has_stop_request: bool = False

    def __str__(self) -> str:
        return f"worker {self.number}" if self.pid is None else f"worker {self.number} (process {self.pid})"

    @property
    def is_ready(self) -> bool:
        return self.pid is not None

    def has_grown(self) -> bool:
        """Whether its trials have left so much memory behind that another worker is to have the next one."""
        return self.first_bytes is not None and self.count_bytes() - self.first_bytes > _MAX_GROWTH_BYTES

    def takes_replicas(self, replicas: int) -> bool:
        """Whether it can train so many replicas of a network: for good as many as the first time."""
        return self.replicas in (None, replicas)

    def count_bytes(self) -> int:
        return 0 if self.pid is None else count_memory_bytes(self.pid)

    def has_ended(self) -> bool:
        """Whether the process is gone, even if nothing has been heard of that.

        It is a zombie then, or the kernel has closed its socket: of a killed process that the last of its threads does,
        a moment later.
        """
        state = None if self.pid is None else read_state(self.pid)
        if state is not None and state.has_ended:
            return True
        try:
            with socket.socket(fileno=os.dup(self.connection.fileno())) as wire:
                return not wire.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


class LocalExecutor(ConcurrentExecutor):
    """As many slots as worker processes; they are started together when the executor is entered."""

    uses_own_cores = True

    def __init__(self, workers: int, threads: int, stop: Stop) -> None:
        super().__init__(stop)
        self._worker_count, self._threads = workers, threads
        self._workers: list[_Worker] = []
        self._server: ForkServer | None = None
        self._queue: deque[TrialSpec] = deque()  # trials that wait for a worker
        self._messages: queue.SimpleQueue[tuple[_Worker, Any]] = queue.SimpleQueue()
        self._images: dict[str, SharedImages] = {}
        self._resources = ExitStack()
        self._false_starts = 0

    @property
    def slots(self) -> int:
        return self._worker_count

    def submit(self, spec: TrialSpec) -> None:
        busy_count = sum(worker.trial_id is not None for worker in self._workers)
        if busy_count + len(self._queue) >= self._worker_count:
            raise RuntimeError(f"local has {self._worker_count} slots, and a trial is under way in each")
        self._queue.append(spec)
        self._assign_trials()

    def abandon(self, trial_id: str) -> None:
        self._queue = deque(spec for spec in self._queue if spec.trial_id != trial_id)
        self._drop_events(trial_id)
        for worker in [worker for worker in self._workers if worker.trial_id == trial_id]:
            self._replace_worker(worker)

    def measure(
        self, settings: Mapping[str, Any], data: DataConfig, plugins: tuple[PluginSource, ...] = ()
    ) -> list[TrainingCost]:
        """Time a little training in all workers at once, and return the cost in each. No worker may have a trial."""
        splits, replicas = load_splits(data), read_replicas(settings)
        for worker in [worker for worker in self._workers if not worker.takes_replicas(replicas)]:
            self._replace_worker(worker)
        asked_workers: set[_Worker] = set()
        costs: dict[_Worker, TrainingCost] = {}
        while len(costs) < len(self._workers):
            # Not before all are ready: beside others that still import, each worker would look slow.
            for worker in self._workers if all(worker.is_ready for worker in self._workers) else ():
                if worker not in asked_workers:
                    asked_workers.add(worker)
                    self._send_images(worker, splits)
                    worker.replicas = replicas
                    self._send(worker, MeasureRequest(settings, splits.sha256, plugins))
            sender, message = self._await_message()
            if isinstance(message, TrainingCost):
                costs[sender] = message
            else:
                self._handle_message(sender, message)
            costs = {worker: cost for worker, cost in costs.items() if worker in self._workers}
        return list(costs.values())

    def wait_until_ready(self) -> None:
        """Wait until all workers have imported what they need, and leave the cores alone. None may have a trial."""
        while not all(worker.is_ready for worker in self._workers):
            self._handle_message(*self._await_message())

    # What workers say

    def _await_message(self) -> tuple[_Worker, Any]:
        try:
            return self._messages.get(timeout=_MEASURE_TIMEOUT_SECONDS)
        except queue.Empty:
            raise RuntimeError(f"no worker said anything for {_MEASURE_TIMEOUT_SECONDS} s") from None

    def _has_trials(self) -> bool:
        return bool(self._queue) or any(worker.trial_id is not None for worker in self._workers)

    def _receive_event(self, seconds: float) -> TrialEvent | None:
        try:
            sender, message = self._messages.get(timeout=seconds)
        except queue.Empty:
            return None
        return self._handle_message(sender, message)

    def _handle_message(self, sender: _Worker, message: Any) -> TrialEvent | None:
        """Handle a message (None: the worker is gone), and return the event in it; None where there is none."""
        if sender not in self._workers:
            return None  # abandoned
        match message:
            case None:
                return self._handle_lost_worker(sender)
            case ReadyMessage(pid):
                sender.pid, self._false_starts = pid, 0
                self._assign_trials()
                return None
            case ErrorMessage(error, trace):
                raise error from RuntimeError(f"in {sender}:\n{trace}")
            case TrialStart():
                return message
            case EpochEnd() if not message.last:
                return message
        sender.trial_id = None
        if sender.first_bytes is None:
            sender.first_bytes = sender.count_bytes()
        self._assign_trials()
        event: TrialEvent = message
        return event

    def _handle_lost_worker(self, worker: _Worker) -> WorkerLost | None:
        reason = f"{worker} {_describe_exit(worker.process.wait())}"
        if not worker.is_ready:
            self._false_starts += 1
            if self._false_starts >= _MAX_FALSE_STARTS and any(other.is_ready for other in self._workers):
                self._worker_count -= 1  # the others go on training
                self._workers.remove(worker)
                return None
            if self._false_starts >= _MAX_FALSE_STARTS:
                raise RuntimeError(f"{reason} before it was ready, as did {_MAX_FALSE_STARTS - 1} before it")
        self._replace_worker(worker)
        return None if worker.trial_id is None else WorkerLost(worker.trial_id, reason)

    def _assign_trials(self) -> None:
        """Give trials that wait to free workers. A worker that is not ready gets none: it may never become ready."""
        for worker in list(self._workers):
            if not self._queue:
                return
            replicas = read_replicas(self._queue[0].config)
            if worker.trial_id is None and (worker.has_grown() or not worker.takes_replicas(replicas)):
                self._replace_worker(worker)  # its trial waits until the new one is ready
            elif worker.is_ready and worker.trial_id is None and not worker.has_ended():
                spec = self._queue.popleft()
                worker.trial_id, worker.replicas = spec.trial_id, replicas
                self._messages.put((worker, TrialStart(spec.trial_id, str(worker))))
                splits = load_splits(spec.data)
                self._send_images(worker, splits)
                self._send(worker, TrainRequest(spec, splits.sha256))

    def _send_images(self, worker: _Worker, splits: Splits) -> None:
        if splits.sha256 not in self._images:
            self._images[splits.sha256] = self._resources.enter_context(share_images(splits))
        if splits.sha256 not in worker.image_hashes:
            shared = self._images[splits.sha256]
            worker.image_hashes.add(splits.sha256)
            self._send(worker, ImagesMessage(shared.layout))
            # Not multiprocessing's send_handle: on macOS it waits for an answer, which the listening thread would read.
            with suppress(OSError), socket.socket(fileno=os.dup(worker.connection.fileno())) as wire:  # as in `_send`
                socket.send_fds(wire, [DESCRIPTOR_BYTE], [shared.fileno()])

    def _send(self, worker: _Worker, request: object) -> None:
        try:
            worker.connection.send(request)
        except OSError:  # the worker is gone or reads nothing; the thread that listens to it reports its end
            worker.process.kill()

    def _announce_stop(self) -> None:
        for worker in self._workers:
            if not worker.has_stop_request:
                worker.has_stop_request = True
                self._send(worker, StopRequest())
        while self._queue:
            spec = self._queue.popleft()
            self._events.append(WorkerLost(spec.trial_id, "no worker was free before the end was asked for"))

    # Processes

    def _start_worker(self) -> _Worker:
        parent_socket, child_socket = socket.socketpair()
        parent_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_TIMEOUT_SECONDS, 0))
        with child_socket:
            if self._server is None or self._server.has_ended:
                self._server = ForkServer(self._threads)
            process = self._server.start_worker(child_socket)
        numbers = {other.number for other in self._workers}
        number = next(number for number in range(1, self._worker_count + 1) if number not in numbers)
        new_worker = _Worker(number, process, Connection(parent_socket.detach()))
        threading.Thread(target=self._listen, args=(new_worker,), name=f"worker {number}", daemon=True).start()
        self._workers.append(new_worker)
        return new_worker

    def _listen(self, worker: _Worker) -> None:
        """Queue each message of a worker at once: a trial must not wait for a supervisor that is busy logging."""
        try:
            while True:
                self._messages.put((worker, worker.connection.recv()))
        except (EOFError, OSError):
            self._messages.put((worker, None))
        except Exception as error:  # a message that cannot be read: raised where messages are handled
            self._messages.put((worker, ErrorMessage(error, traceback.format_exc())))

    def _replace_worker(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        _end_worker(worker)
        self._start_worker()

    def __enter__(self) -> Self:
        try:
            for _ in range(self._worker_count):
                self._start_worker()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A server that still imports answers nobody for seconds; on Linux its workers end with it.
        answering = [worker for worker in self._workers if worker.is_ready or sys.platform != "linux"]
        for worker in answering:
            worker.process.kill()
        for worker in answering:
            _end_worker(worker)
        if self._server is not None:
            self._server.close()
            self._server = None
        self._workers.clear()
        self._queue.clear()
        self._resources.close()


def _end_worker(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.wait()  # the thread that listens to the worker closes its connection after reading the rest


def _describe_exit(code: int) -> str:
    """How a process ended, in words."""
    if code != -signal.SIGKILL and code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name
    if code == -signal.SIGKILL:
        return f"was killed ({name}; unless somebody did that, memory ran out: fewer executor.workers need less)"
    return f"was ended by {name}"
