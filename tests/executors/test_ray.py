"""Trials on Ray's cluster of this machine: slots, specs in, events out; real processes."""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir
from dataclasses import replace
from pathlib import Path

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.schema import RayConfig
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.executors import ray_task
from fmnist_sweep.executors.ray_cluster import RayExecutor
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.training import backend
from fmnist_sweep.training.events import (
    EpochEnd,
    TrialEvent,
    TrialFailure,
    TrialResult,
    TrialSpec,
    TrialStart,
    WorkerLost,
)
from fmnist_sweep.training.trial import read_checkpoint_history
from tests.support import ROOT, alone
from tests.support.process import LIMIT_SECONDS, are_gone, run
from tests.support.small import TINY, spec
from tests.support.traps import set_traps
from tests.support.zygote import Zygote

# Not imported here: what a sweep puts into the environment must be there first.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'fmnist_sweep[ray]'"),
]

ON_RAY = ("executor=ray", "executor.threads=1")

STOP = Stop()


def config(*overrides: str) -> RayConfig:
    found = compose_job([*ON_RAY, *overrides]).config.executor
    assert isinstance(found, RayConfig)
    return found


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayExecutor]:
    """A cluster of this machine, begun in a folder whose files it must not import."""
    folder, given = tmp_path_factory.mktemp("traps"), config(f"executor.workers={backend.count_usable_cores() + 1}")
    mark = set_traps(folder)
    with ExitStack() as running:
        with chdir(folder):
            cluster = running.enter_context(RayExecutor(given, 1, STOP))
        yield cluster
    assert not mark.exists(), mark.read_text()


def events(executor: RayExecutor, until: Callable[[TrialEvent], bool] | None = None) -> list[TrialEvent]:
    """What the trial under way says, to its end or until something is said; None waits are left out."""
    found: list[TrialEvent] = []
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        event = executor.next_event(1.0)
        if event is not None:
            found.append(event)
            ended = not isinstance(event, TrialStart | EpochEnd) or (isinstance(event, EpochEnd) and event.last)
            if ended or (until is not None and until(event)):
                return found
    raise AssertionError(f"no end in sight after {found}")


def pid_of(started: TrialEvent) -> int:
    assert isinstance(started, TrialStart)
    (found,) = re.findall(r"process (\d+)", started.worker)
    return int(found)


def train_alone(zygote: Zygote, given: TrialSpec, folder: Path) -> TrialResult:
    """What the trial finds in a process of its own, on one core."""
    (folder / alone.FILE).write_bytes(pickle.dumps(given))
    zygote.call("tests.support.alone:train_trial", folder)
    found: TrialResult = pickle.loads((folder / alone.FILE).read_bytes())
    return found


def without_times(history: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if not name.endswith("_seconds")} for row in history]


def test_a_trial_says_all_in_order_and_finds_what_it_finds_alone(
    here: RayExecutor, zygote: Zygote, tmp_path: Path
) -> None:
    given = spec([*TINY, "train.epochs=2", "regularization.dropout=0.3"])
    here.submit(given)
    found = events(here)
    assert [type(event) for event in found] == [TrialStart, EpochEnd, EpochEnd, TrialResult]
    assert {event.trial_id for event in found} == {"0"}
    assert socket.gethostname() in str(found[0])
    result, same = found[-1], train_alone(zygote, given, tmp_path)
    assert isinstance(result, TrialResult)
    assert result.probabilities.tobytes() == same.probabilities.tobytes()
    assert without_times(result.history) == without_times(same.history)


def test_a_failure_is_said_once_and_frees_its_slot(here: RayExecutor) -> None:
    broken = spec(TINY, model={**spec(TINY).config["model"], "filters": -1})
    here.submit(broken)
    assert isinstance(events(here)[-1], TrialFailure)
    with pytest.raises(RuntimeError, match="no trial"):
        here.next_event(1.0)


def test_no_more_trials_are_taken_than_there_are_slots(here: RayExecutor) -> None:
    for number in range(here.slots):
        here.submit(replace(spec(TINY), trial_id=str(number)))
    with pytest.raises(RuntimeError, match="slot"):
        here.submit(replace(spec(TINY), trial_id="one more"))
    for _ in range(here.slots):
        assert isinstance(events(here)[-1], TrialResult)


