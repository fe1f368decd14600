"""What is known of other processes: here of real ones, alive and exited."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fmnist_sweep.process.states import count_memory_bytes, list_pids, read_state
from tests.support.process import are_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the state of a process")


def test_a_living_process_has_a_session_and_memory() -> None:
    state = read_state(os.getpid())
    assert state is not None and not state.has_ended and state.session == os.getsid(0)
    assert os.getpid() in list_pids()
    assert count_memory_bytes(os.getpid()) > 2**20


def test_a_process_that_nobody_has_waited_for_has_ended_and_later_is_unknown() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        assert are_gone([process.pid])
        state = read_state(process.pid)
        assert state is not None and state.has_ended
    assert read_state(process.pid) is None
    assert count_memory_bytes(process.pid) == 0
