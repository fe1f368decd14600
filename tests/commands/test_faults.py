"""What surrounds a sweep fails: servers, disks, clocks, state files. It goes on, or says what to do in one sentence.

Real processes, real servers on 127.0.0.1, real file systems. Each fault is held against a sweep that nothing disturbed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.errors import StoreError
from fmnist_sweep.study.journal import JournalEvent, read_events
from tests.support import ROOT
from tests.support.disks import disk
from tests.support.servers import Server
from tests.support.small import DRAWN
from tests.support.zygote import Ended, Kill, Zygote

pytest.register_assert_rewrite("audit")

from tests.support import audit  # noqa: E402

EPOCHS, TRIALS, LIMIT_SECONDS = 8, 3, 180
TINY = (
    *(*DRAWN, "train.precision=float32", "train.batch_size=64", f"train.epochs={EPOCHS}", "executor.threads=1"),
    *("model.conv_layers=1", "model.dense_units=8", "model.filters={tune: int, min_value: 2, max_value: 60}"),
    *("regularization.dropout=0.3", f"search.max_trials={TRIALS}"),
)
_TIMES = ("epoch_seconds", "epoch_cpu_seconds", "fit_seconds", "cpu_seconds")


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with Zygote(tmp_path_factory.mktemp("zygote")) as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> audit.Found:
    """The sweep that all others are held against."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = zygote.run(*TINY, cwd=folder)
    assert ended.code == 0, ended
    found: audit.Found = zygote.call("tests.support.audit:look", folder)
    audit.check(found, found)
    return found


