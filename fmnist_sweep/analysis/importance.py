"""How much each setting mattered for accuracy: a random forest's permutation importance, with its uncertainty."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.settings import VariedSetting, format_value
from fmnist_sweep.config.known_keys import NAMING_KEYS

LEAST_TRIALS = 8  # with fewer, a forest that has seen some has next to nothing left to be judged by
_MOST_TRIALS = 1000  # more change the answer little and make it wait
_REFITS = 20
_TREES = 50
_SHUFFLES = 5
# Trials that diverged are far below all others; unbounded they would be all that there is to explain.
_FENCE = 3.0


@dataclass(frozen=True)
class SettingImportance:
    """One setting: the share of the variance of accuracy that hangs on it, alone or together with others.

    value: mean over the refits, about 0 (also just below) where it does not matter; the shares of settings that act
    together overlap, so that they may sum to more than 1. low, high: the middle 90 % of the refits. same_as: settings
    that changed together with it.
    """

    key: str
    value: float
    low: float
    high: float
    same_as: tuple[str, ...] = ()


@dataclass(frozen=True)
class Importance:
    """The importance of the settings, the greatest first; `settings` is empty where no ranking is claimed.

    r_squared: share of the variance of accuracy that forests explain of trials they have not seen (out of bag R²), at
    most 1, or None where none was fitted; no_ranking_reason: the sentence that says why there is no
    ranking.
    """

    settings: tuple[SettingImportance, ...]
    r_squared: float | None
    trials: int
    refits: int = _REFITS
    no_ranking_reason: str | None = None


def measure_importance(
    settings: Sequence[VariedSetting],
    accuracies: Sequence[float | None],
    groups: Sequence[int] | None = None,
    seed: int = 0,
) -> Importance:
    """Rank settings by what they explain of the accuracies of finished trials (None: not finished).

    groups: the configuration of each trial; seeds of one configuration are never on both sides of a fit. Each refit
    draws configurations with replacement (bootstrap), and is judged on those that it has not drawn, so that the range
    over refits reflects how few trials there are. Accuracies below the lower quartile less three times the
    interquartile range count as that. Estimator: scikit-learn's RandomForestRegressor and permutation importance
    (L. Breiman, "Random forests", Machine Learning 45 (2001), 5-32). Shuffling raises the squared error by twice the
    variance that hangs on a setting (B. Gregorutti, B. Michel & P. Saint-Pierre, "Correlation and variable importance
    in random forests", Statistics and Computing 27 (2017), 659-678), so half of that is shown, as a share of the
    variance there is.
    """
    places = [place for place, accuracy in enumerate(accuracies) if accuracy is not None]
    if len(places) > _MOST_TRIALS:
        places = sorted(np.random.default_rng(seed).choice(places, _MOST_TRIALS, replace=False).tolist())
    target = clip_outliers(np.array([accuracies[place] for place in places], dtype=np.float64))
    group = np.array([places[i] if groups is None else groups[places[i]] for i in range(len(places))])
    settings = [setting for setting in settings if len({format_value(setting.values[place]) for place in places}) > 1]
    settings = _separate_options(settings, places, seed)
    no_ranking_reason = _explain_no_ranking(settings, target, group)
    if no_ranking_reason is not None:
        return Importance((), None, len(places), no_ranking_reason=no_ranking_reason)
    drops, r_squared = _refit_forests(_build_table(settings, places), target, group, seed)
    if r_squared <= 0:
        return Importance(
            (),
            r_squared,
            len(places),
            no_ranking_reason="The settings explain nothing of the accuracy of trials that the forest has not seen "
            f"(out-of-bag R² {r_squared:.2f}), so no ranking is claimed: such small differences need more trials.",
        )
    low, high = np.quantile(drops, (0.05, 0.95), axis=0)
    importances = [
        SettingImportance(setting.key, float(mean), float(least), float(most), setting.same_as)
        for setting, mean, least, most in zip(settings, drops.mean(axis=0), low, high, strict=True)
    ]
    return Importance(tuple(sorted(importances, key=lambda item: -item.value)), r_squared, len(places))


def _separate_options(settings: Sequence[VariedSetting], places: Sequence[int], seed: int) -> list[VariedSetting]:
    """Settings whose absence says nothing: that it is no setting of sgd is the importance of the optimizer's name.

    What only some options have, always with one value, follows from the choice of the option, which names it in
    same_as. What they have with several values is filled, where it is absent, with draws from these.
    """
    followers: dict[str, list[str]] = defaultdict(list)
    separated, generator = [], np.random.default_rng(seed)
    for setting in settings:
        choice = _find_choice(setting, settings, places)
        present = [setting.values[place] for place in places if setting.values[place] is not None]
        if choice is None:
            separated.append(setting)
        elif len({format_value(value) for value in present}) == 1:
            followers[choice].append(setting.key)
        else:
            draws = [present[draw] for draw in generator.integers(0, len(present), len(setting.values))]
            filled = (draw if value is None else value for value, draw in zip(setting.values, draws, strict=True))
            separated.append(replace(setting, values=tuple(filled)))
    return [replace(setting, same_as=(*setting.same_as, *followers[setting.key])) for setting in separated]


def _find_choice(setting: VariedSetting, settings: Sequence[VariedSetting], places: Sequence[int]) -> str | None:
    """The key that names the option that a setting belongs to, if that decides in which trials it is absent."""
    for choice in settings:
        section = choice.key.rpartition(".")[0]
        if choice.key not in NAMING_KEYS or choice is setting or not setting.key.startswith(f"{section}."):
            continue
        pairs = {(format_value(choice.values[place]), setting.values[place] is None) for place in places}
        options = [option for option, _ in pairs]
        if len(options) == len(set(options)) and {is_absent for _, is_absent in pairs} == {True, False}:
            return choice.key
    return None


def clip_outliers(accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracies with those far below the rest raised to the outer fence of a box plot."""
    if not len(accuracies):
        return accuracies
    lower, upper = np.quantile(accuracies, (0.25, 0.75))
    return np.maximum(accuracies, lower - _FENCE * (upper - lower)) if upper > lower else accuracies


def _explain_no_ranking(
    settings: Sequence[VariedSetting], target: NDArray[np.float64], group: NDArray[np.int64]
) -> str | None:
    configurations = len(np.unique(group))
    if not settings:
        return "Nothing but luck varied among the finished trials, so there is nothing to rank."
    if configurations < LEAST_TRIALS:
        word = "configuration has" if configurations == 1 else "configurations have"
        return (
            f"Only {configurations} finished {word} been tried: which setting mattered shows in {LEAST_TRIALS} or more."
        )
    if np.ptp(target) == 0:
        return "All finished trials have the same accuracy, so there is nothing to explain."
    return None


def _build_table(settings: Sequence[VariedSetting], places: Sequence[int]) -> NDArray[np.float64]:
    return np.column_stack([_build_column(setting, places) for setting in settings])


def _build_column(setting: VariedSetting, places: Sequence[int]) -> NDArray[np.float64]:
    """Numbers as they are, a missing one as NaN, on which a forest splits by itself; others by their place."""
    values = [setting.values[place] for place in places]
    if setting.numeric:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    order = {format_value(level): place for place, level in enumerate(setting.levels)}
    return np.array([order[format_value(value)] for value in values], dtype=np.float64)


def _refit_forests(
    table: NDArray[np.float64], target: NDArray[np.float64], group: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], float]:
    """Each refit's importance of each column, (refits, columns), as a share of the variance; and R² of the unseen."""
    from sklearn.ensemble import RandomForestRegressor

    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(group == kind) for kind in np.unique(group)]
    drops, predicted, prediction_counts = [], np.zeros(len(target)), np.zeros(len(target))
    for refit in range(_REFITS):
        sample = generator.integers(0, len(members), len(members))
        training_rows = np.concatenate([members[kind] for kind in sample])
        unseen_rows = np.setdiff1d(np.arange(len(target)), training_rows)
        if not len(unseen_rows):
            continue
        # Leaves of two: a trial alone is mostly its own luck.
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=refit, n_jobs=1)
        forest.fit(table[training_rows], target[training_rows])
        predicted[unseen_rows] += forest.predict(table[unseen_rows])
        prediction_counts[unseen_rows] += 1
        drops.append(_measure_drops(forest, table[unseen_rows], target[unseen_rows], generator) / (2 * target.var()))
    is_predicted = prediction_counts > 0
    error = float(((predicted[is_predicted] / prediction_counts[is_predicted] - target[is_predicted]) ** 2).mean())
    return np.array(drops), 1 - error / float(target.var())


def _measure_drops(
    forest: Any, table: NDArray[np.float64], target: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """By how much the forest's mean squared error grows with each column shuffled, (columns,).

    As scikit-learn's permutation_importance has it, but with all shuffled tables in one prediction: a forest's call
    costs more than the few rows in it, and that function makes one for each column and shuffle.
    """
    rows, columns = table.shape
    shuffled = np.tile(table, (columns, _SHUFFLES, 1, 1))
    for column in range(columns):
        for shuffle in range(_SHUFFLES):
            shuffled[column, shuffle, :, column] = generator.permutation(table[:, column])
    all_tables = np.concatenate([table, shuffled.reshape(-1, columns)])
    errors = (forest.predict(all_tables).reshape(-1, rows) - target) ** 2
    return np.asarray(errors[1:].mean(axis=1).reshape(columns, _SHUFFLES).mean(axis=1) - errors[0].mean())
