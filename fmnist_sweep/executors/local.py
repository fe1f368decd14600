"""Trials in worker processes of this machine: one trial each at a time, all cores busy, a dead worker replaced.

Plain processes, each with a socket of its own, instead of a pool: a pool (concurrent.futures, loky) is broken as a
whole by one dead worker, and queues that workers share can be left locked by one that is killed. Here a worker's death
is the end of its own socket, and of one attempt.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import struct
import subprocess
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from fmnist_sweep.data import DataConfig, Splits, load
from fmnist_sweep.executors import worker
from fmnist_sweep.executors.messages import DESCRIPTOR, Images, LastEpoch, Measure, Raised, Ready, Train
from fmnist_sweep.executors.shared_images import SharedImages
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.training.events import EpochEnd, TrialEvent, TrialSpec, TrialStart, WorkerLost
from fmnist_sweep.training.probe import TrainingCost

_LOOK_SECONDS = 0.2  # how soon workers are told that the user asked for an end
_SENDING_SECONDS = 60  # after which a worker that takes nothing in is given up
_MEASURING_SECONDS = 300  # after which a worker that is measured counts as stuck
_MOST_FALSE_STARTS = 3  # workers in a row that end before they are ready


@dataclass(eq=False)
class _Worker:
    """One process and the trial it trains. has: the images it was given, by sha256."""

    number: int
    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]
    ready: bool = False
    trial_id: str | None = None
    has: set[str] = field(default_factory=set)
    told_to_stop: bool = False

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"


class Local:
    """As many slots as worker processes; they are started together when the executor is entered."""

    concurrent = True

    def __init__(self, workers: int, threads: int, stop: Stop) -> None:
        self._count, self._threads, self._stop = workers, threads, stop
        self._workers: list[_Worker] = []
        self._waiting: deque[TrialSpec] = deque()
        self._said: queue.SimpleQueue[tuple[_Worker, Any]] = queue.SimpleQueue()
        self._unheard: deque[TrialEvent] = deque()
        self._images: dict[str, SharedImages] = {}
        self._open = ExitStack()
        self._false_starts = 0

    @property
    def slots(self) -> int:
        return self._count

    def submit(self, spec: TrialSpec) -> None:
        busy = sum(worker.trial_id is not None for worker in self._workers)
        if busy + len(self._waiting) >= self._count:
            raise RuntimeError(f"local has {self._count} slots, and a trial is under way in each")
        self._waiting.append(spec)
        self._hand_out()

    def next_event(self, timeout: float | None = None) -> TrialEvent | None:
        if not self._waiting and not self._unheard and all(worker.trial_id is None for worker in self._workers):
            raise RuntimeError("no trial is under way")
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._tell_if_stopping()
            if self._unheard:
                return self._unheard.popleft()
            left = _LOOK_SECONDS if deadline is None else min(_LOOK_SECONDS, deadline - time.monotonic())
            try:
                event = self._heard(*self._said.get(timeout=max(0.0, left)))
            except queue.Empty:
                event = None
            if event is not None or (deadline is not None and time.monotonic() >= deadline):
                return event

    def abandon(self, trial_id: str) -> None:
        self._waiting = deque(spec for spec in self._waiting if spec.trial_id != trial_id)
        self._unheard = deque(event for event in self._unheard if event.trial_id != trial_id)
        for each in [each for each in self._workers if each.trial_id == trial_id]:
            self._replace(each)

    def measure(self, settings: Mapping[str, Any], data: DataConfig) -> list[TrainingCost]:
        """What a little training costs in each worker, while all of them are at it; none may have a trial."""
        splits = load(data)
        asked: set[_Worker] = set()
        found: dict[_Worker, TrainingCost] = {}
        while len(found) < len(self._workers):
            # Not before all are ready: beside others that still import, each would look slow.
            for each in self._workers if all(each.ready for each in self._workers) else ():
                if each not in asked:
                    asked.add(each)
                    self._give_images(each, splits)
                    self._send(each, Measure(settings, splits.sha256))
            try:
                speaker, said = self._said.get(timeout=_MEASURING_SECONDS)
            except queue.Empty:
                raise RuntimeError(f"no worker said anything for {_MEASURING_SECONDS} s") from None
            if isinstance(said, TrainingCost):
                found[speaker] = said
            else:
                self._heard(speaker, said)
            found = {each: probe for each, probe in found.items() if each in self._workers}
        return list(found.values())

    # What workers say

    def _heard(self, speaker: _Worker, said: Any) -> TrialEvent | None:
        """Take in what a worker said; None where that is nothing to its trial."""
        if speaker not in self._workers:
            return None  # abandoned
        match said:
            case None:
                return self._lost(speaker)
            case Ready():
                speaker.ready, self._false_starts = True, 0
                self._hand_out()
                return None
            case Raised(error, trace):
                raise error from RuntimeError(f"in {speaker}:\n{trace}")
            case TrialStart():
                return said
            case EpochEnd() if not said.last:
                return said
        speaker.trial_id = None
        self._hand_out()
        event: TrialEvent = said
        return event

    def _lost(self, gone: _Worker) -> WorkerLost | None:
        reason = f"{gone} {_how(gone.process.wait())}"
        if not gone.ready:
            self._false_starts += 1
            if self._false_starts >= _MOST_FALSE_STARTS and any(each.ready for each in self._workers):
                self._count -= 1  # those that train go on
                self._workers.remove(gone)
                return None
            if self._false_starts >= _MOST_FALSE_STARTS:
                raise RuntimeError(f"{reason} before it was ready, as did {_MOST_FALSE_STARTS - 1} before it")
        self._replace(gone)
        return None if gone.trial_id is None else WorkerLost(gone.trial_id, reason)

    def _hand_out(self) -> None:
        """Give trials that wait to workers that are free; one that is not ready is given none: it may never be."""
        for each in self._workers:
            if not self._waiting:
                return
            if each.ready and each.trial_id is None and each.process.poll() is None:
                spec = self._waiting.popleft()
                each.trial_id = spec.trial_id
                self._said.put((each, TrialStart(spec.trial_id, str(each))))
                splits = load(spec.data)
                self._give_images(each, splits)
                self._send(each, Train(spec, splits.sha256))

    def _give_images(self, to: _Worker, splits: Splits) -> None:
        if splits.sha256 not in self._images:
            self._images[splits.sha256] = self._open.enter_context(SharedImages(splits))
        if splits.sha256 not in to.has:
            shared = self._images[splits.sha256]
            to.has.add(splits.sha256)
            self._send(to, Images(shared.layout))
            # Not multiprocessing's send_handle: on macOS it waits for an answer that the listening thread would read.
            with suppress(OSError), socket.socket(fileno=os.dup(to.connection.fileno())) as wire:  # as in `_send`
                socket.send_fds(wire, [DESCRIPTOR], [shared.fileno()])

    def _send(self, to: _Worker, request: object) -> None:
        try:
            to.connection.send(request)
        except OSError:  # it is gone, or takes nothing any more; the thread that listens to it then says so
            to.process.kill()

    def _tell_if_stopping(self) -> None:
        if self._stop.is_requested:
            for each in self._workers:
                if not each.told_to_stop:
                    each.told_to_stop = True
                    self._send(each, LastEpoch())
            while self._waiting:
                spec = self._waiting.popleft()
                self._unheard.append(WorkerLost(spec.trial_id, "no worker was free before the end was asked for"))

    # Processes

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SENDING_SECONDS, 0))
        with theirs:
            command = worker.command(theirs.fileno(), self._threads, os.getpid())
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
        numbers = {each.number for each in self._workers}
        number = next(number for number in range(1, self._count + 1) if number not in numbers)
        started = _Worker(number, process, Connection(ours.detach()))
        threading.Thread(target=self._listen, args=(started,), name=f"worker {number}", daemon=True).start()
        self._workers.append(started)
        return started

    def _listen(self, to: _Worker) -> None:
        """Hand on what a worker says, at once: it must not wait in the middle of a trial for a supervisor that logs."""
        try:
            while True:
                self._said.put((to, to.connection.recv()))
        except (EOFError, OSError):
            self._said.put((to, None))
        except Exception as error:  # what cannot be read: ours, and to be raised where it is waited for
            self._said.put((to, Raised(error, traceback.format_exc())))

    def _replace(self, gone: _Worker) -> None:
        self._workers.remove(gone)
        _end(gone)
        self._start()

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._workers:
            each.process.kill()
        for each in self._workers:
            _end(each)
        self._workers.clear()
        self._waiting.clear()
        self._open.close()


def _end(gone: _Worker) -> None:
    gone.process.kill()
    gone.process.wait()  # its connection is closed when the thread that listens to it has read the rest


def _how(code: int) -> str:
    """How a process ended, in words."""
    if code != -signal.SIGKILL and code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name
    if code == -signal.SIGKILL:
        return f"was killed ({name}; where nobody did that, memory ran out: fewer executor.workers need less)"
    return f"was ended by {name}"
