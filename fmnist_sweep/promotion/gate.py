"""The rule by which a finalist takes the champion's place: arrays of right and wrong in, a reasoned verdict out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.comparison import Booleans, Difference, Repeats, compare_over_seeds, summarize_repeats
from fmnist_sweep.analysis.comparison.checks import (
    check_correctness,
    check_level,
    check_not_negative,
    check_same_images,
)
from fmnist_sweep.data import LABELS
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion import opening
from fmnist_sweep.tracking.test_predictions import read_test_predictions

if TYPE_CHECKING:
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.confirmation import Confirmations
    from fmnist_sweep.tracking.store import Store

Verdict = Literal["first", "better", "cannot tell", "worse"]

# A gain or a drop of just as much as the rule says may come out of subtraction a hair off.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Rule:
    """What a finalist has to show.

    `min_gain` is the least gain in accuracy and `class_drop` the largest fall of a class's recall, both as
    fractions of 1; `level` is the confidence of all decisions together. Raises ValueError out of range.
    """

    min_gain: float
    class_drop: float
    level: float

    def __post_init__(self) -> None:
        check_not_negative("min_gain", self.min_gain)
        check_not_negative("class_drop", self.class_drop)
        check_level(self.level)


@dataclass(frozen=True)
class Contender:
    """A configuration trained anew with several seeds: `correct` has shape (seeds, images)."""

    name: str
    correct: Booleans


@dataclass(frozen=True)
class RecallDrop:
    """A class that a finalist recalls worse than the champion by `value`, as means over seeds."""

    label: str
    recall: float
    champion: float
    value: float


@dataclass(frozen=True)
class Assessment:
    """Where one configuration stands beside the champion.

    `accuracy` is over its seeds and `recalls` are means over them, by label, None for a label without images.
    `difference` is its own less the champion's at the corrected level, None for the champion and without one.
    `drops` are the classes it recalls worse, largest first, `objections` what keeps it from being better.
    """

    name: str
    accuracy: Repeats
    recalls: dict[str, float | None]
    difference: Difference | None = None
    drops: tuple[RecallDrop, ...] = ()
    objections: tuple[str, ...] = ()

    @property
    def gain_text(self) -> str:
        """The difference and its interval in words; a dash without a champion."""
        difference = self.difference
        if difference is None:
            return "–"
        return f"{100 * difference.value:+.2f} points [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"

    @property
    def is_better(self) -> bool:
        """Whether it meets every part of the rule."""
        return self.difference is not None and not self.objections


@dataclass(frozen=True)
class GateJudgement:
    """What the rule says of some finalists, and why.

    `winner` is the index of the finalist to keep; it takes the champion's place where `promotes`. `level_used`
    is the level after correction for `comparisons`. `reasons` are sentences on how the rule was applied,
    `rule_text` is the rule itself.
    """

    verdict: Verdict
    winner: int
    standings: tuple[Assessment, ...]
    champion: Assessment | None
    comparisons: int
    level_used: float
    reasons: tuple[str, ...]
    rule_text: str

    @property
    def promotes(self) -> bool:
        """Whether the winner becomes the champion."""
        return self.verdict in ("first", "better")

    def as_dict(self) -> dict[str, Any]:
        """All of it as dicts, lists, strings and numbers, as JSON takes them."""
        content: dict[str, Any] = _convert_tuples(asdict(self))
        for values, standing in zip(content["standings"], self.standings, strict=True):
            values["better"] = standing.is_better
        return {**content, "promotes": self.promotes}


def judge(
    finalists: Sequence[Contender],
    champion: Contender | None,
    labels: NDArray[np.int64],
    label_names: Sequence[str],
    rule: Rule,
    *,
    openings: int = 1,
) -> GateJudgement:
    """Say whether one of several finalists is better than the champion, and which.

    All are scored on the same images with labels of shape (images,), indices into `label_names`. A finalist is
    better where the interval of the difference (`over_seeds`) lies above 0, the difference is at least
    `rule.min_gain` and the mean recall of no class falls by more than `rule.class_drop`. Of those the one with
    the highest mean accuracy wins. Where there is none, the verdict is "worse" if the finalist with the highest
    mean has an interval below 0, else "cannot tell". `openings` counts how often the test images were opened
    for these finalists: one less `rule.level` is divided by finalists times openings (Bonferroni). Raises
    ValueError for no finalists, fewer than two seeds, and shapes and labels that do not fit.
    """
    _check_contenders(finalists, champion, labels, label_names, openings)
    comparisons = len(finalists) * openings
    level = 1 - (1 - rule.level) / comparisons
    champion_assessment = None if champion is None else _assess_contender(champion, labels, label_names, rule)
    standings = tuple(_assess_contender(finalist, labels, label_names, rule) for finalist in finalists)
    if champion is not None and champion_assessment is not None:
        differences = [compare_over_seeds(finalist.correct, champion.correct, level=level) for finalist in finalists]
        standings = tuple(
            _compare_with_champion(*pair, champion_assessment, rule)
            for pair in zip(standings, differences, strict=True)
        )
    best_index = max(range(len(standings)), key=lambda index: standings[index].accuracy.mean)
    better_indices = [index for index, standing in enumerate(standings) if standing.is_better]
    winner = max(better_indices, key=lambda index: standings[index].accuracy.mean, default=best_index)
    verdict = _decide_verdict(standings[winner])
    return GateJudgement(
        verdict=verdict,
        winner=winner,
        standings=standings,
        champion=champion_assessment,
        comparisons=comparisons,
        level_used=level,
        reasons=(
            *(_explain_assessment(standing, champion_assessment) for standing in standings),
            _explain_verdict(verdict, standings[winner]),
        ),
        rule_text=_describe_rule(rule, len(finalists), openings, level),
    )


def _decide_verdict(winner: Assessment) -> Verdict:
    if winner.difference is None:
        return "first"
    if winner.is_better:
        return "better"
    return "worse" if winner.difference.verdict == "worse" else "cannot tell"


def _assess_contender(
    configuration: Contender, labels: NDArray[np.int64], label_names: Sequence[str], rule: Rule
) -> Assessment:
    accuracy = summarize_repeats(configuration.correct.mean(axis=1).tolist(), level=rule.level)
    recalls: dict[str, float | None] = {}
    for index, name in enumerate(label_names):
        correct = configuration.correct[:, labels == index]
        recalls[name] = float(correct.mean()) if correct.size else None
    return Assessment(configuration.name, accuracy, recalls)


def _compare_with_champion(
    standing: Assessment, difference: Difference, champion: Assessment, rule: Rule
) -> Assessment:
    unsorted_drops = (
        RecallDrop(label, recall, champion_recall, champion_recall - recall)
        for label, recall in standing.recalls.items()
        if recall is not None
        and (champion_recall := champion.recalls[label]) is not None
        and champion_recall - recall > _TOLERANCE
    )
    drops = tuple(sorted(unsorted_drops, key=lambda drop: -drop.value))
    objections = tuple(_list_objections(difference, drops, rule))
    return replace(standing, difference=difference, drops=drops, objections=objections)


def _list_objections(difference: Difference, drops: Sequence[RecallDrop], rule: Rule) -> list[str]:
    objections = []
    if difference.verdict == "worse":
        objections.append("the interval lies below 0")
    elif difference.verdict == "cannot tell":
        objections.append("the interval holds 0")
    if difference.value < rule.min_gain - _TOLERANCE:
        objections.append(f"the gain is less than the {_format_points(rule.min_gain)} asked for")
    limit_text = f"more than the {_format_points(rule.class_drop)} allowed"
    excess_drops = [drop for drop in drops if drop.value > rule.class_drop + _TOLERANCE]
    return objections + [
        f"recall of {drop.label} falls by {_format_points(drop.value)}, {limit_text}" for drop in excess_drops
    ]


def _explain_assessment(standing: Assessment, champion: Assessment | None) -> str:
    difference = standing.difference
    if champion is None or difference is None:
        return f"{standing.name}: test accuracy {standing.accuracy}; there is no champion."
    reason = "; ".join(standing.objections) or "it is better by the rule"
    return f"{standing.name}: {standing.gain_text} over the champion {champion.name}; {reason}."


def _explain_verdict(verdict: Verdict, winner: Assessment) -> str:
    mean = f"{winner.accuracy.mean:.4f}"
    if verdict == "first":
        return f"{winner.name} is the first champion: the highest mean test accuracy, {mean}."
    if verdict == "better":
        return f"{winner.name} takes the champion's place: the highest mean test accuracy of those better, {mean}."
    sentence = "The champion keeps its place"
    if verdict == "worse":
        return f"{sentence}: {winner.name}, the finalist with the highest mean test accuracy, {mean}, is worse."
    return f"{sentence}: no finalist meets every part of the rule, the one with the highest mean being {winner.name}, {mean}."


def _describe_rule(rule: Rule, finalists: int, openings: int, level: float) -> str:
    finalist_noun = "finalists" if finalists > 1 else "finalist"
    opening_noun = "openings" if openings > 1 else "opening"
    return (
        f"A finalist is better where the {100 * level:.4g}% interval of its gain in test accuracy over the champion "
        f"lies above 0, the gain is at least {_format_points(rule.min_gain)}, and the recall of no class, as a mean over "
        f"seeds, falls by more than {_format_points(rule.class_drop)}; of several that are better the one with the highest "
        "mean test accuracy wins. The interval takes seeds and images together (crossed random effects, degrees of "
        "freedom after Satterthwaite, Biometrics Bulletin 2, 1946). Its level is "
        f"{100 * rule.level:.4g}% corrected for {finalists} {finalist_noun} and {openings} {opening_noun} of the test images for "
        f"{'them' if finalists > 1 else 'it'} (Bonferroni; O. J. Dunn, JASA 56, 1961)."
    )


def _format_points(fraction: float) -> str:
    return f"{100 * fraction:.2f} points"


def _convert_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _convert_tuples(item) for key, item in value.items()}
    return [_convert_tuples(item) for item in value] if isinstance(value, list | tuple) else value


def _check_contenders(
    finalists: Sequence[Contender],
    champion: Contender | None,
    labels: NDArray[np.int64],
    label_names: Sequence[str],
    openings: int,
) -> None:
    if not finalists:
        raise ValueError("there must be at least one finalist, but there is none")
    if openings < 1:
        raise ValueError(f"openings counts this one too and is at least 1, but is {openings}")
    if len(set(label_names)) != len(label_names):
        raise ValueError(f"label names must differ from one another, but got {list(label_names)}")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers of shape (images,), but are {labels.dtype} of shape {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < len(label_names):
        raise ValueError(f"labels must lie in 0..{len(label_names) - 1}, but lie in {labels.min()}..{labels.max()}")
    for contender in (*finalists, *([] if champion is None else [champion])):
        correct = check_correctness(contender.correct, "(seeds, images)")
        check_same_images(len(labels), correct.shape[1])
        if len(correct) < 2:
            raise ValueError(
                f"{contender.name} needs at least two trainings with different seeds, but has {len(correct)}"
            )


def judge_confirmations(
    store: Store,
    finalists: Sequence[Confirmations],
    champion: Champion | None,
    champion_confirmations: Confirmations | None,
    rule: Rule,
) -> GateJudgement:
    """What the gate says. theirs: the champion's confirmations. Errors: PromotionRefused for other test images."""
    finalist_scores = [_TestScores(store, scores) for scores in finalists]
    champion_scores = None if champion_confirmations is None else _TestScores(store, champion_confirmations)
    for scores in (*finalist_scores[1:], *([champion_scores] if champion_scores else [])):
        if not finalist_scores[0].has_same_images(scores):
            raise PromotionRefused(
                f"{scores.name} and {finalist_scores[0].name} were scored on different test images, and cannot be compared."
            )
    champion_contender = None
    if champion_scores is not None and champion is not None:
        champion_contender = replace(champion_scores.contender, name=f"version {champion.number}")
    openings = max(1, len(opening.collect_opening_names(finalists)))
    return judge(
        [scores.contender for scores in finalist_scores],
        champion_contender,
        finalist_scores[0].labels,
        LABELS,
        rule,
        openings=openings,
    )


class _TestScores:
    """A configuration's test predictions, a row a seed."""

    def __init__(self, store: Store, confirmations: Confirmations) -> None:
        self.name = confirmations.configuration.name
        self._predictions = [read_test_predictions(store, run.run_id, run.name) for run in confirmations.scored_runs]
        self.labels = self._predictions[0].labels

    @cached_property
    def contender(self) -> Contender:
        return Contender(self.name, np.stack([predictions.correct_mask for predictions in self._predictions]))

    def has_same_images(self, other: _TestScores) -> bool:
        first = self._predictions[0]
        return all(
            np.array_equal(first.index, predictions.index) and np.array_equal(first.labels, predictions.labels)
            for predictions in (*self._predictions, *other._predictions)
        )
