"""Two trials side by side: what differs, whether the difference is real, and on which images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis import comparison
from fmnist_sweep.analysis.comparison import Difference, Repeats, SeedSpread
from fmnist_sweep.analysis.mistakes import ClassScore, score_classes
from fmnist_sweep.analysis.peers import PredictionReader
from fmnist_sweep.analysis.settings import find_varied_settings, group_by_seed, number_configurations
from fmnist_sweep.analysis.table import compute_interval
from fmnist_sweep.tracking.prediction_files import Predictions
from fmnist_sweep.tracking.trial_search import TrialRecord
from fmnist_sweep.tracking.trials import StoredTrial, has_same_validation_images
from fmnist_sweep.training.evaluation import count_confusion

EXAMPLES = 8
_MOST_SEEDS = 20


@dataclass(frozen=True)
class SettingDifference:
    """A parameter whose value differs; None where a trial has no such parameter."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Side:
    """One of the two trials. low, high: Wilson's 95 % interval of its accuracy, NaN where that is not known.

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
    """The two trials on one label. difference: of their recall, corrected for ten labels; None without images."""

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

    models: these two, as trained. configurations: with the luck of one seed each; seed_spread: of that luck, measured
    on repeated seeds of these configurations, or assumed. seeds: over all their seeds; None unless both were trained
    with two or more.
    """

    models: Difference
    configurations: Difference
    seed_spread: SeedSpread
    seeds: Difference | None


@dataclass(frozen=True)
class TrialComparison:
    """The comparison of two trials.

    same_configuration: they differ in nothing but the seed. no_comparison_reason: why they cannot be compared
    image by image; then there are no verdicts.
    """

    a: Side
    b: Side
    settings: tuple[SettingDifference, ...]
    same_configuration: bool
    no_comparison_reason: str | None
    verdicts: Verdicts | None
    labels: tuple[LabelComparison, ...]
    disagreement: Disagreement | None


