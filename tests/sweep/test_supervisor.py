"""The loop of a study and the end of a sweep, on a real store, with trials of a few milliseconds or that only wait."""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode, StoreError
from fmnist_sweep.files import DamagedContent
from fmnist_sweep.report.kept_parts import KeptParts
from fmnist_sweep.report.page import ReportBody, build_report_body
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.journal import read_events
from fmnist_sweep.sweep import closing, context, delivery
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.text import format_epoch_count
from fmnist_sweep.tracking.runs import log_epochs
from fmnist_sweep.tracking.store import open_existing_store, open_store
from fmnist_sweep.training.evaluation import Evaluation, evaluate_predictions
from tests.support.simulated import simulated
from tests.support.small import SMALLEST

TINY = (*SMALLEST, "model.filters={tune: choice, values: [2,3,4]}", "regularization=none")
DIVERGES = ("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.learning_rate=10.0", "regularization.l2=1.0")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)


def _run(*overrides: str) -> tuple[ExitCode, str]:
    """The exit code of a sweep of one study, and what it showed."""
    shown = io.StringIO()
    code = run_sweep([compose_job([*TINY, *overrides])], "python -m fmnist_sweep", View(Console(file=shown), None))
    return code, shown.getvalue()


def _run_waiting(*overrides: str, seconds: float = 0.0) -> tuple[ExitCode, str]:
    """The same with trials that only wait, where it matters only which of them are begun."""
    with simulated(1, lambda spec: seconds, drawn=False):
        return _run(*overrides)


def _runs(kind: str) -> list[Any]:
    store = open_existing_store(None, "fashion-mnist")
    found = store.client.search_runs([store.experiment_id], filter_string=f"tags.`fmnist.kind` = '{kind}'")
    return sorted(found, key=lambda run: run.info.start_time)


def test_a_grid_trains_every_combination_once() -> None:
    code, _ = _run_waiting("search=grid", "train.epochs=1", "model.conv_layers={tune: int, min_value: 1, max_value: 2}")
    assert code is ExitCode.DONE
    trained = [(run.data.params["model.filters"], run.data.params["model.conv_layers"]) for run in _runs("trial")]
    assert sorted(trained) == [(filters, layers) for filters in "234" for layers in "12"]


def test_a_space_smaller_than_the_budget_is_said_beforehand_and_trained_whole() -> None:
    code, shown = _run_waiting("search=random", "search.max_trials=50", "train.epochs=1")
    assert code is ExitCode.DONE
    said = shown.index("holds only 3 different trials, fewer than search.max_trials=50")
    assert said < shown.index("trial 1:")
    assert sorted(run.data.params["model.filters"] for run in _runs("trial")) == ["2", "3", "4"]


def test_the_budget_of_trials_is_kept_and_one_too_small_to_go_by_results_is_said() -> None:
    code, shown = _run_waiting("search=tpe", "search.max_trials=2", "train.epochs=1")
    assert code is ExitCode.DONE
    assert len(_runs("trial")) == 2
    assert "its configurations are drawn at random until 8 trials have ended, then by results" in shown


def test_no_trial_begins_after_the_budget_of_minutes() -> None:
    code, _ = _run_waiting("search.max_trials=3", "search.max_minutes=0.001", "train.epochs=1", seconds=0.1)
    assert code is ExitCode.DONE
    assert len(_runs("trial")) == 1
    assert _runs("study")[0].info.status == "FINISHED"


def test_hyperband_trains_each_trial_for_its_own_epochs_and_none_twice() -> None:
    code, _ = _run_waiting(
        *("search=hyperband", "search.restart=false", "train.epochs=4", "search.factor=2"),
        "model.filters={tune: int, min_value: 1, max_value: 60}",
    )
    assert code is ExitCode.DONE
    trials = _runs("trial")
    for run in trials:
        assert run.info.run_name.endswith(format_epoch_count(int(run.data.params["train.epochs"])))
        store = open_existing_store(None, "fashion-mnist")
        steps = [entry.step for entry in store.client.get_metric_history(run.info.run_id, "val_loss")]
        assert steps == list(range(1, int(run.data.params["train.epochs"]) + 1))
    trained = Counter((run.data.params["model.filters"], run.data.params["train.epochs"]) for run in trials)
    assert set(trained.values()) == {1}
    assert {epochs for _, epochs in trained} == {"1", "2", "4"}
    below = {run.data.tags["fmnist.trial_id"]: run for run in trials}
    promoted = [run for run in trials if "fmnist.continues" in run.data.tags]
    for run in promoted:
        rung = below[run.data.tags["fmnist.continues"]]
        assert rung.data.params["model.filters"] == run.data.params["model.filters"]
        assert int(rung.data.params["train.epochs"]) < int(run.data.params["train.epochs"])
    assert promoted
    # The longest trials of the first bracket are the best of the shorter ones.
    by_filters = Counter(run.data.params["model.filters"] for run in trials)
    assert max(by_filters.values()) > 1


