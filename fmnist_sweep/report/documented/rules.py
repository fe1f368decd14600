"""Whether measured runs reach what a write-up states and bear out what it concludes, by rules that a page can print."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import numpy as np

from fmnist_sweep.analysis import comparison, per_class
from fmnist_sweep.analysis.comparison import Repeats
from fmnist_sweep.data import LABELS
from fmnist_sweep.report.documented.write_ups import Figure, Run
from fmnist_sweep.tracking.trials import Predictions
from fmnist_sweep.training.evaluation import most_confused

LEAST = 3  # trainings with different seeds
# The best published test accuracies, of far larger networks, lie at 96 to 97%.
BEST_PUBLISHED = 0.97
LOWER_IS_BETTER = frozenset(("loss", "val_loss", "test_loss"))
TOO_FEW = "too few runs for a verdict"
RULES = (
    f"No verdict is given on fewer than {LEAST} trainings with different seeds. *sd* is the standard deviation of a "
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
    "luck of seeds and of images taken together, excludes 0 and its test says so, too (`comparison.over_seeds`); else "
    "the two **cannot be told apart**. The best is better than each other one.",
    "A conclusion about single runs (a label, a confusion) is **confirmed** where all runs show it, **contradicted** "
    "where none does, else **partly**, with the count.",
)


@dataclass(frozen=True)
class Measured:
    """The runs of one recipe and what can be read off them."""

    recipe: str
    runs: Sequence[Run]

    @cached_property
    def tested(self) -> bool:
        """Whether every run has seen the test images."""
        return bool(self.runs) and all(run.test is not None for run in self.runs)

    def judged(self) -> list[Predictions]:
        """Of each run: the test images where all were tested on them, else the validation images."""
        tests = [run.test for run in self.runs if run.test is not None]
        return [*tests] if self.tested else [run.validation for run in self.runs]

    @property
    def judged_on(self) -> str:
        return "test images" if self.tested else "validation images (the test images were not opened for all runs)"

    def values(self, kind: str) -> list[float]:
        """A figure of each run, by the run's order; empty where it is not known of all."""
        found = [_value(run, kind) for run in self.runs]
        known = [value for value in found if value is not None]
        return known if len(known) == len(found) else []


def _value(run: Run, kind: str) -> float | None:
    if kind == "epochs":
        return float(len(run.history))
    if kind == "gap":
        return run.history[-1]["accuracy"] - run.history[-1]["val_accuracy"]
    if kind == "test_accuracy_unseen":
        return None if run.test is None else float(run.test.correct[~run.test.seen].mean())
    if kind in run.history[-1]:  # not the latest that was logged but that of the last epoch
        return run.history[-1][kind]
    return run.trial.metrics.get(kind)


@dataclass(frozen=True)
class Verdict:
    """What became of a stated figure. reached: None where there is no verdict. text: in words."""

    reached: bool | None
    text: str


def figure(stated: Figure, kind: str, values: Sequence[float]) -> Verdict:
    """The verdict on one stated figure; kind: what it was held against."""
    if len(values) < LEAST:
        return Verdict(None, TOO_FEW)
    if stated.above:
        above = sum(value > stated.value for value in values)
        return Verdict(above == len(values), _count(above, len(values), "reached", "not reached"))
    measured = spread(values)
    short = measured.mean - stated.value if kind in LOWER_IS_BETTER else stated.value - measured.mean
    leeway = 2 * (measured.sd or 0.0) + stated.half_unit
    if kind == "epochs":
        agrees = abs(short) <= leeway
        return Verdict(agrees, "**agrees**" if agrees else f"**differs** by {abs(short):.1f}")
    if short > leeway:
        return Verdict(False, f"**not reached**: {short:.4f} short")
    return Verdict(True, f"**reached**, better by {-short:.4f}" if short < -leeway else "**reached**")


def is_credible(stated: Figure) -> bool:
    """Whether a figure could be a test accuracy of such a network."""
    return stated.value - stated.half_unit <= BEST_PUBLISHED


@dataclass(frozen=True)
class Judgement:
    """What became of a conclusion. measured: what was seen, in words."""

    measured: str
    verdict: str


def conclusion(stated: Mapping[str, Any], measured: Mapping[str, Measured]) -> Judgement:
    """Judge a write-up's conclusion (see WriteUp.conclusions) by the runs of its recipes."""
    one = measured[stated["recipe"]]
    if len(one.runs) < LEAST:
        return Judgement(f"{one.recipe}: n={len(one.runs)}", TOO_FEW)
    return _CHECKS[stated["check"]](stated, one, measured)


def _above(stated: Mapping[str, Any], one: Measured, measured: Mapping[str, Measured]) -> Judgement:
    accuracies = [float(found.correct.mean()) for found in one.judged()]
    verdict = _count(sum(value > stated["value"] for value in accuracies), len(accuracies))
    return Judgement(f"accuracy on the {one.judged_on}: {spread(accuracies).text()}", verdict)


def _better(stated: Mapping[str, Any], one: Measured, measured: Mapping[str, Measured]) -> Judgement:
    text, verdict = _apart(one, measured[stated["than"]])
    words = {"better": "**confirmed**", "worse": "**contradicted**", "cannot tell": "**cannot be told apart**"}
    return Judgement(text, words.get(verdict, verdict))