def compare_trials(a: TrialRecord, b: TrialRecord, read_predictions: PredictionReader) -> TrialComparison:
    """Compare what two trials left in the store.

    read_predictions: reads those of further seeds, which are needed only where both configurations have several.
    """
    seeds_a, seeds_b = _select_seed_trials(a), _select_seed_trials(b)
    number_a, number_b = number_configurations([a.trial, b.trial], find_varied_settings([a.trial, b.trial]))
    no_comparison_reason = _explain_missing(a) or _explain_missing(b)
    verdicts: Verdicts | None = None
    labels: tuple[LabelComparison, ...] = ()
    disagreement: Disagreement | None = None
    if isinstance(a.predictions, Predictions) and isinstance(b.predictions, Predictions):
        if has_same_validation_images(a.trial, a.predictions, b.trial, b.predictions):
            candidate_a = _Candidate(a.trial, a.predictions, seeds_a)
            candidate_b = _Candidate(b.trial, b.predictions, () if number_a == number_b else seeds_b)
            verdicts = _decide_verdicts(candidate_a, candidate_b, read_predictions)
            labels = _compare_labels(a.predictions, b.predictions, a.trial.description.labels)
            disagreement = _count_disagreement(a.predictions, b.predictions, a.trial.description.labels)
        else:
            no_comparison_reason = (
                f"they were scored on different validation images ({a.trial.data}, "
                f"{len(a.predictions.labels):,}, and {b.trial.data}, {len(b.predictions.labels):,}), so "
                "that their accuracies differ by the luck of the images, too"
            )
    return TrialComparison(
        a=_make_side(a, seeds_a),
        b=_make_side(b, seeds_b),
        settings=tuple(_compare_settings(a.trial, b.trial)),
        same_configuration=number_a == number_b,
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


def _explain_missing(record: TrialRecord) -> str | None:
    return f"{record.trial.run_id[:8]} {record.predictions}" if isinstance(record.predictions, str) else None


def _make_side(record: TrialRecord, seeds: Sequence[StoredTrial]) -> Side:
    low, high = compute_interval(record.trial)
    repeats = comparison.summarize_repeats([trial.accuracy or 0.0 for trial in seeds]) if seeds else None
    return Side(record.trial, low, high, record.curve, repeats)


def _select_seed_trials(record: TrialRecord) -> tuple[StoredTrial, ...]:
    """Finished trials of the same configuration on the same data, one for each seed, the trial itself first."""
    if record.trial.accuracy is None:
        return ()
    trials = [record.trial, *record.similar_trials]
    first, *_ = group_by_seed(trials, number_configurations(trials, find_varied_settings(trials)))
    return tuple(trials[place] for place in first[:_MOST_SEEDS])


@dataclass(frozen=True)
class _Candidate:
    """One of the two for the verdicts: a trial with its predictions, and its configuration's trials, one a seed."""

    trial: StoredTrial
    predictions: Predictions
    seeds: Sequence[StoredTrial]


def _decide_verdicts(a: _Candidate, b: _Candidate, read_predictions: PredictionReader) -> Verdicts:
    spread = comparison.estimate_seed_sd([[trial.accuracy or 0.0 for trial in each.seeds] for each in (a, b)])
    seed_difference = None
    if min(len(a.seeds), len(b.seeds)) > 1:
        correct = _stack_correct(a, read_predictions), _stack_correct(b, read_predictions)
        if min(map(len, correct)) > 1:
            seed_difference = comparison.compare_over_seeds(*correct)
    correct_a, correct_b = a.predictions.correct_mask, b.predictions.correct_mask
    return Verdicts(
        models=comparison.compare_models(correct_a, correct_b),
        configurations=comparison.compare_models(correct_a, correct_b, seed_sd=spread.sd),
        seed_spread=spread,
        seeds=seed_difference,
    )


def _stack_correct(candidate: _Candidate, read_predictions: PredictionReader) -> NDArray[np.bool_]:
    """Which images each seed's model got right, shape (seeds, images)."""
    rows = [candidate.predictions.correct_mask]
    for other in candidate.seeds:
        if other.run_id == candidate.trial.run_id:
            continue
        predictions = read_predictions(other.run_id)
        if predictions is not None and has_same_validation_images(
            candidate.trial, candidate.predictions, other, predictions
        ):
            rows.append(predictions.correct_mask)
    return np.stack(rows)


def _compare_labels(a: Predictions, b: Predictions, names: Sequence[str]) -> tuple[LabelComparison, ...]:
    scores = zip(
        score_classes(count_confusion(a.labels, a.predicted_labels, names), names),
        score_classes(count_confusion(b.labels, b.predicted_labels, names), names),
        strict=True,
    )
    comparisons = []
    for number, (score_a, score_b) in enumerate(scores):
        has_label = a.labels == number
        difference = None
        if has_label.any():
            difference = comparison.compare_models(
                a.correct_mask[has_label], b.correct_mask[has_label], comparisons=len(names)
            )
        comparisons.append(LabelComparison(score_a, score_b, difference))
    return tuple(comparisons)


def _count_disagreement(a: Predictions, b: Predictions, names: Sequence[str]) -> Disagreement:
    confidence_a, confidence_b = a.probabilities.max(axis=1), b.probabilities.max(axis=1)

    def select_examples(is_chosen: NDArray[np.bool_], confidence: NDArray[np.float32]) -> tuple[Example, ...]:
        rows = np.flatnonzero(is_chosen)
        rows = rows[np.argsort(-confidence[rows], kind="stable")][:EXAMPLES]
        return tuple(
            Example(
                position=int(a.index[row]),
                row=int(row),
                label=names[a.labels[row]],
                a=names[a.predicted_labels[row]],
                a_confidence=float(confidence_a[row]),
                b=names[b.predicted_labels[row]],
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
