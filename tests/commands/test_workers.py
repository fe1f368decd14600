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
from tests.support import ROOT, audit
from tests.support.faults import count_events
from tests.support.process import Running, are_gone, start
from tests.support.servers import Server
from tests.support.small import DROPOUT, FILTERS, SMALLEST
from tests.support.steering import Steering
from tests.support.zygote import Kill, Zygote

EPOCHS = 8  # trials that something is to happen to wait for it after one of them
STUDY = (*SMALLEST, DROPOUT, "train.batch_size=16", f"train.epochs={EPOCHS}", "executor.threads=1")
FOUR = (*STUDY, "search=grid", "model.filters={tune: choice, values: [5, 13, 24, 40]}")
HYPERBAND = (
    *(*STUDY, "train.epochs=2", "search=hyperband", "search.factor=2", "search.synchronous=true", "search.ahead=2"),
    FILTERS,
)
LOCAL = ("executor=local", "executor.workers=2")
TWO = (
    *("-m", "optimizer=rmsprop,adam", *STUDY, "train.epochs=4", "search=grid"),
    "model.filters={tune: choice, values: [5, 6]}",
)
LAST_OF_FIRST, FIRST_OF_SECOND = "1/0001", "2/0000"  # trials of two studies that train side by side

pytestmark = pytest.mark.usefixtures("plain_figures")


@contextmanager
def begun(zygote: Zygote, folder: Path, trials: Steering, *arguments: str) -> Iterator[Running]:
    """The command as a fork of the warm process, with trials that the test steers."""
    environment = {**trials.environment, "FAULTS_DELAY": "1"}
    with zygote.start(*arguments, cwd=folder, environment=environment) as running:
        yield running


@contextmanager
def begun_fresh(folder: Path, trials: Steering, *arguments: str) -> Iterator[Running]:
    """The command in a fresh interpreter, and the server of its workers in another."""
    command = str(ROOT / "tests" / "support" / "altered.py")
    with start(command, *arguments, cwd=folder, environment=trials.environment) as running:
        yield running


@pytest.fixture
def trials(tmp_path: Path) -> Steering:
    """What the trials of this test do."""
    return Steering(tmp_path)


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


def count_held(running: Running, epoch: int) -> int:
    """Trials of this session that wait after this epoch."""
    return len(re.findall(rf"epoch {epoch}/", running.output))


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
    zygote: Zygote, trials: Steering, reference: audit.Found, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    _lose_workers_then_the_supervisor(zygote, folder, trials)
    assert ["SIGKILL" in reason for reason in lost(folder)] == [True] * 3
    _interrupt_twice(zygote, folder, trials)
    _interrupt_once(folder, trials)
    said = done(zygote, folder, *FOUR, *LOCAL)
    assert said.count("on from epoch 7") == 2, said  # both that had a worker when they were asked to end
    assert len(lost(folder)) == 3
    held_against(zygote, folder, reference)


def _lose_workers_then_the_supervisor(zygote: Zygote, folder: Path, trials: Steering) -> None:
    """All workers die at once and are replaced; then one of them, and then the supervisor, which none survives."""
    trials.hold(1)
    with begun(zygote, folder, trials, *FOUR, *LOCAL) as running:
        running.wait_for(lambda: count_held(running, 1) == 2)
        first = workers_of(running)
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        running.wait_for(lambda: len(set(workers_of(running)) - {*first}) == 2)
        trials.hold(3)
        running.wait_for(lambda: count_held(running, 3) == 2)
        second = workers_of(running)
        os.kill(second[0], signal.SIGKILL)
        running.wait_for(lambda: running.output.count("its trial goes on from epoch") == 3)
        assert are_gone([*first, second[0]])
        os.kill(second[1], signal.SIGSTOP)  # it cannot end of itself
        os.kill(running.pid, signal.SIGKILL)
        running.end()
        assert are_gone(second)


