"""The run of a trial that ended: closed with its metrics, files and model, or with the reason for its failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.tracking import datasets
from fmnist_sweep.tracking.models import delete_model, fail_pending_models, find_ready_model, log_model
from fmnist_sweep.tracking.names import FAILURE_TAG, MODEL_NOT_KEPT, MODEL_TAG, NOTE_TAG
from fmnist_sweep.tracking.run_files import log_files
from fmnist_sweep.tracking.runs import build_metrics, set_tags
from fmnist_sweep.training.evaluation import find_most_confused

if TYPE_CHECKING:
    from mlflow.entities import Run

    from fmnist_sweep.data import DataDescription, Split
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.training.evaluation import Evaluation
    from fmnist_sweep.training.events import TrialResult


@dataclass(frozen=True)
class RunEnd:
    """How a trial's run is closed. ended: in ms since 1970. is_retry: an earlier try may have done part of it."""

    ended: int
    is_retry: bool


@dataclass(frozen=True)
class FinishedTrial:
    """What the run of a finished trial holds in the end.

    files: by their path among the run's artifacts. validation: its first image becomes the model's input example.
    description: of the data.
    """

    result: TrialResult
    evaluation: Evaluation
    files: Mapping[str, bytes]
    validation: Split
    keep_model: bool
    description: DataDescription

    @property
    def scores(self) -> dict[str, float]:
        """The metrics of the validation images."""
        return {
            "best_val_accuracy": self.evaluation.accuracy,
            **{f"val_f1.{label}": value for label, value in self.evaluation.f1.items()},
        }

    @property
    def costs(self) -> dict[str, float]:
        """The metrics of the training itself."""
        measured = {} if self.result.ms_per_image is None else {"ms_per_image": self.result.ms_per_image}
        return {
            "best_epoch": self.result.best_epoch,
            "parameters": self.result.parameters,
            "size_bytes": len(self.result.model),
            **measured,
            "fit_seconds": self.result.fit_seconds,
            "cpu_seconds": sum(row.get("epoch_cpu_seconds", 0.0) for row in self.result.history),
        }


def finish_trial(store: Store, run_id: str, trial: FinishedTrial, end: RunEnd) -> None:
    """Log everything of a finished trial, its model last, and close the run. Repeating it changes nothing."""
    from mlflow.entities import RunTag

    log_files(store, run_id, trial.files)
    run = store.client.get_run(run_id)
    if run.info.status == "FINISHED":  # an earlier try did everything, and only the answer was lost
        return
    model_id = _settle_model(store, run, trial, end)
    metrics = [
        *build_metrics(trial.scores, end.ended, model_id=model_id, dataset=datasets.find_validation_dataset(run)),
        *build_metrics(trial.costs, end.ended, model_id=model_id),
    ]
    tags = [RunTag(NOTE_TAG, _compose_trial_note(trial))]
    if not trial.keep_model:
        tags.append(RunTag(MODEL_TAG, MODEL_NOT_KEPT))
    store.client.log_batch(run_id, metrics=metrics, tags=tags)
    store.client.set_terminated(run_id, "FINISHED", end.ended)


def _settle_model(store: Store, run: Run, trial: FinishedTrial, end: RunEnd) -> str | None:
    """Log a trial's model unless an earlier try did, or delete it if it is not kept; returns the id of a kept model."""
    existing_model = None
    if end.is_retry:
        fail_pending_models(store, run.info.run_id)
        existing_model = find_ready_model(store, run)
    if trial.keep_model:
        return str(
            (existing_model or log_model(store, run, trial.result.model, trial.validation, trial.description)).model_id
        )
    if existing_model is not None:
        delete_model(store, run.info.run_id)
    return None


def _compose_trial_note(trial: FinishedTrial) -> str:
    result, evaluation = trial.result, trial.evaluation
    hardest = min(evaluation.f1, key=lambda label: evaluation.f1[label])
    confusions = [
        f"{true} taken for {predicted} ({count})"
        for true, predicted, count in find_most_confused(evaluation.confusion, trial.description.labels)
    ]
    return (
        f"Validation accuracy **{evaluation.accuracy:.4f}** after epoch {result.best_epoch} of {len(result.history)}, "
        f"{result.parameters:,} parameters. Hardest label: **{hardest}**, F1 {evaluation.f1[hardest]:.2f}. "
        f"Most confused: {', '.join(confusions) or 'nothing'}."
    )


def fail_trial(store: Store, run_id: str, reason: str, trace: str, end: RunEnd) -> None:
    """Close a trial's run as FAILED, with the reason and the traceback."""
    set_tags(store, run_id, {FAILURE_TAG: reason, NOTE_TAG: f"**Failed:** {reason}"})
    log_files(store, run_id, {"traceback.txt": mask_credentials(trace).encode()})
    store.client.set_terminated(run_id, "FAILED", end.ended)
