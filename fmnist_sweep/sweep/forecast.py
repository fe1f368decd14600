"""What a sweep will cost, before it starts: trials, epochs, minutes and megabytes, from one timed probe.

Megabytes are millions of bytes. They are an upper estimate (the largest model of the space); minutes are of its middle.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fmnist_sweep.errors import StoreError
from fmnist_sweep.search import ask_and_tell as search
from fmnist_sweep.search import tunable
from fmnist_sweep.text import format_duration, format_trial_count
from fmnist_sweep.training.probe import TrainingCost

if TYPE_CHECKING:
    pass


# Scoring, drawing, logging, saving, proposing: median of 12 trials on 2 cores (benchmarks/overhead.py).
_SECONDS_BEYOND_FIT = 0.41

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
_CHECKPOINTS, _MODELS_IN_PASSING = 3, 2


@dataclass(frozen=True)
class Forecast:
    """What is still to come; any of it math.inf when nothing ends it, minutes nan when they are unknown.

    epochs: at most, because early stopping saves some. megabytes: at most, to stay; scratch_megabytes: beside them,
    while it runs.
    """

    trials: float
    epochs: float
    minutes: float
    megabytes: float
    scratch_megabytes: float


def forecast(
    probed: TrainingCost,
    *,
    search_name: str,
    oracle: Mapping[str, Any],
    settings: Mapping[str, Any],
    trials: float,
    done: int,
    max_minutes: float | None,
    keep_models: int | Literal["all"],
    images: int,
    slots: int = 1,
) -> Forecast:
    """What is left to do of a study.

    trials: planned in all, math.inf for as many as time allows; done: of these, ended already; max_minutes: left;
    images: for validation; slots: trials at once, each as fast as the probe. A trial that Hyperband promotes trains
    only the epochs beyond its rung.
    """
    seconds_a_trial = _SECONDS_BEYOND_FIT + probed.start_seconds
    seconds = math.inf if max_minutes is None else 60 * max_minutes
    if search_name == "hyperband" and any(tunable.find(settings)):
        epochs = _hyperband_epochs(settings["train"]["epochs"], oracle)[done : int(min(trials, 10**9))]
        costs = [(seconds_a_trial + probed.epoch_seconds * count) / slots for count in epochs]
        # None begins after the budget; the one under way ends.
        begun = sum(1 for before in itertools.accumulate(costs[:-1], initial=0.0) if not before >= seconds)
        begun = min(begun, len(epochs))
        # The last checkpoint of each is kept until the search is over: it may be promoted.
        took = max(sum(costs[:begun]), begun * _SECONDS_BEYOND_FIT)
        return _forecast(probed, begun, sum(epochs[:begun]), took, keep_models, images, slots, begun)
    cost = seconds_a_trial + probed.epoch_seconds * _longest(settings["train"]["epochs"])
    left = max(0.0, trials - done)
    if seconds < math.inf and not math.isnan(cost):
        left = min(left, slots * max(0, math.ceil(seconds / cost)))
    in_turn = left if math.isinf(left) else math.ceil(left / slots)
    epochs_left = left * _longest(settings["train"]["epochs"])
    took = max(in_turn * cost, left * _SECONDS_BEYOND_FIT)  # what is beyond the fit, one supervisor does for all
    return _forecast(probed, left, epochs_left, took, keep_models, images, slots)


def _longest(epochs: Any) -> int:
    return int(max(tunable.parse(epochs).extremes())) if tunable.is_tunable(epochs) else int(epochs)


def _hyperband_epochs(longest: int, oracle: Mapping[str, Any]) -> list[int]:
    """Epochs that each trial really trains, in the order in which a single slot is given them."""
    factor = oracle["factor"]
    once = []
    for bracket in reversed(search.hyperband_rungs(longest, factor)):
        trained = 0
        for rung, size in enumerate(bracket):
            epochs = math.ceil(longest / factor ** (len(bracket) - 1 - rung))
            once += [epochs - trained] * size
            trained = epochs
    return once * int(oracle["iterations"])


def _forecast(
    probed: TrainingCost,
    trials: float,
    epochs: float,
    seconds: float,
    keep_models: int | Literal["all"],
    images: int,
    slots: int,
    checkpoints: float = 0,
) -> Forecast:
    if not trials:
        return Forecast(0, 0, 0, 0, 0)
    weights = _FLOAT_BYTES * probed.parameters
    kept = trials if keep_models == "all" else min(trials, keep_models)
    stays = (
        _STUDY_BYTES
        + trials * (_TRIAL_BYTES + images * _PREDICTION_BYTES)
        + epochs * _EPOCH_BYTES
        + kept * (weights + _MODEL_BYTES)
    )
    at_once = min(trials, slots) * (_CHECKPOINTS * _CHECKPOINT_FLOATS + _MODELS_IN_PASSING)
    scratch = _STORE_BYTES + weights * (at_once + checkpoints * _CHECKPOINT_FLOATS)
    return Forecast(trials, epochs, seconds / 60, stays / 1e6, scratch / 1e6)


def total(forecasts: Iterable[Forecast]) -> Forecast:
    """The forecast of studies that run one after the other."""
    given = list(forecasts)
    return Forecast(
        trials=sum(each.trials for each in given),
        epochs=sum(each.epochs for each in given),
        minutes=sum(each.minutes for each in given),
        megabytes=sum(each.megabytes for each in given),
        scratch_megabytes=max((each.scratch_megabytes for each in given), default=0.0),
    )


def text(forecast: Forecast) -> str:
    """A forecast in words, to stand in a line."""
    if not forecast.trials:
        return "nothing is left to train"
    if math.isinf(forecast.trials):
        return f"{format_trial_count(forecast.trials)}; nothing but the disk limits them"
    epochs = "1 epoch" if forecast.epochs == 1 else f"{forecast.epochs:,.0f} epochs"
    minutes = "for an unknown time" if math.isnan(forecast.minutes) else format_duration(60 * forecast.minutes)
    return (
        f"about {format_trial_count(forecast.trials)}, {epochs}, {minutes}, at most {_size(forecast.megabytes)} on disk"
    )


def _size(megabytes: float) -> str:
    if megabytes < 1:
        return "1 MB"
    for unit, worth in (("MB", 1), ("GB", 1e3), ("TB", 1e6)):
        amount = megabytes / worth
        if amount < 1000:
            return f"{amount:.0f} {unit}" if amount >= 10 or unit == "MB" else f"{amount:.1f} {unit}"
    return f"{megabytes / 1e6:,.0f} TB"


def refuse_full_disk(folder: Path, forecast: Forecast) -> None:
    """StoreError when the file system that holds a folder (there yet or not) has no room for a forecast."""
    needed = forecast.megabytes + forecast.scratch_megabytes
    free = _free_megabytes(folder)
    if needed <= free:
        return
    amount = "room without end" if math.isinf(needed) else f"up to {_size(needed)}"
    raise StoreError(
        f"{folder}: {format_trial_count(forecast.trials)} may need {amount} and only {_free_text(free)} is free there; "
        "keep fewer models (tracking.keep_models=1), run fewer trials (search.max_trials) or name a larger disk "
        "(tracking.uri=sqlite:///FILE)."
    )


def _free_megabytes(folder: Path) -> float:
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    found = os.statvfs(existing)
    if not found.f_blocks:  # it does not say, as /proc
        return math.inf
    return found.f_bavail * found.f_frsize / 1e6  # without the blocks reserved for the administrator


def _free_text(megabytes: float) -> str:
    return "less than 1 MB" if megabytes < 1 else _size(megabytes)
