"""The real command in a process that has less patience, or another clock: python tests/support/altered.py ARGUMENTS.

FAULTS_PATIENCE: seconds to wait for a store that is away. FAULTS_CLOCK: a file; the seconds in it, which may change at
any moment, are added to the clock on the wall. That is replaced before anything else is imported.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def _set_clock(file: Path) -> None:
    wall, wall_ns = time.time, time.time_ns

    def offset() -> int:
        try:
            return int(file.read_text() or "0")
        except FileNotFoundError:
            return 0

    time.time = lambda: wall() + offset()
    time.time_ns = lambda: wall_ns() + offset() * 10**9


def lose_patience() -> None:
    """Wait for a store no longer than the environment says."""
    if "FAULTS_PATIENCE" in os.environ:
        from fmnist_sweep.sweep import delivery

        delivery.PATIENCE_SECONDS = float(os.environ["FAULTS_PATIENCE"])


def main() -> int:
    """What `python -m fmnist_sweep` does."""
    if "FAULTS_CLOCK" in os.environ:
        _set_clock(Path(os.environ["FAULTS_CLOCK"]))
    from fmnist_sweep import __main__ as application

    lose_patience()
    return application.main()


if __name__ == "__main__":
    sys.exit(main())