def test_bayesian_search_goes_past_its_random_points() -> None:
    code, _ = _run_waiting(
        "search=bayesian",
        "search.initial_points=2",
        "search.max_trials=4",
        "train.epochs=1",
        "optimizer.learning_rate={tune: float, min_value: 0.0001, max_value: 0.01, sampling: log}",
    )
    assert code is ExitCode.DONE
    trials = [(run.data.params["model.filters"], run.data.params["optimizer.learning_rate"]) for run in _runs("trial")]
    assert len(set(trials)) == 4


def test_a_study_whose_every_trial_failed_ends_with_its_own_exit_code() -> None:
    code, shown = _run(*DIVERGES, "train.batch_size=8", "train.epochs=1", "search=grid")
    assert code is ExitCode.ALL_FAILED
    assert "3 failed" in shown
    for run in _runs("trial"):
        assert run.info.status == "FAILED"
        assert "Diverged" in run.data.tags["fmnist.failure"]
        store = open_existing_store(None, "fashion-mnist")
        assert "Traceback" in Path(store.client.download_artifacts(run.info.run_id, "traceback.txt")).read_text()
    (study,) = _runs("study")
    assert study.info.status == "FAILED"
    assert study.data.metrics["trials_failed"] == 3
    assert "best_trial" not in study.data.tags
    assert _runs("sweep")[0].info.status == "FAILED"


def test_fail_fast_stops_at_the_first_failure() -> None:
    code, shown = _run(*DIVERGES, "train.batch_size=8", "train.epochs=1", "search=grid", "search.fail_fast=true")
    assert code is ExitCode.ALL_FAILED
    assert len(_runs("trial")) == 1
    assert "fail_fast" in shown


def test_a_plan_is_said_and_nothing_is_created(tmp_path: Path) -> None:
    code, shown = _run("plan=true", "search.max_trials=2")
    assert code is ExitCode.DONE
    assert "2 trials" in shown
    assert list(tmp_path.iterdir()) == []


def test_the_same_study_twice_in_one_sweep_is_trained_once() -> None:
    shown = io.StringIO()
    job = compose_job([*TINY, "train.epochs=1", "search.max_trials=1"])
    assert run_sweep([job, job], "python -m fmnist_sweep", View(Console(file=shown), None)) is ExitCode.DONE
    assert "is run once" in shown.getvalue()
    assert len(_runs("study")) == 1
    assert len(_runs("trial")) == 1


def test_an_error_of_ours_leaves_no_run_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(context, "evaluate_predictions", broken)
    with pytest.raises(ZeroDivisionError):
        _run("train.epochs=1", "search.max_trials=1")
    for kind in ("sweep", "study", "trial"):
        assert {run.info.status for run in _runs(kind)} == {"KILLED"}


