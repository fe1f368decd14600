"""What all parts of a running sweep share."""

from __future__ import annotations

from dataclasses import dataclass

from fmnist_sweep.executors import Arrangement, Executor
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
    arrangement: Arrangement
    view: View
    stop: Stop
    delivery: Delivery
    seconds_trained: float = 0.0
