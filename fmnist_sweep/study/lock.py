"""One owner: a study or sweep is held by one process at a time, and its hold ends with the process, however it ends."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.errors import Locked

if TYPE_CHECKING:
    from filelock import FileLock

_LOCK_FILE, _OWNER_FILE = "owner.lock", "owner.json"
_PATIENCE_SECONDS = 1.0  # somebody may hold it for a moment, to see whether it is held


@dataclass(frozen=True)
class Owner:
    """Who holds a folder. since: UTC, to the second."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def lock_folder(folder: Path, resource: str) -> Iterator[None]:
    """Hold a folder (made where needed) while the block runs; Locked says who has it. A dead owner's hold is void."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = _create_lock(folder)
    if not _try_acquire(lock, _PATIENCE_SECONDS):
        raise Locked(
            f"{resource} is being run by {_read_owner(folder) or 'another process'}: wait for it or end it; type the command "
            "again afterwards and it continues."
        )
    try:
        holder = Owner(os.getpid(), socket.gethostname(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))
        (folder / _OWNER_FILE).write_text(json.dumps(asdict(holder)))
        yield
    finally:
        lock.release()


def find_owner(folder: Path, patience: float = 0) -> Owner | None:
    """Who holds a folder, or None; patience: seconds to wait for one who only looks at it."""
    if not (folder / _LOCK_FILE).exists():
        return None
    lock = _create_lock(folder)
    try:
        if _try_acquire(lock, patience):
            lock.release()
            return None
    except OSError:  # a read-only disk, on which there is nothing to hold
        return None
    return _read_owner(folder) or Owner(0, "unknown", "unknown")


def _create_lock(folder: Path) -> FileLock:
    from filelock import FileLock

    return FileLock(folder / _LOCK_FILE)


def _try_acquire(lock: FileLock, patience: float) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=patience)
    except Timeout:
        return False
    return True


def _read_owner(folder: Path) -> Owner | None:
    # Only words for a message: the lock decides, whatever is in this file.
    try:
        return Owner(**json.loads((folder / _OWNER_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
