"""What held the best trial back, or most trials: too few epochs, too close or too loose a fit, a limit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from fmnist_sweep.analysis.edges import find_widening_override
from fmnist_sweep.config.check import is_allowed
from fmnist_sweep.config.keys import find_value
from fmnist_sweep.config.overrides import format_override_value
from fmnist_sweep.search.tunable import is_tunable
from fmnist_sweep.training.optimization import SCHEDULES, compute_learning_rate

Curve = Sequence[Mapping[str, float]]

# Training accuracy less validation accuracy: the documented models with dropout or normalisation end at 0.003 to 0.017,
# the one with neither at 0.044 (experiments/).
GAP = 0.03
_GAP_ERRORS = 3  # standard errors of the validation accuracy that a gap must have, too
POOR = 0.85  # a linear model reaches 0.84 on Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv:1708.07747, 2017)
_ANNEALED = 0.25  # of the base rate: the last epochs of a schedule that ends gain whatever their number
_OVERTIME = re.compile(r"OverTime: .*search\.trial_minutes=([0-9.e+]+)$")


@dataclass(frozen=True)
class StillImproving:
    """The best trial was gaining until its epochs ran out. gain: in validation accuracy, over the last quarter."""

    epochs: int
    gain: float
    override: str


@dataclass(frozen=True)
class FitProblem:
    """The accuracies of the best trial are far apart, or both poor. remedy: what the override does."""

    kind: Literal["apart", "poor"]
    train_accuracy: float
    val_accuracy: float
    remedy: str
    override: str


@dataclass(frozen=True)
class CutDown:
    """A limit that cut down half of the trials or more. limit: as typed. count: how many it cut, of how many."""

    limit: str
    kind: Literal["ended", "not begun", "early"]
    count: int
    trials: int
    override: str


def find_improvement(settings: Mapping[str, Any], curve: Curve, best_epoch: int, images: int) -> StillImproving | None:
    """Whether a trial was still improving when its epochs ran out.

    Its best epoch is the last of all that were planned, and over the last quarter of them (one at least) validation
    accuracy rose by more than the standard error of an accuracy on so many images. The two ends share their images,
    so that the error of their difference is smaller still.
    """
    epochs, planned = len(curve), settings["train"]["epochs"]
    if is_tunable(planned) or not 2 <= epochs == planned == best_epoch:
        return None
    last = curve[-1]["val_accuracy"]
    gain = last - curve[-1 - max(1, epochs // 4)]["val_accuracy"]
    if gain <= _compute_error(last, images) or not is_allowed(settings, "train.epochs", 2 * epochs):
        return None
    schedule = settings["train"]["schedule"]
    registration = SCHEDULES.find_registration(schedule.get("name"))
    is_own_code = registration is None or registration.plugin is not None  # which may need what no curve holds
    is_known = not is_own_code and not any(map(is_tunable, schedule.values()))
    if is_known and compute_learning_rate(schedule, 1.0, epochs, list(curve)) < _ANNEALED:
        return None
    return StillImproving(epochs, gain, f"train.epochs={2 * epochs}")


def judge_fit(
    settings: Mapping[str, Any], config: Mapping[str, Any], row: Mapping[str, float], images: int
) -> FitProblem | None:
    """What the accuracies of the best epoch say of the fit: far apart, both poor, or neither (None).

    config: the trial's values by dotted key. Far apart: by GAP, and by three standard errors. Both poor: below POOR,
    validation by two standard errors. Training accuracy is the mean over an epoch, with dropout and augmentation, and
    so lower than the model's own: a gap that is found is there.
    """
    train, validation = row["accuracy"], row["val_accuracy"]
    error = _compute_error(validation, images)
    if train - validation >= max(GAP, _GAP_ERRORS * error):
        found = next(_list_stronger_regularization(settings, config), None)
        return None if found is None else FitProblem("apart", train, validation, *found)
    if max(train, validation + 2 * error) < POOR:
        found = next(_list_larger_models(settings, config), None)
        return None if found is None else FitProblem("poor", train, validation, *found)
    return None


def _compute_error(accuracy: float, images: int) -> float:
    return math.sqrt(max(accuracy * (1 - accuracy), 1 / images) / images)


def _list_stronger_regularization(settings: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What regularizes more than the trial, and is fixed in its study: the search has judged what it tunes itself."""
    remedy = "regularize it more"
    dropout, shift = config.get("regularization.dropout"), config.get("train.augmentation.shift")
    if _is_number(dropout) and dropout < 0.5 and _is_fixed(settings, "regularization.dropout"):
        yield from _propose(settings, remedy, "regularization.dropout", round(min(0.5, dropout + 0.2), 2))
    if shift == 0 and _is_fixed(settings, "train.augmentation.shift"):
        yield from _propose(settings, "shift its training images", "train.augmentation.shift", 2)
    l2 = config.get("regularization.l2")
    if _is_number(l2) and _is_fixed(settings, "regularization.l2"):
        yield from _propose(settings, remedy, "regularization.l2", 10 * l2 if l2 else 1e-4)
    yield from _widen(settings, remedy, "regularization.dropout")


