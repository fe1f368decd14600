"""What an executor is given and what it answers: a trial's spec and events, values that travel between machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.data_config import DataConfig
from fmnist_sweep.training.own_code import PluginSource


@dataclass(frozen=True)
class Epoch:
    """The metrics of one epoch (from 1) and its end, in ms since 1970, so that the store logs it only once."""

    number: int
    metrics: Mapping[str, float]
    ended: int


@dataclass(frozen=True)
class TrialSpec:
    """The task of a worker: one attempt of a trial.

    trial_id: what the trial's events are marked with, unlike those of any other trial of the sweep. config: resolved
    model, optimizer, regularization, train and seed. objective: the metric that picks the best epoch. resume: the
    checkpoint to continue from. checkpoint_seconds: the least time between two checkpoints; 0 for one after every
    epoch, None for none. keep_final: whether the last epoch gets a checkpoint in any case. plugins: own code that the
    worker needs.
    """

    trial_id: str
    config: dict[str, Any]
    objective: str
    data: DataConfig
    resume: bytes | None = field(default=None, repr=False)
    checkpoint_seconds: float | None = None
    keep_final: bool = False
    plugins: tuple[PluginSource, ...] = ()


@dataclass(frozen=True)
class TrialStart:
    """A trial that waited for a worker has one now. worker: a description of it."""

    trial_id: str
    worker: str


@dataclass(frozen=True)
class EpochEnd:
    """The metrics of one finished epoch (from 1), and its checkpoint if one was due.

    last: whether training stops here for now, because the sweep is to stop.
    """

    trial_id: str
    epoch: int
    metrics: dict[str, float]
    checkpoint: bytes | None = field(default=None, repr=False)
    last: bool = False


@dataclass(frozen=True)
class TrialResult:
    """A trained model and its predictions.

    probabilities: (n, 10) float32, of the best epoch's model on the validation images in their order. model: the bytes
    of its .keras file. fit_seconds: of all epochs, including validation and the epochs of earlier attempts.
    ms_per_image: of processor time, to predict an image among many; None where an earlier version measured none.
    """

    trial_id: str
    history: list[dict[str, float]]
    best_epoch: int
    probabilities: NDArray[np.float32]
    model: bytes
    parameters: int
    fit_seconds: float
    ms_per_image: float | None = None


@dataclass(frozen=True)
class TrialFailure:
    """A trial raised, ran out of memory or diverged; `history` holds the epochs it finished."""

    trial_id: str
    reason: str
    traceback: str
    history: list[dict[str, float]]


@dataclass(frozen=True)
class CheckpointRefused:
    """A trial could not continue from its checkpoint; nothing was trained."""

    trial_id: str
    reason: str


@dataclass(frozen=True)
class WorkerLost:
    """The process or machine that trained a trial is gone; whether the trial was at fault is unknown."""

    trial_id: str
    reason: str


TrialEvent = TrialStart | EpochEnd | TrialResult | TrialFailure | CheckpointRefused | WorkerLost
