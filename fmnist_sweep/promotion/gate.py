"""The rule by which a finalist takes the champion's place: arrays of right and wrong in, a reasoned verdict out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.comparison import Booleans, Difference, Repeats, over_seeds, repeats
from fmnist_sweep.analysis.comparison.checks import checked, checked_level, not_negative, same_images
from fmnist_sweep.data import LABELS
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion import opening
from fmnist_sweep.tracking import test_predictions as tested

if TYPE_CHECKING:
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.confirming import Confirmations
    from fmnist_sweep.tracking.store import Store

Verdict = Literal["first", "better", "cannot tell", "worse"]

# A gain or a drop of just as much as the rule says may come out of subtraction a hair off.
_ROUNDING = 1e-9


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
        not_negative("min_gain", self.min_gain)
        not_negative("class_drop", self.class_drop)
        checked_level(self.level)


@dataclass(frozen=True)
class Confirmed:
    """A configuration trained anew with several seeds: `correct` has shape (seeds, images)."""

    name: str
    correct: Booleans


@dataclass(frozen=True)
class Drop:
    """A class that a finalist recalls worse than the champion by `value`, as means over seeds."""

    label: str
    recall: float
    champion: float
    value: float


@dataclass(frozen=True)
class Standing:
    """Where one configuration stands beside the champion.

    `accuracy` is over its seeds and `recalls` are means over them, by label, None for a label without images.
    `difference` is its own less the champion's at the corrected level, None for the champion and without one.
    `drops` are the classes it recalls worse, largest first, `objections` what keeps it from being better.
    """

    name: str
    accuracy: Repeats
    recalls: dict[str, float | None]
    difference: Difference | None = None
    drops: tuple[Drop, ...] = ()
    objections: tuple[str, ...] = ()

    @property
    def gain(self) -> str:
        """The difference and its interval in words; a dash without a champion."""
        found = self.difference
        if found is None:
            return "–"
        return f"{100 * found.value:+.2f} points [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"

    @property
    def better(self) -> bool:
        """Whether it meets every part of the rule."""
        return self.difference is not None and not self.objections


@dataclass(frozen=True)
class Judgement:
    """What the rule says of some finalists, and why.

    `winner` is the index of the finalist to keep; it takes the champion's place where `promotes`. `level_used`
    is the level after correction for `comparisons`. `reasons` are sentences on how the rule was applied,
    `rule_text` is the rule itself.
    """

    verdict: Verdict
    winner: int
    standings: tuple[Standing, ...]
    champion: Standing | None
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
        found: dict[str, Any] = _plain(asdict(self))
        for values, standing in zip(found["standings"], self.standings, strict=True):
            values["better"] = standing.better
        return {**found, "promotes": self.promotes}


def judge(
    finalists: Sequence[Confirmed],
    champion: Confirmed | None,
    labels: NDArray[np.int64],
    label_names: Sequence[str],
    rule: Rule,
    *,
    openings: int = 1,
) -> Judgement:
    """Say whether one of several finalists is better than the champion, and which.

    All are scored on the same images with labels of shape (images,), indices into `label_names`. A finalist is
    better where the interval of the difference (`over_seeds`) lies above 0, the difference is at least
    `rule.min_gain` and the mean recall of no class falls by more than `rule.class_drop`. Of those the one with
    the highest mean accuracy wins. Where there is none, the verdict is "worse" if the finalist with the highest
    mean has an interval below 0, else "cannot tell". `openings` counts how often the test images were opened
    for these finalists: one less `rule.level` is divided by finalists times openings (Bonferroni). Raises
    ValueError for no finalists, fewer than two seeds, and shapes and labels that do not fit.
    """
    _check(finalists, champion, labels, label_names, openings)
    comparisons = len(finalists) * openings
    level = 1 - (1 - rule.level) / comparisons
    before = None if champion is None else _alone(champion, labels, label_names, rule)
    standings = tuple(_alone(one, labels, label_names, rule) for one in finalists)
    if champion is not None and before is not None:
        differences = [over_seeds(one.correct, champion.correct, level=level) for one in finalists]
        standings = tuple(_beside(*pair, before, rule) for pair in zip(standings, differences, strict=True))
    highest = max(range(len(standings)), key=lambda index: standings[index].accuracy.mean)
    better = [index for index, standing in enumerate(standings) if standing.better]
    winner = max(better, key=lambda index: standings[index].accuracy.mean, default=highest)
    verdict = _verdict(standings[winner])
    return Judgement(
        verdict=verdict,
        winner=winner,
        standings=standings,
        champion=before,
        comparisons=comparisons,
        level_used=level,
        reasons=(*(_applied(standing, before) for standing in standings), _conclusion(verdict, standings[winner])),
        rule_text=_worded(rule, len(finalists), openings, level),
    )


def _verdict(winner: Standing) -> Verdict:
    if winner.difference is None:
        return "first"
    if winner.better:
        return "better"
    return "worse" if winner.difference.verdict == "worse" else "cannot tell"


def _alone(configuration: Confirmed, labels: NDArray[np.int64], label_names: Sequence[str], rule: Rule) -> Standing:
    accuracy = repeats(configuration.correct.mean(axis=1).tolist(), level=rule.level)
    recalls: dict[str, float | None] = {}
    for index, name in enumerate(label_names):
        own = configuration.correct[:, labels == index]
        recalls[name] = float(own.mean()) if own.size else None
    return Standing(configuration.name, accuracy, recalls)


def _beside(standing: Standing, difference: Difference, champion: Standing, rule: Rule) -> Standing:
    falls = (
        Drop(label, recall, before, before - recall)
        for label, recall in standing.recalls.items()
        if recall is not None and (before := champion.recalls[label]) is not None and before - recall > _ROUNDING
    )
    drops = tuple(sorted(falls, key=lambda drop: -drop.value))
    objections = tuple(_objections(difference, drops, rule))
    return replace(standing, difference=difference, drops=drops, objections=objections)


def _objections(difference: Difference, drops: Sequence[Drop], rule: Rule) -> list[str]:
    found = []
    if difference.verdict == "worse":
        found.append("the interval lies below 0")
    elif difference.verdict == "cannot tell":
        found.append("the interval holds 0")
    if difference.value < rule.min_gain - _ROUNDING:
        found.append(f"the gain is less than the {_points(rule.min_gain)} asked for")
    allowed = f"more than the {_points(rule.class_drop)} allowed"
    too_far = [drop for drop in drops if drop.value > rule.class_drop + _ROUNDING]
    return found + [f"recall of {drop.label} falls by {_points(drop.value)}, {allowed}" for drop in too_far]


def _applied(standing: Standing, champion: Standing | None) -> str:
    found = standing.difference
    if champion is None or found is None:
        return f"{standing.name}: test accuracy {standing.accuracy}; there is no champion."
    because = "; ".join(standing.objections) or "it is better by the rule"
    return f"{standing.name}: {standing.gain} over the champion {champion.name}; {because}."


def _conclusion(verdict: Verdict, winner: Standing) -> str:
    mean = f"{winner.accuracy.mean:.4f}"
    if verdict == "first":
        return f"{winner.name} is the first champion: the highest mean test accuracy, {mean}."
    if verdict == "better":
        return f"{winner.name} takes the champion's place: the highest mean test accuracy of those better, {mean}."
    kept = "The champion keeps its place"
    if verdict == "worse":
        return f"{kept}: {winner.name}, the finalist with the highest mean test accuracy, {mean}, is worse."
    return (
        f"{kept}: no finalist meets every part of the rule, the one with the highest mean being {winner.name}, {mean}."
    )


def _worded(rule: Rule, finalists: int, openings: int, level: float) -> str:
    several = "finalists" if finalists > 1 else "finalist"
    opened = "openings" if openings > 1 else "opening"
    return (
        f"A finalist is better where the {100 * level:.4g}% interval of its gain in test accuracy over the champion "
        f"lies above 0, the gain is at least {_points(rule.min_gain)}, and the recall of no class, as a mean over "
        f"seeds, falls by more than {_points(rule.class_drop)}; of several that are better the one with the highest "
        "mean test accuracy wins. The interval takes seeds and images together (crossed random effects, degrees of "
        "freedom after Satterthwaite, Biometrics Bulletin 2, 1946). Its level is "
        f"{100 * rule.level:.4g}% corrected for {finalists} {several} and {openings} {opened} of the test images for "
        f"{'them' if finalists > 1 else 'it'} (Bonferroni; O. J. Dunn, JASA 56, 1961)."
    )


def _points(fraction: float) -> str:
    return f"{100 * fraction:.2f} points"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _check(
    finalists: Sequence[Confirmed],
    champion: Confirmed | None,
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
    for one in (*finalists, *([] if champion is None else [champion])):
        correct = checked(one.correct, "(seeds, images)")
        same_images(len(labels), correct.shape[1])
        if len(correct) < 2:
            raise ValueError(f"{one.name} needs at least two trainings with different seeds, but has {len(correct)}")


def judgement_of(
    store: Store,
    finalists: Sequence[Confirmations],
    champion: Champion | None,
    theirs: Confirmations | None,
    rule: Rule,
) -> Judgement:
    """What the gate says. theirs: the champion's confirmations. Errors: PromotionRefused for other test images."""
    scored = [_Scored(store, each) for each in finalists]
    beside = None if theirs is None else _Scored(store, theirs)
    for each in (*scored[1:], *([beside] if beside else [])):
        if not scored[0].same_images(each):
            raise PromotionRefused(
                f"{each.name} and {scored[0].name} were scored on different test images, and cannot be compared."
            )
    before = None
    if beside is not None and champion is not None:
        before = replace(beside.confirmed, name=f"version {champion.number}")
    openings = max(1, len(opening.names(finalists)))
    return judge([each.confirmed for each in scored], before, scored[0].labels, LABELS, rule, openings=openings)


class _Scored:
    """A configuration's test predictions, a row a seed."""

    def __init__(self, store: Store, confirmations: Confirmations) -> None:
        self.name = confirmations.configuration.name
        self._told = [tested.read_test_predictions(store, run.run_id, run.name) for run in confirmations.scored]
        self.labels = self._told[0].labels

    @cached_property
    def confirmed(self) -> Confirmed:
        return Confirmed(self.name, np.stack([told.correct_mask for told in self._told]))

    def same_images(self, other: _Scored) -> bool:
        first = self._told[0]
        return all(
            np.array_equal(first.index, told.index) and np.array_equal(first.labels, told.labels)
            for told in (*self._told, *other._told)
        )
