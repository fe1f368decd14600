"""Where trials run. An executor has slots, takes specs, hands back events, and decides nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from fmnist_sweep.config import ExecutorConfig
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.trial import Event, TrialSpec


class Executor(Protocol):
    """Where trials run: `with make(...) as executor`."""

    slots: int

    def submit(self, spec: TrialSpec) -> None:
        """Begin a trial; at most `slots` may be under way."""

    def next_event(self) -> Event:
        """Wait for what any trial under way has to say; RuntimeError when none is."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def make(config: ExecutorConfig, stop: Stop) -> Executor:
    """The executor a config names; stop: says when the epoch under way is the last."""
    from fmnist_sweep.executors.in_process import InProcess

    return InProcess(config.threads, stop)
