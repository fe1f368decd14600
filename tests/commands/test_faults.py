"""What surrounds a sweep fails: servers, disks, clocks. It goes on, or says in one sentence what to do.

Real processes, real servers on 127.0.0.1, real file systems. Each fault is held against a sweep that nothing disturbed.
"""

from __future__ import annotations

import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support import ROOT, audit
from tests.support.disks import disk
from tests.support.faults import (
    THREE_TRIALS,
    TRIALS,
    count_events,
    find_journal,
    find_newest_checkpoint,
    list_final_runs,
    query,
    select_figures,
)
from tests.support.process import Done, Running, run, start
from tests.support.servers import Server
from tests.support.zygote import Kill, Zygote

PATIENCE = {"FAULTS_PATIENCE": "2"}  # seconds, see tests/support/altered.py


pytestmark = pytest.mark.usefixtures("plain_figures")


def _sentence(done: Done, *, code: int = 4) -> str:
    """What a command that could not go on said: one sentence, no traceback."""
    assert done.returncode == code, done
    assert done.stderr.startswith("fmnist_sweep: "), done.stderr[:1500]
    assert done.stderr.count("\n") == 1, done
    assert "Traceback" not in done.stdout
    return done.stderr


def _start_fresh(*arguments: str, cwd: Path, **environment: str) -> AbstractContextManager[Running]:
    """The command in a fresh interpreter; environment: see tests/support/altered.py."""
    return start(str(ROOT / "tests" / "support" / "altered.py"), *arguments, cwd=cwd, environment=environment)


# A server


def _check_server(server: Server, folder: Path, undisturbed: audit.Found, attempts: int = TRIALS) -> None:
    """Everything is on the server, once, as in the undisturbed sweep."""
    runs = {
        run_id: (status, tags)
        for run_id, status in query(server.database, "SELECT run_uuid, status FROM runs")
        for tags in [dict(query(server.database, f"SELECT key, value FROM tags WHERE run_uuid = '{run_id}'"))]
    }
    kinds = Counter((tags["fmnist.kind"], status) for status, tags in runs.values())
    killed = attempts - TRIALS
    assert kinds == Counter(
        {("sweep", "FINISHED"): 1, ("study", "FINISHED"): 1, ("trial", "FINISHED"): TRIALS, ("trial", "KILLED"): killed}
    ) - Counter({("trial", "KILLED"): 0})
    metrics = query(server.database, "SELECT run_uuid, key, step, value FROM metrics ORDER BY 1, 2, 3")
    assert max(Counter(row[:3] for row in metrics).values()) == 1
    finished = {
        tags["fmnist.trial_id"]: run_id
        for run_id, (status, tags) in runs.items()
        if tags["fmnist.kind"] == "trial" and status == "FINISHED"
    }
    (reference,) = undisturbed["studies"].values()
    ours = select_figures(metrics, [finished[trial_id] for trial_id in reference["trials"]])
    assert ours == select_figures(undisturbed["metrics"], list_final_runs(reference))
    for run_id, twin in zip(
        [finished[trial_id] for trial_id in reference["trials"]], list_final_runs(reference), strict=True
    ):
        (files,) = (server.folder / "artifacts").glob(f"*/{run_id}/artifacts")
        there = {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()}
        assert there == set(undisturbed["runs"][twin]["files"])
    models = query(server.database, "SELECT source_run_id, status FROM logged_models WHERE lifecycle_stage = 'active'")
    ready = [run_id for run_id, status in models if int(status) == 2]
    assert sorted(ready) == sorted(finished.values())
    assert all(int(status) != 1 for _, status in models)  # none is pending
    assert count_events(folder, "attempt") == attempts
    assert not list(find_journal(folder).parent.glob("results/*"))


@pytest.mark.slow
def test_a_server_that_is_away_in_mid_sweep_for_a_while_costs_nothing(undisturbed: audit.Found, tmp_path: Path) -> None:
    served, folder = tmp_path / "server", tmp_path / "sweep"
    served.mkdir()
    folder.mkdir()
    with (
        Server(served) as server,
        _start_fresh(*THREE_TRIALS, f"tracking.uri={server.address}", cwd=folder, FAULTS_DELAY="1") as process,
    ):
        process.wait_for(lambda: count_events(folder, "delivered") >= 1)
        server.kill()
        process.wait_for("training goes on, results are kept here")
        server.begin()
        done = process.end()
        assert done.returncode == 0, done
        assert "the tracking store answers again" in done.stdout
        _check_server(server, folder, undisturbed)


@pytest.mark.slow
def test_what_a_server_that_stays_away_missed_is_delivered_by_the_same_command_once(
    zygote: Zygote, undisturbed: audit.Found, tmp_path: Path
) -> None:
    served, folder = tmp_path / "server", tmp_path / "sweep"
    served.mkdir()
    folder.mkdir()
    with Server(served) as server:
        arguments = (*THREE_TRIALS, f"tracking.uri={server.address}")
        with zygote.start(*arguments, cwd=folder, environment=PATIENCE) as process:
            process.wait_for(lambda: count_events(folder, "delivered") >= 1)
            server.kill()
            sentence = _sentence(process.end())
        assert "type the same command again" in sentence
        assert count_events(folder, "finished") == TRIALS  # it was trained to the end all the same
        assert len(list(find_journal(folder).parent.glob("results/*.npz"))) == TRIALS - count_events(
            folder, "delivered"
        )
        trained = count_events(folder, "attempt")
        assert "no tracking server answers there" in _sentence(zygote.run(*arguments, cwd=folder))
        server.start()
        again = zygote.run(*arguments, cwd=folder)
        assert again.code == 0, again
        assert "epoch 1/" not in again.stdout
        assert count_events(folder, "attempt") == trained == TRIALS
        _check_server(server, folder, undisturbed)
        assert "Nothing to do" in zygote.run(*arguments, cwd=folder).stdout


