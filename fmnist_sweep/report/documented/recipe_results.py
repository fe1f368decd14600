"""The results of the runs that reproduce a write-up's recipes, read whole before anything is judged or rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.comparison import Repeats
from fmnist_sweep.analysis.mistakes import score_classes
from fmnist_sweep.data import LABELS
from fmnist_sweep.errors import StoreError
from fmnist_sweep.report.documented.recipe_runs import RecipeRun, WriteUpRuns
from fmnist_sweep.text import format_mean
from fmnist_sweep.tracking.names import TEST_OPENED_TAG
from fmnist_sweep.tracking.prediction_files import Predictions, TestPredictions, read_intact_predictions
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.tracking.test_predictions import read_test_predictions
from fmnist_sweep.tracking.trials import read_curves
from fmnist_sweep.training.evaluation import count_confusion


@dataclass(frozen=True)
class RunResult:
    """What one run came to.

    history: metrics by epoch. test: predictions of its best epoch on the test images; None while they were not opened
    for it. validation_predictions: of its best epoch; None where they are gone from the store, or damaged there.
    """

    run: RecipeRun
    history: Sequence[dict[str, float]] = field(repr=False)
    validation_predictions: Predictions | None = field(repr=False)
    test: TestPredictions | None = field(repr=False)

    @property
    def validation(self) -> Predictions:
        """Predictions of its best epoch on the validation images. Errors: StoreError where they are gone or damaged."""
        return _refuse_missing(self.run, self.validation_predictions)

    def select_predictions(self, is_tested: bool) -> Predictions:
        """Predictions on the test images where `is_tested` and they were opened, else on the validation images."""
        return self.test if is_tested and self.test is not None else self.validation


def read_results(store: Store, recipe_runs: WriteUpRuns) -> dict[str, RecipeResults]:
    """Read the results of a write-up's runs, by recipe. Errors: StoreError."""
    return {
        recipe: RecipeResults(recipe, [_read_run_result(store, run) for run in runs])
        for recipe, runs in recipe_runs.runs.items()
    }


def _read_run_result(store: Store, run: RecipeRun) -> RunResult:
    run_id = run.trial.run_id
    test = read_test_predictions(store, run_id, run.title) if TEST_OPENED_TAG in run.trial.tags else None
    return RunResult(run, read_curves(store, run_id), read_intact_predictions(store, run_id), test)


def read_validation_predictions(store: Store, run: RecipeRun) -> Predictions:
    """Read a run's predictions on the validation images. Errors: StoreError where they are gone or damaged."""
    return _refuse_missing(run, read_intact_predictions(store, run.trial.run_id))


def _refuse_missing(run: RecipeRun, predictions: Predictions | None) -> Predictions:
    if predictions is None:
        raise StoreError(f"{run.title} has no readable predictions.npz any more: delete that run and train it again.")
    return predictions


@dataclass(frozen=True)
class RecipeResults:
    """The results of the runs of one recipe."""

    recipe: str
    runs: Sequence[RunResult]

    @cached_property
    def is_tested(self) -> bool:
        """Whether every run has seen the test images."""
        return bool(self.runs) and all(run.test is not None for run in self.runs)

    def select_predictions(self) -> list[Predictions]:
        """The predictions of each run: on the test images where all runs have them, else on the validation images."""
        tests = [run.test for run in self.runs if run.test is not None]
        return [*tests] if self.is_tested else [run.validation for run in self.runs]

    @property
    def image_source(self) -> str:
        return "test images" if self.is_tested else "validation images (the test images were not opened for all runs)"

    def read_values(self, kind: str) -> list[float]:
        """A figure of each run, in the order of the runs; empty where some run has none."""
        values = [_read_figure(run, kind) for run in self.runs]
        known_values = [value for value in values if value is not None]
        return known_values if len(known_values) == len(values) else []


def _read_figure(result: RunResult, kind: str) -> float | None:
    if kind == "epochs":
        return float(len(result.history))
    if kind == "gap":
        return result.history[-1]["accuracy"] - result.history[-1]["val_accuracy"]
    if kind == "test_accuracy_unseen":
        return None if result.test is None else float(result.test.correct_mask[~result.test.twin_mask].mean())
    if kind in result.history[-1]:  # of the last epoch: the run's metric may be another epoch's
        return result.history[-1][kind]
    return result.run.trial.metrics.get(kind)


def compute_f1(recipe_results: RecipeResults) -> list[dict[str, float]]:
    """The F1 of each label, for each run."""
    return [
        {score.label: score.f1 for score in score_classes(confusion, LABELS)}
        for confusion in count_confusions(recipe_results)
    ]


def count_confusions(recipe_results: RecipeResults) -> list[NDArray[np.int64]]:
    """The confusion matrix of each run: how many images of each label (rows) were taken for each (columns)."""
    return [
        count_confusion(predictions.labels, predictions.predicted_labels, LABELS)
        for predictions in recipe_results.select_predictions()
    ]


def compute_spread(values: Sequence[float]) -> Repeats:
    """Mean and sd of any figure; comparison.summarize_repeats takes accuracies alone."""
    sd = stdev(values) if len(values) > 1 else None
    return Repeats(len(values), fmean(values), sd, None, None)


def format_spread(values: Sequence[float], decimals: int = 4) -> str:
    """Mean, sd and count of a figure in words; an en dash where there are no values."""
    if not values:
        return "–"
    statistics = compute_spread(values)
    return format_mean(statistics.mean, statistics.sd, statistics.n, decimals)
