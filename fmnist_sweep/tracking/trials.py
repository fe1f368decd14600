"""Trials read back from the store: their parameters, metrics and curves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist_sweep.data.description import FASHION_MNIST, DataDescription, parse_description
from fmnist_sweep.process.garbage import pause_garbage_collection
from fmnist_sweep.text import make_printable
from fmnist_sweep.tracking.foreign import is_curve_point, parse_parameter
from fmnist_sweep.tracking.names import (
    CANONICAL_TAG,
    CONTINUES_TAG,
    DATA_TAG,
    DESCRIPTION_TAG,
    FAILURE_TAG,
    FOLLOWED_BY_TAG,
    JOURNAL_TAG,
    KIND_TAG,
    STUDY_ID_TAG,
    TRIAL_ID_TAG,
)
from fmnist_sweep.tracking.queries import StoredRun, search_runs, search_runs_by_prefix, search_runs_of_journals

if TYPE_CHECKING:
    from fmnist_sweep.tracking.prediction_files import Predictions
    from fmnist_sweep.tracking.store import Store

CURVE_METRICS = ("accuracy", "val_accuracy", "loss", "val_loss")


@dataclass(frozen=True)
class StoredTrial:
    """One trial's run, the latest of its attempts.

    state: finished, failed, running or killed. params: as logged, all of them text. began, ended: ms since 1970.
    images: how many it was validated on; None if its run does not say.
    """

    run_id: str
    name: str
    state: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    began: int
    ended: int | None
    images: int | None = None

    @property
    def study_id(self) -> str:
        return self.tags.get(STUDY_ID_TAG, "")

    @property
    def trial_id(self) -> str:
        return self.tags.get(TRIAL_ID_TAG, "")

    @property
    def data(self) -> str:
        """The data that it was trained and scored on: source and a short checksum."""
        return self.tags.get(DATA_TAG, "unknown data")

    @property
    def description(self) -> DataDescription:
        """What the images are that it was trained and scored on."""
        text = self.tags.get(DESCRIPTION_TAG)
        return FASHION_MNIST if text is None else parse_description(text)

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy of the best epoch; None unless the trial is finished."""
        return self.metrics.get("best_val_accuracy") if self.state == "finished" else None

    @property
    def failure(self) -> str | None:
        reason = self.tags.get(FAILURE_TAG)
        return None if reason is None else make_printable(reason)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of its training; its wall time if only that was measured."""
        return self.metrics.get("cpu_seconds", self.metrics.get("fit_seconds", 0.0))

    @property
    def continued_trial_id(self) -> str | None:
        """The trial of the rung below that this one continued, whose time is part of its own."""
        return self.tags.get(CONTINUES_TAG)

    @property
    def data_source(self) -> str:
        """Source of its images, such as fashion_mnist; empty if its run does not say."""
        return self.tags.get(DATA_TAG, "").partition(":")[0]

    @property
    def includes_validation(self) -> bool:
        """Whether it was trained on the validation images too, which then cannot judge it."""
        return bool(self.parse_value("data.include_validation"))

    def parse_value(self, key: str) -> Any:
        """The value of a parameter before it became text; None if the trial has no such parameter."""
        return parse_parameter(self.params.get(key))

    def parse_section(self, name: str) -> dict[str, Any]:
        """The parameters of a section, such as train.augmentation, by the rest of their keys."""
        keys = {key: key.removeprefix(f"{name}.") for key in self.params if key.startswith(f"{name}.")}
        return {rest: self.parse_value(key) for key, rest in keys.items()}


def read_trials(store: Store, tags: Mapping[str, str], kinds: Sequence[str] = ("trial",)) -> list[StoredTrial]:
    """The trials with these tags (see search_runs), in the order in which they began, each with its latest attempt.

    kinds: values of the tag fmnist.kind.
    """
    # The database layer creates 70 objects per trial and no cycles. The garbage collector would search them for cycles
    # again and again, which takes two thirds of the time (benchmarks/store.py).
    with pause_garbage_collection():
        return build_trials([run for kind in kinds for run in search_runs(store, {KIND_TAG: kind, **tags})])


def find_trials_by_run_id(store: Store, prefix: str) -> list[StoredTrial]:
    """The trials whose run id begins with these hexadecimal digits, in the order in which they began."""
    return build_trials([run for run in search_runs_by_prefix(store, prefix) if run.tags.get(KIND_TAG) == "trial"])


def find_trials_by_name(store: Store, name: str) -> list[StoredTrial]:
    """The trials with this name, in the order in which they began."""
    return read_trials(store, {"attributes.run_name": name})


def find_similar_trials(store: Store, trial: StoredTrial, ignored_params: Collection[str]) -> list[StoredTrial]:
    """The trials with the data and parameters of this one, but for some of them; itself among them."""
    tags = {KIND_TAG: "trial"} | ({DATA_TAG: trial.tags[DATA_TAG]} if DATA_TAG in trial.tags else {})
    params = {key: text for key, text in trial.params.items() if key not in ignored_params}
    with pause_garbage_collection():
        return build_trials(search_runs(store, tags, params))


def read_trials_of_journals(store: Store, journals: Sequence[str], kind: str = "trial") -> list[StoredTrial]:
    """The trials of studies, one study after the other: as read_trials has them.

    journals: values of the tag fmnist.journal. kind: value of the tag fmnist.kind.
    """
    places = {journal: place for place, journal in enumerate(dict.fromkeys(journals))}
    with pause_garbage_collection():
        trials = build_trials(search_runs_of_journals(store, journals, kind))
    return sorted(trials, key=lambda trial: places[trial.tags[JOURNAL_TAG]])


def build_trials(runs: Sequence[StoredRun]) -> list[StoredTrial]:
    """Build trials from runs, in the order in which they began, without attempts that a later one followed."""
    latest_runs = [run for run in runs if FOLLOWED_BY_TAG not in run.tags]
    return sorted(map(_build_trial, latest_runs), key=lambda trial: (trial.began, trial.trial_id))


def _build_trial(run: StoredRun) -> StoredTrial:
    return StoredTrial(
        run_id=run.run_id,
        name=make_printable(run.name),
        state=run.status.lower(),
        params=run.params,
        metrics=run.metrics,
        tags=run.tags,
        began=run.start_time,
        ended=run.end_time,
        images=run.images,
    )


def read_curves(store: Store, run_id: str) -> list[dict[str, float]]:
    """The metrics of a trial's epochs, in order: one mapping per epoch, with the keys of CURVE_METRICS."""
    by_key = {
        key: {entry.step: entry.value for entry in store.client.get_metric_history(run_id, key)}
        for key in CURVE_METRICS
    }
    steps = sorted(set.intersection(*(set(values) for values in by_key.values())))
    points = {step: {key: by_key[key][step] for key in CURVE_METRICS} for step in steps}
    return [values for step, values in points.items() if is_curve_point(step, values)]


def has_fitting_labels(trial: StoredTrial, predictions: Predictions) -> bool:
    """Whether predictions are among the labels of the trial's data, of which anybody may have altered either."""
    return bool(predictions.probabilities.shape[1] == len(trial.description.labels))


def has_same_validation_images(
    a: StoredTrial, predictions_a: Predictions, b: StoredTrial, predictions_b: Predictions
) -> bool:
    """Whether two trials were scored on the same validation images in the same order."""
    # Equal positions and labels may still belong to other images, hence the comparison of the data.
    canonical = all(trial.tags.get(CANONICAL_TAG) == "true" for trial in (a, b))
    return (
        (canonical or a.tags.get(DATA_TAG) == b.tags.get(DATA_TAG))
        and has_fitting_labels(a, predictions_a)
        and has_fitting_labels(b, predictions_b)
        and np.array_equal(predictions_a.index, predictions_b.index)
        and np.array_equal(predictions_a.labels, predictions_b.labels)
    )
