"""Trials in this process, one after the other: nothing has to start, and a debugger sees every error."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from fmnist_sweep.data import load_splits
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.training import trial
from fmnist_sweep.training.events import EpochEnd, TrialEvent, TrialSpec


class InProcessExecutor:
    """One slot. A trial trains while its next event is waited for, however long that takes."""

    slots = 1
    concurrent = False
    uses_own_cores = True

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._running: Iterator[TrialEvent] | None = None

    def submit(self, spec: TrialSpec) -> None:
        if self._running is not None:
            raise RuntimeError("in_process has one slot, and a trial is under way in it")
        self._running = trial.run_trial(spec, load_splits(spec.data), lambda: self._stop.is_requested)

    def next_event(self, timeout: float | None = None) -> TrialEvent | None:
        if self._running is None:
            raise RuntimeError("no trial is under way")
        event = next(self._running)
        if not isinstance(event, EpochEnd):
            self._running = None
        return event

    def abandon(self, trial_id: str) -> None:
        self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running = None
