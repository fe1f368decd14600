"""The same command again: it continues, extends, returns at once, or begins anew.

Most trials only wait (tests/support/simulated.py): what counts is which of them are begun and what the store keeps.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode, StoreError
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.store import locate_state_folder, open_existing_store
from fmnist_sweep.training.events import TrialEvent, TrialFailure, TrialSpec
from tests.conftest import Command
from tests.support import process
from tests.support.simulated import simulated
from tests.support.small import FILTERS, SMALLEST

TINY = (*SMALLEST, FILTERS, "regularization=none", "train.epochs=1")
COMMAND = "python -m fmnist_sweep"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _train(*commands: tuple[str, ...]) -> tuple[ExitCode, str]:
    """The exit code of a sweep of one study for each of the commands, and what it showed."""
    shown = io.StringIO()
    jobs = [compose_job([*TINY, *overrides]) for overrides in commands]
    code = run_sweep(jobs, COMMAND, View(Console(file=shown, width=200), None))
    return code, shown.getvalue()


def _run(
    *commands: tuple[str, ...], seconds: float = 0.0, fate: Callable[[TrialSpec], TrialEvent | None] = lambda spec: None
) -> tuple[ExitCode, str]:
    """The same with trials that only wait."""
    with simulated(1, lambda spec: seconds, drawn=False, fate=fate):
        return _train(*commands)


def _runs(kind: str) -> list[Any]:
    store = open_existing_store(None, "fashion-mnist")
    found = store.client.search_runs([store.experiment_id], filter_string=f"tags.`fmnist.kind` = '{kind}'")
    return sorted(found, key=lambda run: run.info.start_time)


def _filters() -> list[str]:
    return [run.data.params["model.filters"] for run in _runs("trial")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "search",
    [
        ("search.max_trials=1",),
        ("search=grid", "model.filters.max_value=3"),
    ],
    ids=["random", "grid"],
)
def test_a_finished_study_returns_without_tensorflow_and_changes_nothing(
    search: tuple[str, ...], warm_sweep: Command, tmp_path: Path
) -> None:
    arguments = (*TINY, *search)
    assert warm_sweep(*arguments, cwd=tmp_path).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "mlruns").rglob("*") if path.is_file()}
    stored = _dump(tmp_path / "mlruns" / "mlflow.db")
    code = (
        "import sys; sys.argv = ['fmnist_sweep', *sys.argv[1:]]\n"
        "from fmnist_sweep.__main__ import main\n"
        "code = main()\n"
        "print('imported:', sorted({'tensorflow', 'mlflow', 'keras_tuner'} & set(sys.modules)), code)"
    )
    again = process.run("-c", code, *arguments, cwd=tmp_path)
    assert "Nothing to do" in again.stdout, again.stdout + again.stderr
    assert "imported: ['mlflow'] 0" in again.stdout  # which says what was deleted in the store meanwhile
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "mlruns").rglob("*") if path.is_file()}
    changed = {path for path in before if after.get(path) != before[path]}
    # Whoever reads a SQLite file may move what its log holds into it.
    assert {path for path in changed if path.suffix not in (".lock", ".db", ".db-shm", ".db-wal")} == set()
    assert _dump(tmp_path / "mlruns" / "mlflow.db") == stored


def _dump(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


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
    code, _ = _train(("search.max_trials=4", "tracking.keep_models=2"))
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


def test_a_folder_that_was_moved_is_not_begun_anew_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert _run(("search.max_trials=1",))[0] is ExitCode.DONE
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    with pytest.raises(StoreError, match=r"there/mlruns/mlflow\.db was moved or copied.*fmnist-sweep relocate"):
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
    assert _run(("search.max_trials=2", "search.max_minutes=0.001"), seconds=0.1)[0] is ExitCode.DONE
    assert "Nothing to do" in _run(("search.max_trials=2", "search.max_minutes=0.001"))[1]
    assert _run(("search.max_trials=2", "search.max_minutes=10"))[0] is ExitCode.DONE
    assert len(_runs("trial")) == 2


def test_a_study_that_failed_fast_stays_stopped_until_told_otherwise() -> None:
    def fail(spec: TrialSpec) -> TrialEvent:
        return TrialFailure(spec.trial_id, "it was to fail", "", [])

    arguments = ("search.max_trials=2",)
    assert _run((*arguments, "search.fail_fast=true"), fate=fail)[0] is ExitCode.ALL_FAILED
    code, shown = _run((*arguments, "search.fail_fast=true"), fate=fail)
    assert code is ExitCode.ALL_FAILED
    assert "Nothing to do" in shown
    assert len(_runs("trial")) == 1
    assert _run(arguments, fate=fail)[0] is ExitCode.ALL_FAILED
    assert len(_runs("trial")) == 2


def test_the_plan_says_what_it_costs_and_creates_nothing(tmp_path: Path) -> None:
    code, shown = _train(("plan=true", "search.max_trials=2"))
    assert code is ExitCode.DONE
    (line,) = [line for line in shown.splitlines() if line.startswith("expected:")]
    for word in ("2 trials", "2 epochs", "MB"):
        assert word in line
    assert list(tmp_path.iterdir()) == []


def test_the_bytes_of_a_model_carry_no_optimizer(tmp_path: Path) -> None:
    assert _train(("search.max_trials=1", "optimizer=adam"))[0] is ExitCode.DONE
    (run,) = _runs("trial")
    (file,) = (locate_state_folder(None) / "artifacts").rglob("model.keras")
    assert file.stat().st_size < 4 * run.data.metrics["parameters"] * 1.5 + 30_000
