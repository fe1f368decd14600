"""What Linux tells of other processes, in /proc. Elsewhere it is not known."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_ENDED_STATES = "ZX"  # a zombie, and a process that is being removed


@dataclass(frozen=True)
class ProcessState:
    """has_ended: the process has exited or was killed, even if its parent has not heard of it. session: its id."""

    has_ended: bool
    session: int


def read_state(pid: int) -> ProcessState | None:
    """The state of a process; None where there is no such process, or the system does not say."""
    try:
        state, _, _, session = (_PROC / f"{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[:4]
    except OSError:
        return None
    return ProcessState(state in _ENDED_STATES, int(session))


def list_pids() -> list[int]:
    """All processes of this machine; none where the system does not say."""
    return [int(path.name) for path in _PROC.glob("[0-9]*")]


def count_memory_bytes(pid: int) -> int:
    """The memory of a process without mapped files; 0 where the system does not say."""
    try:
        resident, mapped = (_PROC / f"{pid}/statm").read_text(encoding="ascii").split()[1:3]
    except OSError:
        return 0
    return (int(resident) - int(mapped)) * os.sysconf("SC_PAGE_SIZE")
