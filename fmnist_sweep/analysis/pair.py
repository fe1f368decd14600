"""Two trials side by side: what differs, whether the difference is real, and on which images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis import ClassScore, comparison, score_classes
from fmnist_sweep.analysis.comparison import Difference, Repeats
from fmnist_sweep.analysis.findings import LEAST_FREEDOM
from fmnist_sweep.analysis.settings import find_varied_settings, number_configurations
from fmnist_sweep.analysis.table import compute_interval
from fmnist_sweep.data import LABELS
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.text import mask_credentials
from fmnist_sweep.tracking.names import DATA_TAG, STUDY_ID_TAG, TRIAL_ID_TAG
from fmnist_sweep.tracking.predictions import Predictions, read_predictions
from fmnist_sweep.tracking.trials import (
    StoredTrial,
    find_similar_trials,
    find_trials_by_name,
    find_trials_by_run_id,
    has_same_validation_images,
    parse_parameter,
    read_curves,
    read_trials,
)

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store

SHORTEST_ID = 6  # of a run id's beginning
EXAMPLES = 8
_MOST_SEEDS = 20
_MOST_LISTED = 5  # candidates in a sentence


@dataclass(frozen=True)
class SettingDifference:
    """A parameter whose value differs; None where a trial has no such parameter."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Side:
    """One of the two. low, high: Wilson's 95 % interval of its accuracy, NaN where that is not known.

    gap: training accuracy minus validation accuracy at the best epoch. seeds: its configuration over all seeds in the
    store that were scored on the same images; None where it did not finish.
    """

    trial: StoredTrial
    low: float
    high: float
    curve: tuple[dict[str, float], ...]
    seeds: Repeats | None

    @property
    def best_epoch(self) -> int | None:
        epoch = self.trial.metrics.get("best_epoch")
        return None if epoch is None else int(epoch)

    @property
    def gap(self) -> float | None:
        best = self.best_epoch
        if best is None or not 1 <= best <= len(self.curve):
            return None
        row = self.curve[best - 1]
        return row["accuracy"] - row["val_accuracy"]


@dataclass(frozen=True)
class LabelComparison:
    """How the two fare on one label. difference: of their recall, corrected for ten labels; None without images."""

    a: ClassScore
    b: ClassScore
    difference: Difference | None


@dataclass(frozen=True)
class Example:
    """An image that at least one of the two got wrong. position: in its data file, from 0; row: in the predictions."""

    position: int
    row: int
    label: str
    a: str
    a_confidence: float
    b: str
    b_confidence: float


@dataclass(frozen=True)
class Disagreement:
    """Images by who was right. Examples: the most confident mistakes first, at most EXAMPLES of each."""

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    only_a_examples: tuple[Example, ...]
    only_b_examples: tuple[Example, ...]
    both_wrong_examples: tuple[Example, ...]


@dataclass(frozen=True)
class Verdicts:
    """Whether a is more accurate than b.

    models: these two, as trained. configurations: with the luck of one seed each; seed_sd: its spread, measured with
    seed_freedom degrees of freedom on repeated seeds of these configurations, or assumed (0). seeds: over all their
    seeds; None unless both were trained with two or more.
    """

    models: Difference
    configurations: Difference
    seed_sd: float
    seed_freedom: int
    seeds: Difference | None


@dataclass(frozen=True)
class TrialComparison:
    """All there is to say of two trials.

    same_configuration: they differ in nothing but the seed. why_not: why they cannot be compared image by image; then
    there are no verdicts.
    """

    a: Side
    b: Side
    settings: tuple[SettingDifference, ...]
    same_configuration: bool
    no_comparison_reason: str | None
    verdicts: Verdicts | None
    labels: tuple[LabelComparison, ...]
    disagreement: Disagreement | None


