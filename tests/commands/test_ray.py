"""Sweeps on Ray, as real processes: on a cluster of several nodes here, and on one that a sweep starts itself."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

import pytest

from fmnist_sweep.errors import ExitCode
from tests.conftest import Command
from tests.support import ROOT, audit
from tests.support.faults import count_events
from tests.support.own_images import write_idx
from tests.support.process import SWEEP, Running, are_gone, run
from tests.support.promotions import SMALL, look, swept
from tests.support.ray_nodes import Nodes
from tests.support.small import DRAWN, DROPOUT, FILTERS, SMALLEST
from tests.support.steering import Steering
from tests.support.zygote import Zygote

# Not imported here: what a sweep puts into the environment must be there first.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'fmnist_sweep[ray]'"),
    pytest.mark.usefixtures("plain_figures"),
]

EPOCHS = 7
STUDY = (*SMALLEST, DROPOUT, f"train.epochs={EPOCHS}", "train.early_stopping=null")
RANDOM = (*STUDY, FILTERS, "search.max_trials=4")
LOCAL = ("executor=local", "executor.workers=1", "executor.threads=1")
ON_RAY = ("executor=ray", "executor.threads=1")


@contextmanager
def begun(zygote: Zygote, folder: Path, steering: Steering, *arguments: str, **environment: str) -> Iterator[Running]:
    """The command as a fork of the warm process, which knows nothing of Ray."""
    given = {**without_ray(), **steering.environment, **environment}
    with zygote.start(*arguments, cwd=folder, environment=given) as running:
        yield running


def without_ray() -> dict[str, str | None]:
    """Nothing of a Ray of this process; and its sockets need a short path, which a fork's own folder is not."""
    return {name: None for name in os.environ if name.startswith("RAY_")} | {"TMPDIR": gettempdir()}


@pytest.fixture(scope="module")
def steering(tmp_path_factory: pytest.TempPathFactory) -> Steering:
    """What trials do, those on the nodes too."""
    return Steering(tmp_path_factory.mktemp("steering"))


@pytest.fixture(scope="module")
def nodes(steering: Steering) -> Iterator[Nodes]:
    with Nodes(steering.environment) as found:
        yield found


