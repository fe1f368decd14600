"""Metrics of one's own: functions of labels and probabilities, scored after each epoch on the validation images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.plugins import METRICS
from fmnist_sweep.training.own_code import PluginSource

PREFIX = "val_"  # of a metric's name in what is logged, and in search.objective


def list_metrics(plugins: Iterable[PluginSource]) -> list[str]:
    """The names of the metrics that these plugins, which are active, registered."""
    names = {plugin.name for plugin in plugins}
    registered = [METRICS.find_registration(name) for name in METRICS]
    return [each.name for each in registered if each is not None and each.plugin in names]


def compute_metrics(
    names: Iterable[str], labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> Mapping[str, float]:
    """The values of metrics by the name that is logged. Raises ValueError for one that is no finite number.

    labels: (n,). probabilities: (n, number of labels).
    """
    values: dict[str, float] = {}
    for name in names:
        value: Any = METRICS[name](labels, probabilities)
        try:
            values[f"{PREFIX}{name}"] = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"the metric {name} returned a {type(value).__name__}; expected a number") from None
        if not math.isfinite(values[f"{PREFIX}{name}"]):
            raise ValueError(f"the metric {name} returned {value}; expected a finite number")
    return values
