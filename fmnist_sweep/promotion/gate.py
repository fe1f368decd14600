"""The rule by which a finalist takes the champion's place: a pure function from arrays to a verdict with reasons."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.comparison import Booleans, Difference, Repeats, compare_over_seeds, summarize_repeats
from fmnist_sweep.analysis.comparison.checks import (
    check_correctness,
    check_level,
    check_not_negative,
    check_same_images,
)
from fmnist_sweep.promotion.gate_text import (
    describe_rule,
    explain_assessment,
    explain_overused_label,
    explain_verdict,
    format_points,
)
from fmnist_sweep.promotion.overused_labels import OverusedLabel
from fmnist_sweep.promotion.spending import FIRST_SHARE, DecisionShare
from fmnist_sweep.text import format_interval

Verdict = Literal["first", "better", "cannot tell", "worse"]

# Rounding in a subtraction must not decide about a gain or a drop that equals its threshold.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Rule:
    """Thresholds that a finalist has to meet.

    `min_gain` is the smallest gain in accuracy and `class_drop` the largest fall of a class's recall, both as
    fractions of 1; `level` is the confidence of all decisions together. Raises ValueError for values out of range.
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
    """A configuration trained with several fresh seeds: `correct` has shape (seeds, images)."""

    name: str
    correct: Booleans


@dataclass(frozen=True)
class RecallDrop:
    """A class whose recall is lower than the champion's by `value`; recalls are means over seeds."""

    label: str
    recall: float
    champion: float
    value: float


@dataclass(frozen=True)
class Assessment:
    """One configuration beside the champion.

    `accuracy` is over its seeds; `recalls` are means over them by label, None for a label without images.
    `difference` is its accuracy minus the champion's, with the interval at the corrected level; it is None for the
    champion itself and where there is no champion. `drops` lists the classes that it recalls worse, the largest drop
    first; `objections` lists what keeps it from being better.
    """

    name: str
    accuracy: Repeats
    recalls: dict[str, float | None]
    difference: Difference | None = None
    drops: tuple[RecallDrop, ...] = ()
    objections: tuple[str, ...] = ()

    @property
    def gain_text(self) -> str:
        """The difference and its interval in words, or a dash where there is no champion."""
        difference = self.difference
        if difference is None:
            return "–"
        interval = format_interval(100 * difference.low, 100 * difference.high, decimals=2, signed=True)
        return f"{100 * difference.value:+.2f} points {interval}"

    @property
    def is_better(self) -> bool:
        """Whether it meets every part of the rule."""
        return self.difference is not None and not self.objections


@dataclass(frozen=True)
class GateJudgement:
    """The verdict on some finalists, and why.

    `winner` is the index of the best finalist; it takes the champion's place if `promotes`. `level_used` is the level
    after correction for `comparisons`. `reasons` are sentences on how the rule was applied; `rule_text` is the rule.
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
        """Whether the winner becomes champion."""
        return self.verdict in ("first", "better")

    def as_dict(self) -> dict[str, Any]:
        """The judgement as dicts, lists, strings and numbers, ready for JSON."""
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
    overused_labels: Sequence[OverusedLabel] = (),
    share: DecisionShare = FIRST_SHARE,
    entered: int = 1,
) -> GateJudgement:
    """Decide whether a finalist is better than the champion, and which.

    All of them were scored on the same images, whose labels of shape (images,) are indices into `label_names`. A
    finalist is better if the interval of the difference (`compare_over_seeds`) lies above 0, the difference is at least
    `rule.min_gain`, and the mean recall of no class falls by more than `rule.class_drop`; the classes of
    `overused_labels`, those of the champion, may fall. The better finalist with the highest mean accuracy wins. If no
    finalist is better, the verdict is "worse" if the finalist with the highest mean has an interval below 0, and
    "cannot tell" otherwise. `openings` is the number of times that the test images were opened for these finalists:
    the error 1 - `rule.level` is divided by finalists times openings (Bonferroni), after `share` has corrected it for
    the decisions before this one. `entered` is the number of finalists before looks dropped some, who count as long as
    they are more. Raises ValueError for no finalists, fewer than two seeds, and shapes or labels that
    do not fit.
    """
    _check_contenders(finalists, champion, labels, label_names, openings)
    entered = max(entered, len(finalists))
    comparisons = entered * openings
    level = 1 - (1 - share.correct_level(rule.level)) / comparisons
    exempt_labels = {overused.label for overused in overused_labels}
    champion_assessment = None if champion is None else _assess_contender(champion, labels, label_names, rule)
    standings = tuple(_assess_contender(finalist, labels, label_names, rule) for finalist in finalists)
    if champion is not None and champion_assessment is not None:
        differences = [compare_over_seeds(finalist.correct, champion.correct, level=level) for finalist in finalists]
        standings = tuple(
            _compare_with_champion(*pair, champion_assessment, rule, exempt_labels)
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
            *(explain_assessment(standing, champion_assessment) for standing in standings),
            *(explain_overused_label(champion.name, overused) for overused in overused_labels if champion is not None),
            explain_verdict(verdict, standings[winner]),
        ),
        rule_text=describe_rule(rule, entered, openings, level, share),
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
    standing: Assessment, difference: Difference, champion: Assessment, rule: Rule, exempt_labels: Set[str]
) -> Assessment:
    unsorted_drops = (
        RecallDrop(label, recall, champion_recall, champion_recall - recall)
        for label, recall in standing.recalls.items()
        if recall is not None
        and (champion_recall := champion.recalls[label]) is not None
        and champion_recall - recall > _TOLERANCE
    )
    drops = tuple(sorted(unsorted_drops, key=lambda drop: -drop.value))
    objections = tuple(_list_objections(difference, [drop for drop in drops if drop.label not in exempt_labels], rule))
    return replace(standing, difference=difference, drops=drops, objections=objections)


def _list_objections(difference: Difference, drops: Sequence[RecallDrop], rule: Rule) -> list[str]:
    objections = []
    if difference.verdict == "worse":
        objections.append("the interval lies below 0")
    elif difference.verdict == "cannot tell":
        objections.append("the interval contains 0")
    if difference.value < rule.min_gain - _TOLERANCE:
        objections.append(f"the gain is less than the {format_points(rule.min_gain)} required")
    limit_text = f"more than the {format_points(rule.class_drop)} allowed"
    excess_drops = [drop for drop in drops if drop.value > rule.class_drop + _TOLERANCE]
    return objections + [
        f"recall of {drop.label} falls by {format_points(drop.value)}, {limit_text}" for drop in excess_drops
    ]


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
        raise ValueError("at least one finalist is needed, but there is none")
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
