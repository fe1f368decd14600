"""One owner of a folder at a time, with real processes that hold it and are killed."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fmnist_sweep.errors import Locked
from fmnist_sweep.study import lock
from fmnist_sweep.study.lock import find_owner, lock_folder
from tests.support.disks import disk
from tests.support.process import LIMIT_SECONDS, Running, start
from tests.support.small import TINY
from tests.support.zygote import Zygote

_HOLDING = """
import subprocess, sys, time
from pathlib import Path
from fmnist_sweep.study.lock import lock_folder
with lock_folder(Path(sys.argv[1]), "study abc"):
    if "child" in sys.argv:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], stdout=subprocess.DEVNULL)
        print(child.pid, flush=True)
    print("held", flush=True)
    time.sleep(100)
"""


@contextmanager
def _holder(folder: Path, *arguments: str) -> Iterator[tuple[Running, list[str]]]:
    """A process that holds the folder, and what it said until it did."""
    with start("-c", _HOLDING, str(folder), *arguments, cwd=folder) as process:
        process.wait_for("held\n")
        yield process, process.stdout.splitlines()[:-1]


def test_a_second_process_is_told_who_holds_it_on_which_host_and_since_when(tmp_path: Path) -> None:
    with _holder(tmp_path) as (process, _):
        found = find_owner(tmp_path)
        assert found is not None
        assert (found.pid, found.host) == (process.pid, socket.gethostname())
        with pytest.raises(Locked) as told, lock_folder(tmp_path, "study abc"):
            pass
        assert f"study abc is being run by process {process.pid} on {socket.gethostname()} since 2" in str(told.value)
        assert told.value.exit_code == 7


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_hold_of_a_dead_owner_is_free_at_once(tmp_path: Path, number: signal.Signals) -> None:
    with _holder(tmp_path) as (process, _):
        process.send_signal(number)
        process.end()
        assert find_owner(tmp_path) is None
        with lock_folder(tmp_path, "study abc"):
            pass


def test_a_process_that_its_owner_began_and_did_not_outlive_holds_nothing(tmp_path: Path) -> None:
    with _holder(tmp_path, "child") as (process, said):
        (child,) = (int(line) for line in said)
        try:
            process.send_signal(signal.SIGKILL)
            process.end()
            os.kill(child, 0)  # it lives
            assert find_owner(tmp_path) is None
            with lock_folder(tmp_path, "study abc"):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


NOISE = (b"", b"{", b"[1]", b"null", b"7", b'"text"', b'{"pid": 1}', b"\xff\xfe\0noise")


@pytest.mark.slow
def test_noise_in_the_file_that_says_who_holds_it_does_no_harm(tmp_path: Path) -> None:
    for content in NOISE:
        (tmp_path / "owner.json").write_bytes(content)
        assert find_owner(tmp_path) is None
        with lock_folder(tmp_path, "study abc"):
            assert find_owner(tmp_path) is not None
    with _holder(tmp_path):
        for content in NOISE[1::3]:  # each is waited for
            (tmp_path / "owner.json").write_bytes(content)
            assert find_owner(tmp_path) is not None
            with (
                pytest.raises(Locked, match="study abc is being run by another process"),
                lock_folder(tmp_path, "study abc"),
            ):
                pass


def test_noise_in_the_lock_itself_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "owner.lock").write_bytes(b"\xff\xfe\0noise")
    assert find_owner(tmp_path) is None
    with lock_folder(tmp_path, "study abc"):
        pass


@pytest.mark.slow
def test_looking_who_holds_it_does_not_keep_anyone_from_holding_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_PATIENCE_SECONDS", LIMIT_SECONDS)  # the system may let one that looks stand still
    code = (
        "import sys; from pathlib import Path; from fmnist_sweep.study.lock import find_owner\n"
        "while True: print(find_owner(Path(sys.argv[1])) is None)"
    )
    with ExitStack() as looking:
        processes = [looking.enter_context(start("-c", code, str(tmp_path), cwd=tmp_path)) for _ in range(3)]
        for process in processes:
            process.wait_for("\n")
        for _ in range(200):
            with lock_folder(tmp_path, "study abc"):
                pass
        assert not any(process.has_ended for process in processes)


def test_where_nothing_can_be_written_nobody_holds_anything(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", megabytes=1) as small:
        with lock_folder(small.path / "study", "study abc"):
            pass
        with small.read_only():
            assert find_owner(small.path / "study") is None


def test_of_many_that_want_it_at_once_never_two_have_it(tmp_path: Path) -> None:
    inside: list[int] = []

    def take(_: int) -> int:
        try:
            with lock_folder(tmp_path, "study abc"):
                inside.append(1)
                assert len(inside) == 1
                time.sleep(0.001)
                inside.pop()
                return 1
        except Locked:
            return 0

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(100))) > 0


def test_a_second_command_on_a_study_exits_7_and_says_who_runs_it(zygote: Zygote, tmp_path: Path) -> None:
    arguments = (*TINY, "train.epochs=1000000")
    with zygote.start(*arguments, cwd=tmp_path) as first:
        first.wait_for("epoch 1/")
        second = zygote.run(*arguments, cwd=tmp_path)
        assert second.returncode == 7, second
        assert f"is being run by process {first.pid} on {socket.gethostname()} since 2" in second.stderr
        assert second.stderr.count("\n") == 1
        first.kill()
        first.end()
        # Nobody has to clear anything away: the dead owner's hold is void.
        planned = zygote.run(*arguments, "plan=true", cwd=tmp_path)
        assert planned.returncode == 0, planned
        assert "continued" in planned.stdout
