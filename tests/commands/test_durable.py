"""The same command again: it continues, extends, returns at once, or begins anew; Ctrl-C leaves it in good order."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode, StoreError
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.store import build_default_uri, locate_state_folder, open_existing_store
from fmnist_sweep.training.events import EpochEnd
from tests.conftest import Command

TINY = (
    *("data=drawn", "data.images=200", "train.precision=float32", "train.batch_size=64", "regularization=none"),
    *("model.filters={tune: int, min_value: 2, max_value: 60}", "model.conv_layers=1", "model.dense_units=8"),
    "train.epochs=1",
)
COMMAND = "python -m fmnist_sweep"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)


def _run(*commands: tuple[str, ...]) -> tuple[ExitCode, str]:
    """The exit code of a sweep of one study for each of the commands, and what it showed."""
    shown = io.StringIO()
    jobs = [compose_job([*TINY, *overrides]) for overrides in commands]
    code = run_sweep(jobs, COMMAND, View(Console(file=shown, width=200), None))
    return code, shown.getvalue()


def _runs(kind: str) -> list[Any]:
    store = open_existing_store(None, "fashion-mnist")
    found = store.client.search_runs([store.experiment_id], filter_string=f"tags.`fmnist.kind` = '{kind}'")
    return sorted(found, key=lambda run: run.info.start_time)


def _filters() -> list[str]:
    return [run.data.params["model.filters"] for run in _runs("trial")]


@pytest.mark.parametrize("search", [("search.max_trials=1",), ("search=grid", "model.filters.max_value=3")])
def test_a_finished_study_returns_without_tensorflow_or_the_store(
    search: tuple[str, ...], sweep: Command, tmp_path: Path
) -> None:
    arguments = (*TINY, *search)
    assert sweep(*arguments, cwd=tmp_path).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "mlruns").rglob("*") if path.is_file()}
    code = (
        "import sys; sys.argv = ['fmnist_sweep', *sys.argv[1:]]\n"
        "from fmnist_sweep.__main__ import main\n"
        "code = main()\n"
        "print('imported:', sorted({'tensorflow', 'mlflow', 'keras_tuner'} & set(sys.modules)), code)"
    )
    again = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Nothing to do" in again.stdout, again.stdout + again.stderr
    assert "imported: [] 0" in again.stdout
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "mlruns").rglob("*") if path.is_file()}
    assert {path for path in before if after.get(path) != before[path] and path.suffix != ".lock"} == set()


def test_a_larger_budget_trains_only_the_difference() -> None:
    whole, _ = _run(("search.max_trials=3", "tracking.experiment=whole"))
    assert whole is ExitCode.DONE
    assert _run(("search.max_trials=1",))[0] is ExitCode.DONE
    first = _runs("trial")[0]
    code, shown = _run(("search.max_trials=3",))
    assert code is ExitCode.DONE
    assert "continued: 1 trial ended before" in shown
    runs = _runs("trial")
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert runs[0].info.run_id == first.info.run_id
    assert runs[0].info.end_time == first.info.end_time
    store = open_existing_store(None, "whole")
    planned = store.client.search_runs([store.experiment_id], "tags.`fmnist.kind` = 'trial'")
    assert _filters() == [run.data.params["model.filters"] for run in reversed(planned)]
    (study,), (sweep_run,) = _runs("study"), _runs("sweep")
    assert study.info.status == sweep_run.info.status == "FINISHED"
    assert study.data.metrics["trials_finished"] == sweep_run.data.metrics["trials_finished"] == 3
    client = open_existing_store(None, "fashion-mnist").client
    history = client.get_metric_history(study.info.run_id, "trials_finished")
    assert [(entry.step, entry.value) for entry in history] == [(0, 1), (1, 3)]


def test_a_smaller_budget_is_a_finished_study() -> None:
    assert _run(("search.max_trials=2",))[0] is ExitCode.DONE
    assert "Nothing to do" in _run(("search.max_trials=1",))[1]
    assert len(_runs("trial")) == 2


def test_fresh_begins_anew_and_never_touches_the_old_one() -> None:
    assert _run(("search.max_trials=2",))[0] is ExitCode.DONE
    state = locate_state_folder(None)
    (old,) = list_study_folders(state)
    content = {path: path.read_bytes() for path in old.path.rglob("*") if path.suffix == ".db"}
    code, _ = _run(("search.max_trials=1", "fresh=true"))
    assert code is ExitCode.DONE
    assert {path: path.read_bytes() for path in content} == content
    assert [folder.name for folder in list_study_folders(state)] == [old.name, f"{old.name}-2"]
    trials = _runs("trial")
    assert len(trials) == 3
    assert trials[2].data.params == trials[0].data.params
    assert trials[2].data.metrics["val_loss"] == trials[0].data.metrics["val_loss"]
    assert len(_runs("study")) == len(_runs("sweep")) == 2
    # From now on the plain command continues the fresh one.
    assert _run(("search.max_trials=2",))[0] is ExitCode.DONE
    assert len(_runs("trial")) == 4
    assert {path: path.read_bytes() for path in content} == content


def test_anything_that_matters_makes_another_study() -> None:
    assert _run(("search.max_trials=1",))[0] is ExitCode.DONE
    assert _run(("search.max_trials=1", "seed=2"))[0] is ExitCode.DONE
    assert len({run.data.tags["fmnist.study_id"] for run in _runs("trial")}) == 2


def test_a_study_of_an_earlier_sweep_is_shared_with_a_new_one_and_not_trained_again() -> None:
    both = ("optimizer=rmsprop", "search.max_trials=1"), ("optimizer=adam", "search.max_trials=1")
    assert _run(*both)[0] is ExitCode.DONE
    third = ("optimizer=adamw", "search.max_trials=1")
    code, shown = _run(both[0], third)
    assert code is ExitCode.DONE
    assert "already done, 1 trial" in shown
    assert len(_runs("trial")) == 3
    first, second = _runs("sweep")
    assert len(first.data.tags["fmnist.studies"].split()) == len(second.data.tags["fmnist.studies"].split()) == 2
    assert second.data.metrics["trials_finished"] == 2
    parents = [run.data.tags["mlflow.parentRunId"] for run in _runs("study")]
    assert parents == [first.info.run_id, first.info.run_id, second.info.run_id]


def test_extending_one_study_of_a_sweep_goes_on_below_that_sweep() -> None:
    assert _run(("optimizer=rmsprop", "search.max_trials=1"), ("optimizer=adam", "search.max_trials=1"))[0] == 0
    assert _run(("optimizer=adam", "search.max_trials=2"))[0] is ExitCode.DONE
    (sweep_run,) = _runs("sweep")
    assert sweep_run.data.metrics["trials_finished"] == 3
    assert sweep_run.info.status == "FINISHED"


def test_another_place_for_the_runs_is_a_record_of_its_own() -> None:
    assert _run(("search.max_trials=1",))[0] is ExitCode.DONE
    assert _run(("search.max_trials=1", "tracking.experiment=other"))[0] is ExitCode.DONE
    store = open_existing_store(None, "other")
    assert len(store.client.search_runs([store.experiment_id])) == 3
    assert len(_runs("trial")) == 1


def test_only_the_best_models_are_kept_and_all_figures() -> None:
    code, _ = _run(("search.max_trials=4", "tracking.keep_models=2"))
    assert code is ExitCode.DONE
    store = open_existing_store(None, "fashion-mnist")
    runs = _runs("trial")
    assert len(runs) == 4
    scores = sorted((run.data.metrics["best_val_accuracy"] for run in runs), reverse=True)
    kept = store.client.search_logged_models([store.experiment_id])
    assert len(kept) == 2
    accuracy = {run.info.run_id: run.data.metrics["best_val_accuracy"] for run in runs}
    assert sorted((accuracy[model.source_run_id] for model in kept), reverse=True) == scores[:2]
    for run in runs:
        names = {entry.path for entry in store.client.list_artifacts(run.info.run_id)}
        assert {"curves.png", "confusion_matrix.json", "predictions.npz"} <= names
        is_kept = any(model.source_run_id == run.info.run_id for model in kept)
        assert ("fmnist.model" in run.data.tags) is not is_kept
    files = list((locate_state_folder(None) / "artifacts").rglob("model.keras"))
    assert len(files) == 2


def test_a_finished_study_leaves_no_checkpoint_and_no_result_behind() -> None:
    assert _run(("search.max_trials=2", "train.epochs=2"))[0] is ExitCode.DONE
    (folder,) = list_study_folders(locate_state_folder(None))
    left = [path for path in folder.path.rglob("*") if path.is_file() and path.suffix == ".npz"]
    assert left == []


def test_a_checkpoint_of_another_model_is_named_and_the_trial_begins_anew(tmp_path: Path) -> None:
    from fmnist_sweep.training import trial
    from tests.support.small import spec, splits

    process = _started(tmp_path)
    try:
        _until(process, "epoch 2/12")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    finally:
        process.kill()
    (folder,) = list_study_folders(locate_state_folder(None))
    kept = sorted(folder.path.glob("checkpoints/*/*.npz"))
    assert kept
    given = replace(spec((*TINY[:-1], "train.epochs=2", "model.filters=61")), checkpoint_seconds=0)
    other = [event.checkpoint for event in trial.run_trial(given, splits()) if isinstance(event, EpochEnd)]
    for path in kept:
        path.write_bytes(other[-1] or b"")
    code, shown = _run((*LONG[len(TINY) - 1 :],))
    assert code is ExitCode.DONE
    assert "cannot be used" in shown
    assert "begins anew" in shown
    assert sorted(run.info.status for run in _runs("trial")) == ["FINISHED", "FINISHED", "KILLED", "KILLED"]


def test_a_run_that_somebody_deletes_is_missed_by_nobody(tmp_path: Path) -> None:
    arguments = ("tracking.keep_models=1", "train.epochs=2")
    assert _run((*arguments, "search.max_trials=1"))[0] is ExitCode.DONE
    (first,) = _runs("trial")
    open_existing_store(None, "fashion-mnist").client.delete_run(first.info.run_id)
    assert _run((*arguments, "search.max_trials=5"))[0] is ExitCode.DONE
    assert [run.info.status for run in _runs("trial")] == ["FINISHED"] * 4
    assert len(list((locate_state_folder(None) / "artifacts").rglob("model.keras"))) == 1


def test_a_deleted_study_run_is_said_in_one_sentence() -> None:
    assert _run(("search.max_trials=1",))[0] is ExitCode.DONE
    (study,) = _runs("study")
    open_existing_store(None, "fashion-mnist").client.delete_run(study.info.run_id)
    with pytest.raises(StoreError, match=f"no longer has run {study.info.run_id}.*fresh=true"):
        _run(("search.max_trials=2",))
    assert _run(("search.max_trials=2", "fresh=true"))[0] is ExitCode.DONE


def test_fewer_models_are_kept_when_that_is_asked_for_later() -> None:
    assert _run(("search.max_trials=3",))[0] is ExitCode.DONE
    assert _run(("search.max_trials=3", "tracking.keep_models=1"))[0] is ExitCode.DONE
    assert len(list((locate_state_folder(None) / "artifacts").rglob("model.keras"))) == 1
    assert len(_runs("trial")) == 3
    assert "Nothing to do" in _run(("search.max_trials=3", "tracking.keep_models=1"))[1]


def test_a_folder_that_was_moved_is_not_begun_anew_silently(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    os.chdir(tmp_path / "here")
    assert _run(("search.max_trials=1",))[0] is ExitCode.DONE
    (tmp_path / "here").rename(tmp_path / "there")
    os.chdir(tmp_path / "there")
    with pytest.raises(StoreError, match=r"here/mlruns/mlflow\.db, and the folder was moved.*fresh=true"):
        _run(("search.max_trials=1",))


def test_a_lost_journal_is_said_and_fresh_is_a_way_out(tmp_path: Path) -> None:
    grid = ("search=grid", "model.filters.max_value=3")
    assert _run(grid)[0] is ExitCode.DONE
    (folder,) = list_study_folders(locate_state_folder(None))
    (folder.path / "results").mkdir(exist_ok=True)
    (folder.path / "journal.db").unlink()
    with pytest.raises(StoreError, match=r"journal\.db is damaged \(it is gone\)"):
        _run(grid)
    assert _run((*grid, "fresh=true"))[0] is ExitCode.DONE


def test_minutes_are_those_of_all_sessions() -> None:
    assert _run(("search.max_trials=2", "search.max_minutes=0.001"))[0] is ExitCode.DONE
    assert "Nothing to do" in _run(("search.max_trials=2", "search.max_minutes=0.001"))[1]
    assert _run(("search.max_trials=2", "search.max_minutes=10"))[0] is ExitCode.DONE
    assert len(_runs("trial")) == 2


def test_a_study_that_failed_fast_stays_stopped_until_told_otherwise() -> None:
    diverges = ("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.learning_rate=10.0", "regularization.l2=1.0")
    arguments = (*diverges, "train.batch_size=8", "search.max_trials=2")
    assert _run((*arguments, "search.fail_fast=true"))[0] is ExitCode.ALL_FAILED
    code, shown = _run((*arguments, "search.fail_fast=true"))
    assert code is ExitCode.ALL_FAILED
    assert "Nothing to do" in shown
    assert _run(arguments)[0] is ExitCode.ALL_FAILED
    assert len(_runs("trial")) == 2


def test_the_plan_says_what_it_costs_and_creates_nothing(tmp_path: Path) -> None:
    code, shown = _run(("plan=true", "search.max_trials=2"))
    assert code is ExitCode.DONE
    (line,) = [line for line in shown.splitlines() if line.startswith("expected:")]
    for word in ("2 trials", "2 epochs", "MB"):
        assert word in line
    assert list(tmp_path.iterdir()) == []


LONG = (*TINY[:-1], "data.images=2000", "train.epochs=12", "search.max_trials=2", "regularization=dropout")


def _started(folder: Path, *more: str) -> subprocess.Popen[str]:
    # Where tests run in the background, a shell has them ignore Ctrl-C, and so would this process.
    return subprocess.Popen(
        [sys.executable, "-m", "fmnist_sweep", *LONG, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _until(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"the command ended before it said {word!r}")


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGINT, 0), (signal.SIGTERM, 3600)])
def test_one_signal_keeps_the_epoch_and_the_same_command_goes_on_from_it(
    number: signal.Signals, seconds: int, sweep: Command, tmp_path: Path
) -> None:
    process = _started(tmp_path, f"checkpoint.every_seconds={seconds}")
    try:
        _until(process, "epoch 2/12")
        process.send_signal(number)
        rest = process.communicate(timeout=120)[0]
    finally:
        process.kill()
    assert process.returncode == 130, rest
    assert "The same command continues: python -m fmnist_sweep" in rest
    for kind in ("sweep", "study", "trial"):
        assert [run.info.status for run in _runs(kind)] == ["KILLED"]
    (killed,) = _runs("trial")
    store = open_existing_store(None, "fashion-mnist")
    logged = len(store.client.get_metric_history(killed.info.run_id, "loss"))
    assert 2 <= logged < 12
    done = sweep(*LONG, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"on from epoch {logged}" in done.stdout
    first, second, third = _runs("trial")
    assert [run.info.status for run in (first, second, third)] == ["KILLED", "FINISHED", "FINISHED"]
    assert first.data.tags["fmnist.followed_by"] == second.info.run_id
    assert second.data.tags["fmnist.attempt"] == "2"
    steps = [entry.step for entry in store.client.get_metric_history(second.info.run_id, "loss")]
    assert steps == list(range(1, 13))
    other = tmp_path / "undisturbed"
    other.mkdir()
    assert sweep(*LONG, cwd=other).returncode == 0
    whole = open_existing_store(build_default_uri(other), "fashion-mnist")
    same = f"tags.`fmnist.kind` = 'trial' and tags.`fmnist.trial_id` = '{second.data.tags['fmnist.trial_id']}'"
    (reference,) = whole.client.search_runs([whole.experiment_id], same)
    for name in ("loss", "val_loss", "val_accuracy"):
        values = [entry.value for entry in whole.client.get_metric_history(reference.info.run_id, name)]
        assert [entry.value for entry in store.client.get_metric_history(second.info.run_id, name)] == values


def test_a_second_signal_ends_it_at_once_and_closes_its_runs(tmp_path: Path) -> None:
    process = _started(tmp_path)
    try:
        _until(process, "epoch 1/12")
        process.send_signal(signal.SIGINT)
        _until(process, "Interrupted: stopping after this epoch")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    for kind in ("sweep", "study", "trial"):
        assert [run.info.status for run in _runs(kind)] == ["KILLED"]


def test_a_closed_terminal_ends_it_in_good_order(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        command = [sys.executable, "-m", "fmnist_sweep", *LONG]
        os.execve(sys.executable, command, {**os.environ, "COLUMNS": "200", "TERM": "xterm"})
    try:
        seen = b""
        while b"val_accuracy" not in seen:
            seen += os.read(terminal, 4096)
        os.close(terminal)
        deadline = time.monotonic() + 120
        ended, status = 0, 0
        while not ended and time.monotonic() < deadline:
            time.sleep(0.1)
            ended, status = os.waitpid(pid, os.WNOHANG)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(status) == 130
    for kind in ("sweep", "study", "trial"):
        assert [run.info.status for run in _runs(kind)] == ["KILLED"]


def test_a_reader_that_goes_away_does_not_end_the_sweep(tmp_path: Path) -> None:
    process = _started(tmp_path)
    try:
        _until(process, "epoch 1/12")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(240) == 0
    finally:
        process.kill()
    assert [run.info.status for run in _runs("trial")] == ["FINISHED"] * 2


def test_studies_are_listed_with_state_progress_and_the_command_that_continues(verb: Command, tmp_path: Path) -> None:
    assert "no study was begun" in verb("studies", cwd=tmp_path).stdout
    process = _started(tmp_path)
    try:
        _until(process, "epoch 1/12")
        running = verb("studies", cwd=tmp_path).stdout
        assert f"running: process {process.pid} on" in running
        assert "0 of 2 trials" in running
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    finally:
        process.kill()
    stopped = verb("studies", cwd=tmp_path).stdout
    assert "interrupted; 0 of 2 trials" in stopped
    (command,) = [line.strip() for line in stopped.splitlines() if "python -m fmnist_sweep" in line]
    assert "train.epochs=12" in command
    assert not list(tmp_path.glob("mlruns/*/mlflow.db-journal"))


def test_the_bytes_of_a_model_carry_no_optimizer(tmp_path: Path) -> None:
    assert _run(("search.max_trials=1", "optimizer=adam"))[0] is ExitCode.DONE
    (run,) = _runs("trial")
    (file,) = (locate_state_folder(None) / "artifacts").rglob("model.keras")
    assert file.stat().st_size < 4 * run.data.metrics["parameters"] * 1.5 + 30_000
