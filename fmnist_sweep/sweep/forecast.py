"""Forecast of a sweep before it starts: trials, epochs, minutes and megabytes, from one timed workload.

A megabyte is a million bytes. Megabytes are an upper estimate, for the largest model of the space; minutes are those of
a model in its middle.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fmnist_sweep.errors import StoreError
from fmnist_sweep.search import space
from fmnist_sweep.search.estimates import (
    compute_hyperband_rungs,
    continues_beyond_budget,
    find_max_epochs,
    list_asha_epochs,
    list_own_epochs,
    list_rung_epochs,
)
from fmnist_sweep.search.parameters import find_tunables
from fmnist_sweep.text import format_duration, format_epoch_count, format_trial_count
from fmnist_sweep.training.probe import TrainingCost

# For scoring, drawing, logging, saving and proposing: median of 12 trials on 2 cores (benchmarks/overhead.py).
_OVERHEAD_SECONDS = 0.41

# Bytes on disk, in whole blocks of 4096, as small sweeps of drawn images and of Fashion-MNIST left them.
_TRIAL_BYTES = 400_000  # figures, tables, config: 260,000 to 330,000; rows of the database: 32,000; journal: 20,000
_PREDICTION_BYTES = 10 * 4 + 2 * 8  # of one validation image: probabilities, label and index
_EPOCH_BYTES = 2_000  # rows of the database
_MODEL_BYTES = 60_000  # beside the weights: architecture, input example, environment
_STUDY_BYTES = 8_000_000  # report (2.3 to 3.7 MB), leaderboard and best figures, of the study and of its sweep
_STORE_BYTES = 5_500_000  # an empty database (1 MB) and its write-ahead log (4.2 MB)
_FLOAT_BYTES = 4
# Of each parameter, in a checkpoint: its value, two of the optimizer's, and its value in the best epoch.
_CHECKPOINT_FLOATS = 4
# Two checkpoints are kept while a third is written. A result waits to be logged while a model is about to be dropped.
_CHECKPOINTS, _TEMPORARY_MODELS = 3, 2


@dataclass(frozen=True)
class StudyWork:
    """What is to be forecast of a study.

    trials: planned in all, math.inf where only time limits them. ended_trials: how many of them have ended.
    max_minutes: what is left of the budget of time, None for no limit. keep_models: how many models stay in the store.
    validation_images: how many. slots: trials at once, each as fast as the one that was timed. configurations: planned
    in all, of which some are promoted (ASHA). is_limited: whether some of the space is refused, so that there may be
    fewer trials.
    """

    search_name: str
    oracle: Mapping[str, Any]
    settings: Mapping[str, Any]
    trials: float
    ended_trials: int
    max_minutes: float | None
    keep_models: int | Literal["all"]
    validation_images: int
    slots: int = 1
    configurations: float = math.inf
    is_limited: bool = False


@dataclass(frozen=True)
class Forecast:
    """What is still to come. Any of it is math.inf when nothing ends it; minutes are nan when they are unknown.

    epochs: at most, because early stopping saves some. megabytes: at most, to stay. scratch_megabytes: at most, needed
    besides while the sweep runs. trial_seconds, width: of a study, how long each of its trials takes, and how many
    train at once. is_upper_bound: whether there may be fewer trials.
    """

    trials: float
    epochs: float
    minutes: float
    megabytes: float
    scratch_megabytes: float
    trial_seconds: float = 0.0
    width: int = 1
    is_upper_bound: bool = False


def forecast_study(cost: TrainingCost, work: StudyWork) -> Forecast:
    """Forecast what is left of a study."""
    if work.search_name == "hyperband" and any(find_tunables(work.settings)):
        epochs = _list_hyperband_epochs(space.read_epochs(work.settings), work.oracle)
        return _forecast_rungs(cost, work, epochs)
    if continues_beyond_budget(work.search_name, work.settings) and math.isfinite(work.configurations):
        return _forecast_rungs(cost, work, list_asha_epochs(work.oracle, work.settings, work.configurations))
    max_epochs = find_max_epochs(space.read_epochs(work.settings))
    seconds_per_trial = _OVERHEAD_SECONDS + cost.start_seconds + cost.epoch_seconds * max_epochs
    seconds_left = _convert_to_seconds(work.max_minutes)
    trials = max(0.0, work.trials - work.ended_trials)
    if seconds_left < math.inf and not math.isnan(seconds_per_trial):
        trials = min(trials, work.slots * max(0, math.ceil(seconds_left / seconds_per_trial)))
    rounds = trials if math.isinf(trials) else math.ceil(trials / work.slots)
    # The one supervisor does the overhead of all trials, whatever the number of slots.
    seconds = max(rounds * seconds_per_trial, trials * _OVERHEAD_SECONDS)
    forecast = _build_forecast(cost, work, trials, trials * max_epochs, seconds)
    return replace(forecast, trial_seconds=seconds_per_trial, width=work.slots) if trials else forecast


def _forecast_rungs(cost: TrainingCost, work: StudyWork, epochs: list[int]) -> Forecast:
    """Forecast a search with rungs. epochs: that each trial really trains, in the order in which they begin."""
    seconds_left = _convert_to_seconds(work.max_minutes)
    epochs = epochs[work.ended_trials : int(min(work.trials, 10**9))]
    fixed_seconds = _OVERHEAD_SECONDS + cost.start_seconds
    trial_seconds = [(fixed_seconds + cost.epoch_seconds * count) / work.slots for count in epochs]
    # No trial begins after the budget is spent; the one under way ends.
    started_trials = sum(
        1 for elapsed in itertools.accumulate(trial_seconds[:-1], initial=0.0) if not elapsed >= seconds_left
    )
    started_trials = min(started_trials, len(epochs))
    slot_seconds = sum(trial_seconds[:started_trials])
    seconds = max(slot_seconds, started_trials * _OVERHEAD_SECONDS)
    # The last checkpoint of each trial is kept until the search is over where a promoted trial goes on from it.
    checkpoints = 0 if work.oracle.get("restart") else started_trials
    forecast = _build_forecast(
        cost, work, started_trials, sum(epochs[:started_trials]), seconds, checkpoints=checkpoints
    )
    if not started_trials:
        return forecast
    return replace(forecast, trial_seconds=slot_seconds * work.slots / started_trials, width=work.slots)


def _convert_to_seconds(minutes: float | None) -> float:
    return math.inf if minutes is None else 60 * minutes


def _list_hyperband_epochs(max_epochs: int, oracle: Mapping[str, Any]) -> list[int]:
    """The epochs that each trial really trains, in the order in which a single slot gets the trials."""
    factor = oracle["factor"]
    trial_epochs = []
    for bracket in reversed(compute_hyperband_rungs(max_epochs, factor)):
        own_epochs = list_own_epochs(oracle, list_rung_epochs(max_epochs, factor, len(bracket)))
        for size, epochs in zip(bracket, own_epochs, strict=True):
            trial_epochs += [epochs] * size
    return trial_epochs * int(oracle["iterations"])


def _build_forecast(
    cost: TrainingCost, work: StudyWork, trials: float, epochs: float, seconds: float, checkpoints: float = 0
) -> Forecast:
    """Add the bytes to trials, epochs and seconds. checkpoints: how many are kept besides those of running trials."""
    if not trials:
        return Forecast(0, 0, 0, 0, 0)
    weight_bytes = _FLOAT_BYTES * cost.parameters
    model_count = trials if work.keep_models == "all" else min(trials, work.keep_models)
    stored_bytes = (
        _STUDY_BYTES
        + trials * (_TRIAL_BYTES + work.validation_images * _PREDICTION_BYTES)
        + epochs * _EPOCH_BYTES
        + model_count * (weight_bytes + _MODEL_BYTES)
    )
    weight_copies = min(trials, work.slots) * (_CHECKPOINTS * _CHECKPOINT_FLOATS + _TEMPORARY_MODELS)
    scratch_bytes = _STORE_BYTES + weight_bytes * (weight_copies + checkpoints * _CHECKPOINT_FLOATS)
    return Forecast(
        trials, epochs, seconds / 60, stored_bytes / 1e6, scratch_bytes / 1e6, is_upper_bound=work.is_limited
    )


def sum_forecasts(forecasts: Iterable[Forecast], slots: int = 1) -> Forecast:
    """Add up the forecasts of the studies of a sweep, in their order; they share `slots` trials at once."""
    parts = list(forecasts)
    # Trials of as many studies may be under way as there are slots.
    scratch_megabytes = sorted((part.scratch_megabytes for part in parts), reverse=True)[:slots]
    return Forecast(
        trials=sum(part.trials for part in parts),
        epochs=sum(part.epochs for part in parts),
        minutes=_sum_minutes(parts, slots),
        megabytes=sum(part.megabytes for part in parts),
        scratch_megabytes=sum(scratch_megabytes),
        is_upper_bound=any(part.is_upper_bound for part in parts),
    )


def _sum_minutes(parts: Sequence[Forecast], slots: int) -> float:
    """The minutes of all studies: what one of them leaves of the slots goes to the next."""
    total = sum(part.minutes for part in parts)
    if slots == 1 or len(parts) <= 1 or not math.isfinite(total):
        return total
    busy_seconds = [0.0] * slots
    for part in parts:
        busy_seconds.sort()
        busy_seconds[: part.width] = _queue_trials(busy_seconds[: part.width], part.trials, part.trial_seconds)
    overhead_seconds = sum(part.trials for part in parts) * _OVERHEAD_SECONDS
    return max(*busy_seconds, overhead_seconds) / 60


def _queue_trials(busy_seconds: list[float], trials: float, seconds: float) -> list[float]:
    """How long slots are busy once each of some trials of one length was given to the slot that was free first.

    busy_seconds: how long the slots are busy before, in ascending order.
    """
    work = trials * seconds
    if not work:
        return busy_seconds
    # All slots that get a trial would be busy until the same time if trials could be divided: each gets as many whole
    # ones as end by then. What is left, less than one for each slot, is given out one by one.
    level, fed = work + busy_seconds[0], 1
    for count in range(2, len(busy_seconds) + 1):
        shared_level = (work + sum(busy_seconds[:count])) / count
        if shared_level <= busy_seconds[count - 1]:
            break
        level, fed = shared_level, count
    counts = [math.floor((level - before) / seconds) for before in busy_seconds[:fed]]
    after = [before + count * seconds for before, count in zip(busy_seconds, counts, strict=False)] + busy_seconds[fed:]
    for _ in range(round(trials) - sum(counts)):
        slot = min(range(len(after)), key=after.__getitem__)
        after[slot] += seconds
    return after


def describe_forecast(forecast: Forecast) -> str:
    """A forecast in words, for one line."""
    if not forecast.trials:
        return "nothing is left to train"
    if math.isinf(forecast.trials):
        return f"{format_trial_count(forecast.trials)}; nothing but the disk limits them"
    epochs = format_epoch_count(forecast.epochs)
    minutes = "for an unknown time" if math.isnan(forecast.minutes) else format_duration(60 * forecast.minutes)
    size = f"at most {_format_size(forecast.megabytes)} on disk"
    words = "at most" if forecast.is_upper_bound else "about"
    return f"{words} {format_trial_count(forecast.trials)}, {epochs}, {minutes}, {size}"


def _format_size(megabytes: float) -> str:
    if megabytes < 1:
        return "1 MB"
    for unit, factor in (("MB", 1), ("GB", 1e3), ("TB", 1e6)):
        amount = megabytes / factor
        if amount < 1000:
            return f"{amount:.0f} {unit}" if amount >= 10 or unit == "MB" else f"{amount:.1f} {unit}"
    return f"{megabytes / 1e6:,.0f} TB"


def refuse_full_disk(folder: Path, forecast: Forecast) -> None:
    """StoreError when a folder's file system has no room for a forecast. The folder need not exist yet."""
    needed = forecast.megabytes + forecast.scratch_megabytes
    free = _read_free_megabytes(folder)
    if needed <= free:
        return
    amount = "unlimited room" if math.isinf(needed) else f"up to {_format_size(needed)}"
    raise StoreError(
        f"{folder}: {format_trial_count(forecast.trials)} may need {amount}, and only {_format_free(free)} is free "
        "there; keep fewer models (tracking.keep_models=1), run fewer trials (search.max_trials) or name a larger disk "
        "(tracking.uri=sqlite:///FILE)."
    )


def _read_free_megabytes(folder: Path) -> float:
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    stats = os.statvfs(existing)
    if not stats.f_blocks:  # the file system does not say, as /proc
        return math.inf
    return stats.f_bavail * stats.f_frsize / 1e6  # without the blocks reserved for the administrator


def _format_free(megabytes: float) -> str:
    return "less than 1 MB" if megabytes < 1 else _format_size(megabytes)
