"""Sweeps on Ray, as real processes: on a cluster of several nodes here, and on one that a sweep starts itself."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.errors import ExitCode
from tests.support import ROOT, audit
from tests.support.process import SWEEP, Running, are_gone, run, start
from tests.support.ray_nodes import Nodes
from tests.support.small import DRAWN, DROPOUT, FILTERS, SMALLEST

# Not imported here: what a sweep puts into the environment must be there first.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'fmnist_sweep[ray]'"),
]

EPOCHS = 8
STUDY = (
    *(*SMALLEST, DROPOUT, "data.images=1000", f"train.epochs={EPOCHS}", "checkpoint.every_seconds=0"),
    "train.early_stopping=null",
)
RANDOM = (*STUDY, FILTERS, "search.max_trials=4")
LOCAL = ("executor=local", "executor.workers=1", "executor.threads=1")
ON_RAY = ("executor=ray", "executor.threads=1")


@contextmanager
def begun(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """The command in a fresh interpreter that knows nothing of a Ray started by this process."""
    folder.mkdir(exist_ok=True)
    given = {**without_ray(), **(environment or {})}
    with start("-u", *SWEEP, *arguments, cwd=folder, environment=given) as running:
        yield running


def without_ray() -> dict[str, str | None]:
    return {name: None for name in os.environ if name.startswith("RAY_")}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes() as found:
        yield found


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> audit.Found:
    """The sweep, in one worker process of this machine, that nothing disturbed."""
    folder = tmp_path_factory.mktemp("reference")
    with begun(folder, *RANDOM, *LOCAL) as running:
        done = running.end()
    assert done.returncode == ExitCode.DONE, done
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
    running: Running, *disturb: tuple[Callable[[Epochs], bool], Callable[[Workers], object]]
) -> tuple[int, str]:
    """Exit code and words of a sweep; it is disturbed, in this order, as soon as its trials are where they should be.

    A disturbance that returns False could not be made yet.
    """
    workers: dict[str, int] = {}
    epochs: dict[str, int] = {}
    left = list(disturb)

    def heard(line: str) -> None:
        if found := re.search(r"trial (\d+): ", line):
            epochs.pop(found[1], None)
        elif found := re.search(r"trial (\d+) is on .*\(process (\d+)\)", line):
            workers[found[1]] = int(found[2])
        elif found := re.search(r"trial (\d+), epoch (\d+)/", line):
            epochs[found[1]] = int(found[2])
            if left and left[0][0](epochs) and left[0][1](workers) is not False:
                left.pop(0)

    lines = 0
    while not running.has_ended:
        said = running.stdout.splitlines(keepends=True)
        for line in said[lines:]:
            if line.endswith("\n"):
                lines += 1
                heard(line)
        time.sleep(0.01)
    done = running.end()
    assert not left, done
    return done.returncode, done.output


def test_a_killed_worker_and_a_lost_node_cost_no_more_than_the_epochs_under_way(
    nodes: Nodes, reference: audit.Found, tmp_path: Path
) -> None:
    address = f"executor.address={nodes.address}"
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
        with begun(tmp_path, *RANDOM, *ON_RAY, address, environment=nodes.environment) as running:
            code, said = followed(
                running,
                # Both CPUs have a trial: one is on the node. First, as Ray takes seconds to replace a killed worker.
                (
                    lambda epochs: sum(epoch < EPOCHS - 1 for epoch in epochs.values()) == 2,
                    lambda _: nodes.do("remove"),
                ),
                (is_midway, kill),
            )
    finally:
        nodes.do("add")
    assert code == ExitCode.DONE, said
    assert "raylet" not in said  # what Ray itself reports is not for this terminal
    assert same_as(audit.look(tmp_path), reference) == 6
    assert said.count("its trial goes on from epoch") == 2
    # Either may find room first.
    lost, killed = sorted(int(epoch) for epoch in re.findall(r"trial \d+: .*, on from epoch (\d+)", said))
    assert lost >= 1
    assert killed >= 3


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
    rays: list[int] = []
    with begun(tmp_path, *RANDOM, *ON_RAY) as running:
        pid = running.pid

        def kill(_: Workers) -> None:
            rays.extend(of_session_of(pid))
            os.kill(pid, signal.SIGKILL)

        followed(running, (reached(3), kill))
        assert len(rays) >= 6  # Ray's own and the workers
        assert are_gone(rays, within=15)

    with begun(tmp_path, *RANDOM, *ON_RAY) as running:
        # As a terminal does it: to all processes of the group.
        code, said = followed(running, (reached(6), lambda _: running.send_signal(signal.SIGINT, group=True)))
    assert code == ExitCode.INTERRUPTED, said
    assert "its trial goes on" not in said
    assert re.findall(r"trial \d+: .*, on from epoch (\d+)", said)

    rays.clear()
    with begun(tmp_path, *RANDOM, *ON_RAY) as running:
        code, said = followed(running, (reached(7), lambda _: rays.extend(of_session_of(running.pid))))
        assert code == ExitCode.DONE, said
        assert are_gone(rays, within=5)
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
    with begun(
        tmp_path / "sweep",
        *(*STUDY, "search=grid", "model.filters={tune: choice, values: [2, 3, 4]}", "train.epochs=2", *ON_RAY),
        *("executor.attempts=2", "search.trial_minutes=0.1"),
        environment={"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"},
    ) as running:
        done = running.end()
    assert done.returncode == ExitCode.SOME_FAILED, done
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
    ended = run(*SWEEP, *DRAWN, *arguments, cwd=folder, environment={**without_ray(), **(environment or {})})
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
