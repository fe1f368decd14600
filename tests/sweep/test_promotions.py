"""A study of the oracle that promotes asynchronously (ASHA), on a real store, with trials of a few milliseconds."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.store import open_existing_store
from tests.support.simulated import simulated
from tests.support.small import FILTERS, SMALLEST

ASHA = (*SMALLEST, FILTERS, "regularization=none", "search=asha", "train.epochs=4", "search.factor=2")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)


def _run(*overrides: str) -> tuple[ExitCode, str]:
    """The exit code of a sweep of one study, and what it showed."""
    shown = io.StringIO()
    code = run_sweep([compose_job(overrides)], "python -m fmnist_sweep", View(Console(file=shown, width=200), None))
    return code, shown.getvalue()


def _run_waiting(*overrides: str) -> tuple[ExitCode, str]:
    """The same with trials that only wait, where it matters only which of them are begun."""
    with simulated(1, lambda spec: 0.0, drawn=False):
        return _run(*overrides)


def _read_record() -> StudyRecord:
    (folder,) = list_study_folders(Path("mlruns"))
    return folder.read_record()


def _read_curves(experiment: str = "fashion-mnist") -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Validation loss and learning rate of each epoch, by filters and epochs of the trial."""
    store = open_existing_store(None, experiment)
    runs: list[Any] = store.client.search_runs([store.experiment_id], filter_string="tags.`fmnist.kind` = 'trial'")
    return {
        (run.data.params["model.filters"], run.data.params["train.epochs"]): [
            (loss.value, rate.value)
            for loss, rate in zip(
                store.client.get_metric_history(run.info.run_id, "val_loss"),
                store.client.get_metric_history(run.info.run_id, "learning_rate"),
                strict=True,
            )
        ]
        for run in runs
    }


def test_a_budget_of_trials_is_one_of_configurations_and_may_be_raised() -> None:
    assert _run_waiting(*ASHA, "search.max_trials=4")[0] is ExitCode.DONE
    record = _read_record()
    assert record.configuration_count == 4
    assert Counter(history.proposal.epochs for history in record.trials.values())[4] >= 1
    assert record.about["planned"] is None, "a number of trials that is an estimate would be missed in lists"
    before = list(record.trials)
    assert "already done" in _run_waiting(*ASHA, "search.max_trials=4")[1]
    assert "already done" in _run_waiting(*ASHA, "search.max_trials=2")[1]
    assert list(_read_record().trials) == before
    for configurations in (5, 6):  # one more each time, whatever number of promotions was expected
        assert _run_waiting(*ASHA, f"search.max_trials={configurations}")[0] is ExitCode.DONE
        assert _read_record().configuration_count == configurations
    code, shown = _run_waiting(*ASHA, "search.max_trials=7")
    assert code is ExitCode.DONE
    assert "continued" in shown
    record = _read_record()
    assert record.configuration_count == 7
    assert list(record.trials)[: len(before)] == before
    assert "already done" in _run_waiting(*ASHA, "search.max_trials=7")[1]


@pytest.mark.slow
def test_a_promoted_trial_equals_one_that_was_trained_to_the_end_at_once_and_no_checkpoint_stays() -> None:
    schedule = ("train=one_cycle", "train.epochs=4", "executor=in_process")
    code, _ = _run(*ASHA, *schedule, "search.restart=false", "search.max_trials=3", "tracking.experiment=rungs")
    assert code is ExitCode.DONE
    assert not list(Path("mlruns").rglob("checkpoints/*"))
    store = open_existing_store(None, "rungs")
    (longest,) = store.client.search_runs(
        [store.experiment_id], filter_string="tags.`fmnist.kind` = 'trial' and params.`train.epochs` = '4'"
    )
    assert "fmnist.continues" in longest.data.tags
    filters = longest.data.params["model.filters"]
    curve = [
        (loss.value, rate.value)
        for loss, rate in zip(
            store.client.get_metric_history(longest.info.run_id, "val_loss"),
            store.client.get_metric_history(longest.info.run_id, "learning_rate"),
            strict=True,
        )
    ]
    _run(*SMALLEST, "regularization=none", *schedule, f"model.filters={filters}")
    assert _read_curves() == {(filters, "4"): curve}
    assert len({rate for _, rate in curve}) > 1


@pytest.mark.slow
def test_each_rung_equals_a_training_of_so_many_epochs() -> None:
    schedule = ("train=one_cycle", "train.epochs=4", "executor=in_process")
    code, _ = _run(*ASHA, *schedule, "search.max_trials=3", "tracking.experiment=rungs")
    assert code is ExitCode.DONE
    assert not list(Path("mlruns").rglob("checkpoints/*"))
    store = open_existing_store(None, "rungs")
    runs: list[Any] = store.client.search_runs(
        [store.experiment_id], filter_string="tags.`fmnist.kind` = 'trial'", order_by=["params.`train.epochs`"]
    )
    epochs = {run.data.tags["fmnist.trial_id"]: run.data.params["train.epochs"] for run in runs}
    below = {
        run.data.params["train.epochs"]: epochs.get(run.data.tags.get("fmnist.promoted_from", ""), "") for run in runs
    }
    assert below == {"1": "", "2": "1", "4": "2"}
    assert not any("fmnist.continues" in run.data.tags for run in runs)
    curves = _read_curves("rungs")
    filters = runs[-1].data.params["model.filters"]
    for longest in ("1", "2", "4"):
        _run(*SMALLEST, "regularization=none", *schedule, f"train.epochs={longest}", f"model.filters={filters}")
    assert _read_curves() == {key: curve for key, curve in curves.items() if key[0] == filters}


def test_a_study_too_small_to_promote_trains_its_best_to_the_end() -> None:
    code, shown = _run_waiting(*ASHA, "search.factor=3", "search.max_trials=2")
    assert code is ExitCode.DONE
    assert "4 trials" in shown  # two configurations, one of them in three rungs
    epochs = [history.proposal.epochs for history in _read_record().trials.values()]
    assert epochs == [1, 1, 3, 4]
