"""Two trials side by side: what differs, whether the difference is real, and on which images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis import ClassScore, comparison, per_class
from fmnist_sweep.analysis import settings as varied
from fmnist_sweep.analysis import table as trial_table
from fmnist_sweep.analysis.comparison import Difference, Repeats
from fmnist_sweep.analysis.findings import LEAST_FREEDOM
from fmnist_sweep.data import LABELS
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.text import mask_credentials
from fmnist_sweep.tracking import trials as evidence
from fmnist_sweep.tracking.trials import Predictions, StoredTrial, parse_parameter

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store

SHORTEST = 6  # of a run id's beginning
EXAMPLES = 8
_MOST_SEEDS = 20
_MOST_CONDITIONS = 40  # in one search; SQLite joins at most 64 tables
_SHOWN = 5  # candidates in a sentence


@dataclass(frozen=True)
class Setting:
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
        found = self.trial.metrics.get("best_epoch")
        return None if found is None else int(found)

    @property
    def gap(self) -> float | None:
        best = self.best_epoch
        if best is None or not 1 <= best <= len(self.curve):
            return None
        row = self.curve[best - 1]
        return row["accuracy"] - row["val_accuracy"]


@dataclass(frozen=True)
class Label:
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
class SideBySide:
    """All there is to say of two trials.

    same_configuration: they differ in nothing but the seed. why_not: why they cannot be compared image by image; then
    there are no verdicts.
    """

    a: Side
    b: Side
    settings: tuple[Setting, ...]
    same_configuration: bool
    why_not: str | None
    verdicts: Verdicts | None
    labels: tuple[Label, ...]
    images: Disagreement | None


def find(store: Store, word: str) -> StoredTrial:
    """The one trial that a word names: a run id or its beginning, STUDY/TRIAL, or a trial's name.

    ConfigError where it names none, or several, which are listed then.
    """
    found = _named(store, word)
    if len(found) == 1:
        return found[0]
    if found:
        candidates = "; ".join(f"{trial.run_id} ({_words(trial)})" for trial in found[:_SHOWN])
        left = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ConfigError(f"{word!r} names {len(found)} trials: {candidates}{left}: name one by its run id.")
    short = f", of at least {SHORTEST} characters" if len(word) < SHORTEST else ""
    raise ConfigError(
        f"{word!r} names no trial in {mask_credentials(store.uri)}: expected a run id or its beginning{short}, STUDY/TRIAL as in "
        "00c57e21763a/0000, or a trial's whole name; fmnist-sweep compare lists them."
    )


def _named(store: Store, word: str) -> list[StoredTrial]:
    found: list[StoredTrial] = []
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST},32}}", word):
        found = evidence.filter_trials(store, [f"attributes.run_id LIKE '{word}%'"])
    elif re.fullmatch(r"[0-9a-zA-Z]+/[0-9a-zA-Z]+", word):
        study, trial = word.split("/")
        found = evidence.read_trials(store, {"fmnist.study_id": study, "fmnist.trial_id": trial})
    if not found and word and "'" not in word:
        found = evidence.filter_trials(store, [f"attributes.run_name = '{word}'"])
    return found


def _words(trial: StoredTrial) -> str:
    return f"{trial.study_id}/{trial.trial_id}, {trial.state}, {trial.name}"


def compare(store: Store, a: StoredTrial, b: StoredTrial) -> SideBySide:
    """Read what two trials left in the store and hold one against the other."""
    told_a, told_b = _predictions(store, a), _predictions(store, b)
    why_not = _why_not(a, told_a) or _why_not(b, told_b)
    if isinstance(told_a, Predictions) and isinstance(told_b, Predictions):
        why_not = (
            None
            if evidence.has_same_validation_images(a, told_a, b, told_b)
            else (
                f"they were scored on different validation images ({_data(a)}, {len(told_a.labels):,}, and {_data(b)}, "
                f"{len(told_b.labels):,}), so that their accuracies differ by the luck of the images, too"
            )
        )
    seeds_a, seeds_b = _seeds(store, a), _seeds(store, b)
    number_a, number_b = varied.configurations([a, b], varied.find([a, b]))
    same = number_a == number_b
    verdicts: Verdicts | None = None
    labels: tuple[Label, ...] = ()
    images: Disagreement | None = None
    if why_not is None and isinstance(told_a, Predictions) and isinstance(told_b, Predictions):
        verdicts = _verdicts(store, (a, told_a, seeds_a), (b, told_b, seeds_b), same)
        labels, images = _labels(told_a, told_b), _disagreement(told_a, told_b)
    return SideBySide(
        a=_side(store, a, seeds_a),
        b=_side(store, b, seeds_b),
        settings=tuple(_settings(a, b)),
        same_configuration=same,
        why_not=why_not,
        verdicts=verdicts,
        labels=labels,
        images=images,
    )


def _settings(a: StoredTrial, b: StoredTrial) -> list[Setting]:
    pairs = [Setting(key, a.parse_value(key), b.parse_value(key)) for key in dict.fromkeys([*a.params, *b.params])]
    return [pair for pair in pairs if pair.a != pair.b or isinstance(pair.a, bool) != isinstance(pair.b, bool)]


def _predictions(store: Store, trial: StoredTrial) -> Predictions | str:
    """A trial's predictions, or why there are none."""
    if trial.accuracy is None:
        return f"is {trial.state}{f' ({trial.failure})' if trial.failure else ''}, without a score"
    try:
        found = evidence.read_predictions(store, trial.run_id)
    except ValueError:
        return "has a damaged predictions.npz"
    return found or "has no predictions.npz any more"


