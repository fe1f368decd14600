"""What a worker is told and what it answers: plain values that travel between processes and machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.data_config import DataConfig


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch (from 1) and when it ended, in ms since 1970: the same again is not logged twice."""

    number: int
    metrics: Mapping[str, float]
    ended: int


@dataclass(frozen=True)
class TrialSpec:
    """What a worker is told: plain data, so that it can travel to another process or machine.

    config: resolved model, optimizer, regularization, train and seed. objective: what the best epoch is chosen by.
    resume: the checkpoint to continue from. checkpoint_seconds: the least time between two checkpoints; 0 for one after
    every epoch, None for none. keep_final: the last epoch has one in any case.
    """

    study_id: str
    trial_id: str
    attempt: int
    config: dict[str, Any]
    objective: str
    data: DataConfig
    resume: bytes | None = field(default=None, repr=False)
    checkpoint_seconds: float | None = None
    keep_final: bool = False


@dataclass(frozen=True)
class TrialStart:
    """A trial that waited for a worker has one now; worker: which, in words."""

    trial_id: str
    worker: str


@dataclass(frozen=True)
class EpochEnd:
    """The figures of one finished epoch (from 1), and where one was due the checkpoint to continue from.

    last: no epoch follows for now, because the sweep is to stop.
    """

    trial_id: str
    epoch: int
    metrics: dict[str, float]
    checkpoint: bytes | None = field(default=None, repr=False)
    last: bool = False


@dataclass(frozen=True)
class TrialResult:
    """A trained model and what it scored.

    probabilities: (n, 10) float32, on the validation images in their order, by the restored best epoch.
    model: the bytes of its .keras file. fit_seconds: of all epochs, validation and those of earlier attempts included.
    """

    trial_id: str
    history: list[dict[str, float]]
    best_epoch: int
    probabilities: NDArray[np.float32]
    model: bytes
    parameters: int
    fit_seconds: float


@dataclass(frozen=True)
class TrialFailure:
    """A trial that raised, ran out of memory or diverged; `history` holds the epochs it finished."""

    trial_id: str
    reason: str
    traceback: str
    history: list[dict[str, float]]


@dataclass(frozen=True)
class CheckpointRefused:
    """A checkpoint that this trial cannot go on from; nothing was trained."""

    trial_id: str
    reason: str


@dataclass(frozen=True)
class WorkerLost:
    """The process that trained a trial is gone, or its machine; nobody knows whether the trial was at fault."""

    trial_id: str
    reason: str


TrialEvent = TrialStart | EpochEnd | TrialResult | TrialFailure | CheckpointRefused | WorkerLost