def _best(stated: Mapping[str, Any], one: Measured, measured: Mapping[str, Measured]) -> Judgement:
    kind = stated["figure"]
    means = {name: spread(other.values(kind)) for name, other in measured.items() if other.runs}
    order = sorted(means, key=lambda name: -means[name].mean)
    rivals = [other for name, other in measured.items() if name != one.recipe]
    apart = [_apart(one, rival) for rival in rivals]
    seen = f"mean {kind} of the last epoch: {', '.join(f'{name} {means[name].mean:.4f}' for name in order)}"
    text = "; ".join([seen, *(text for text, _ in apart)])
    verdicts = {rival.recipe: verdict for rival, (_, verdict) in zip(rivals, apart, strict=True)}
    if TOO_FEW in verdicts.values():
        return Judgement(text, TOO_FEW)
    worse = [name for name, verdict in verdicts.items() if verdict == "worse"]
    unclear = [name for name, verdict in verdicts.items() if verdict == "cannot tell"]
    if worse:
        return Judgement(text, f"**contradicted**: {', '.join(worse)} is better")
    if unclear:
        highest = "its mean is the highest" if order[0] == one.recipe else f"the highest mean is {order[0]}'s"
        return Judgement(text, f"**cannot be told apart** from {', '.join(unclear)}; {highest}")
    return Judgement(text, "**confirmed**")


def _apart(one: Measured, other: Measured) -> tuple[str, str]:
    """The difference of two models over seeds and images, in words and as a verdict."""
    if min(len(one.runs), len(other.runs)) < LEAST:
        return f"{one.recipe} n={len(one.runs)}, {other.recipe} n={len(other.runs)}", TOO_FEW
    tested = one.tested and other.tested
    first, second = (np.stack([_predictions(run, tested).correct for run in side.runs]) for side in (one, other))
    found = comparison.over_seeds(first, second)
    where = "test" if tested else "validation"
    difference = f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}], p={found.p:.2g}"
    seeds = f"n={len(first)}" if len(first) == len(second) else f"n={len(first)} and {len(second)}"
    return f"{one.recipe} − {other.recipe} on the {where} images: {difference} ({seeds})", found.verdict


def _predictions(run: Run, tested: bool) -> Predictions:
    return run.test if tested and run.test is not None else run.validation


def _lowest_f1(stated: Mapping[str, Any], one: Measured, measured: Mapping[str, Measured]) -> Judgement:
    lowest = [min(scores, key=lambda name: scores[name]) for scores in f1(one)]
    label = stated["label"]
    own = spread([scores[label] for scores in f1(one)])
    text = f"F1 of {label} on the {one.judged_on}: {own.text()}; lowest of the ten: {_tally(lowest)}"
    return Judgement(text, _count(lowest.count(label), len(lowest)))


def _commonest_confusion(stated: Mapping[str, Any], one: Measured, measured: Mapping[str, Measured]) -> Judgement:
    found = [most_confused(matrix.tolist(), LABELS, 1)[0][:2] for matrix in confusions(one)]
    right = [true == stated["label"] and taken in stated["taken_for"] for true, taken in found]
    text = _tally([f"{true} taken for {taken}" for true, taken in found])
    return Judgement(f"commonest confusion on the {one.judged_on}: {text}", _count(sum(right), len(right)))


def _taken_mostly_for(stated: Mapping[str, Any], one: Measured, measured: Mapping[str, Measured]) -> Judgement:
    meant, place = set(stated["taken_for"]), LABELS.index(stated["label"])
    found = []
    for matrix in confusions(one):
        row = matrix[place].copy()
        row[place] = -1
        found.append([LABELS[other] for other in np.argsort(-row, kind="stable")[: len(meant)]])
    text = _tally([" and ".join(taken) for taken in found])
    return Judgement(
        f"a {stated['label']} is mostly taken for, on the {one.judged_on}: {text}",
        _count(sum(set(taken) == meant for taken in found), len(found)),
    )


_Check = Callable[[Mapping[str, Any], Measured, Mapping[str, Measured]], Judgement]
_CHECKS: dict[str, _Check] = {
    "above": _above,
    "better": _better,
    "best": _best,
    "lowest_f1": _lowest_f1,
    "commonest_confusion": _commonest_confusion,
    "taken_mostly_for": _taken_mostly_for,
}


def f1(one: Measured) -> list[dict[str, float]]:
    """Of each run, the F1 of each label."""
    return [
        {score.label: score.f1 for score in per_class(found.labels, found.predicted, LABELS)} for found in one.judged()
    ]


def confusions(one: Measured) -> list[Any]:
    """Of each run, how many images of each label (rows) were taken for each (columns)."""
    found = []
    for predictions in one.judged():
        matrix = np.zeros((len(LABELS), len(LABELS)), np.int64)
        np.add.at(matrix, (predictions.labels, predictions.predicted), 1)
        found.append(matrix)
    return found


def _count(k: int, n: int, yes: str = "confirmed", no: str = "contradicted") -> str:
    if k == n:
        return f"**{yes}** in all {n} runs"
    return f"**partly**: in {k} of {n} runs" if k else f"**{no}** in all {n} runs"


def _tally(found: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(found))
    return ", ".join(f"{name} ({found.count(name)} of {len(found)})" for name in distinct)


def spread(values: Sequence[float]) -> Repeats:
    """Mean and sd of any figure; comparison.repeats takes accuracies alone."""
    sd = stdev(values) if len(values) > 1 else None
    return Repeats(len(values), fmean(values), sd, None, None)


def summary(values: Sequence[float], decimals: int = 4) -> str:
    """Mean, sd and count of a figure in words; an en dash where there is none."""
    if not values:
        return "–"
    measured = spread(values)
    if decimals == 4:
        return measured.text()
    around = "" if measured.sd is None else f" ± {measured.sd:,.{decimals}f}"
    return f"{measured.mean:,.{decimals}f}{around} (n={measured.n})"
