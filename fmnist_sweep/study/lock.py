"""The lock of a study's or sweep's folder: one process holds it at a time, and it ends with that process."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from fmnist_sweep.errors import Locked
from fmnist_sweep.files import LockHeld, hold_lock_file, write_file_atomically
from fmnist_sweep.reading import parse_json, read_file

_LOCK_FILE, _OWNER_FILE = "owner.lock", "owner.json"
_MAX_OWNER_BYTES = 2**16
_PATIENCE_SECONDS = 1.0  # find_owner takes the lock for a moment, to see whether it is free


@dataclass(frozen=True)
class Owner:
    """The process that holds a folder. since: in UTC, to the second."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def lock_folder(folder: Path, resource: str) -> Iterator[None]:
    """Hold a folder, created if missing, while the block runs. Raises Locked, naming the process that holds it.

    The lock of a process that has ended is void. resource: what the folder belongs to, in the message.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(hold_lock_file(folder / _LOCK_FILE, _PATIENCE_SECONDS))
        except LockHeld:
            raise Locked(
                f"{resource} is being run by {_read_owner(folder) or 'another process'}: wait for it or end it; type "
                "the command again afterwards and it continues."
            ) from None
        owner = Owner(os.getpid(), socket.gethostname(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))
        write_file_atomically(folder / _OWNER_FILE, json.dumps(asdict(owner)).encode())
        yield


def find_owner(folder: Path, patience: float = 0) -> Owner | None:
    """The process that holds a folder; None if there is none.

    It takes the lock for a moment. patience: seconds to wait for another process that only looks, too.
    """
    if not (folder / _LOCK_FILE).exists():
        return None
    try:
        with hold_lock_file(folder / _LOCK_FILE, patience):
            return None
    except LockHeld:
        return _read_owner(folder) or Owner(0, "unknown", "unknown")
    except OSError:  # a read-only disk, on which no process can hold a lock
        return None


def _read_owner(folder: Path) -> Owner | None:
    # This file is for messages alone; the lock decides.
    try:
        return Owner(**parse_json(read_file(folder / _OWNER_FILE, _MAX_OWNER_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
