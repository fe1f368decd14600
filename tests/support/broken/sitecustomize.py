"""Imported by Python itself when this folder is on PYTHONPATH: worker processes in which some trials do harm.

BROKEN: what a trial with 13 filters does in its epoch 2. dies: its process kills itself; hangs: it never comes back.
Only workers are broken: local ones, and those of Ray.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

FILTERS = 13


def _break(how: str) -> None:
    from fmnist_sweep.training import trial

    sound = trial._Fit.train_epoch

    def epoch(self: Any, history: Any) -> Any:
        if self._spec.config["model"]["filters"] == FILTERS and len(history) == 1:
            if how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(3600)
        return sound(self, history)

    trial._Fit.train_epoch = epoch  # type: ignore[method-assign]


if "BROKEN" in os.environ and any(
    "executors.worker" in word or "executors.fork_server" in word for word in sys.orig_argv
):
    _break(os.environ["BROKEN"])
