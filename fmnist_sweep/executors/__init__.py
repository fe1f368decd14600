"""Where trials run. An executor has slots, takes specs, returns events, and decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from fmnist_sweep.config.schema import RayConfig
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.training import backend
from fmnist_sweep.training.events import TrialEvent, TrialSpec

if TYPE_CHECKING:
    from fmnist_sweep.config.schema import ExecutorConfig


@dataclass(frozen=True)
class Placement:
    """Where trials train (name), how many at once (workers), and on how many cores each (threads).

    measured: whether this was measured to be the quickest on this machine.
    """

    name: str
    workers: int
    threads: int
    measured: bool = False

    def __str__(self) -> str:
        cores = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        if self.name == "in_process":
            return f"in_process, {cores}"
        if not self.workers:  # the cluster has not been asked yet
            return f"{self.name}, {cores} a trial"
        return f"{self.name}, {self.workers} worker{'s' if self.workers > 1 else ''} of {cores}"


class Executor(Protocol):
    """Where trials run: `with make_executor(...) as executor`.

    slots: how many trials at once. concurrent: whether trials go on training while nobody waits for their events.
    uses_own_cores: whether trials train on the cores of this machine.
    """

    concurrent: bool
    uses_own_cores: bool

    @property
    def slots(self) -> int: ...

    def submit(self, spec: TrialSpec) -> None:
        """Begin a trial; at most `slots` may be under way."""

    def next_event(self, timeout: float | None = None) -> TrialEvent | None:
        """Wait for the next event of any trial under way; None after `timeout` seconds without one.

        Raises RuntimeError when no trial is under way. What goes wrong in a worker and is no trial's fault is raised
        as it was there.
        """

    def abandon(self, trial_id: str) -> None:
        """End a trial under way at once. No further event of it is returned."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def make_executor(placement: Placement, config: ExecutorConfig, stop: Stop) -> Executor:
    """Make the executor of a placement. stop: says whether the user asked for an end, after the epoch under way."""
    match placement.name:
        case "in_process":
            from fmnist_sweep.executors.in_process import InProcessExecutor

            backend.set_threads(placement.threads)
            return InProcessExecutor(stop)
        case "local":
            from fmnist_sweep.executors.local import LocalExecutor

            return LocalExecutor(placement.workers, placement.threads, stop)
        case _:
            from fmnist_sweep.executors.ray_cluster import RayExecutor

            assert isinstance(config, RayConfig)
            return RayExecutor(config, placement.threads, stop)
