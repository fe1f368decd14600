"""Where trials run: slots, specs in, events out; the same from whichever executor."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir
from pathlib import Path

import numpy as np
import pytest

from fmnist_sweep import executors
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import load_splits
from fmnist_sweep.executors import Executor, Placement, fork_server
from fmnist_sweep.executors.in_process import InProcessExecutor
from fmnist_sweep.executors.local import LocalExecutor
from fmnist_sweep.executors.shared_images import attach_images, share_images
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.training import backend
from fmnist_sweep.training.events import (
    CheckpointRefused,
    EpochEnd,
    TrialEvent,
    TrialFailure,
    TrialResult,
    TrialSpec,
    TrialStart,
    WorkerLost,
)
from tests.support.forks import check_ends
from tests.support.process import LIMIT_SECONDS, are_gone
from tests.support.small import TINY, finished, spec, splits
from tests.support.traps import set_traps
from tests.support.zygote import Zygote

FOREVER = ("train.epochs=100000",)


def next_of(executor: Executor) -> TrialEvent:
    """The next event, within a time limit."""
    event = executor.next_event(LIMIT_SECONDS)
    assert event is not None, "nothing was heard in time"
    return event


def ended(executor: Executor) -> list[TrialEvent]:
    """The events of the trial under way, to its end."""
    events = [next_of(executor)]
    while isinstance(events[-1], (TrialStart, EpochEnd)):
        events.append(next_of(executor))
    return [event for event in events if not isinstance(event, TrialStart)]


def in_process() -> Executor:
    return InProcessExecutor(Stop())


@pytest.fixture(scope="module")
def _workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalExecutor, Stop]]:
    """Two worker processes, started once for the module, in a folder whose files they must not import."""
    stop, folder = Stop(), tmp_path_factory.mktemp("traps")
    mark = set_traps(folder)
    with ExitStack() as running:
        with chdir(folder):
            executor = running.enter_context(LocalExecutor(2, 1, stop))
        yield executor, stop
    assert not mark.exists(), mark.read_text()


@pytest.fixture
def local(_workers: tuple[LocalExecutor, Stop]) -> Iterator[LocalExecutor]:
    executor, _ = _workers
    yield executor
    for number in range(4):
        executor.abandon(str(number))


Make = Callable[[], Executor]


@pytest.fixture(params=["in_process", "local"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return in_process() if request.param == "in_process" else request.getfixturevalue("local")


def test_an_arrangement_names_the_executor() -> None:
    config = compose_job(["executor=in_process"]).config.executor
    made = executors.make_executor(Placement("in_process", 1, os.cpu_count() or 1), config, Stop())
    assert made.slots == 1
    assert str(Placement("local", 2, 1)) == "local, 2 workers of 1 thread"
    assert str(Placement("in_process", 1, 2)) == "in_process, 2 threads"


def test_a_trial_sends_each_epoch_and_then_its_result(executor: Executor) -> None:
    executor.submit(spec([*TINY, "train.epochs=2"]))
    events = ended(executor)
    assert [type(event) for event in events] == [EpochEnd, EpochEnd, TrialResult]
    assert {event.trial_id for event in events} == {"0"}


def test_a_failed_trial_sends_its_failure_and_frees_its_slot(executor: Executor) -> None:
    given = spec(TINY)
    broken = spec(TINY, model={**given.config["model"], "filters": -1})
    executor.submit(broken)
    assert [type(event) for event in ended(executor)] == [TrialFailure]
    executor.submit(given)
    assert isinstance(ended(executor)[-1], TrialResult)


def test_a_checkpoint_that_cannot_be_used_is_no_failure(executor: Executor) -> None:
    executor.submit(replaced(spec(TINY), resume=b"torn"))
    assert [type(event) for event in ended(executor)] == [CheckpointRefused]


def test_a_trial_gives_what_it_gives_without_an_executor() -> None:
    given, executor = spec(TINY), in_process()
    executor.submit(given)
    result = ended(executor)[-1]
    assert isinstance(result, TrialResult)
    assert (result.probabilities == finished(given, load_splits(given.data)).probabilities).all()


def test_how_each_fork_ends_is_known(local: LocalExecutor) -> None:
    assert local._server is not None
    check_ends(local._server)


def test_no_more_trials_are_taken_than_there_are_slots(executor: Executor) -> None:
    given: TrialSpec = spec(TINY)
    for number in range(executor.slots):
        executor.submit(replaced(given, trial_id=str(number)))
    with pytest.raises(RuntimeError, match="slot"):
        executor.submit(given)


def test_waiting_for_nothing_is_an_error_and_does_not_hang(executor: Executor) -> None:
    with pytest.raises(RuntimeError, match="no trial"):
        executor.next_event()


def test_what_was_under_way_is_dropped_when_the_executor_closes() -> None:
    executor = in_process()
    with executor:
        executor.submit(spec([*TINY, "train.epochs=3"]))
        executor.next_event()
    with pytest.raises(RuntimeError, match="no trial"):
        executor.next_event()


# Worker processes


def replaced(given: TrialSpec, **changes: object) -> TrialSpec:
    return TrialSpec(**{**vars(given), **changes})


def started(executor: Executor) -> TrialStart:
    event = next_of(executor)
    assert isinstance(event, TrialStart)
    return event


def pid_of(event: TrialStart) -> int:
    return int(event.worker.split("process ")[1].rstrip(")"))


DROPOUT = (*TINY, "train.epochs=2", "regularization.dropout=0.3")


def train_alone(folder: Path) -> list[list[float]]:
    """The predictions of the trial in this process, on one thread."""
    backend.set_threads(1)
    given = spec(DROPOUT)
    found: list[list[float]] = finished(given, load_splits(given.data)).probabilities.tolist()
    return found


def test_the_result_of_a_worker_is_that_of_a_process_with_as_many_threads(
    local: LocalExecutor, zygote: Zygote, tmp_path: Path
) -> None:
    local.submit(spec(DROPOUT))
    result = ended(local)[-1]
    assert isinstance(result, TrialResult)
    assert zygote.call("tests.executors.test_executors:train_alone", tmp_path) == result.probabilities.tolist()


def test_two_trials_train_at_once(local: LocalExecutor) -> None:
    for number in range(2):
        local.submit(replaced(spec([*TINY, *FOREVER]), trial_id=str(number)))
    workers, training = set(), set[str]()
    while training != {"0", "1"}:  # neither ends
        event = next_of(local)
        workers |= {event.worker} if isinstance(event, TrialStart) else set()
        training |= {event.trial_id} if isinstance(event, EpochEnd) else set()
    assert len(workers) == 2


@pytest.mark.slow
def test_a_killed_worker_is_told_and_another_takes_its_place(local: LocalExecutor) -> None:
    local.submit(spec([*TINY, *FOREVER]))
    pid = pid_of(started(local))
    while not isinstance(next_of(local), EpochEnd):
        pass
    os.kill(pid, signal.SIGKILL)
    event = next_of(local)
    while isinstance(event, EpochEnd):
        event = next_of(local)
    assert isinstance(event, WorkerLost)
    assert "SIGKILL" in event.reason
    assert "memory" in event.reason
    for number in range(2):
        local.submit(replaced(spec(TINY), trial_id=str(number)))
    found = [next_of(local) for _ in range(6)]
    assert sum(isinstance(each, TrialResult) for each in found) == 2
    assert are_gone([pid], within=0)


@pytest.mark.slow
def test_a_worker_that_has_grown_is_replaced_before_its_next_trial(
    local: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids, results = [], list[TrialEvent]()
    for most in (2**60, 2**60, -(2**60)):
        monkeypatch.setattr("fmnist_sweep.executors.local._MAX_GROWTH_BYTES", most)
        # Both workers have had a trial before.
        for number in (0, 1):
            local.submit(replaced(spec(TINY), trial_id=str(number)))
        events = [next_of(local) for _ in range(6)]
        pids.append({pid_of(event) for event in events if isinstance(event, TrialStart)})
        results += [event for event in events if isinstance(event, TrialResult)]
    assert pids[0] == pids[1] and not pids[0] & pids[2] and [len(each) for each in pids] == [2, 2, 2]
    assert len(results) == 6
    for result in results:
        assert isinstance(result, TrialResult) and isinstance(results[0], TrialResult)
        assert np.array_equal(result.probabilities, results[0].probabilities)
    assert are_gone(pids[0])


def test_an_abandoned_trial_says_nothing_more_and_its_process_is_gone(local: LocalExecutor) -> None:
    local.submit(spec([*TINY, *FOREVER]))
    pid = pid_of(started(local))
    os.kill(pid, signal.SIGSTOP)  # it hangs
    local.abandon("0")
    assert are_gone([pid], within=0)
    with pytest.raises(RuntimeError, match="no trial"):
        local.next_event()


@pytest.mark.slow
def test_a_timeout_without_a_word_is_no_error(local: LocalExecutor) -> None:
    local.submit(spec([*TINY, *FOREVER]))
    pid = pid_of(started(local))
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + LIMIT_SECONDS
    while local.next_event(0.5) is not None:  # what it had said before
        assert time.monotonic() < deadline


@pytest.mark.slow
def test_what_goes_wrong_in_a_worker_and_is_no_trials_fault_is_raised_here(local: LocalExecutor) -> None:
    local.submit(replaced(spec(TINY), config={}))
    started(local)
    with pytest.raises(KeyError, match="train"):
        next_of(local)


def test_shared_images_are_the_same_read_only_and_leave_no_file() -> None:
    given = splits()
    with share_images(given) as shared:
        found = attach_images(shared.layout, shared.fileno())
        assert Path(f"/proc/self/fd/{shared.fileno()}").readlink().name.endswith("(deleted)")
    for split in ("train", "validation"):
        for field in ("images", "labels", "index"):
            ours, theirs = getattr(getattr(given, split), field), getattr(getattr(found, split), field)
            assert ours.dtype == theirs.dtype
            assert (ours == theirs).all()
            with pytest.raises(ValueError, match="read-only"):
                theirs[0] = 0
    assert (found.origin, found.sha256, found.tag) == (given.origin, given.sha256, given.tag)


def test_workers_that_cannot_start_are_an_error_and_not_an_endless_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tensorflow.py").write_text("raise SystemExit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with LocalExecutor(1, 1, Stop()) as local:
        local.submit(spec(TINY))
        with pytest.raises(RuntimeError, match="ended with code 3 before it was ready"):
            next_of(local)


@pytest.mark.slow
def test_an_idle_worker_that_died_costs_no_trial_an_attempt(local: LocalExecutor) -> None:
    local.submit(spec(TINY))
    pid = pid_of(started(local))
    while not isinstance(next_of(local), TrialResult):
        pass
    os.kill(pid, signal.SIGKILL)
    assert are_gone([pid])
    for number in range(2):
        local.submit(replaced(spec(TINY), trial_id=str(number)))
    events = [next_of(local) for _ in range(6)]
    assert not any(isinstance(event, WorkerLost) for event in events)
    assert sum(isinstance(event, TrialResult) for event in events) == 2


def test_a_trial_that_waits_for_a_worker_does_not_hold_up_the_end() -> None:
    stop = Stop()
    with LocalExecutor(1, 1, stop) as local, stop.defer():
        local.submit(spec([*TINY, *FOREVER]))
        stop.receive_signal(signal.SIGINT, None)
        event = next_of(local)
        assert isinstance(event, WorkerLost)
        assert "no worker was free" in event.reason


@pytest.mark.slow
def test_workers_that_cannot_be_replaced_leave_the_others_at_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fork_server, "can_fork", lambda: False)  # fresh interpreters, as on macOS
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with LocalExecutor(2, 1, Stop()) as local:
        for number in range(2):
            local.submit(replaced(spec([*TINY, *FOREVER]), trial_id=str(number)))
        pids: list[int] = []
        event = next_of(local)
        while len(pids) < 2 or not isinstance(event, EpochEnd):
            pids += [pid_of(event)] if isinstance(event, TrialStart) else []
            event = next_of(local)
        (tmp_path / "tensorflow.py").write_text("raise SystemExit(3)\n")
        os.kill(pids[0], signal.SIGKILL)
        while not isinstance(event, WorkerLost):
            event = next_of(local)
        other = "1" if event.trial_id == "0" else "0"
        deadline = time.monotonic() + LIMIT_SECONDS
        while local.slots == 2:
            found = local.next_event(1.0)
            assert found is None or found.trial_id == other
            assert time.monotonic() < deadline
        event = next_of(local)
        while not isinstance(event, EpochEnd):
            event = next_of(local)
        assert event.trial_id == other


# The last test with the workers of this module: whoever was asked for an end trains no further.


def test_workers_end_their_epoch_when_the_user_asks_for_an_end(
    local: LocalExecutor, _workers: tuple[LocalExecutor, Stop]
) -> None:
    _, stop = _workers
    with stop.defer():
        local.submit(replaced(spec([*TINY, *FOREVER]), checkpoint_seconds=10**6))
        while not isinstance(next_of(local), EpochEnd):
            pass
        stop.receive_signal(signal.SIGINT, None)
        events = [next_of(local)]
        while isinstance(events[-1], EpochEnd) and not events[-1].last:
            events.append(next_of(local))
    last = events[-1]
    assert isinstance(last, EpochEnd)
    assert last.checkpoint is not None


@pytest.mark.slow
def test_a_worker_is_replaced_by_one_that_shares_its_cores_out_as_the_next_trial_needs() -> None:
    replicas = "train.replicas=2"
    with LocalExecutor(1, 2, Stop()) as executor:
        pids = []
        for given in (spec(TINY), spec(TINY), spec([*TINY, replicas]), spec([*TINY, replicas]), spec(TINY)):
            executor.submit(given)
            assert isinstance(ended(executor)[-1], TrialResult)
            pids.append(executor._workers[0].pid)
    assert [pids.index(pid) for pid in pids] == [0, 0, 2, 2, 4]