def find_trial(store: Store, name: str) -> StoredTrial:
    """The one trial that a word names: a run id or its beginning, STUDY/TRIAL, or a trial's name.

    ConfigError where it names none, or several, which are listed then.
    """
    trials = _search_trials(store, name)
    if len(trials) == 1:
        return trials[0]
    if trials:
        candidates = "; ".join(f"{trial.run_id} ({_describe_trial(trial)})" for trial in trials[:_MOST_LISTED])
        remainder = f"; and {len(trials) - _MOST_LISTED} more" if len(trials) > _MOST_LISTED else ""
        raise ConfigError(f"{name!r} names {len(trials)} trials: {candidates}{remainder}: name one by its run id.")
    length_hint = f", of at least {SHORTEST_ID} characters" if len(name) < SHORTEST_ID else ""
    raise ConfigError(
        f"{name!r} names no trial in {mask_credentials(store.uri)}: expected a run id or its beginning{length_hint}, STUDY/TRIAL as in "
        "00c57e21763a/0000, or a trial's whole name; fmnist-sweep compare lists them."
    )


def _search_trials(store: Store, name: str) -> list[StoredTrial]:
    trials: list[StoredTrial] = []
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST_ID},32}}", name):
        trials = find_trials_by_run_id(store, name)
    elif re.fullmatch(r"[0-9a-zA-Z]+/[0-9a-zA-Z]+", name):
        study, trial = name.split("/")
        trials = read_trials(store, {STUDY_ID_TAG: study, TRIAL_ID_TAG: trial})
    if not trials and name and "'" not in name:
        trials = find_trials_by_name(store, name)
    return trials


def _describe_trial(trial: StoredTrial) -> str:
    return f"{trial.study_id}/{trial.trial_id}, {trial.state}, {trial.name}"


def compare_trials(store: Store, a: StoredTrial, b: StoredTrial) -> TrialComparison:
    """Read what two trials left in the store and hold one against the other."""
    predictions_a, predictions_b = _read_predictions(store, a), _read_predictions(store, b)
    no_comparison_reason = _explain_missing(a, predictions_a) or _explain_missing(b, predictions_b)
    if isinstance(predictions_a, Predictions) and isinstance(predictions_b, Predictions):
        no_comparison_reason = (
            None
            if has_same_validation_images(a, predictions_a, b, predictions_b)
            else (
                f"they were scored on different validation images ({a.data}, {len(predictions_a.labels):,}, and {b.data}, "
                f"{len(predictions_b.labels):,}), so that their accuracies differ by the luck of the images, too"
            )
        )
    seeds_a, seeds_b = _find_seed_trials(store, a), _find_seed_trials(store, b)
    number_a, number_b = number_configurations([a, b], find_varied_settings([a, b]))
    same_configuration = number_a == number_b
    verdicts: Verdicts | None = None
    labels: tuple[LabelComparison, ...] = ()
    disagreement: Disagreement | None = None
    if (
        no_comparison_reason is None
        and isinstance(predictions_a, Predictions)
        and isinstance(predictions_b, Predictions)
    ):
        verdicts = _decide_verdicts(store, (a, predictions_a, seeds_a), (b, predictions_b, seeds_b), same_configuration)
        labels, disagreement = (
            _compare_labels(predictions_a, predictions_b),
            _count_disagreement(predictions_a, predictions_b),
        )
    return TrialComparison(
        a=_make_side(store, a, seeds_a),
        b=_make_side(store, b, seeds_b),
        settings=tuple(_compare_settings(a, b)),
        same_configuration=same_configuration,
        no_comparison_reason=no_comparison_reason,
        verdicts=verdicts,
        labels=labels,
        disagreement=disagreement,
    )


def _compare_settings(a: StoredTrial, b: StoredTrial) -> list[SettingDifference]:
    pairs = [
        SettingDifference(key, a.parse_value(key), b.parse_value(key)) for key in dict.fromkeys([*a.params, *b.params])
    ]
    return [pair for pair in pairs if pair.a != pair.b or isinstance(pair.a, bool) != isinstance(pair.b, bool)]


