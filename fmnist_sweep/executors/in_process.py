"""Trials one after the other in this process: nothing to start, and every error where a debugger sees it."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from fmnist_sweep import backend, packed, snapshot, trial
from fmnist_sweep.data import load
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.trial import CheckpointRefused, Event, TrialSpec


class InProcess:
    """One slot; a trial trains while its next event is waited for."""

    slots = 1

    def __init__(self, threads: int | None, stop: Stop) -> None:
        self._stop = stop
        backend.set_threads(threads)
        self._running: Iterator[Event] | None = None
        self._trial_id = ""

    def submit(self, spec: TrialSpec) -> None:
        if self._running is not None:
            raise RuntimeError("in_process has one slot, and a trial is under way in it")
        self._running, self._trial_id = trial.run(spec, load(spec.data), lambda: self._stop.asked), spec.trial_id

    def next_event(self) -> Event:
        if self._running is None:
            raise RuntimeError("no trial is under way")
        event: Event
        try:
            event = next(self._running)
        except (packed.Damaged, snapshot.Mismatch) as error:
            event = CheckpointRefused(self._trial_id, str(error))
        if not isinstance(event, trial.EpochEnd):
            self._running = None
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running = None
