"""Trials on Ray: a cluster of several nodes here, and one that a sweep starts for itself. All are real processes."""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.schema import RayConfig
from fmnist_sweep.errors import ConfigError, ExitCode
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
from tests.conftest import run
from tests.support import ROOT
from tests.support.ray_nodes import Nodes
from tests.support.small import DRAWN, TINY, spec

pytest.register_assert_rewrite("audit")

from tests.support import audit  # noqa: E402

# Not imported here: what a sweep puts into the environment must be there first.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'fmnist_sweep[ray]'"),
]

EPOCHS = 8
STUDY = (
    *("data=drawn", "data.images=1000", "train.precision=float32", "train.batch_size=64", f"train.epochs={EPOCHS}"),
    *("model.conv_layers=1", "model.dense_units=8", "regularization.dropout=0.3", "checkpoint.every_seconds=0"),
    "train.early_stopping=null",
)
RANDOM = (*STUDY, "model.filters={tune: int, min_value: 2, max_value: 60}", "search.max_trials=4")
LOCAL = ("executor=local", "executor.workers=1", "executor.threads=1")
ON_RAY = ("executor=ray", "executor.threads=1")


# The executor

STOP = Stop()


def config(*overrides: str) -> RayConfig:
    found = compose_job([*ON_RAY, *overrides]).config.executor
    assert isinstance(found, RayConfig)
    return found


@pytest.fixture(scope="module")
def here() -> Iterator[RayExecutor]:
    with RayExecutor(config(f"executor.workers={backend.count_usable_cores() + 1}"), 1, STOP) as cluster:
        yield cluster


def events(executor: RayExecutor, until: Callable[[TrialEvent], bool] | None = None) -> list[TrialEvent]:
    """What the trial under way says, to its end or until something is said; None waits are left out."""
    found: list[TrialEvent] = []
    for _ in range(120):
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


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pids: Sequence[int], within: float) -> bool:
    deadline = time.monotonic() + within
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


ALONE = """
import pickle, sys
from fmnist_sweep.training import backend
backend.set_threads(1)
from tests.support.small import finished
from fmnist_sweep.data import load_splits
with open(sys.argv[1], "rb") as file:
    given = pickle.load(file)
result = finished(given, load_splits(given.data))
with open(sys.argv[1], "wb") as file:
    pickle.dump(result, file)
"""


def alone(given: TrialSpec, folder: Path) -> TrialResult:
    """What the trial finds in a process of its own, on one core."""
    path = folder / "trial"
    path.write_bytes(pickle.dumps(given))
    ended = run("-c", ALONE, str(path), cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    found: TrialResult = pickle.loads(path.read_bytes())
    return found


def without_times(history: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if not name.endswith("_seconds")} for row in history]


def test_a_trial_says_all_in_order_and_finds_what_it_finds_alone(here: RayExecutor, tmp_path: Path) -> None:
    given = spec([*TINY, "train.epochs=2", "regularization.dropout=0.3"])
    here.submit(given)
    found = events(here)
    assert [type(event) for event in found] == [TrialStart, EpochEnd, EpochEnd, TrialResult]
    assert {event.trial_id for event in found} == {"0"}
    assert socket.gethostname() in str(found[0])
    result, same = found[-1], alone(given, tmp_path)
    assert isinstance(result, TrialResult)
    assert result.probabilities.tobytes() == same.probabilities.tobytes()
    assert without_times(result.history) == without_times(same.history)


def test_a_failure_is_said_once_and_frees_its_slot(here: RayExecutor) -> None:
    broken = spec(TINY, model={**spec(TINY).config["model"], "conv_layers": 6})
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


def test_waiting_ends_when_it_should(here: RayExecutor) -> None:
    here.submit(spec([*TINY, "train.epochs=500"]))
    begun = time.monotonic()
    while here.next_event(0.0) is not None:
        pass
    assert time.monotonic() - begun < 5
    here.abandon("0")


def test_an_abandoned_trial_ends_at_once_and_is_not_heard_of_again(here: RayExecutor) -> None:
    here.submit(spec([*TINY, "train.epochs=5000"]))
    pid = pid_of(events(here, lambda event: isinstance(event, EpochEnd))[0])
    here.abandon("0")
    assert gone([pid], within=5)
    here.submit(replace(spec(TINY), trial_id="1"))
    assert {event.trial_id for event in events(here)} == {"1"}