def test_each_trial_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[object] = []

    def count(*arguments: Any) -> Evaluation:
        scored.append(arguments)
        return evaluate_predictions(*arguments)

    monkeypatch.setattr(context, "evaluate_predictions", count)
    _run("train.epochs=1", "search.max_trials=2")
    assert len(_runs("trial")) == len(scored) == 2


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_each_set_of_trials_is_reported_once(seeds: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[set[str]] = []

    def build(findings: Findings, parts: KeptParts) -> ReportBody:
        reported.append({trial.run_id for trial in findings.trials})
        return build_report_body(findings, parts)

    monkeypatch.setattr(closing, "build_report_body", build)
    jobs = [compose_job([*TINY, "train.epochs=1", "search.max_trials=1", f"seed={seed}"]) for seed in seeds]
    with simulated(1, lambda spec: 0.0, drawn=False):
        assert run_sweep(jobs, "python -m fmnist_sweep", View(Console(file=io.StringIO()), None)) is ExitCode.DONE
    trials = [{run.info.run_id} for run in _runs("trial")]
    assert reported == (trials if len(seeds) == 1 else [*trials, set().union(*trials)])
    for kind in ("study", "sweep"):
        assert all(
            (Path(run.info.artifact_uri.removeprefix("file://")) / "report.html").is_file() for run in _runs(kind)
        )


def test_an_error_while_the_sweep_opens_leaves_no_run_running(monkeypatch: pytest.MonkeyPatch) -> None:
    from fmnist_sweep.sweep import session

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(session, "log_datasets", broken)
    with pytest.raises(ZeroDivisionError):
        _run("train.epochs=1", "search.max_trials=1")
    assert [run.info.status for run in _runs("sweep")] == ["KILLED"]


def test_a_failed_trial_leaves_the_command_that_repeats_it() -> None:
    _run(*DIVERGES, "train.batch_size=8", "train.epochs=1", "search=grid", "search.fail_fast=true")
    store = open_existing_store(None, "fashion-mnist")
    (run,) = _runs("trial")
    files = {entry.path for entry in store.client.list_artifacts(run.info.run_id)}
    assert files == {"config.yaml", "overrides.txt", "traceback.txt"}


def test_a_sweep_runs_without_git_and_without_a_user_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import getpass

    from fmnist_sweep.training.environment import read_source_commit

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setenv("PATH", str(tmp_path))
    read_source_commit.cache_clear()
    try:
        assert _run("train.epochs=1", "search.max_trials=1")[0] is ExitCode.DONE
    finally:
        read_source_commit.cache_clear()
    (run,) = _runs("trial")
    assert run.data.tags["fmnist.git"] == "none"
    assert run.data.tags["mlflow.user"] == str(os.getuid())


def test_credentials_in_an_address_are_not_kept() -> None:
    from fmnist_sweep.masking import mask_credentials

    command = "python -m fmnist_sweep tracking.uri=http://me:secret@host:5000 seed=1"
    assert mask_credentials(command) == "python -m fmnist_sweep tracking.uri=http://***@host:5000 seed=1"


@pytest.mark.parametrize("character", ["?", "%"])
def test_a_folder_that_an_address_cannot_name_is_refused(tmp_path: Path, character: str) -> None:
    folder = tmp_path / f"a{character}b"
    folder.mkdir()
    os.chdir(folder)
    with pytest.raises(StoreError, match="another meaning in its address"):
        open_store(None, "fashion-mnist")
    assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == [folder]


def test_a_result_damaged_while_it_waits_costs_no_other_trial_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away, evaluated = True, 0

    def log_unless_away(*arguments: Any) -> None:
        if is_away:
            raise ConnectionError("no answer")
        log_epochs(*arguments)

    def evaluate_late(*arguments: Any) -> Evaluation:
        """While the second result is read, the store returns and the file of the first one, which waits, is lost."""
        nonlocal is_away, evaluated
        evaluated += 1
        if evaluated == 2:
            is_away = False
            min(tmp_path.glob("mlruns/studies/*/results/*.npz")).unlink()
            time.sleep(0.1)
        return evaluate_predictions(*arguments)

    monkeypatch.setattr(delivery, "log_epochs", log_unless_away)
    monkeypatch.setattr(delivery, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(delivery, "_FIRST_DELAY", 0.05)
    grid = ("search=grid", "search.max_trials=2", "train.epochs=1")
    with pytest.raises(StoreError, match="the tracking store is away"):
        _run_waiting(*grid)
    assert len(list(tmp_path.glob("mlruns/studies/*/results/*.npz"))) == 2
    with monkeypatch.context() as late:
        late.setattr(context, "evaluate_predictions", evaluate_late)
        with suppress(DamagedContent):  # of the first trial: the next command says so and trains it again
            _run_waiting(*grid)
    assert _run_waiting(*grid)[0] is ExitCode.DONE
    (journal,) = tmp_path.glob("mlruns/studies/*/journal.db")
    lost = [event.body["trial_id"] for event in read_events(journal) if event.kind == "lost"]
    assert lost == ["0000"]