def _why_not(trial: StoredTrial, told: Predictions | str) -> str | None:
    return f"{trial.run_id[:8]} {told}" if isinstance(told, str) else None


def _data(trial: StoredTrial) -> str:
    return trial.tags.get("fmnist.data", "unknown data")


def _side(store: Store, trial: StoredTrial, seeds: Sequence[StoredTrial]) -> Side:
    low, high = trial_table.interval(trial)
    told = comparison.repeats([each.accuracy or 0.0 for each in seeds]) if seeds else None
    return Side(trial, low, high, tuple(evidence.read_curves(store, trial.run_id)), told)


def _seeds(store: Store, trial: StoredTrial) -> list[StoredTrial]:
    """Finished trials of the same configuration on the same data, one for each seed, the trial itself first."""
    if trial.accuracy is None:
        return []
    alike = {"tags.`fmnist.data`": _data(trial)}
    alike |= {f"params.`{key}`": text for key, text in trial.params.items() if key != "seed" and "`" not in key}
    # What cannot be asked for in quotes is compared below, as all of it is.
    conditions = [f"{key} = '{text}'" for key, text in alike.items() if "'" not in text]
    found = [trial, *evidence.filter_trials(store, conditions[: _MOST_CONDITIONS + 1])]
    settings = varied.find(found)
    same = varied.configurations(found, settings)
    by_seed: dict[str | None, StoredTrial] = {}
    for each, number in zip(found, same, strict=True):
        if number == same[0] and each.accuracy is not None:
            by_seed.setdefault(each.params.get("seed"), each)
    return list(by_seed.values())[:_MOST_SEEDS]


_Told = tuple[StoredTrial, Predictions, list[StoredTrial]]


def _verdicts(store: Store, a: _Told, b: _Told, same_configuration: bool) -> Verdicts:
    (_, told_a, seeds_a), (_, told_b, seeds_b) = a, b
    groups = [[trial.accuracy or 0.0 for trial in seeds] for seeds in (seeds_a, [] if same_configuration else seeds_b)]
    freedom = comparison.pooled_freedom(groups)
    measured = comparison.pooled_sd(groups) if freedom >= LEAST_FREEDOM else None
    seed_sd = comparison.SEED_SD if measured is None else measured
    over_seeds = None
    if not same_configuration and min(len(seeds_a), len(seeds_b)) > 1:
        correct = _correct(store, a), _correct(store, b)
        if min(map(len, correct)) > 1:
            over_seeds = comparison.over_seeds(*correct)
    return Verdicts(
        models=comparison.paired(told_a.correct_mask, told_b.correct_mask),
        configurations=comparison.paired(told_a.correct_mask, told_b.correct_mask, seed_sd=seed_sd),
        seed_sd=seed_sd,
        seed_freedom=0 if measured is None else freedom,
        seeds=over_seeds,
    )


