"""What all parts of a running sweep share."""

from __future__ import annotations

from dataclasses import dataclass

from fmnist_sweep.executors import Executor, Placement
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.terminal import View
from fmnist_sweep.sweep.delivery import Delivery
from fmnist_sweep.tracking.store import Store


@dataclass
class Sweep:
    """What the studies of one command share."""

    command: str
    store: Store
    executor: Executor
    placement: Placement
    view: View
    stop: Stop
    delivery: Delivery
    training_seconds: float = 0.0