def _list_larger_models(settings: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    dropout = config.get("regularization.dropout")
    if _is_number(dropout) and dropout >= 0.3 and _is_fixed(settings, "regularization.dropout"):
        yield from _propose(settings, "regularize it less", "regularization.dropout", round(dropout / 2, 2))
    for key in ("model.filters", "model.dense_units", "model.dense_widths"):
        value = config.get(key)
        if isinstance(value, list):
            value = [2 * width for width in value] if all(map(_is_number, value)) else None
        elif _is_number(value):
            value = 2 * value
        if value and _is_fixed(settings, key):
            yield from _propose(settings, "give it a larger model", key, value)
        yield from _widen(settings, "give it a larger model", key)
    if _is_number(epochs := find_value(settings, "train.epochs")):
        yield from _propose(settings, "train for longer", "train.epochs", 2 * epochs)


def _propose(settings: Mapping[str, Any], remedy: str, key: str, value: Any) -> Iterator[tuple[str, str]]:
    if is_allowed(settings, key, value):
        yield remedy, f"{key}={format_override_value(value).replace(' ', '')}"


def _widen(settings: Mapping[str, Any], remedy: str, key: str) -> Iterator[tuple[str, str]]:
    spec = find_value(settings, key)
    if is_tunable(spec):
        override = find_widening_override(settings, (key, spec), is_upper=True)
        if override is not None:
            yield remedy, override


def _is_fixed(settings: Mapping[str, Any], key: str) -> bool:
    return not is_tunable(find_value(settings, key))


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def find_overtime(failures: Sequence[str | None], ended: int) -> CutDown | None:
    """Whether search.trial_minutes ended half of the trials. failures: the reasons of those that failed."""
    minutes = [float(match[1]) for reason in failures if (match := _OVERTIME.search(reason or ""))]
    if not _is_half(len(minutes), ended):
        return None
    limit = max(minutes)
    return CutDown(
        f"search.trial_minutes={limit:g}", "ended", len(minutes), ended, f"search.trial_minutes={2 * limit:g}"
    )


def find_lack_of_time(minutes: float, begun: int, planned: float) -> CutDown | None:
    """Whether search.max_minutes, which ended a study, kept half of its planned trials from beginning."""
    if math.isinf(planned) or not _is_half(int(planned) - begun, int(planned)):
        return None
    needed = math.ceil(minutes * planned / max(1, begun))
    return CutDown(
        f"search.max_minutes={minutes:g}",
        "not begun",
        int(planned) - begun,
        int(planned),
        f"search.max_minutes={needed}",
    )


def find_early_ends(settings: Mapping[str, Any], epochs: Sequence[int]) -> CutDown | None:
    """Whether early stopping ended half of the trials in the first half of their epochs. epochs: of each trial."""
    planned, patience = (find_value(settings, f"train.{key}") for key in ("epochs", "early_stopping.patience"))
    if not _is_number(planned) or not _is_number(patience):
        return None
    early = sum(2 * count <= planned for count in epochs)
    if not _is_half(early, len(epochs)) or not is_allowed(settings, "train.early_stopping.patience", 2 * patience):
        return None
    limit = f"train.early_stopping.patience={patience}"
    return CutDown(limit, "early", early, len(epochs), f"train.early_stopping.patience={2 * patience}")


def _is_half(count: int, total: int) -> bool:
    """Whether so many are half of them, and more than one."""
    return count >= 2 and 2 * count >= total
