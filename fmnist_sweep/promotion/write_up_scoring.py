"""The models of the write-ups scored on the test images, once each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from fmnist_sweep.data import DataConfig, Split
from fmnist_sweep.errors import StoreError
from fmnist_sweep.report.documented.recipe_results import read_validation_predictions
from fmnist_sweep.report.documented.recipe_runs import RecipeRun, WriteUpRuns
from fmnist_sweep.tracking.models import UnusableModel
from fmnist_sweep.tracking.names import DATA_TAG, TEST_OPENED_TAG
from fmnist_sweep.tracking.scoring import CheckedModel, fetch_checked_model, score_on_test_images
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.tracking.trial_data import load_matching_splits


def score_write_ups(
    store: Store,
    runs_by_write_up: Sequence[WriteUpRuns],
    ledger: Path,
    say: Callable[[str], None],
) -> list[RecipeRun]:
    """Score the runs that have not seen the test images on them, and return these runs.

    Each of these studies is a single trial, so that nothing is chosen by a test accuracy. Before the test images are
    opened, the saved models must predict what was scored on the validation images. The images are opened once for all
    runs, with a line in the ledger. Runs on drawn images are passed over. Errors: DataError, StoreError.
    """
    runs = {run.trial.run_id: run for write_up_runs in runs_by_write_up for run in write_up_runs.all_runs}
    pending_runs = [run for run in runs.values() if not run.is_drawn and TEST_OPENED_TAG not in run.trial.tags]
    if not pending_runs:
        return []
    data = next(iter(runs_by_write_up[0].jobs.values())).config.data
    data = data.model_copy(update={"fallback": None})
    validation = _load_validation_split(data, pending_runs)
    with tempfile.TemporaryDirectory() as folder:
        models = []
        for run in pending_runs:
            say(f"{run.title}: checking that its saved model predicts what was scored")
            models.append(_fetch_checked_model(store, run, validation, Path(folder, run.trial.run_id)))
        reason = f"fmnist-sweep documented test: {', '.join(run.title for run in pending_runs)}"
        score_on_test_images(store, models, data, reason=reason, ledger=ledger, say=say)
    return pending_runs


def _load_validation_split(data: DataConfig, runs: Sequence[RecipeRun]) -> Split:
    splits = [load_matching_splits(data, run.trial.tags[DATA_TAG], run.title) for run in runs]
    return splits[0].validation


def _fetch_checked_model(store: Store, run: RecipeRun, validation: Split, folder: Path) -> CheckedModel:
    predictions = read_validation_predictions(store, run)
    try:
        return fetch_checked_model(store, run.trial, run.title, validation, predictions, folder)
    except UnusableModel as error:
        raise StoreError(str(error)) from None