def _interrupt_twice(zygote: Zygote, folder: Path, trials: Steering) -> None:
    """A second Ctrl-C ends the sweep at once, though an epoch never ends."""
    trials.hold(4)
    with begun(zygote, folder, trials, *FOUR, *LOCAL) as running:
        running.wait_for(lambda: count_held(running, 4) == 2)
        assert "on from epoch" in running.output
        os.kill(workers_of(running)[0], signal.SIGSTOP)
        os.killpg(running.pid, signal.SIGINT)
        running.wait_for(lambda: "Once more" in running.output)
        os.kill(running.pid, signal.SIGINT)
        assert ends(running, 130)
        assert are_gone(workers_of(running))


def _interrupt_once(folder: Path, trials: Steering) -> None:
    """One Ctrl-C lets every worker finish its epoch, and keeps it, however rarely checkpoints are due."""
    trials.hold(6)
    with begun_fresh(folder, trials, *FOUR, *LOCAL, "checkpoint.every_seconds=1000") as running:
        running.wait_for(lambda: count_held(running, 6) == 2)
        os.killpg(running.pid, signal.SIGINT)  # a terminal sends it to all of them
        assert ends(running, 130)
        assert "The same command continues" in running.output
        assert "Traceback" not in running.output
        assert are_gone(workers_of(running))


@pytest.mark.slow
def test_a_trial_that_always_kills_its_process_fails_and_the_study_goes_on(zygote: Zygote, tmp_path: Path) -> None:
    broken = Steering(tmp_path, {13: "dies"})
    with begun(zygote, tmp_path, broken, *FOUR, *LOCAL, "executor.attempts=2") as running:
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
    with begun(zygote, tmp_path, trials, *FOUR, *LOCAL, "search.trial_minutes=30") as running:
        running.wait_for(lambda: count_events(tmp_path, "finished") == 3)
        trials.let_pass(30)
        assert ends(running, 6)
        assert are_gone(workers_of(running))
    found = audit.look(tmp_path)
    audit.check_whole(found)
    (study,) = found["studies"].values()
    (failed,) = [trial for trial in study["trials"].values() if trial["state"] == "failed"]
    assert failed["outcome"]["reason"] == "OverTime: 1 epoch after search.trial_minutes=30"
    assert len(failed["attempts"]) == 1


