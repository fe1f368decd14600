"""Rules that judge whether measured runs reach what a write-up states and bear out what it concludes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmnist_sweep.analysis import comparison
from fmnist_sweep.data import LABELS
from fmnist_sweep.report.documented.recipe_results import (
    RecipeResults,
    compute_f1,
    compute_spread,
    count_confusions,
    format_spread,
)
from fmnist_sweep.report.documented.write_ups import StatedFigure
from fmnist_sweep.text import format_estimate
from fmnist_sweep.training.evaluation import find_most_confused

MIN_RUNS = 3  # trainings with different seeds
# The best published test accuracies, of far larger networks, lie at 96 to 97%.
BEST_PUBLISHED = 0.97
LOWER_IS_BETTER = frozenset(("loss", "val_loss", "test_loss"))
TOO_FEW = "too few runs for a verdict"
RULES = (
    f"No verdict is given on fewer than {MIN_RUNS} trainings with different seeds. *sd* is the standard deviation of a "
    "single training (n − 1 in its denominator).",
    "A stated figure is **reached** where the measured mean is at least as good (an accuracy as high, a loss as low), "
    "with a leeway of 2 sd and of half a unit of the figure's last digit; *better* where it is better by more than "
    "that. Otherwise it is **not reached**, and short by the distance of the mean. A number of epochs **agrees** "
    "within that leeway or **differs**.",
    "A figure stated as *above* something is **reached** where every run is above it, **not reached** where none is, "
    "else **partly**.",
    f"An accuracy above {BEST_PUBLISHED} is **not credible as a test accuracy**: the best published ones on "
    "Fashion-MNIST, with far larger networks, lie between 0.96 and 0.97.",
    "One model is better than another where the 95% interval of the difference of their accuracies on the same images, "
    "luck of seeds and of images taken together, excludes 0 and its test says so, too "
    "(`comparison.compare_over_seeds`); else the two **cannot be told apart**. The best is better than each other one.",
    "A conclusion about single runs (a label, a confusion) is **confirmed** where all runs show it, **contradicted** "
    "where none does, else **partly**, with the count.",
)


@dataclass(frozen=True)
class FigureVerdict:
    """The verdict on a stated figure, in words; is_reached: None where there is no verdict."""

    is_reached: bool | None
    text: str


def judge_figure(stated_figure: StatedFigure, kind: str, values: Sequence[float]) -> FigureVerdict:
    """Judge one stated figure by measured values, one a run. kind: of the figure that was measured."""
    if len(values) < MIN_RUNS:
        return FigureVerdict(None, TOO_FEW)
    if stated_figure.is_lower_bound:
        count = sum(value > stated_figure.value for value in values)
        return FigureVerdict(count == len(values), _judge_count(count, len(values), "reached", "not reached"))
    statistics = compute_spread(values)
    shortfall = (
        statistics.mean - stated_figure.value if kind in LOWER_IS_BETTER else stated_figure.value - statistics.mean
    )
    leeway = 2 * (statistics.sd or 0.0) + stated_figure.half_unit
    if kind == "epochs":
        is_within_leeway = abs(shortfall) <= leeway
        return FigureVerdict(
            is_within_leeway, "**agrees**" if is_within_leeway else f"**differs** by {abs(shortfall):.1f}"
        )
    if shortfall > leeway:
        return FigureVerdict(False, f"**not reached**: {shortfall:.4f} short")
    return FigureVerdict(True, f"**reached**, better by {-shortfall:.4f}" if shortfall < -leeway else "**reached**")


def is_credible(stated_figure: StatedFigure) -> bool:
    """Whether a figure could be a test accuracy of such a network."""
    return stated_figure.value - stated_figure.half_unit <= BEST_PUBLISHED


@dataclass(frozen=True)
class ConclusionVerdict:
    """What was measured of a conclusion, and the verdict on it, in words."""

    measurement: str
    verdict: str


def judge_conclusion(statement: Mapping[str, Any], results: Mapping[str, RecipeResults]) -> ConclusionVerdict:
    """Judge a write-up's conclusion (see WriteUp.conclusions) by the runs of its recipes."""
    recipe_results = results[statement["recipe"]]
    if len(recipe_results.runs) < MIN_RUNS:
        return ConclusionVerdict(f"{recipe_results.recipe}: n={len(recipe_results.runs)}", TOO_FEW)
    check = statement["check"]
    if check in _COMPARISONS:
        return _COMPARISONS[check](statement, recipe_results, results)
    return _CHECKS[check](statement, recipe_results)


def _check_above(statement: Mapping[str, Any], recipe_results: RecipeResults) -> ConclusionVerdict:
    accuracies = [float(predictions.correct_mask.mean()) for predictions in recipe_results.select_predictions()]
    verdict = _judge_count(sum(value > statement["value"] for value in accuracies), len(accuracies))
    return ConclusionVerdict(f"accuracy on the {recipe_results.image_source}: {format_spread(accuracies)}", verdict)


def _check_better(
    statement: Mapping[str, Any], recipe_results: RecipeResults, results: Mapping[str, RecipeResults]
) -> ConclusionVerdict:
    text, verdict = _compare_recipes(recipe_results, results[statement["than"]])
    words = {"better": "**confirmed**", "worse": "**contradicted**", "cannot tell": "**cannot be told apart**"}
    return ConclusionVerdict(text, words.get(verdict, verdict))


