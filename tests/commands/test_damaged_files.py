"""A file of a sweep is damaged or gone: the same command goes on without it, or names it and says what to do.

One or two kinds of damage for each kind of file: that every damage to its bytes is noticed is shown where it is read,
in tests/test_files.py, tests/study/test_checkpoints.py, tests/study/test_journal.py and tests/study/test_lock.py.
"""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fmnist_sweep.study.journal import read_events
from tests.support import audit
from tests.support.faults import (
    EPOCHS,
    THREE_TRIALS,
    find_journal,
    find_newest_checkpoint,
    list_checkpoints,
    list_final_runs,
    query,
    select_figures,
)
from tests.support.steering import Steering
from tests.support.zygote import Ended, Kill, Zygote

pytestmark = pytest.mark.usefixtures("plain_figures")


Damage = Callable[[bytes], bytes | None]
DAMAGES: dict[str, Damage] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "noise": lambda content: random.Random(1).randbytes(len(content)),
    "flipped": lambda content: (
        content[: len(content) // 2] + random.Random(2).randbytes(64) + content[len(content) // 2 + 64 :]
    ),
    "gone": lambda content: None,
}


@dataclass(frozen=True)
class Interrupted:
    """A sweep that stopped in mid-trial, and a copy of all it had written."""

    folder: Path
    copy: Path
    zygote: Zygote

    def restored(self) -> Path:
        """Its folder as it was."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.copy, self.folder)
        return self.folder

    def run(self, *more: str) -> Ended:
        return self.zygote.run(*THREE_TRIALS, *more, cwd=self.folder)


@pytest.fixture(scope="module")
def interrupted(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """Stopped by SIGTERM in its second trial, which has two checkpoints."""
    folder = tmp_path_factory.mktemp("interrupted") / "sweep"
    folder.mkdir()
    trials = Steering(folder.parent)
    trials.hold(3, "0001")
    with zygote.start(*THREE_TRIALS, cwd=folder, environment=trials.environment) as process:
        process.wait_for(lambda: find_newest_checkpoint(folder) >= 3)
        process.send_signal(signal.SIGTERM)
        assert process.end().returncode == 130
    assert len(list_checkpoints(folder)) == 2
    return _kept(folder, zygote)


@pytest.fixture(scope="module")
def undelivered(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """Killed when its second trial had ended and the store did not have it yet."""
    folder = tmp_path_factory.mktemp("undelivered") / "sweep"
    assert zygote.run(*THREE_TRIALS, cwd=folder, kill=Kill("journal finished", 2, "after")).killed
    assert len(list(folder.glob("mlruns/studies/*/results/*.npz"))) == 1
    return _kept(folder, zygote)


def _kept(folder: Path, zygote: Zygote) -> Interrupted:
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    return Interrupted(folder, copy, zygote)


def _harm(paths: Sequence[Path], damage: str) -> None:
    assert paths
    for path in paths:
        content = DAMAGES[damage](path.read_bytes())
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)


def _goes_on(sweep: Interrupted, undisturbed: audit.Found) -> Ended:
    """The same command ends as if nothing had been damaged."""
    ended = sweep.run()
    assert ended.code == 0, ended.output
    audit.check(sweep.zygote.call("tests.support.audit:look", sweep.folder), undisturbed)
    return ended


def _begins_anew(sweep: Interrupted, undisturbed: audit.Found, named: Path) -> None:
    """The same command names the damaged file in one sentence and changes nothing; fresh=true begins anew beside it."""
    for _ in range(2):
        ended = sweep.run()
        assert ended.code == 4, ended.output
        (sentence,) = [line for line in ended.output.splitlines() if line.startswith("fmnist_sweep: ")]
        assert str(named) in sentence
        assert "fresh=true" in sentence
        assert "Traceback" not in ended.output
    studies = set(sweep.folder.glob("mlruns/studies/*"))
    ended = sweep.run("fresh=true")
    assert ended.code == 0, ended.output
    (new,) = set(sweep.folder.glob("mlruns/studies/*")) - studies
    metrics = audit.read_metric_rows(sweep.folder / "mlruns" / "mlflow.db")
    runs = [event.body["run_id"] for event in read_events(new / "journal.db") if event.kind == "attempt_run"]
    (reference,) = undisturbed["studies"].values()
    assert select_figures(metrics, runs) == select_figures(undisturbed["metrics"], list_final_runs(reference))
    assert max(Counter(row[:3] for row in metrics).values()) == 1
    statuses = query(sweep.folder / "mlruns" / "mlflow.db", "SELECT DISTINCT status FROM runs")
    assert {status for (status,) in statuses} <= {"FINISHED", "KILLED"}


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_journal_of_a_study_is_named_and_never_begun_anew_unasked(
    interrupted: Interrupted, undisturbed: audit.Found, damage: str
) -> None:
    path = find_journal(interrupted.restored())
    _harm([path], damage)
    _begins_anew(interrupted, undisturbed, path)


@pytest.mark.parametrize("damage", ["gone", "noise"])
@pytest.mark.slow
def test_a_damaged_journal_of_a_sweep_is_named_and_never_begun_anew_unasked(
    interrupted: Interrupted, undisturbed: audit.Found, damage: str
) -> None:
    (path,) = interrupted.restored().glob("mlruns/sweeps/*/journal.db")
    _harm([path], damage)
    _begins_anew(interrupted, undisturbed, path)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["noise", "gone"])
def test_without_its_newest_checkpoint_a_trial_goes_on_from_the_one_before(
    interrupted: Interrupted, undisturbed: audit.Found, damage: str
) -> None:
    newest = list_checkpoints(interrupted.restored())[-1]
    _harm([newest], damage)
    ended = _goes_on(interrupted, undisturbed)
    assert (f"{newest} is damaged" in ended.output.replace("\n", "")) == (damage != "gone"), ended.output
    assert f"epoch 1/{EPOCHS}" in ended.output  # of the third trial
    assert ended.output.count(f"epoch 1/{EPOCHS}") == 1


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["noise", "gone"])
def test_without_any_checkpoint_a_trial_is_trained_anew(
    interrupted: Interrupted, undisturbed: audit.Found, damage: str
) -> None:
    _harm(list_checkpoints(interrupted.restored()), damage)
    ended = _goes_on(interrupted, undisturbed)
    assert ended.output.count(f"epoch 1/{EPOCHS}") == 2


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["noise", "gone"])
def test_what_the_files_of_ownership_hold_does_not_matter(
    interrupted: Interrupted, undisturbed: audit.Found, damage: str
) -> None:
    folder = interrupted.restored()
    _harm([*folder.glob("mlruns/*/*/owner.json"), *folder.glob("mlruns/*/*/owner.lock")], damage)
    _goes_on(interrupted, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["noise", "gone"])
def test_a_trial_whose_undelivered_result_is_damaged_is_trained_again(
    undelivered: Interrupted, undisturbed: audit.Found, damage: str
) -> None:
    (result,) = undelivered.restored().glob("mlruns/studies/*/results/*.npz")
    _harm([result], damage)
    ended = _goes_on(undelivered, undisturbed)
    assert f"{result} is damaged" in ended.output.replace("\n", "")
    assert "this trial is trained again" in ended.output


@pytest.mark.slow
def test_a_result_that_the_store_has_already_is_not_missed(
    zygote: Zygote, undisturbed: audit.Found, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    killed = zygote.run(*THREE_TRIALS, cwd=folder, kill=Kill("store set_terminated", 1, "after"))
    assert killed.killed, killed
    (result,) = folder.glob("mlruns/studies/*/results/*.npz")
    result.unlink()
    ended = zygote.run(*THREE_TRIALS, cwd=folder)
    assert ended.code == 0, ended.output
    audit.check(zygote.call("tests.support.audit:look", folder), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "flipped"])
def test_a_damaged_tracking_store_is_named_and_not_filled_anew_unasked(interrupted: Interrupted, damage: str) -> None:
    folder = interrupted.restored()
    path = folder / "mlruns" / "mlflow.db"
    for log in (path.with_name("mlflow.db-wal"), path.with_name("mlflow.db-shm")):
        log.unlink(missing_ok=True)
    _harm([path], damage)
    ended = interrupted.run()
    assert ended.code == 4, ended.output
    (sentence,) = [line for line in ended.output.splitlines() if line.startswith("fmnist_sweep: ")]
    assert str(path) in sentence
    assert "Traceback" not in ended.output
    if damage == "gone":
        assert "fresh=true" in sentence
        assert interrupted.run("fresh=true").code == 0
