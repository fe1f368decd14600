"""Ctrl-C, SIGTERM, a closed terminal, a reader that goes away: a sweep ends in good order and can be continued.

Real processes and real signals; a fresh interpreter for the first of each kind, forks of the warm process for the rest.
"""

from __future__ import annotations

import os
import pty
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.tracking.store import build_default_uri, locate_state_folder, open_existing_store
from fmnist_sweep.training import trial
from fmnist_sweep.training.events import EpochEnd
from tests.conftest import Command
from tests.support import process
from tests.support.process import LIMIT_SECONDS, Running
from tests.support.small import DROPOUT, FILTERS, SMALLEST, TINY, spec, splits
from tests.support.steering import Steering
from tests.support.zygote import Zygote

EPOCHS = 6  # trials wait after the second one for what is to happen to them
LONG = (
    *(*SMALLEST, FILTERS, DROPOUT, f"train.epochs={EPOCHS}", "search.max_trials=2"),
    "executor=in_process",
)

pytestmark = pytest.mark.usefixtures("plain_figures")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trials(tmp_path_factory: pytest.TempPathFactory) -> Steering:
    """What the trials of this test do: they wait after the second epoch until they are asked to end."""
    steering = Steering(tmp_path_factory.mktemp("steering"))
    steering.hold(2)
    return steering


def _start_fresh(folder: Path, trials: Steering, *more: str) -> AbstractContextManager[Running]:
    return process.start(*process.SWEEP, *LONG, *more, cwd=folder, environment=trials.environment)


def _start(zygote: Zygote, folder: Path, trials: Steering, *more: str) -> AbstractContextManager[Running]:
    return zygote.start(*LONG, *more, cwd=folder, environment=trials.environment)


def _runs(kind: str, folder: Path | None = None) -> list[Any]:
    store = open_existing_store(None if folder is None else build_default_uri(folder), "fashion-mnist")
    found = store.client.search_runs([store.experiment_id], filter_string=f"tags.`fmnist.kind` = '{kind}'")
    return sorted(found, key=lambda run: run.info.start_time)


def _assert_all_killed() -> None:
    for kind in ("sweep", "study", "trial"):
        assert [run.info.status for run in _runs(kind)] == ["KILLED"]


def _figures(run: Any, folder: Path) -> dict[str, list[float]]:
    client = open_existing_store(build_default_uri(folder), "fashion-mnist").client
    names = ("loss", "val_loss", "val_accuracy")
    return {name: [entry.value for entry in client.get_metric_history(run.info.run_id, name)] for name in names}


