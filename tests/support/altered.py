"""The real command in a process that has less patience, or another clock: python tests/support/altered.py ARGUMENTS.

FAULTS_PATIENCE: seconds to wait for a store that is away. FAULTS_DELAY: the most seconds between two tries to reach it.
FAULTS_PLAIN: figures are not drawn; instead of each, its
file holds a hash of what it would show; and the time of an epoch is not measured. FAULTS_TABLES: see
tests/support/tables.py. FAULTS_CLOCK: a file; the
seconds in it, which may change at any moment, are added to the clock on the wall. That is replaced before anything else
is imported. The forks of the zygote heed all but the last.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def _set_clock(file: Path) -> None:
    wall, wall_ns = time.time, time.time_ns

    def offset() -> int:
        try:
            return int(file.read_text() or "0")
        except FileNotFoundError:
            return 0

    time.time = lambda: wall() + offset()
    time.time_ns = lambda: wall_ns() + offset() * 10**9


def alter() -> None:
    """Change what the environment says, but for the clock."""
    if "FAULTS_PATIENCE" in os.environ:
        from fmnist_sweep.sweep import delivery

        delivery.PATIENCE_SECONDS = float(os.environ["FAULTS_PATIENCE"])
    if "FAULTS_DELAY" in os.environ:
        from fmnist_sweep.sweep import delivery

        delivery._MAX_DELAY = float(os.environ["FAULTS_DELAY"])
    if os.environ.get("FAULTS_TABLES"):
        from tests.support.tables import copy_tables

        copy_tables(Path(os.environ["FAULTS_TABLES"]))
    if "FAULTS_PLAIN" in os.environ:
        _draw_nothing()
        _measure_nothing()


def list_stand_ins() -> list[tuple[ModuleType, str, Any]]:
    """What takes the place of drawing: a module, a name in it, and the stand-in, which hashes what it would show."""
    from fmnist_sweep.report import artifacts, kept_parts, page

    class Plots:
        def __getattr__(self, name: str) -> Callable[..., bytes]:
            def draw(*shown: Any, **more: Any) -> bytes:
                return hashlib.sha256(_spell((name, shown, more)).encode()).hexdigest().encode()

            draw.__qualname__ = name
            return draw

    def encode(figure: bytes) -> bytes:
        return b"\x89PNG " + figure

    return [
        *((module, "encode_png", encode) for module in (artifacts, kept_parts)),
        *((artifacts, "plots", Plots()), (page, "plots", Plots()), (page, "galleries", Plots())),
    ]


def _draw_nothing() -> None:
    for module, name, stand_in in list_stand_ins():
        setattr(module, name, stand_in)


def _measure_nothing() -> None:
    """Any cost will do: with it, no sweep of the tests takes the minute from which on workers are tried."""
    from fmnist_sweep.sweep import costs, measurements
    from fmnist_sweep.training.probe import TrainingCost

    vars(costs).update(measure_training_cost=lambda settings, splits: TrainingCost(0.01, 1000, 0.1))
    vars(measurements).update(locate_measurements=lambda: Path("/dev/null/none"))  # others must not believe this


def _spell(shown: Any) -> str:
    """What a figure shows; no figure shows seconds."""
    if hasattr(shown, "tobytes"):
        return f"{shown.dtype} {shown.shape} {hashlib.sha256(shown.tobytes()).hexdigest()}"
    if isinstance(shown, Mapping):
        return str({key: _spell(value) for key, value in shown.items() if not key.endswith("_seconds")})
    return str([_spell(each) for each in shown]) if isinstance(shown, list | tuple) else repr(shown)


def main() -> int:
    """What `python -m fmnist_sweep` does."""
    if "FAULTS_CLOCK" in os.environ:
        _set_clock(Path(os.environ["FAULTS_CLOCK"]))
    from fmnist_sweep import __main__ as application

    alter()
    return application.main()


if __name__ == "__main__":
    sys.exit(main())
