"""The real command with worker processes: killed, hanging, out of memory, orphaned; each trial is counted once.

Each sweep is held against one that trained the same trials in process, undisturbed: the same values, metrics and model
weights to the last bit, one FINISHED run a trial, none RUNNING.
"""

from __future__ import annotations

import os
import re
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fmnist_sweep.study.folder import list_study_folders
from tests.support import audit
from tests.support.faults import count_events
from tests.support.process import SWEEP, Running, are_gone, start
from tests.support.servers import Server
from tests.support.small import DROPOUT, FILTERS, SMALLEST
from tests.support.steering import Steering
from tests.support.zygote import Kill, Zygote

EPOCHS = 20  # of a tenth of a second
STUDY = (*SMALLEST, DROPOUT, "train.batch_size=16", f"train.epochs={EPOCHS}", "executor.threads=1")
FOUR = (*STUDY, "search=grid", "model.filters={tune: choice, values: [5, 13, 24, 40]}")
HYPERBAND = (
    *(*STUDY, "train.epochs=4", "search=hyperband", "search.factor=2", "search.synchronous=true", "search.ahead=2"),
    FILTERS,
)
LOCAL = ("executor=local", "executor.workers=2")
# The last trial of the first study takes longest, and trains beside the first ones of the second.
TWO = (
    *("-m", "optimizer=rmsprop,adam", *STUDY, "search=grid"),
    "model.filters={tune: choice, values: [5, 6, 60]}",
)


@contextmanager
def begun(zygote: Zygote, folder: Path, *arguments: str, **environment: str) -> Iterator[Running]:
    """The command as a fork of the warm process; its workers are forks of a server of their own all the same."""
    with zygote.start(*arguments, cwd=folder, environment=environment) as running:
        yield running


@contextmanager
def begun_fresh(folder: Path, *arguments: str) -> Iterator[Running]:
    """The command in a fresh interpreter."""
    with start(*SWEEP, *arguments, cwd=folder) as running:
        yield running


def count_epochs(running: Running) -> int:
    """Epochs that have ended, of all trials."""
    return len(re.findall(r"epoch \d+/\d+: ", running.output))


def workers_of(running: Running) -> list[int]:
    """The processes that train, as far as they have been given trials."""
    found = dict(re.findall(r"is on worker (\d+) \(process (\d+)\)", running.output))
    return [int(pid) for pid in found.values()]


def ends(running: Running, *codes: int) -> bool:
    """Wait for its end; whether its exit code is one of these."""
    done = running.end()
    assert done.returncode in codes, done
    return True


def done(zygote: Zygote, folder: Path, *arguments: str) -> str:
    """Run a command to its end; what it said."""
    ended = zygote.run(*arguments, cwd=folder)
    assert ended.returncode == 0, ended
    return ended.output


