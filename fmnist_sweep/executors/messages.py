"""What a supervisor and its worker processes say to each other, beside a trial's events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fmnist_sweep.executors.shared_images import Layout
from fmnist_sweep.training.events import TrialSpec

DESCRIPTOR_BYTE = b"\0"  # the byte that a descriptor travels with


@dataclass(frozen=True)
class ImagesMessage:
    """The images of later requests; the descriptor of their file follows."""

    layout: Layout


@dataclass(frozen=True)
class TrainRequest:
    """Train a trial on these images (by their sha256); every event is sent as it comes."""

    spec: TrialSpec
    images_sha256: str


@dataclass(frozen=True)
class MeasureRequest:
    """Time a little training of a study's middle configuration; a forecast.Probe is the answer."""

    settings: Mapping[str, Any]
    images_sha256: str


@dataclass(frozen=True)
class StopRequest:
    """The epoch under way is the last for now, and so is every other one that begins."""


@dataclass(frozen=True)
class ReadyMessage:
    """The worker has imported all it needs."""


@dataclass(frozen=True)
class ErrorMessage:
    """What a request raised that is no trial's failure; trace: where, in words."""

    error: Exception
    trace: str
