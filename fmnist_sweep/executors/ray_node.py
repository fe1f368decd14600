"""Ray on this machine for one supervisor. All of Ray ends with the supervisor, whatever ends that.

Ray is started in a process and a session of its own. So no signal meant for the supervisor (a terminal's, a
scheduler's) ends Ray's processes before an epoch is finished, and a process is left to end those that outlive a
supervisor killed with SIGKILL: Ray 2.60 itself leaves its agents running for a minute then.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NoReturn

from fmnist_sweep.process.interpreter import build_child_environment, build_python_command
from fmnist_sweep.process.states import list_pids, read_state

LOOPBACK = "127.0.0.1"
_START_SECONDS = 120
_END_SECONDS = 10
_ADDRESS_PREFIX = "address "


@contextmanager
def run_ray_node(cores: int) -> Iterator[str]:
    """Start Ray, reachable only from this machine and with this process's token, and yield its address."""
    process = subprocess.Popen(
        build_python_command("fmnist_sweep.executors.ray_node", str(cores)),
        env={**build_child_environment(), **make_ray_settings()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield _read_address(process)
        finally:
            _end_node(process)


@cache
def make_ray_settings() -> dict[str, str]:
    """Settings for the node and for whoever connects to it. They must be in the environment before Ray is imported.

    They ask for a token that only this process and its descendants know. By default, Ray writes a token into the home
    folder, readable to every user.
    """
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # without it, Ray takes another address of this machine for 127.0.0.1
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _read_address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    timer = threading.Timer(_START_SECONDS, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            if line.startswith(_ADDRESS_PREFIX):
                return line.removeprefix(_ADDRESS_PREFIX).strip()
            lines.append(line)
    finally:
        timer.cancel()
    raise RuntimeError(f"Ray did not start on this machine within {_START_SECONDS} s:\n{''.join(lines)[-5000:]}")


def _end_node(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_END_SECONDS + 5)
    except subprocess.TimeoutExpired:
        process.kill()


def main() -> None:
    """Run a node, with the argument of `run_ray_node`."""
    watcher = threading.Thread(target=_end_with_supervisor, name="supervisor")
    watcher.start()
    import ray

    context = ray.init(
        address="local",
        num_cpus=int(sys.argv[1]),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address=LOOPBACK,
    )
    print(f"{_ADDRESS_PREFIX}{context.address_info['gcs_address']}", flush=True)
    devnull = os.open(os.devnull, os.O_WRONLY)  # nobody reads the pipe any more
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    watcher.join()


def _end_with_supervisor() -> None:
    """End this session when the supervisor closes the other end of standard input, or dies."""
    sys.stdin.read()
    end_session()


def end_session() -> NoReturn:
    """End every process of this session, and this one."""
    deadline = time.monotonic() + _END_SECONDS
    while (pids := _list_session_processes()) and time.monotonic() < deadline:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    if not Path("/proc").exists():
        os.killpg(0, signal.SIGKILL)  # Ray's own processes; its workers end without them
    os._exit(0)


def _list_session_processes() -> list[int]:
    """The living processes of this session except this one, also children of processes that died before."""
    states = {pid: read_state(pid) for pid in list_pids() if pid != os.getpid()}
    return [pid for pid, state in states.items() if state and state.session == os.getsid(0) and not state.has_ended]