def two_are_training(running: Running) -> bool:
    return len(workers_of(running)) == 2 and count_epochs(running) >= 5


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
def reference(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> audit.Found:
    """The four trials, one after the other in one process."""
    folder = tmp_path_factory.mktemp("reference")
    done(zygote, folder, *FOUR, "executor=in_process")
    found = audit.look(folder)
    audit.check(found, found)
    return found


def held_against(zygote: Zygote, folder: Path, reference: audit.Found) -> None:
    audit.check(audit.look(folder), reference, in_order=False)
    assert "Nothing to do" in done(zygote, folder, *FOUR, *LOCAL)


@pytest.mark.slow
def test_one_disaster_after_the_other_costs_epochs_under_way_and_nothing_else(
    zygote: Zygote, reference: audit.Found, tmp_path: Path
) -> None:
    _lose_workers_then_the_supervisor(zygote, tmp_path)
    assert ["SIGKILL" in reason for reason in lost(tmp_path)] == [True] * 3
    _interrupt_twice(zygote, tmp_path)
    _interrupt_once(tmp_path)
    said = done(zygote, tmp_path, *FOUR, *LOCAL)
    assert said.count("on from epoch") == 2, said  # both that had a worker when they were asked to end
    assert len(lost(tmp_path)) == 3
    held_against(zygote, tmp_path, reference)


def _lose_workers_then_the_supervisor(zygote: Zygote, folder: Path) -> None:
    """All workers die at once and are replaced; then one of them, and then the supervisor, which none survives."""
    with begun(zygote, folder, *FOUR, *LOCAL) as running:
        running.wait_for(lambda: two_are_training(running))
        first = workers_of(running)
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        running.wait_for(lambda: len(set(workers_of(running)) - {*first}) == 2)
        epochs = count_epochs(running)
        running.wait_for(lambda: count_epochs(running) >= epochs + 4)
        second = workers_of(running)
        os.kill(second[0], signal.SIGKILL)
        running.wait_for(lambda: running.output.count("its trial goes on from epoch") == 3)
        assert are_gone([*first, second[0]])
        os.kill(second[1], signal.SIGSTOP)  # it cannot end of itself
        os.kill(running.pid, signal.SIGKILL)
        running.end()
        assert are_gone(second)


def _interrupt_twice(zygote: Zygote, folder: Path) -> None:
    """A second Ctrl-C ends the sweep at once, though an epoch never ends."""
    with begun(zygote, folder, *FOUR, *LOCAL) as running:
        running.wait_for(lambda: two_are_training(running))
        assert "on from epoch" in running.output
        os.kill(workers_of(running)[0], signal.SIGSTOP)
        os.killpg(running.pid, signal.SIGINT)
        running.wait_for(lambda: "Once more" in running.output)
        os.kill(running.pid, signal.SIGINT)
        assert ends(running, 130)
        assert are_gone(workers_of(running))


def _interrupt_once(folder: Path) -> None:
    """One Ctrl-C lets every worker finish its epoch, and keeps it, however rarely checkpoints are due."""
    with begun_fresh(folder, *FOUR, *LOCAL, "checkpoint.every_seconds=1000") as running:
        running.wait_for(lambda: two_are_training(running))
        os.killpg(running.pid, signal.SIGINT)  # a terminal sends it to all of them
        assert ends(running, 130)
        assert "The same command continues" in running.output
        assert "Traceback" not in running.output
        assert are_gone(workers_of(running))


@pytest.mark.slow
def test_a_trial_that_always_kills_its_process_fails_and_the_study_goes_on(zygote: Zygote, tmp_path: Path) -> None:
    broken = Steering(tmp_path, {13: "dies"}).environment
    with begun(zygote, tmp_path, *FOUR, *LOCAL, "executor.attempts=2", **broken) as running:
        assert ends(running, 6)
    found = audit.look(tmp_path)
    audit.check_whole(found)
    (study,) = found["studies"].values()
    assert [trial["state"] for trial in study["trials"].values()] == ["finished", "failed", "finished", "finished"]
    (failed,) = [trial for trial in study["trials"].values() if trial["state"] == "failed"]
    assert [attempt["state"] for attempt in failed["attempts"]] == ["killed", "failed"]
    assert "WorkerLost" in failed["outcome"]["reason"]
    assert "no further than epoch 1" in failed["outcome"]["reason"]


@pytest.mark.slow
def test_a_trial_that_hangs_is_ended_after_its_minutes(zygote: Zygote, tmp_path: Path) -> None:
    trials = Steering(tmp_path, {13: "hangs"})
    with begun(zygote, tmp_path, *FOUR, *LOCAL, "search.trial_minutes=30", **trials.environment) as running:
        running.wait_for(lambda: count_events(tmp_path, "finished") == 3)
        trials.let_pass(30)
        assert ends(running, 6)
        assert are_gone(workers_of(running))
    found = audit.look(tmp_path)
    audit.check_whole(found)
    (study,) = found["studies"].values()
    (failed,) = [trial for trial in study["trials"].values() if trial["state"] == "failed"]
    assert failed["outcome"]["reason"] == "OverTime: 1 epochs after search.trial_minutes=30"
    assert len(failed["attempts"]) == 1


@pytest.mark.slow
def test_a_worker_without_memory_costs_no_other_trial(zygote: Zygote, reference: audit.Found, tmp_path: Path) -> None:
    with begun(zygote, tmp_path, *FOUR, *LOCAL) as running:
        running.wait_for(lambda: two_are_training(running))
        pid = workers_of(running)[0]
        size = 1024 * int(re.findall(r"VmSize:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])
        resource.prlimit(pid, resource.RLIMIT_AS, (size, size))  # not a byte more
        assert ends(running, 0, 6)
    found = audit.look(tmp_path)
    audit.check_whole(found)
    (study,) = found["studies"].values()
    states = [trial["state"] for trial in study["trials"].values()]
    assert len(states) == 4
    # In Python the lack of memory is that trial's failure; in C++ it ends the process, and another one goes on.
    assert states.count("failed") + len(lost(tmp_path)) >= 1
    assert states.count("finished") >= 2


@pytest.mark.slow
def test_a_synchronous_search_proposes_the_same_whatever_runs_it(zygote: Zygote, tmp_path: Path) -> None:
    done(zygote, tmp_path / "alone", *HYPERBAND, "executor=in_process")
    with begun(zygote, tmp_path / "together", *HYPERBAND, *LOCAL) as running:
        running.wait_for(lambda: count_epochs(running) >= 3)
        os.kill(running.pid, signal.SIGKILL)
    done(zygote, tmp_path / "together", *HYPERBAND, *LOCAL)
    audit.check(audit.look(tmp_path / "together"), audit.look(tmp_path / "alone"))


def overlap(running: Running) -> bool:
    """Whether a trial of each of the two studies is training."""
    return "study 1, trial 3, epoch" in running.output and "study 2, trial 1, epoch" in running.output


@pytest.fixture(scope="module")
def two_studies(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> audit.Found:
    """The trials of both studies, one after the other in one process."""
    folder = tmp_path_factory.mktemp("two studies")
    done(zygote, folder, *TWO, "executor=in_process")
    return audit.look(folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_two_studies_that_were_stopped_while_both_trained_end_as_one_after_the_other(
    zygote: Zygote, two_studies: audit.Found, number: signal.Signals, tmp_path: Path
) -> None:
    with begun(zygote, tmp_path, *TWO, *LOCAL) as running:
        running.wait_for(lambda: overlap(running))
        assert "\nrmsprop: 3 trials" not in running.output  # its table
        os.kill(running.pid, number)
        assert ends(running, -signal.SIGKILL if number == signal.SIGKILL else 130)
        assert are_gone(workers_of(running))
    assert done(zygote, tmp_path, *TWO, *LOCAL).count("on from epoch") == 2
    audit.check(audit.look(tmp_path), two_studies, in_order=False)
    assert "Nothing to do" in done(zygote, tmp_path, *TWO, *LOCAL)


@pytest.mark.slow
def test_a_worker_lost_while_two_studies_train_costs_one_attempt_of_one_of_them(
    zygote: Zygote, two_studies: audit.Found, tmp_path: Path
) -> None:
    with begun(zygote, tmp_path, *TWO, *LOCAL) as running:
        running.wait_for(lambda: overlap(running))
        os.kill(workers_of(running)[0], signal.SIGKILL)
        assert ends(running, 0)
    assert len(lost(tmp_path)) == 1
    audit.check(audit.look(tmp_path), two_studies, in_order=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kill",
    [
        Kill("journal opened", 3, "after"),  # after the sweep and its first study, the second one
        Kill("store create_run", 7, "before"),
        Kill("journal closing", 1, "after"),
        Kill("journal closed", 1, "after"),
    ],
    ids=str,
)
def test_two_studies_killed_where_one_opens_or_closes_beside_the_other_end_as_one_after_the_other(
    zygote: Zygote, two_studies: audit.Found, kill: Kill, tmp_path: Path
) -> None:
    assert zygote.run(*TWO, *LOCAL, cwd=tmp_path, kill=kill).killed
    done(zygote, tmp_path, *TWO, *LOCAL)
    audit.check(audit.look(tmp_path), two_studies, in_order=False)


@pytest.mark.slow
def test_a_worker_lost_while_the_store_is_away_costs_no_more_than_one_with_it_there(
    zygote: Zygote, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    with Server(tmp_path / "server") as server:
        arguments = (*FOUR, *LOCAL, "train.epochs=60", f"tracking.uri={server.address}")
        with begun(zygote, tmp_path / "sweep", *arguments) as running:
            running.wait_for(lambda: two_are_training(running))
            server.kill()
            running.wait_for(lambda: "the tracking store is away" in running.output)
            os.kill(workers_of(running)[0], signal.SIGKILL)
            running.wait_for(lambda: "on from epoch" in running.output.partition("is away")[2])
            running.wait_for(lambda: "is on worker" in running.output.partition("on from epoch")[2])
            assert "answers again" not in running.output
            server.start()
            assert ends(running, 0)
    (study,) = list_study_folders(tmp_path / "sweep" / "mlruns")
    trials = study.read_record().trials.values()
    assert all(history.is_settled for history in trials)
    assert sorted(len(history.attempts) for history in trials) == [1, 1, 1, 2]
    assert all(attempt.is_delivered for history in trials for attempt in history.attempts)