def test_a_killed_worker_is_a_lost_one(here: RayExecutor) -> None:
    here.submit(spec([*TINY, "train.epochs=5000"]))
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
    long = replace(spec([*TINY, "train.epochs=5000"]), checkpoint_seconds=1000.0)
    for number in range(here.slots):
        here.submit(replace(long, trial_id=str(number)))
    begun: set[str] = set()
    while len(begun) < here.slots - 1:  # there is one more than the cluster has room for
        event = here.next_event(60.0)
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


# The command


def start(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "fmnist_sweep", *arguments],
        cwd=folder,
        env={**without_ray(), "COLUMNS": "200", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def without_ray() -> dict[str, str]:
    """The environment before Ray was started by this process."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def ended(process: subprocess.Popen[str], each: Callable[[str], None] = print) -> str:
    """What the command says, to its end; each: told of every line as it comes."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        each(line)
    process.wait(30)
    return "".join(said)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes() as found:
        yield found


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> audit.Found:
    """The sweep, in one worker process of this machine, that nothing disturbed."""
    folder = tmp_path_factory.mktemp("reference")
    process = start(folder, *RANDOM, *LOCAL)
    said = ended(process)
    assert process.returncode == ExitCode.DONE, said
    return audit.look(folder)


def same_as(found: audit.Found, reference: audit.Found) -> int:
    """Hold every trial against the undisturbed one; in which order they ended may differ. Returns all attempts."""
    audit.check_whole(found)
    (study,), (other,) = found["studies"].values(), reference["studies"].values()
    assert list(study["trials"]) == list(other["trials"])
    attempts = 0
    for trial_id, trial in study["trials"].items():
        twin = other["trials"][trial_id]
        assert (trial["state"], trial["outcome"]) == (twin["state"], twin["outcome"])
        audit._check_run(found, trial["attempts"][-1]["run_id"], reference, twin["attempts"][-1]["run_id"])
        attempts += len(trial["attempts"])
    finished = [run for run in found["runs"].values() if run["tags"]["fmnist.kind"] == "trial"]
    assert [run["status"] for run in finished].count("FINISHED") == len(study["trials"])
    return attempts


Epochs = Mapping[str, int]  # of the trials that train, those that have ended
Workers = Mapping[str, int]  # the process that each trial is in


def followed(
    process: subprocess.Popen[str], *disturb: tuple[Callable[[Epochs], bool], Callable[[Workers], object]]
) -> str:
    """What a sweep says, to its end; it is disturbed, in this order, as soon as its trials are where they should be.

    A disturbance that returns False could not be made yet.
    """
    workers: dict[str, int] = {}
    epochs: dict[str, int] = {}
    left = list(disturb)

    def heard(line: str) -> None:
        print(line, end="")
        if found := re.search(r"trial (\d+): ", line):
            epochs.pop(found[1], None)
        elif found := re.search(r"trial (\d+) is on .*\(process (\d+)\)", line):
            workers[found[1]] = int(found[2])
        elif found := re.search(r"trial (\d+), epoch (\d+)/", line):
            epochs[found[1]] = int(found[2])
            if left and left[0][0](epochs) and left[0][1](workers) is not False:
                left.pop(0)

    said = ended(process, heard)
    assert not left, said
    return said


def test_a_killed_worker_and_a_lost_node_cost_no_more_than_the_epochs_under_way(
    nodes: Nodes, reference: audit.Found, tmp_path: Path
) -> None:
    process = start(tmp_path, *RANDOM, *ON_RAY, f"executor.address={nodes.address}", environment=nodes.environment)
    midway: list[str] = []

    def is_midway(epochs: Epochs) -> bool:
        midway[:] = [trial for trial, epoch in epochs.items() if 3 <= epoch <= EPOCHS - 3]
        return bool(midway)

    def kill(workers: Workers) -> bool:
        alive = [workers[trial] for trial in midway if Path("/proc", str(workers[trial])).exists()]
        for worker in alive[:1]:
            os.kill(worker, signal.SIGKILL)
        return bool(alive)

    try:
        said = followed(
            process,
            # Both CPUs have a trial: one is on the node. First, as another worker for a killed one takes Ray seconds.
            (lambda epochs: sum(epoch < EPOCHS - 1 for epoch in epochs.values()) == 2, lambda _: nodes.do("remove")),
            (is_midway, kill),
        )
    finally:
        nodes.do("add")
    assert process.returncode == ExitCode.DONE, said
    assert "raylet" not in said  # what Ray itself reports is not for this terminal
    assert same_as(audit.look(tmp_path), reference) == 6
    assert said.count("its trial goes on from epoch") == 2
    first, second = re.findall(r"trial \d+: .*, on from epoch (\d+)", said)
    assert int(first) >= 1
    assert int(second) >= 3


def reached(epoch: int) -> Callable[[Epochs], bool]:
    return lambda epochs: epoch in epochs.values()


def of_session_of(supervisor: int) -> list[int]:
    """The processes of the Ray node that a supervisor started."""
    found: dict[int, tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, parent, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        found[int(path.parent.name)] = (int(parent), int(session))
    (keeper,) = [pid for pid, (parent, session) in found.items() if parent == supervisor and session == pid]
    return [pid for pid, (_, session) in found.items() if session == keeper]


def test_killed_with_all_of_its_ray_and_then_interrupted_the_same_command_goes_on(
    reference: audit.Found, tmp_path: Path
) -> None:
    process = start(tmp_path, *RANDOM, *ON_RAY)
    rays: list[int] = []

    def kill(_: Workers) -> None:
        rays.extend(of_session_of(process.pid))
        process.kill()

    followed(process, (reached(3), kill))
    assert len(rays) >= 6  # Ray's own and the workers
    assert gone(rays, within=15)

    process = start(tmp_path, *RANDOM, *ON_RAY)
    # As a terminal does it: to all processes of the group.
    said = followed(process, (reached(6), lambda _: os.killpg(process.pid, signal.SIGINT)))
    assert process.returncode == ExitCode.INTERRUPTED, said
    assert "its trial goes on" not in said
    assert re.findall(r"trial \d+: .*, on from epoch (\d+)", said)

    process = start(tmp_path, *RANDOM, *ON_RAY)
    rays.clear()
    said = followed(process, (reached(7), lambda _: rays.extend(of_session_of(process.pid))))
    assert process.returncode == ExitCode.DONE, said
    assert gone(rays, within=5)
    same_as(audit.look(tmp_path), reference)


# In Ray's workers a trial with 2 filters kills its process, and one with 3 never ends.
BAD_TRIALS = """
import importlib.util, os, signal, sys, time


class Finder:
    def find_spec(self, name, path, target=None):
        if name != "fmnist_sweep.training.trial" or "default_worker" not in sys.argv[0]:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        plain = spec.loader.exec_module

        def exec_module(module):
            plain(module)
            epoch = module._Fit.train_epoch

            def bad(self, history):
                filters = self._spec.config["model"]["filters"]
                if filters == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                if filters == 3:
                    time.sleep(1000)
                return epoch(self, history)

            module._Fit.train_epoch = bad

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
"""


def test_a_trial_that_kills_its_worker_or_never_ends_fails_and_the_study_goes_on(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BAD_TRIALS)
    process = start(
        tmp_path / "sweep",
        *(*STUDY, "search=grid", "model.filters={tune: choice, values: [2, 3, 4]}", "train.epochs=2", *ON_RAY),
        *("executor.attempts=2", "search.trial_minutes=0.1"),
        environment={"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"},
    )
    said = ended(process)
    assert process.returncode == ExitCode.SOME_FAILED, said
    found = audit.look(tmp_path / "sweep")
    audit.check_whole(found)
    (study,) = found["studies"].values()
    killing, hanging, sound = study["trials"].values()
    assert [trial["state"] for trial in (killing, hanging, sound)] == ["failed", "failed", "finished"]
    assert [len(trial["attempts"]) for trial in (killing, hanging, sound)] == [2, 1, 1]
    assert killing["outcome"]["reason"].startswith("WorkerLost: ")
    assert hanging["outcome"]["reason"].startswith("OverTime: ")


# What a user can get wrong


def refused(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "fmnist_sweep", *DRAWN, *arguments],
        cwd=folder,
        env={**without_ray(), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == ExitCode.CONFIG, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stderr.rstrip().endswith(".")
    return ended.stderr


def test_a_trial_that_no_node_has_room_for_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    where = ("executor=ray", f"executor.address={nodes.address}")
    said: Any = refused(tmp_path, *where, "executor.threads=2", environment=nodes.environment)
    assert "executor.threads=2" in said
    assert "2 CPUs" in said


def test_without_ray_the_package_to_install_is_named(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ray'] = None\n")
    path = f"{tmp_path}:{ROOT}"
    assert "pip install 'fmnist_sweep[ray]'" in refused(tmp_path, "executor=ray", environment={"PYTHONPATH": path})