def test_waiting_ends_when_it_should_and_an_abandoned_trial_at_once_and_is_not_heard_of_again(
    here: RayExecutor,
) -> None:
    here.submit(spec([*TINY, "train.epochs=1000000"]))
    started, *_ = events(here, lambda event: isinstance(event, EpochEnd))
    while here.next_event(0.0) is not None:
        pass
    here.abandon("0")
    assert are_gone([pid_of(started)])
    here.submit(replace(spec(TINY), trial_id="1"))
    assert {event.trial_id for event in events(here)} == {"1"}


def test_a_killed_worker_is_a_lost_one(here: RayExecutor) -> None:
    here.submit(spec([*TINY, "train.epochs=1000000"]))
    (started, *_) = events(here, lambda event: isinstance(event, EpochEnd))
    os.kill(pid_of(started), signal.SIGKILL)
    lost = events(here)[-1]
    assert isinstance(lost, WorkerLost)
    assert str(pid_of(started)) in lost.reason
    assert "\n" not in lost.reason


def test_another_version_on_a_node_is_named(here: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ray_task.read_node_versions() | {"numpy": "1.2.3"}
    monkeypatch.setattr(ray_task, "read_node_versions", lambda: expected)
    here.submit(spec(TINY))
    with pytest.raises(ConfigError, match=r"numpy \S+ instead of 1\.2\.3; .*\.$"):
        events(here)


def test_a_fault_of_a_task_that_is_no_trials_is_raised_here(here: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Iterator[TrialEvent]:
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(ray_task, "train_trial", full)
    here.submit(spec(TINY))
    with pytest.raises(OSError, match="No space left") as raised:
        events(here)
    assert raised.value.errno == 28


def test_the_token_is_this_process_own(here: RayExecutor) -> None:
    assert os.environ["RAY_AUTH_MODE"] == "token"
    stranger = "import ray, sys; ray.init(address=sys.argv[1], _node_ip_address='127.0.0.1')"
    import ray

    address = ray.get_runtime_context().gcs_address
    ended = run("-c", stranger, address, cwd=ROOT, environment={"RAY_AUTH_TOKEN": "0" * 64})
    assert ended.returncode != 0
    assert "AuthenticationError" in ended.stderr
    assert address.startswith("127.0.0.1:")


def test_asked_to_stop_each_trial_ends_its_epoch_with_a_checkpoint_and_none_waits_for_room(here: RayExecutor) -> None:
    """The last test of this executor, which tells its tasks once."""
    long = replace(spec([*TINY, "train.epochs=1000000"]), checkpoint_seconds=1000.0)
    for number in range(here.slots):
        here.submit(replace(long, trial_id=str(number)))
    begun: set[str] = set()
    while len(begun) < here.slots - 1:  # there is one more than the cluster has room for
        event = here.next_event(LIMIT_SECONDS)
        assert isinstance(event, TrialStart | EpochEnd)
        begun |= {event.trial_id} if isinstance(event, EpochEnd) else set()
    with STOP.defer():
        STOP.receive_signal(signal.SIGINT, None)
    final = {event.trial_id: event for event in (events(here)[-1] for _ in range(here.slots))}
    assert len(final) == here.slots
    for trial_id, event in final.items():
        if trial_id in begun:
            assert isinstance(event, EpochEnd)
            assert event.checkpoint is not None
            assert len(read_checkpoint_history(event.checkpoint)) == event.epoch
        else:
            assert isinstance(event, WorkerLost)
    with pytest.raises(RuntimeError, match="no trial"):
        here.next_event(1.0)


def test_an_address_that_cannot_be_is_refused_in_a_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    for address, why in (
        (nobody, "no Ray cluster accepts this machine there"),
        ("ray://127.0.0.1:10001", "client protocol"),
    ):
        with (
            pytest.raises(ConfigError, match=rf"^executor\.address={address}: .*{why}.*\.$"),
            RayExecutor(config(f"executor.address={address}"), 1, Stop()),
        ):
            pass