def _correct(store: Store, told: _Told) -> NDArray[np.bool_]:
    """Which images each seed's model got right, shape (seeds, images)."""
    trial, own, seeds = told
    rows = [own.correct_mask]
    for other in seeds:
        found = own if other.run_id == trial.run_id else _predictions(store, other)
        if (
            other.run_id != trial.run_id
            and isinstance(found, Predictions)
            and evidence.has_same_validation_images(trial, own, other, found)
        ):
            rows.append(found.correct_mask)
    return np.stack(rows)


def _labels(a: Predictions, b: Predictions) -> tuple[Label, ...]:
    scores = zip(
        per_class(a.labels, a.predicted_labels, LABELS), per_class(b.labels, b.predicted_labels, LABELS), strict=True
    )
    found = []
    for number, (score_a, score_b) in enumerate(scores):
        mine = a.labels == number
        difference = None
        if mine.any():
            difference = comparison.paired(a.correct_mask[mine], b.correct_mask[mine], comparisons=len(LABELS))
        found.append(Label(score_a, score_b, difference))
    return tuple(found)


def _disagreement(a: Predictions, b: Predictions) -> Disagreement:
    sure_a, sure_b = a.probabilities.max(axis=1), b.probabilities.max(axis=1)

    def examples(chosen: NDArray[np.bool_], confidence: NDArray[np.float32]) -> tuple[Example, ...]:
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(-confidence[rows], kind="stable")][:EXAMPLES]
        return tuple(
            Example(
                position=int(a.index[row]),
                row=int(row),
                label=LABELS[a.labels[row]],
                a=LABELS[a.predicted_labels[row]],
                a_confidence=float(sure_a[row]),
                b=LABELS[b.predicted_labels[row]],
                b_confidence=float(sure_b[row]),
            )
            for row in rows.tolist()
        )

    only_a, only_b, wrong = (
        a.correct_mask & ~b.correct_mask,
        b.correct_mask & ~a.correct_mask,
        ~a.correct_mask & ~b.correct_mask,
    )
    return Disagreement(
        both_right=int((a.correct_mask & b.correct_mask).sum()),
        only_a=int(only_a.sum()),
        only_b=int(only_b.sum()),
        both_wrong=int(wrong.sum()),
        only_a_examples=examples(only_a, sure_b),
        only_b_examples=examples(only_b, sure_a),
        both_wrong_examples=examples(wrong, (sure_a + sure_b) / 2),
    )


def as_values(found: SideBySide) -> dict[str, Any]:
    """All of it as plain values for JSON; what is not known is None."""
    return {
        **{name: _side_values(side) for name, side in (("a", found.a), ("b", found.b))},
        "same_configuration": found.same_configuration,
        "settings": {setting.key: {"a": setting.a, "b": setting.b} for setting in found.settings},
        "why_not_image_by_image": found.why_not,
        "verdicts": None if found.verdicts is None else _verdict_values(found.verdicts),
        "labels": [
            {
                "label": label.a.label,
                "a": vars(label.a),
                "b": vars(label.b),
                "recall": _difference_values(label.difference),
            }
            for label in found.labels
        ],
        "images": None
        if found.images is None
        else {
            name: [vars(each) for each in value] if isinstance(value, tuple) else value
            for name, value in vars(found.images).items()
        },
    }


def _side_values(side: Side) -> dict[str, Any]:
    trial = side.trial
    return {
        "run_id": trial.run_id,
        "name": trial.name,
        "study_id": trial.study_id,
        "trial_id": trial.trial_id,
        "state": trial.state,
        "failure": trial.failure,
        "data": trial.tags.get("fmnist.data"),
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


def _verdict_values(verdicts: Verdicts) -> dict[str, Any]:
    return {
        "models": _difference_values(verdicts.models),
        "configurations": _difference_values(verdicts.configurations),
        "seed_sd": verdicts.seed_sd,
        "seed_freedom": verdicts.seed_freedom,
        "over_seeds": _difference_values(verdicts.seeds),
    }


def _difference_values(difference: Difference | None) -> dict[str, Any] | None:
    return None if difference is None else {**vars(difference), "verdict": difference.verdict}
