"""What executors share whose trials go on training while nobody waits for their events."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque

from fmnist_sweep.interrupts import Stop
from fmnist_sweep.training.events import TrialEvent

_POLL_SECONDS = 0.2  # how soon trials are told that the user asked for an end


class ConcurrentExecutor(ABC):
    """The wait for the next event. A subclass says how events arrive, and how trials are told of the end.

    stop: says whether the user asked for an end. _events: events of the executor's own, returned before any other.
    """

    concurrent = True

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._events: deque[TrialEvent] = deque()

    def next_event(self, timeout: float | None = None) -> TrialEvent | None:
        if not self._events and not self._has_trials():
            raise RuntimeError("no trial is under way")
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._stop.is_requested:
                self._announce_stop()
            if self._events:
                return self._events.popleft()
            remaining = _POLL_SECONDS if deadline is None else min(_POLL_SECONDS, deadline - time.monotonic())
            event = self._receive_event(max(0.0, remaining))
            if event is not None or (deadline is not None and time.monotonic() >= deadline):
                return event

    @abstractmethod
    def _has_trials(self) -> bool:
        """Whether any trial is under way."""

    @abstractmethod
    def _receive_event(self, seconds: float) -> TrialEvent | None:
        """Wait for a trial's event; None if nothing arrives in time, or what arrives is not an event."""

    @abstractmethod
    def _announce_stop(self) -> None:
        """Tell all trials, once, that the epoch under way is the last. Trials without a worker end here."""

    def _drop_events(self, trial_id: str) -> None:
        self._events = deque(event for event in self._events if event.trial_id != trial_id)
