"""The messages between a supervisor and its worker processes, besides a trial's events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fmnist_sweep.executors.shared_images import Layout
from fmnist_sweep.training.events import TrialSpec
from fmnist_sweep.training.own_code import PluginSource

DESCRIPTOR_BYTE = b"\0"  # the one byte of data that a descriptor has to be sent with


@dataclass(frozen=True)
class ImagesMessage:
    """The images of later requests; the descriptor of their file follows."""

    layout: Layout


@dataclass(frozen=True)
class TrainRequest:
    """Train a trial on the images with this sha256, and send every event as it comes."""

    spec: TrialSpec
    images_sha256: str


@dataclass(frozen=True)
class MeasureRequest:
    """Time a little training of a study's middle configuration. The answer is a TrainingCost."""

    settings: Mapping[str, Any]
    images_sha256: str
    plugins: tuple[PluginSource, ...] = ()


@dataclass(frozen=True)
class StopRequest:
    """End every trial, the one under way and any later one, after its next epoch."""


@dataclass(frozen=True)
class ReadyMessage:
    """The worker has imported all it needs. pid: its process."""

    pid: int


@dataclass(frozen=True)
class ErrorMessage:
    """An error of a request that is no trial's failure. trace: its traceback, as text."""

    error: Exception
    trace: str
