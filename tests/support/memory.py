"""The tests' folders in memory where there is room: most of their time would else be spent on waiting for a disk.

SQLite waits at each commit until a disk has what was written, some milliseconds each, and much longer while other
processes write. Nothing here is about that: a killed process loses nothing that it has written, only a power cut does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import MutableMapping
from pathlib import Path

ROOT_VARIABLE = "PYTEST_DEBUG_TEMPROOT"
"""What names the folder below which pytest makes those of its tests."""
_SHARED_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4e9  # the tests fill up to a quarter of it
_FREE_BYTES = 10e9  # they need memory themselves


def move_to_memory(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let pytest make its folders in memory, unless the user has said where, or there is too little."""
    if ROOT_VARIABLE in environment or "TMPDIR" in environment or not os.access(_SHARED_MEMORY, os.W_OK):
        return
    if shutil.disk_usage(_SHARED_MEMORY).free >= _ROOM_BYTES and _count_free_bytes() >= _FREE_BYTES:
        environment[ROOT_VARIABLE] = str(_SHARED_MEMORY)


def _count_free_bytes() -> float:
    """Memory that is free for new processes; 0 where the system does not say."""
    meminfo = Path("/proc/meminfo")
    for line in meminfo.read_text().splitlines() if meminfo.exists() else ():
        if line.startswith("MemAvailable:"):
            return 1024.0 * int(line.split()[1])
    return 0.0