def _check_best(
    statement: Mapping[str, Any], recipe_results: RecipeResults, results: Mapping[str, RecipeResults]
) -> ConclusionVerdict:
    kind = statement["figure"]
    means = {name: compute_spread(other.read_values(kind)) for name, other in results.items() if other.runs}
    order = sorted(means, key=lambda name: -means[name].mean)
    rivals = [other for name, other in results.items() if name != recipe_results.recipe]
    comparisons = [_compare_recipes(recipe_results, rival) for rival in rivals]
    means_text = f"mean {kind} of the last epoch: {', '.join(f'{name} {means[name].mean:.4f}' for name in order)}"
    text = "; ".join([means_text, *(text for text, _ in comparisons)])
    verdicts = {rival.recipe: verdict for rival, (_, verdict) in zip(rivals, comparisons, strict=True)}
    if TOO_FEW in verdicts.values():
        return ConclusionVerdict(text, TOO_FEW)
    worse = [name for name, verdict in verdicts.items() if verdict == "worse"]
    unclear = [name for name, verdict in verdicts.items() if verdict == "cannot tell"]
    if worse:
        return ConclusionVerdict(text, f"**contradicted**: {', '.join(worse)} is better")
    if unclear:
        highest = (
            "its mean is the highest" if order[0] == recipe_results.recipe else f"the highest mean is {order[0]}'s"
        )
        return ConclusionVerdict(text, f"**cannot be told apart** from {', '.join(unclear)}; {highest}")
    return ConclusionVerdict(text, "**confirmed**")


def _compare_recipes(first_results: RecipeResults, second_results: RecipeResults) -> tuple[str, str]:
    """Compare two models over seeds and images: the difference in words, and the verdict."""
    if min(len(first_results.runs), len(second_results.runs)) < MIN_RUNS:
        return (
            f"{first_results.recipe} n={len(first_results.runs)}, {second_results.recipe} n={len(second_results.runs)}",
            TOO_FEW,
        )
    is_tested = first_results.is_tested and second_results.is_tested
    first, second = (
        np.stack([run.select_predictions(is_tested).correct_mask for run in side.runs])
        for side in (first_results, second_results)
    )
    estimate = comparison.compare_over_seeds(first, second)
    split_name = "test" if is_tested else "validation"
    gain = format_estimate(estimate.value, estimate.low, estimate.high, signed=True)
    difference = f"{gain}, p={estimate.p:.2g}"
    seeds = f"n={len(first)}" if len(first) == len(second) else f"n={len(first)} and {len(second)}"
    return (
        f"{first_results.recipe} − {second_results.recipe} on the {split_name} images: {difference} ({seeds})",
        estimate.verdict,
    )


def _check_lowest_f1(statement: Mapping[str, Any], recipe_results: RecipeResults) -> ConclusionVerdict:
    lowest = [min(scores, key=lambda name: scores[name]) for scores in compute_f1(recipe_results)]
    label = statement["label"]
    label_f1 = format_spread([scores[label] for scores in compute_f1(recipe_results)])
    text = f"F1 of {label} on the {recipe_results.image_source}: {label_f1}; lowest of the ten: {_tally(lowest)}"
    return ConclusionVerdict(text, _judge_count(lowest.count(label), len(lowest)))


def _check_commonest_confusion(statement: Mapping[str, Any], recipe_results: RecipeResults) -> ConclusionVerdict:
    pairs = [find_most_confused(matrix.tolist(), LABELS, 1)[0][:2] for matrix in count_confusions(recipe_results)]
    matches = [true == statement["label"] and predicted in statement["taken_for"] for true, predicted in pairs]
    text = _tally([f"{true} taken for {predicted}" for true, predicted in pairs])
    return ConclusionVerdict(
        f"commonest confusion on the {recipe_results.image_source}: {text}", _judge_count(sum(matches), len(matches))
    )


def _check_mistaken_labels(statement: Mapping[str, Any], recipe_results: RecipeResults) -> ConclusionVerdict:
    expected, place = set(statement["taken_for"]), LABELS.index(statement["label"])
    top_labels = []
    for matrix in count_confusions(recipe_results):
        row = matrix[place].copy()
        row[place] = -1
        top_labels.append([LABELS[other] for other in np.argsort(-row, kind="stable")[: len(expected)]])
    text = _tally([" and ".join(labels) for labels in top_labels])
    return ConclusionVerdict(
        f"a {statement['label']} is mostly taken for, on the {recipe_results.image_source}: {text}",
        _judge_count(sum(set(labels) == expected for labels in top_labels), len(top_labels)),
    )


# Checks of one recipe's runs, and of its runs beside those of other recipes.
_CHECKS: dict[str, Callable[[Mapping[str, Any], RecipeResults], ConclusionVerdict]] = {
    "above": _check_above,
    "lowest_f1": _check_lowest_f1,
    "commonest_confusion": _check_commonest_confusion,
    "taken_mostly_for": _check_mistaken_labels,
}
_COMPARISONS: dict[
    str, Callable[[Mapping[str, Any], RecipeResults, Mapping[str, RecipeResults]], ConclusionVerdict]
] = {
    "better": _check_better,
    "best": _check_best,
}


def _judge_count(k: int, n: int, yes: str = "confirmed", no: str = "contradicted") -> str:
    if k == n:
        return f"**{yes}** in all {n} runs"
    return f"**partly**: in {k} of {n} runs" if k else f"**{no}** in all {n} runs"


def _tally(values: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(values))
    return ", ".join(f"{name} ({values.count(name)} of {len(values)})" for name in distinct)