@pytest.fixture(scope="module")
def reference(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> audit.Found:
    """The sweep, in one worker process of this machine, that nothing disturbed."""
    folder = tmp_path_factory.mktemp("reference")
    ended = zygote.run(*RANDOM, *LOCAL, cwd=folder)
    assert ended.returncode == ExitCode.DONE, ended
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


def are_held(running: Running, epoch: int) -> bool:
    """Whether two trials wait after this epoch."""
    return len(set(list_held(running, epoch))) >= 2


def list_held(running: Running, epoch: int) -> list[str]:
    return re.findall(rf"trial (\d+), epoch {epoch}/", running.stdout)


def list_restarts(said: str) -> list[int]:
    """After which epochs trials went on."""
    return sorted(int(epoch) for epoch in re.findall(r"trial \d+: .*, on from epoch (\d+)", said))


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


def test_killed_with_all_of_its_ray_and_then_interrupted_the_same_study_goes_on(
    zygote: Zygote, reference: audit.Found, tmp_path: Path
) -> None:
    trials, folder = Steering(tmp_path), tmp_path / "sweep"
    trials.hold(2)
    with begun(zygote, folder, trials, *RANDOM, *ON_RAY) as running:
        running.wait_for(lambda: are_held(running, 2))
        rays = of_session_of(running.pid)
        assert len(rays) >= 6  # Ray's own and the workers
        os.kill(running.pid, signal.SIGKILL)
        running.end()
        assert are_gone(rays)

    trials.hold(4)
    with begun(zygote, folder, trials, *RANDOM, *ON_RAY) as running:
        running.wait_for(lambda: are_held(running, 4))
        rays = of_session_of(running.pid)
        running.send_signal(signal.SIGINT, group=True)  # as a terminal does it: to all processes of the group
        done = running.end()
        assert done.returncode == ExitCode.INTERRUPTED, done
        assert are_gone(rays)
    assert "its trial goes on" not in done.output
    assert list_restarts(done.output) == [2, 2]

    done = zygote.run(*RANDOM, *LOCAL, cwd=folder)
    assert done.returncode == ExitCode.DONE, done
    assert list_restarts(done.output) == [5, 5]  # each had ended the epoch that was under way
    same_as(audit.look(folder), reference)


def test_a_trial_that_kills_its_worker_or_never_ends_fails_and_the_study_goes_on(
    zygote: Zygote, tmp_path: Path
) -> None:
    trials, folder = Steering(tmp_path, {2: "dies", 3: "hangs"}), tmp_path / "sweep"
    arguments = (
        *(*STUDY, "search=grid", "model.filters={tune: choice, values: [2, 3, 4]}", "train.epochs=2", *ON_RAY),
        *("executor.attempts=1", "search.trial_minutes=30"),
    )
    with begun(zygote, folder, trials, *arguments) as running:
        running.wait_for(lambda: count_events(folder, "finished", "failed") == 2)
        rays = of_session_of(running.pid)
        trials.let_pass(30)
        done = running.end()
        assert done.returncode == ExitCode.SOME_FAILED, done
        assert are_gone(rays)
    found = audit.look(folder)
    audit.check_whole(found)
    (study,) = found["studies"].values()
    killing, hanging, sound = study["trials"].values()
    assert [trial["state"] for trial in (killing, hanging, sound)] == ["failed", "failed", "finished"]
    assert [len(trial["attempts"]) for trial in (killing, hanging, sound)] == [1, 1, 1]
    assert killing["outcome"]["reason"].startswith("WorkerLost: ")
    assert hanging["outcome"]["reason"].startswith("OverTime: ")


def test_a_promotion_trains_its_seeds_on_the_cluster(
    nodes: Nodes, tmp_path: Path, warm_sweep: Command, warm_verb: Command
) -> None:
    work = tmp_path / "work"
    write_idx(work / "bars")
    swept(work, warm_sweep, "data=idx", "data.dir=bars", "model.filters=4", "train.epochs=1", *SMALL)
    arguments = ("promote", "--experiment", "bars", "promote.seeds=2", *ON_RAY)
    environment = {**without_ray(), **nodes.environment}
    done = warm_verb(*arguments, f"executor.address={nodes.address}", cwd=work, environment=environment)
    assert done.returncode == ExitCode.DONE, done.stdout + done.stderr
    state = look(work, "bars")
    assert state.aliases == {"champion": "1"}
    assert [run.data.tags["fmnist.executor"].partition(",")[0] for run in state.kind("confirmation")] == ["ray", "ray"]
    assert state.versions["1"].tags["fmnist.verdict"] == "first"
    assert len(state.ledger) == 1


# What a user can get wrong


def refused(zygote: Zygote, folder: Path, *arguments: str, **environment: str) -> str:
    ended = zygote.run(*DRAWN, *arguments, cwd=folder, environment={**without_ray(), **environment})
    assert ended.returncode == ExitCode.CONFIG, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stderr.rstrip().endswith(".")
    return ended.stderr


def test_without_ray_the_package_to_install_is_named(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ray'] = None\n")
    given = {**without_ray(), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    ended = run(*SWEEP, *DRAWN, "executor=ray", cwd=tmp_path, environment=given)
    assert (ended.returncode, ended.stderr.count("\n")) == (ExitCode.CONFIG, 1), ended
    assert "pip install 'fmnist_sweep[ray]'" in ended.stderr


def test_a_trial_that_no_node_has_room_for_is_refused(zygote: Zygote, nodes: Nodes, tmp_path: Path) -> None:
    where = ("executor=ray", f"executor.address={nodes.address}")
    said = refused(zygote, tmp_path, *where, "executor.threads=2", **nodes.environment)
    assert "executor.threads=2" in said
    assert "2 CPUs" in said


def test_a_killed_worker_and_a_lost_node_cost_no_more_than_the_epochs_under_way(
    zygote: Zygote, nodes: Nodes, steering: Steering, reference: audit.Found, tmp_path: Path
) -> None:
    """The last test of these nodes, of which one is lost."""
    address = f"executor.address={nodes.address}"
    steering.hold(1)
    with begun(zygote, tmp_path, steering, *RANDOM, *ON_RAY, address, **nodes.environment) as running:
        running.wait_for(lambda: are_held(running, 1))  # both CPUs have a trial: one is on the node
        nodes.do("remove")
        running.wait_for(lambda: "its trial goes on from epoch 1" in running.output)
        steering.hold(3)
        running.wait_for(lambda: bool(list_held(running, 3)))
        (trial,) = set(list_held(running, 3))
        os.kill(int(re.findall(rf"trial {trial} is on .*\(process (\d+)\)", running.output)[-1]), signal.SIGKILL)
        running.wait_for(lambda: "its trial goes on from epoch 3" in running.output)
        steering.release()
        done = running.end()
    assert done.returncode == ExitCode.DONE, done
    assert "raylet" not in done.output  # what Ray itself reports is not for this terminal
    assert same_as(audit.look(tmp_path), reference) == 6
    assert done.output.count("its trial goes on from epoch") == 2
    assert list_restarts(done.output) == [1, 3]