@pytest.mark.slow
def test_a_worker_without_memory_costs_no_other_trial(zygote: Zygote, trials: Steering, tmp_path: Path) -> None:
    trials.hold(1)
    with begun(zygote, tmp_path, trials, *FOUR, *LOCAL) as running:
        running.wait_for(lambda: count_held(running, 1) == 2)
        pid = workers_of(running)[0]
        size = 1024 * int(re.findall(r"VmSize:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])
        resource.prlimit(pid, resource.RLIMIT_AS, (size, size))  # not a byte more
        trials.release()
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
def test_a_synchronous_search_proposes_the_same_whatever_runs_it(
    zygote: Zygote, trials: Steering, tmp_path: Path
) -> None:
    done(zygote, tmp_path / "alone", *HYPERBAND, "executor=in_process")
    trials.hold(1)  # of two, or before the second where a trial is promoted
    with begun(zygote, tmp_path / "together", trials, *HYPERBAND, *LOCAL) as running:
        running.wait_for(lambda: count_epochs(running) >= 2)
        os.kill(running.pid, signal.SIGKILL)
    done(zygote, tmp_path / "together", *HYPERBAND, *LOCAL)
    audit.check(audit.look(tmp_path / "together"), audit.look(tmp_path / "alone"))


def overlap(running: Running) -> bool:
    """Whether a trial of each of the two studies is held after its first epoch."""
    return "study 1, trial 2, epoch 1/" in running.output and "study 2, trial 1, epoch 1/" in running.output


@pytest.fixture(scope="module")
def two_studies(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> audit.Found:
    """The trials of both studies, one after the other in one process."""
    folder = tmp_path_factory.mktemp("two studies")
    done(zygote, folder, *TWO, "executor=in_process")
    return audit.look(folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_two_studies_that_were_stopped_while_both_trained_end_as_one_after_the_other(
    zygote: Zygote, trials: Steering, two_studies: audit.Found, number: signal.Signals, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    trials.hold(1, LAST_OF_FIRST, FIRST_OF_SECOND)
    with begun(zygote, folder, trials, *TWO, *LOCAL) as running:
        running.wait_for(lambda: overlap(running))
        assert "\nrmsprop: 2 trials" not in running.output  # its table
        os.kill(running.pid, number)
        assert ends(running, -signal.SIGKILL if number == signal.SIGKILL else 130)
        assert are_gone(workers_of(running))
    assert done(zygote, folder, *TWO, *LOCAL).count("on from epoch") == 2
    audit.check(audit.look(folder), two_studies, in_order=False)
    assert "Nothing to do" in done(zygote, folder, *TWO, *LOCAL)


@pytest.mark.slow
def test_a_worker_lost_while_two_studies_train_costs_one_attempt_of_one_of_them(
    zygote: Zygote, trials: Steering, two_studies: audit.Found, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    trials.hold(1, LAST_OF_FIRST, FIRST_OF_SECOND)
    with begun(zygote, folder, trials, *TWO, *LOCAL) as running:
        running.wait_for(lambda: overlap(running))
        os.kill(workers_of(running)[0], signal.SIGKILL)
        running.wait_for("its trial goes on from epoch 1")
        trials.release()
        assert ends(running, 0)
    assert len(lost(folder)) == 1
    audit.check(audit.look(folder), two_studies, in_order=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        # After the sweep and its first study, the second one is opened.
        (Kill("journal opened", 3, "after"), Kill("journal closing", 1, "after")),
        (Kill("store create_run", 6, "before"), Kill("journal closed", 1, "after")),
    ],
    ids=str,
)
def test_two_studies_killed_where_one_opens_and_one_closes_beside_the_other_end_as_one_after_the_other(
    zygote: Zygote, trials: Steering, two_studies: audit.Found, opening: Kill, closing: Kill, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    for kill, beside in ((opening, LAST_OF_FIRST), (closing, FIRST_OF_SECOND)):
        trials.hold(1, beside)
        assert zygote.run(*TWO, *LOCAL, cwd=folder, kill=kill, environment=trials.environment).killed
    done(zygote, folder, *TWO, *LOCAL)
    audit.check(audit.look(folder), two_studies, in_order=False)


@pytest.mark.slow
def test_a_worker_lost_while_the_store_is_away_costs_no_more_than_one_with_it_there(
    zygote: Zygote, trials: Steering, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    trials.hold(2)
    with Server(tmp_path / "server") as server:
        arguments = (*FOUR, *LOCAL, f"tracking.uri={server.address}")
        with begun(zygote, tmp_path / "sweep", trials, *arguments) as running:
            running.wait_for(lambda: count_held(running, 2) == 2)
            server.kill()
            trials.hold(4)
            running.wait_for(lambda: "the tracking store is away" in running.output)
            running.wait_for(lambda: count_held(running, 4) == 2)
            os.kill(workers_of(running)[0], signal.SIGKILL)
            running.wait_for(lambda: "on from epoch" in running.output.partition("is away")[2])
            running.wait_for(lambda: "is on worker" in running.output.partition("on from epoch")[2])
            assert "answers again" not in running.output
            server.start()
            trials.release()
            assert ends(running, 0)
    (study,) = list_study_folders(tmp_path / "sweep" / "mlruns")
    histories = study.read_record().trials.values()
    assert all(history.is_settled for history in histories)
    assert sorted(len(history.attempts) for history in histories) == [1, 1, 1, 2]
    assert all(attempt.is_delivered for history in histories for attempt in history.attempts)
