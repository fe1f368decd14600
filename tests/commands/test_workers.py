"""The real command with worker processes: killed, hanging, out of memory, orphaned; each trial is counted once.

Each sweep is held against one that trained the same trials in process, undisturbed: the same values, metrics and model
weights to the last bit, one FINISHED run a trial, none RUNNING.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fmnist_sweep.study.folder import list_study_folders
from tests.support import ROOT
from tests.support.servers import Server
from tests.support.small import DRAWN

pytest.register_assert_rewrite("audit")

from tests.support import audit  # noqa: E402

LIMIT_SECONDS = 240
EPOCHS = 12
SMALLEST = (
    *(*DRAWN, "train.precision=float32", "train.batch_size=16", f"train.epochs={EPOCHS}", "executor.threads=1"),
    *("model.conv_layers=1", "model.dense_units=8", "regularization.dropout=0.3"),
)
FOUR = (*SMALLEST, "search=grid", "model.filters={tune: choice, values: [5, 13, 24, 40]}")
HYPERBAND = (
    *(*SMALLEST, "train.epochs=4", "search=hyperband", "search.factor=2", "search.synchronous=true", "search.ahead=2"),
    "model.filters={tune: int, min_value: 2, max_value: 60}",
)
BAYESIAN = (
    *(*SMALLEST, "train.epochs=2", "search=bayesian", "search.initial_points=2", "search.max_trials=5"),
    *("search.synchronous=true", "search.ahead=2", "model.filters={tune: int, min_value: 2, max_value: 60}"),
)
LOCAL = ("executor=local", "executor.workers=2")


class Running:
    """The real command, in a folder of its own; what it says goes to files there."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self._said = folder, folder / "said.txt"
        with self._said.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fmnist_sweep", *arguments],
                cwd=folder,
                env={**os.environ, "COLUMNS": "200", **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that a signal can be sent to all of it, as a terminal does
            )

    def said(self) -> str:
        return self._said.read_text()

    def wait_for(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not what():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def epochs(self) -> int:
        """Epochs that have ended, of all trials."""
        return len(re.findall(r"epoch \d+/\d+: ", self.said()))

    def workers(self) -> list[int]:
        """The processes that train, as far as they have been given trials."""
        found = dict(re.findall(r"is on worker (\d+) \(process (\d+)\)", self.said()))
        return [int(pid) for pid in found.values()]

    def end(self) -> int:
        return self.process.wait(LIMIT_SECONDS)


@contextmanager
def begun(folder: Path, *arguments: str, **environment: str) -> Iterator[Running]:
    running = Running(folder, *arguments, **environment)
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait(LIMIT_SECONDS)


def done(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run a command to its end; what it said."""
    with begun(folder, *arguments) as running:
        assert running.end() == code, running.said()
        return running.said()


def is_there(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def all_gone(pids: list[int], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(is_there, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_there, pids))


def two_are_training(running: Running) -> bool:
    return len(running.workers()) == 2 and running.epochs() >= 5


def lost(folder: Path) -> list[str]:
    """Why each lost worker was lost, as the journals say."""
    attempts = [
        attempt
        for study in list_study_folders(folder / "mlruns")
        for history in study.read_record().trials.values()
        for attempt in history.attempts
    ]
    return [attempt.worker_loss for attempt in attempts if attempt.worker_loss is not None]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> audit.Found:
    """The four trials, one after the other in one process."""
    folder = tmp_path_factory.mktemp("reference")
    done(folder, *FOUR, "executor=in_process")
    found = audit.look(folder)
    audit.check(found, found)
    return found


def held_against(folder: Path, reference: audit.Found) -> None:
    audit.check(audit.look(folder), reference, in_order=False)
    assert "Nothing to do" in done(folder, *FOUR, *LOCAL)


def test_a_killed_worker_costs_one_attempt_which_another_goes_on_from(reference: audit.Found, tmp_path: Path) -> None:
    with begun(tmp_path, *FOUR, *LOCAL) as running:
        running.wait_for(lambda: two_are_training(running))
        os.kill(running.workers()[0], signal.SIGKILL)
        assert running.end() == 0, running.said()
        assert "on from epoch" in running.said()
        assert all_gone(running.workers())
    (reason,) = lost(tmp_path)
    assert "SIGKILL" in reason
    held_against(tmp_path, reference)


@pytest.mark.slow
def test_all_workers_killed_at_once_are_replaced(reference: audit.Found, tmp_path: Path) -> None:
    with begun(tmp_path, *FOUR, *LOCAL) as running:
        running.wait_for(lambda: two_are_training(running))
        for pid in running.workers():
            os.kill(pid, signal.SIGKILL)
        assert running.end() == 0, running.said()
    assert len(lost(tmp_path)) == 2
    held_against(tmp_path, reference)


@pytest.mark.slow
def test_no_worker_survives_its_supervisor_and_the_same_command_continues(
    reference: audit.Found, tmp_path: Path
) -> None:
    with begun(tmp_path, *FOUR, *LOCAL) as running:
        running.wait_for(lambda: two_are_training(running))
        workers = running.workers()
        os.kill(workers[0], signal.SIGSTOP)  # it cannot end of itself
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait(LIMIT_SECONDS)
        assert all_gone(workers)
    assert "on from epoch" in done(tmp_path, *FOUR, *LOCAL)
    assert lost(tmp_path) == []
    held_against(tmp_path, reference)


@pytest.mark.slow
def test_ctrl_c_lets_every_worker_finish_its_epoch(reference: audit.Found, tmp_path: Path) -> None:
    with begun(tmp_path, *FOUR, *LOCAL, "checkpoint.every_seconds=1000") as running:
        running.wait_for(lambda: two_are_training(running))
        os.killpg(running.process.pid, signal.SIGINT)  # a terminal sends it to all of them
        assert running.end() == 130, running.said()
        assert "The same command continues" in running.said()
        assert "Traceback" not in running.said()
        assert all_gone(running.workers())
    said = done(tmp_path, *FOUR, *LOCAL)
    assert said.count("on from epoch") == 2, said
    held_against(tmp_path, reference)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_it_at_once(reference: audit.Found, tmp_path: Path) -> None:
    with begun(tmp_path, *FOUR, *LOCAL) as running:
        running.wait_for(lambda: two_are_training(running))
        os.kill(running.workers()[0], signal.SIGSTOP)  # its epoch never ends
        os.killpg(running.process.pid, signal.SIGINT)
        running.wait_for(lambda: "Once more" in running.said())
        os.kill(running.process.pid, signal.SIGINT)
        assert running.end() == 130, running.said()
        assert all_gone(running.workers())
    done(tmp_path, *FOUR, *LOCAL)
    held_against(tmp_path, reference)


@pytest.mark.slow
def test_a_trial_that_always_kills_its_process_fails_and_the_study_goes_on(tmp_path: Path) -> None:
    broken = {"PYTHONPATH": str(ROOT / "tests" / "support" / "broken"), "BROKEN": "dies"}
    with begun(tmp_path, *FOUR, *LOCAL, "executor.attempts=2", **broken) as running:
        assert running.end() == 6, running.said()
    found = audit.look(tmp_path)
    audit.check_whole(found)
    (study,) = found["studies"].values()
    assert [trial["state"] for trial in study["trials"].values()] == ["finished", "failed", "finished", "finished"]
    (failed,) = [trial for trial in study["trials"].values() if trial["state"] == "failed"]
    assert [attempt["state"] for attempt in failed["attempts"]] == ["killed", "failed"]
    assert "WorkerLost" in failed["outcome"]["reason"]
    assert "no further than epoch 1" in failed["outcome"]["reason"]


@pytest.mark.slow
def test_a_trial_that_hangs_is_ended_after_its_minutes(tmp_path: Path) -> None:
    broken = {"PYTHONPATH": str(ROOT / "tests" / "support" / "broken"), "BROKEN": "hangs"}
    with begun(tmp_path, *FOUR, *LOCAL, "search.trial_minutes=0.5", **broken) as running:
        assert running.end() == 6, running.said()
        assert all_gone(running.workers())
    found = audit.look(tmp_path)
    audit.check_whole(found)
    (study,) = found["studies"].values()
    (failed,) = [trial for trial in study["trials"].values() if trial["state"] == "failed"]
    assert failed["outcome"]["reason"] == "OverTime: 1 epochs after search.trial_minutes=0.5"
    assert len(failed["attempts"]) == 1


@pytest.mark.slow
def test_a_worker_without_memory_costs_no_other_trial(reference: audit.Found, tmp_path: Path) -> None:
    with begun(tmp_path, *FOUR, *LOCAL) as running:
        running.wait_for(lambda: two_are_training(running))
        pid = running.workers()[0]
        size = 1024 * int(re.findall(r"VmSize:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])
        resource.prlimit(pid, resource.RLIMIT_AS, (size, size))  # not a byte more
        assert running.end() in (0, 6), running.said()
    found = audit.look(tmp_path)
    audit.check_whole(found)
    (study,) = found["studies"].values()
    states = [trial["state"] for trial in study["trials"].values()]
    assert len(states) == 4
    # In Python the lack of memory is that trial's failure; in C++ it ends the process, and another one goes on.
    assert states.count("failed") + len(lost(tmp_path)) >= 1
    assert states.count("finished") >= 2


@pytest.mark.slow
@pytest.mark.parametrize("search", [HYPERBAND, BAYESIAN], ids=["hyperband", "bayesian"])
def test_a_synchronous_search_proposes_the_same_whatever_runs_it(search: tuple[str, ...], tmp_path: Path) -> None:
    done(tmp_path / "alone", *search, "executor=in_process")
    with begun(tmp_path / "together", *search, *LOCAL) as running:
        running.wait_for(lambda: running.epochs() >= 3)
        os.kill(running.process.pid, signal.SIGKILL)
    done(tmp_path / "together", *search, *LOCAL)
    audit.check(audit.look(tmp_path / "together"), audit.look(tmp_path / "alone"))


@pytest.mark.slow
def test_a_worker_lost_while_the_store_is_away_costs_no_more_than_one_with_it_there(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with Server(tmp_path / "server") as server:
        arguments = (*FOUR, *LOCAL, "train.epochs=60", f"tracking.uri={server.address}")
        with begun(tmp_path / "sweep", *arguments) as running:
            running.wait_for(lambda: two_are_training(running))
            server.kill()
            running.wait_for(lambda: "the tracking store is away" in running.said())
            os.kill(running.workers()[0], signal.SIGKILL)
            running.wait_for(lambda: "on from epoch" in running.said().partition("is away")[2])
            running.wait_for(lambda: "is on worker" in running.said().partition("on from epoch")[2])
            assert "answers again" not in running.said()
            server.start()
            assert running.end() == 0, running.said()
    (study,) = list_study_folders(tmp_path / "sweep" / "mlruns")
    trials = study.read_record().trials.values()
    assert all(history.is_settled for history in trials)
    assert sorted(len(history.attempts) for history in trials) == [1, 1, 1, 2]
    assert all(attempt.is_delivered for history in trials for attempt in history.attempts)