# A disk


@pytest.mark.slow
def test_a_full_disk_ends_a_sweep_with_one_sentence_and_with_room_again_it_goes_on(
    zygote: Zygote, undisturbed: audit.Found, tmp_path: Path
) -> None:
    _fill_the_disk(zygote, undisturbed, tmp_path, leave=0, after="delivered")


@pytest.mark.slow
@pytest.mark.parametrize(("leave", "after"), [(8_192, "asked"), (100_000, "finished"), (400_000, "asked")])
def test_wherever_a_disk_becomes_full_the_sweep_goes_on_with_room_again(
    zygote: Zygote, undisturbed: audit.Found, tmp_path: Path, leave: int, after: str
) -> None:
    _fill_the_disk(zygote, undisturbed, tmp_path, leave, after)


def _fill_the_disk(zygote: Zygote, undisturbed: audit.Found, tmp_path: Path, leave: int, after: str) -> None:
    with disk(tmp_path / "disk", megabytes=100) as small:
        folder = small.path
        with zygote.start(*THREE_TRIALS, cwd=folder, environment=PATIENCE) as process:
            process.wait_for(lambda: count_events(folder, after) >= 1)
            small.fill(leave)
            sentence = _sentence(process.end())
        assert str(folder / "mlruns") in sentence
        assert "type the same command again" in sentence
        small.free()
        again = zygote.run(*THREE_TRIALS, cwd=folder)
        assert again.code == 0, again
        audit.check(zygote.call("tests.support.audit:look", folder), undisturbed)


@pytest.mark.slow
def test_a_store_that_is_read_only_is_refused_before_anything_is_created(zygote: Zygote, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", megabytes=100) as small:
        with small.read_only():
            sentence = _sentence(zygote.run(*THREE_TRIALS, cwd=small.path))
            assert str(small.path / "mlruns") in sentence
        assert list(small.path.iterdir()) == []
        killed = zygote.run(*THREE_TRIALS, cwd=small.path, kill=Kill("journal finished", moment="after"))
        assert killed.killed
        with small.read_only():
            before = _contents(small.path)
            sentence = _sentence(zygote.run(*THREE_TRIALS, cwd=small.path))
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
    arguments = (*THREE_TRIALS, "search.max_minutes=30")

    def set_clock(days: int) -> None:
        aside = clock.with_name("aside")
        aside.write_text(str(days * day))
        aside.replace(clock)

    with _start_fresh(*arguments, cwd=folder, FAULTS_CLOCK=str(clock)) as process:
        process.wait_for(lambda: count_events(folder, "delivered") >= 1)
        set_clock(-1)  # between two trials, or in one
        process.wait_for(lambda: find_newest_checkpoint(folder) >= 2)
        process.send_signal(signal.SIGTERM)
        assert process.end().returncode == 130
    set_clock(-3)
    with _start_fresh(*arguments, cwd=folder, FAULTS_CLOCK=str(clock)) as process:
        process.wait_for(lambda: count_events(folder, "attempt") >= 3)
        set_clock(2)  # a jump forwards does not use up the minutes
        process.wait_for(lambda: count_events(folder, "attempt") >= 4)
        set_clock(-5)
        done = process.end()
    assert done.returncode == 0, done
    audit.check(zygote.call("tests.support.audit:look", folder), undisturbed)


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
def test_eight_processes_that_make_a_store_at_once_all_succeed(tmp_path: Path) -> None:
    processes, rounds = 8, 6
    done = run("-c", _MAKING_STORES, str(rounds), str(processes), cwd=tmp_path)
    assert done.stdout.splitlines() == [" ".join(["0"] * processes)] * rounds, done.stderr
    for number in range(rounds):
        folder = tmp_path / f"store {number}"
        ids = {(folder / f"experiment {each}").read_text() for each in range(processes)}
        assert len(ids) == 1
        database = folder / "mlruns" / "mlflow.db"
        assert query(database, "SELECT COUNT(*) FROM experiments WHERE name = 'fashion-mnist'") == [(1,)]
        assert query(database, "SELECT COUNT(*) FROM runs") == [(processes,)]


@pytest.mark.slow
def test_of_many_that_begin_a_study_at_once_one_runs_it_and_the_others_say_who(zygote: Zygote, tmp_path: Path) -> None:
    arguments = (*THREE_TRIALS, "train.epochs=20")
    with ThreadPoolExecutor(5) as pool:
        ended = list(pool.map(lambda _: zygote.run(*arguments, cwd=tmp_path / "sweep"), range(5)))
    codes = Counter(each.code for each in ended)
    assert codes == {0: 1, 7: 4}, ended
    for each in ended:
        if each.code == 7:
            assert "is being run by process" in each.output
            assert "Traceback" not in each.output
    found = zygote.call("tests.support.audit:look", tmp_path / "sweep")
    audit.check_whole(found)
    assert count_events(tmp_path / "sweep", "attempt") == TRIALS


@pytest.mark.slow
def test_sweeps_begun_in_the_same_second_never_share_a_folder(zygote: Zygote, tmp_path: Path) -> None:
    folder, seeds = tmp_path / "sweep", (1, 2, 3)
    begin = (*THREE_TRIALS, "train.epochs=2", "search.max_trials=1")
    with ThreadPoolExecutor(len(seeds)) as pool:
        ended = list(pool.map(lambda seed: zygote.run(*begin, f"seed={seed}", cwd=folder), seeds))
    assert [each.code for each in ended] == [0] * len(seeds), ended
    found = zygote.call("tests.support.audit:look", folder)
    audit.check_whole(found)
    assert len(found["studies"]) == len(found["sweeps"]) == len(seeds)