@pytest.fixture(scope="module")
def undisturbed(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """The figures of the first trial where nothing interrupts it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = zygote.run(*LONG, "search.max_trials=1", cwd=folder)
    assert ended.returncode == 0, ended
    (run,) = _runs("trial", folder)
    return _figures(run, folder)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGTERM, 3600), (signal.SIGINT, 0)])
def test_one_signal_keeps_the_epoch_and_the_same_command_goes_on_from_it(
    number: signal.Signals,
    seconds: int,
    zygote: Zygote,
    trials: Steering,
    undisturbed: dict[str, list[float]],
    tmp_path: Path,
) -> None:
    often = f"checkpoint.every_seconds={seconds}"
    fresh = number == signal.SIGINT
    with _start_fresh(tmp_path, trials, often) if fresh else _start(zygote, tmp_path, trials, often) as running:
        running.wait_for(f"epoch 2/{EPOCHS}")
        running.send_signal(number)
        ended = running.end()
    assert ended.returncode == 130, ended
    assert "The same command continues: python -m fmnist_sweep" in ended.stdout
    _assert_all_killed()
    (killed,) = _runs("trial")
    client = open_existing_store(None, "fashion-mnist").client
    logged = len(client.get_metric_history(killed.info.run_id, "loss"))
    assert logged == 3  # the one under way was ended
    done = zygote.run(*LONG, cwd=tmp_path)
    assert done.returncode == 0, done
    assert f"on from epoch {logged}" in done.stdout
    first, second, third = _runs("trial")
    assert [run.info.status for run in (first, second, third)] == ["KILLED", "FINISHED", "FINISHED"]
    assert first.data.tags["fmnist.followed_by"] == second.info.run_id
    assert second.data.tags["fmnist.attempt"] == "2"
    steps = [entry.step for entry in client.get_metric_history(second.info.run_id, "loss")]
    assert steps == list(range(1, EPOCHS + 1))
    assert second.data.tags["fmnist.trial_id"] == "0000"
    assert _figures(second, tmp_path) == undisturbed


def test_a_second_signal_ends_it_at_once_and_closes_its_runs(zygote: Zygote, trials: Steering, tmp_path: Path) -> None:
    trials.hold(1, stuck=True)
    with _start(zygote, tmp_path, trials) as running:
        running.wait_for(f"epoch 1/{EPOCHS}")
        running.send_signal(signal.SIGINT)
        running.wait_for("Interrupted: stopping after this epoch")
        running.send_signal(signal.SIGINT)
        ended = running.end()
    assert ended.returncode == 130
    assert f"epoch 2/{EPOCHS}" not in ended.stdout
    _assert_all_killed()


@pytest.mark.slow
def test_a_closed_terminal_ends_it_in_good_order(trials: Steering, tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        command = [sys.executable, *process.SWEEP, *LONG]
        given = {**os.environ, **trials.environment, "COLUMNS": "200", "TERM": "xterm"}
        os.execve(sys.executable, command, given)
    try:
        seen = b""
        while b"val_accuracy" not in seen:
            seen += os.read(terminal, 4096)
        os.close(terminal)
        deadline = time.monotonic() + LIMIT_SECONDS
        ended, status = 0, 0
        while not ended and time.monotonic() < deadline:
            time.sleep(0.1)
            ended, status = os.waitpid(pid, os.WNOHANG)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(status) == 130
    _assert_all_killed()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        with suppress(OSError):
            os.close(descriptor)


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_end_the_sweep(pipe: tuple[int, int], tmp_path: Path) -> None:
    reading, writing = pipe
    with process.start(*process.SWEEP, *LONG, cwd=tmp_path, stdout=writing) as running:
        os.close(writing)
        seen = b""
        while f"epoch 1/{EPOCHS}".encode() not in seen:
            more = os.read(reading, 4096)
            assert more, running.end()
            seen += more
        os.close(reading)
        assert running.end().returncode == 0
    assert [run.info.status for run in _runs("trial")] == ["FINISHED"] * 2


def test_studies_are_listed_with_state_progress_and_the_command_that_continues(
    zygote: Zygote, warm_verb: Command, trials: Steering, tmp_path: Path
) -> None:
    assert "no study was begun" in warm_verb("studies", cwd=tmp_path).stdout
    with _start(zygote, tmp_path, trials) as running:
        running.wait_for(f"epoch 1/{EPOCHS}")
        listed = warm_verb("studies", cwd=tmp_path).stdout
        assert f"running: process {running.pid} on" in listed
        assert "0 of 2 trials" in listed
        running.send_signal(signal.SIGTERM)
        running.end()
    stopped = warm_verb("studies", cwd=tmp_path).stdout
    assert "interrupted; 0 of 2 trials" in stopped
    (command,) = [line.strip() for line in stopped.splitlines() if "python -m fmnist_sweep" in line]
    assert f"train.epochs={EPOCHS}" in command
    assert not list(tmp_path.glob("mlruns/*/mlflow.db-journal"))


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_named_and_the_trial_begins_anew(
    zygote: Zygote, trials: Steering, tmp_path: Path
) -> None:
    with _start(zygote, tmp_path, trials) as running:
        running.wait_for(f"epoch 2/{EPOCHS}")
        running.send_signal(signal.SIGTERM)
        assert running.end().returncode == 130
    (folder,) = list_study_folders(locate_state_folder(None))
    kept = sorted(folder.path.glob("checkpoints/*/*.npz"))
    assert kept
    given = replace(spec((*TINY, "train.epochs=2", "model.filters=61")), checkpoint_seconds=0)
    other = [event.checkpoint for event in trial.run_trial(given, splits()) if isinstance(event, EpochEnd)]
    for path in kept:
        path.write_bytes(other[-1] or b"")
    ended = zygote.run(*LONG, cwd=tmp_path)
    assert ended.returncode == 0, ended
    assert "cannot be used" in ended.stdout
    assert "begins anew" in ended.stdout
    assert sorted(run.info.status for run in _runs("trial")) == ["FINISHED", "FINISHED", "KILLED", "KILLED"]