@contextmanager
def _begun(*arguments: str, cwd: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The real command as a process of its own; environment: see altered."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "support" / "altered.py"), *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT_SECONDS)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def _end(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=LIMIT_SECONDS)
    return Done(process.returncode, out, err)


def _run(*arguments: str, cwd: Path, **environment: str) -> Done:
    with _begun(*arguments, cwd=cwd, **environment) as process:
        return _end(process)


def _sentence(done: Done, *, code: int = 4) -> str:
    """What a command that could not go on said: one sentence, no traceback."""
    assert done.code == code, done
    assert done.err.startswith("fmnist_sweep: "), done.err[:1500]
    assert done.err.count("\n") == 1, done
    assert "Traceback" not in done.out
    return done.err


def _wait(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something that a running command does."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not what():
        assert process.poll() is None, _end(process)
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


def _events(folder: Path) -> list[JournalEvent]:
    """What the journal of the one study in a folder holds at this moment."""
    try:
        (path,) = folder.glob("mlruns/studies/*/journal.db")
        return read_events(path)
    except (ValueError, StoreError):
        return []


def _count(folder: Path, *kinds: str) -> int:
    return sum(event.kind in kinds for event in _events(folder))


def _journal(folder: Path) -> Path:
    (path,) = folder.glob("mlruns/studies/*/journal.db")
    return path


def _figures(metrics: Sequence[Sequence[Any]], runs: Sequence[str]) -> list[list[Any]]:
    """Name, step and value of the metrics of these runs, but for the times that were measured."""
    return [[list(row[1:]) for row in metrics if row[0] == run and row[1] not in _TIMES] for run in runs]


def _final_runs(study: audit.Found) -> list[str]:
    return [trial["attempts"][-1]["run_id"] for trial in study["trials"].values()]


# A server


def _rows(database: Path, query: str) -> list[Any]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return connection.execute(query).fetchall()


def _check_server(server: Server, folder: Path, undisturbed: audit.Found, attempts: int = TRIALS) -> None:
    """Everything is on the server, once, as in the undisturbed sweep."""
    runs = {
        run: (status, tags)
        for run, status in _rows(server.database, "SELECT run_uuid, status FROM runs")
        for tags in [dict(_rows(server.database, f"SELECT key, value FROM tags WHERE run_uuid = '{run}'"))]
    }
    kinds = Counter((tags["fmnist.kind"], status) for status, tags in runs.values())
    killed = attempts - TRIALS
    assert kinds == Counter(
        {("sweep", "FINISHED"): 1, ("study", "FINISHED"): 1, ("trial", "FINISHED"): TRIALS, ("trial", "KILLED"): killed}
    ) - Counter({("trial", "KILLED"): 0})
    metrics = _rows(server.database, "SELECT run_uuid, key, step, value FROM metrics ORDER BY 1, 2, 3")
    assert max(Counter(row[:3] for row in metrics).values()) == 1
    finished = {
        tags["fmnist.trial_id"]: run
        for run, (status, tags) in runs.items()
        if tags["fmnist.kind"] == "trial" and status == "FINISHED"
    }
    (reference,) = undisturbed["studies"].values()
    ours = _figures(metrics, [finished[trial_id] for trial_id in reference["trials"]])
    assert ours == _figures(undisturbed["metrics"], _final_runs(reference))
    for run, twin in zip([finished[trial_id] for trial_id in reference["trials"]], _final_runs(reference), strict=True):
        (files,) = (server.folder / "artifacts").glob(f"*/{run}/artifacts")
        there = {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()}
        assert there == set(undisturbed["runs"][twin]["files"])
    models = _rows(server.database, "SELECT source_run_id, status FROM logged_models WHERE lifecycle_stage = 'active'")
    ready = [run for run, status in models if int(status) == 2]
    assert sorted(ready) == sorted(finished.values())
    assert all(int(status) != 1 for _, status in models)  # none is pending
    assert _count(folder, "attempt") == attempts
    assert not list(_journal(folder).parent.glob("results/*"))


@pytest.mark.slow
def test_a_server_that_is_away_in_mid_sweep_for_a_while_costs_nothing(undisturbed: audit.Found, tmp_path: Path) -> None:
    served, folder = tmp_path / "server", tmp_path / "sweep"
    served.mkdir()
    folder.mkdir()
    with Server(served) as server, _begun(*TINY, f"tracking.uri={server.address}", cwd=folder) as process:
        _wait(lambda: _count(folder, "delivered") >= 1, process)
        server.kill()
        time.sleep(3)
        server.begin()
        done = _end(process)
        assert done.code == 0, done
        assert "training goes on, results are kept here" in done.out
        assert "the tracking store answers again" in done.out
        _check_server(server, folder, undisturbed)


def test_what_a_server_that_stays_away_missed_is_delivered_by_the_same_command_once(
    undisturbed: audit.Found, tmp_path: Path
) -> None:
    served, folder = tmp_path / "server", tmp_path / "sweep"
    served.mkdir()
    folder.mkdir()
    with Server(served) as server:
        arguments = (*TINY, f"tracking.uri={server.address}")
        with _begun(*arguments, cwd=folder, FAULTS_PATIENCE="2") as process:
            _wait(lambda: _count(folder, "delivered") >= 1, process)
            server.kill()
            sentence = _sentence(_end(process))
        assert "type the same command again" in sentence
        assert _count(folder, "finished") == TRIALS  # it was trained to the end all the same
        assert len(list(_journal(folder).parent.glob("results/*.npz"))) == TRIALS - _count(folder, "delivered")
        trained = _count(folder, "attempt")
        assert "no tracking server answers there" in _sentence(_run(*arguments, cwd=folder))
        server.start()
        again = _run(*arguments, cwd=folder)
        assert again.code == 0, again
        assert "epoch 1/" not in again.out
        assert _count(folder, "attempt") == trained == TRIALS
        _check_server(server, folder, undisturbed)
        assert "Nothing to do" in _run(*arguments, cwd=folder).out


# A disk


def test_a_full_disk_ends_a_sweep_with_one_sentence_and_with_room_again_it_goes_on(
    zygote: Zygote, undisturbed: audit.Found, tmp_path: Path
) -> None:
    _fill_the_disk(zygote, undisturbed, tmp_path, leave=0, after="delivered")


@pytest.mark.slow
@pytest.mark.parametrize("leave", [8_192, 100_000, 400_000])
@pytest.mark.parametrize("after", ["asked", "finished"])
def test_wherever_a_disk_becomes_full_the_sweep_goes_on_with_room_again(
    zygote: Zygote, undisturbed: audit.Found, tmp_path: Path, leave: int, after: str
) -> None:
    _fill_the_disk(zygote, undisturbed, tmp_path, leave, after)


def _fill_the_disk(zygote: Zygote, undisturbed: audit.Found, tmp_path: Path, leave: int, after: str) -> None:
    with disk(tmp_path / "disk", megabytes=100) as small:
        folder = small.path
        with _begun(*TINY, cwd=folder, FAULTS_PATIENCE="2") as process:
            _wait(lambda: _count(folder, after) >= 1, process)
            small.fill(leave)
            sentence = _sentence(_end(process))
        assert str(folder / "mlruns") in sentence
        assert "type the same command again" in sentence
        small.free()
        again = zygote.run(*TINY, cwd=folder)
        assert again.code == 0, again
        audit.check(zygote.call("tests.support.audit:look", folder), undisturbed)


def test_a_store_that_is_read_only_is_refused_before_anything_is_created(zygote: Zygote, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", megabytes=100) as small:
        with small.read_only():
            sentence = _sentence(_run(*TINY, cwd=small.path))
            assert str(small.path / "mlruns") in sentence
        assert list(small.path.iterdir()) == []
        killed = zygote.run(*TINY, cwd=small.path, kill=Kill("journal finished", moment="after"))
        assert killed.killed
        with small.read_only():
            before = _contents(small.path)
            sentence = _sentence(_run(*TINY, cwd=small.path))
            assert str(small.path / "mlruns") in sentence
            assert _contents(small.path) == before


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# A clock


@pytest.mark.slow
def test_a_clock_that_jumps_in_mid_sweep_and_between_sessions_changes_nothing(
    zygote: Zygote, undisturbed: audit.Found, tmp_path: Path
) -> None:
    clock, folder, day = tmp_path / "clock", tmp_path / "sweep", 86_400
    folder.mkdir()
    arguments = (*TINY, "search.max_minutes=30")

    def set_clock(days: int) -> None:
        aside = clock.with_name("aside")
        aside.write_text(str(days * day))
        aside.replace(clock)

    with _begun(*arguments, cwd=folder, FAULTS_CLOCK=str(clock)) as process:
        _wait(lambda: _count(folder, "delivered") >= 1, process)
        set_clock(-1)  # between two trials, or in one
        _wait(lambda: _newest_checkpoint(folder) >= 2, process)
        process.send_signal(signal.SIGTERM)
        assert _end(process).code == 130
    set_clock(-3)
    with _begun(*arguments, cwd=folder, FAULTS_CLOCK=str(clock)) as process:
        _wait(lambda: _count(folder, "attempt") >= 3, process)
        set_clock(2)  # a jump forwards does not use up the minutes
        _wait(lambda: _count(folder, "attempt") >= 4, process)
        set_clock(-5)
        done = _end(process)
    assert done.code == 0, done
    audit.check(zygote.call("tests.support.audit:look", folder), undisturbed)


def _newest_checkpoint(folder: Path) -> int:
    """The epoch of the newest checkpoint of the second trial."""
    trials = [event.body["trial_id"] for event in _events(folder) if event.kind == "attempt"]
    if len(trials) < 2:
        return 0
    return max(
        (int(path.stem) for path in folder.glob(f"mlruns/studies/*/checkpoints/{trials[1]}/[0-9]*.npz")), default=0
    )


# Many at once

_MAKING_STORES = """
import os, sys, time
from pathlib import Path
from fmnist_sweep.tracking import store as stores
from fmnist_sweep.tracking.connection import quiet_mlflow
quiet_mlflow()
import mlflow, mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store, filelock
rounds, processes = int(sys.argv[1]), int(sys.argv[2])
for number in range(rounds):
    folder = Path(f"store {number}").resolve()
    folder.mkdir()
    reading, writing = os.pipe()
    children = []
    for each in range(processes):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.chdir(folder)
                os.close(writing)
                os.read(reading, 1)  # until all are there
                found = stores.open_store(None, "fashion-mnist")
                run = found.client.create_run(found.experiment_id)
                (folder / f"experiment {each}").write_text(found.experiment_id)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    os.close(reading)
    os.close(writing)
    print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), flush=True)
"""


@pytest.mark.slow
def test_eight_processes_that_make_a_store_at_once_all_succeed_twenty_times_over(tmp_path: Path) -> None:
    rounds, processes = 20, 8
    done = subprocess.run(
        [sys.executable, "-c", _MAKING_STORES, str(rounds), str(processes)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.stdout.splitlines() == [" ".join(["0"] * processes)] * rounds, done.stderr
    for number in range(rounds):
        folder = tmp_path / f"store {number}"
        ids = {(folder / f"experiment {each}").read_text() for each in range(processes)}
        assert len(ids) == 1
        database = folder / "mlruns" / "mlflow.db"
        assert _rows(database, "SELECT COUNT(*) FROM experiments WHERE name = 'fashion-mnist'") == [(1,)]
        assert _rows(database, "SELECT COUNT(*) FROM runs") == [(processes,)]


@pytest.mark.slow
def test_of_many_that_begin_a_study_at_once_one_runs_it_and_the_others_say_who(zygote: Zygote, tmp_path: Path) -> None:
    arguments = (*TINY, "train.epochs=40")
    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(lambda _: zygote.run(*arguments, cwd=tmp_path / "sweep"), range(8)))
    codes = Counter(each.code for each in ended)
    assert codes == {0: 1, 7: 7}, ended
    for each in ended:
        if each.code == 7:
            assert "is being run by process" in each.output
            assert "Traceback" not in each.output
    found = zygote.call("tests.support.audit:look", tmp_path / "sweep")
    audit.check_whole(found)
    assert _count(tmp_path / "sweep", "attempt") == TRIALS


def test_sweeps_begun_in_the_same_second_never_share_a_folder(zygote: Zygote, tmp_path: Path) -> None:
    folder, seeds = tmp_path / "sweep", (1, 2, 3)
    begin = (*TINY, "train.epochs=2", "search.max_trials=1")
    with ThreadPoolExecutor(len(seeds)) as pool:
        ended = list(pool.map(lambda seed: zygote.run(*begin, f"seed={seed}", cwd=folder), seeds))
    assert [each.code for each in ended] == [0] * len(seeds), ended
    found = zygote.call("tests.support.audit:look", folder)
    audit.check_whole(found)
    assert len(found["studies"]) == len(found["sweeps"]) == len(seeds)


# State files

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
        return self.zygote.run(*TINY, *more, cwd=self.folder)


@pytest.fixture(scope="module")
def interrupted(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """Stopped by SIGTERM in its second trial, which has two checkpoints."""
    folder = tmp_path_factory.mktemp("interrupted") / "sweep"
    folder.mkdir()
    with _begun(*TINY, cwd=folder) as process:
        _wait(lambda: _newest_checkpoint(folder) >= 3, process)
        process.send_signal(signal.SIGTERM)
        assert _end(process).code == 130
    assert len(_checkpoints(folder)) == 2
    return _kept(folder, zygote)


@pytest.fixture(scope="module")
def undelivered(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """Killed when its second trial had ended and the store did not have it yet."""
    folder = tmp_path_factory.mktemp("undelivered") / "sweep"
    assert zygote.run(*TINY, cwd=folder, kill=Kill("journal finished", 2, "after")).killed
    assert len(list(folder.glob("mlruns/studies/*/results/*.npz"))) == 1
    return _kept(folder, zygote)


def _kept(folder: Path, zygote: Zygote) -> Interrupted:
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    return Interrupted(folder, copy, zygote)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("mlruns/studies/*/checkpoints/*/[0-9]*.npz"))


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
    metrics = audit._metric_rows(sweep.folder / "mlruns" / "mlflow.db")
    runs = [event.body["run_id"] for event in read_events(new / "journal.db") if event.kind == "attempt_run"]
    (reference,) = undisturbed["studies"].values()
    assert _figures(metrics, runs) == _figures(undisturbed["metrics"], _final_runs(reference))
    assert max(Counter(row[:3] for row in metrics).values()) == 1
    statuses = _rows(sweep.folder / "mlruns" / "mlflow.db", "SELECT DISTINCT status FROM runs")
    assert {status for (status,) in statuses} <= {"FINISHED", "KILLED"}


@pytest.mark.parametrize(
    "damage", ["cut", *(pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES if name != "cut")]
)
def test_a_damaged_journal_of_a_study_is_named_and_never_begun_anew_unasked(
    interrupted: Interrupted, undisturbed: audit.Found, damage: str
) -> None:
    path = _journal(interrupted.restored())
    _harm([path], damage)
    _begins_anew(interrupted, undisturbed, path)


@pytest.mark.parametrize(
    "damage", ["gone", *(pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES if name != "gone")]
)
def test_a_damaged_journal_of_a_sweep_is_named_and_never_begun_anew_unasked(
    interrupted: Interrupted, undisturbed: audit.Found, damage: str
) -> None:
    (path,) = interrupted.restored().glob("mlruns/sweeps/*/journal.db")
    _harm([path], damage)
    _begins_anew(interrupted, undisturbed, path)


@pytest.mark.parametrize(
    "damage", ["noise", *(pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES if name != "noise")]
)
def test_without_its_newest_checkpoint_a_trial_goes_on_from_the_one_before(
    interrupted: Interrupted, undisturbed: audit.Found, damage: str
) -> None:
    newest = _checkpoints(interrupted.restored())[-1]
    _harm([newest], damage)
    ended = _goes_on(interrupted, undisturbed)
    assert (f"{newest} is damaged" in ended.output.replace("\n", "")) == (damage != "gone"), ended.output
    assert f"epoch 1/{EPOCHS}" in ended.output  # of the third trial
    assert ended.output.count(f"epoch 1/{EPOCHS}") == 1


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_without_any_checkpoint_a_trial_is_trained_anew(
    interrupted: Interrupted, undisturbed: audit.Found, damage: str
) -> None:
    _harm(_checkpoints(interrupted.restored()), damage)
    ended = _goes_on(interrupted, undisturbed)
    assert ended.output.count(f"epoch 1/{EPOCHS}") == 2


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_the_files_of_ownership_hold_does_not_matter(
    interrupted: Interrupted, undisturbed: audit.Found, damage: str
) -> None:
    folder = interrupted.restored()
    _harm([*folder.glob("mlruns/*/*/owner.json"), *folder.glob("mlruns/*/*/owner.lock")], damage)
    _goes_on(interrupted, undisturbed)


@pytest.mark.parametrize(
    "damage", ["noise", *(pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES if name != "noise")]
)
def test_a_trial_whose_undelivered_result_is_damaged_is_trained_again(
    undelivered: Interrupted, undisturbed: audit.Found, damage: str
) -> None:
    (result,) = undelivered.restored().glob("mlruns/studies/*/results/*.npz")
    _harm([result], damage)
    ended = _goes_on(undelivered, undisturbed)
    assert f"{result} is damaged" in ended.output.replace("\n", "")
    assert "this trial is trained again" in ended.output


def test_a_result_that_the_store_has_already_is_not_missed(
    zygote: Zygote, undisturbed: audit.Found, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    killed = zygote.run(*TINY, cwd=folder, kill=Kill("store set_terminated", 1, "after"))
    assert killed.killed, killed
    (result,) = folder.glob("mlruns/studies/*/results/*.npz")
    result.unlink()
    ended = zygote.run(*TINY, cwd=folder)
    assert ended.code == 0, ended.output
    audit.check(zygote.call("tests.support.audit:look", folder), undisturbed)


@pytest.mark.parametrize(
    "damage", ["gone", *(pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES if name != "gone")]
)
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