def _read_predictions(store: Store, trial: StoredTrial) -> Predictions | str:
    """A trial's predictions, or why there are none."""
    if trial.accuracy is None:
        return f"is {trial.state}{f' ({trial.failure})' if trial.failure else ''}, without a score"
    try:
        predictions = read_predictions(store, trial.run_id)
    except ValueError:
        return "has a damaged predictions.npz"
    return predictions or "has no predictions.npz any more"


def _explain_missing(trial: StoredTrial, predictions: Predictions | str) -> str | None:
    return f"{trial.run_id[:8]} {predictions}" if isinstance(predictions, str) else None


def _make_side(store: Store, trial: StoredTrial, seeds: Sequence[StoredTrial]) -> Side:
    low, high = compute_interval(trial)
    repeats = comparison.summarize_repeats([seed_trial.accuracy or 0.0 for seed_trial in seeds]) if seeds else None
    return Side(trial, low, high, tuple(read_curves(store, trial.run_id)), repeats)


def _find_seed_trials(store: Store, trial: StoredTrial) -> list[StoredTrial]:
    """Finished trials of the same configuration on the same data, one for each seed, the trial itself first."""
    if trial.accuracy is None:
        return []
    trials = [trial, *find_similar_trials(store, trial, ignored_params=("seed",))]
    settings = find_varied_settings(trials)
    numbers = number_configurations(trials, settings)
    by_seed: dict[str | None, StoredTrial] = {}
    for candidate, number in zip(trials, numbers, strict=True):
        if number == numbers[0] and candidate.accuracy is not None:
            by_seed.setdefault(candidate.params.get("seed"), candidate)
    return list(by_seed.values())[:_MOST_SEEDS]


_TrialData = tuple[StoredTrial, Predictions, list[StoredTrial]]


def _decide_verdicts(store: Store, a: _TrialData, b: _TrialData, same_configuration: bool) -> Verdicts:
    (_, predictions_a, seeds_a), (_, predictions_b, seeds_b) = a, b
    groups = [[trial.accuracy or 0.0 for trial in seeds] for seeds in (seeds_a, [] if same_configuration else seeds_b)]
    freedom = comparison.pool_freedom(groups)
    measured_sd = comparison.pool_sd(groups) if freedom >= LEAST_FREEDOM else None
    seed_sd = comparison.SEED_SD if measured_sd is None else measured_sd
    seed_difference = None
    if not same_configuration and min(len(seeds_a), len(seeds_b)) > 1:
        correct = _stack_correct(store, a), _stack_correct(store, b)
        if min(map(len, correct)) > 1:
            seed_difference = comparison.compare_over_seeds(*correct)
    return Verdicts(
        models=comparison.compare_models(predictions_a.correct_mask, predictions_b.correct_mask),
        configurations=comparison.compare_models(
            predictions_a.correct_mask, predictions_b.correct_mask, seed_sd=seed_sd
        ),
        seed_sd=seed_sd,
        seed_freedom=0 if measured_sd is None else freedom,
        seeds=seed_difference,
    )


def _stack_correct(store: Store, data: _TrialData) -> NDArray[np.bool_]:
    """Which images each seed's model got right, shape (seeds, images)."""
    trial, predictions, seeds = data
    rows = [predictions.correct_mask]
    for other in seeds:
        other_predictions = predictions if other.run_id == trial.run_id else _read_predictions(store, other)
        if (
            other.run_id != trial.run_id
            and isinstance(other_predictions, Predictions)
            and has_same_validation_images(trial, predictions, other, other_predictions)
        ):
            rows.append(other_predictions.correct_mask)
    return np.stack(rows)


def _compare_labels(a: Predictions, b: Predictions) -> tuple[LabelComparison, ...]:
    scores = zip(
        score_classes(a.labels, a.predicted_labels, LABELS),
        score_classes(b.labels, b.predicted_labels, LABELS),
        strict=True,
    )
    comparisons = []
    for number, (score_a, score_b) in enumerate(scores):
        has_label = a.labels == number
        difference = None
        if has_label.any():
            difference = comparison.compare_models(
                a.correct_mask[has_label], b.correct_mask[has_label], comparisons=len(LABELS)
            )
        comparisons.append(LabelComparison(score_a, score_b, difference))
    return tuple(comparisons)


def _count_disagreement(a: Predictions, b: Predictions) -> Disagreement:
    confidence_a, confidence_b = a.probabilities.max(axis=1), b.probabilities.max(axis=1)

    def select_examples(is_chosen: NDArray[np.bool_], confidence: NDArray[np.float32]) -> tuple[Example, ...]:
        rows = np.flatnonzero(is_chosen)
        rows = rows[np.argsort(-confidence[rows], kind="stable")][:EXAMPLES]
        return tuple(
            Example(
                position=int(a.index[row]),
                row=int(row),
                label=LABELS[a.labels[row]],
                a=LABELS[a.predicted_labels[row]],
                a_confidence=float(confidence_a[row]),
                b=LABELS[b.predicted_labels[row]],
                b_confidence=float(confidence_b[row]),
            )
            for row in rows.tolist()
        )

    only_a, only_b, both_wrong = (
        a.correct_mask & ~b.correct_mask,
        b.correct_mask & ~a.correct_mask,
        ~a.correct_mask & ~b.correct_mask,
    )
    return Disagreement(
        both_right=int((a.correct_mask & b.correct_mask).sum()),
        only_a=int(only_a.sum()),
        only_b=int(only_b.sum()),
        both_wrong=int(both_wrong.sum()),
        only_a_examples=select_examples(only_a, confidence_b),
        only_b_examples=select_examples(only_b, confidence_a),
        both_wrong_examples=select_examples(both_wrong, (confidence_a + confidence_b) / 2),
    )


def serialize_comparison(pair: TrialComparison) -> dict[str, Any]:
    """All of it as plain values for JSON; what is not known is None."""
    return {
        **{name: _serialize_side(side) for name, side in (("a", pair.a), ("b", pair.b))},
        "same_configuration": pair.same_configuration,
        "settings": {setting.key: {"a": setting.a, "b": setting.b} for setting in pair.settings},
        "why_not_image_by_image": pair.no_comparison_reason,
        "verdicts": None if pair.verdicts is None else _serialize_verdicts(pair.verdicts),
        "labels": [
            {
                "label": label.a.label,
                "a": vars(label.a),
                "b": vars(label.b),
                "recall": _serialize_difference(label.difference),
            }
            for label in pair.labels
        ],
        "images": None
        if pair.disagreement is None
        else {
            name: [vars(example) for example in value] if isinstance(value, tuple) else value
            for name, value in vars(pair.disagreement).items()
        },
    }


def _serialize_side(side: Side) -> dict[str, Any]:
    trial = side.trial
    return {
        "run_id": trial.run_id,
        "name": trial.name,
        "study_id": trial.study_id,
        "trial_id": trial.trial_id,
        "state": trial.state,
        "failure": trial.failure,
        "data": trial.tags.get(DATA_TAG),
        "params": {key: parse_parameter(text) for key, text in trial.params.items()},
        "best_val_accuracy": trial.accuracy,
        **{name: value if value == value else None for name, value in (("low", side.low), ("high", side.high))},
        "images": trial.images,
        "best_epoch": side.best_epoch,
        "gap": side.gap,
        "parameters": trial.metrics.get("parameters"),
        "fit_seconds": trial.metrics.get("fit_seconds"),
        "cpu_seconds": trial.metrics.get("cpu_seconds"),
        "curve": list(side.curve),
        "seeds": None if side.seeds is None else vars(side.seeds),
    }


def _serialize_verdicts(verdicts: Verdicts) -> dict[str, Any]:
    return {
        "models": _serialize_difference(verdicts.models),
        "configurations": _serialize_difference(verdicts.configurations),
        "seed_sd": verdicts.seed_sd,
        "seed_freedom": verdicts.seed_freedom,
        "over_seeds": _serialize_difference(verdicts.seeds),
    }


def _serialize_difference(difference: Difference | None) -> dict[str, Any] | None:
    return None if difference is None else {**vars(difference), "verdict": difference.verdict}
