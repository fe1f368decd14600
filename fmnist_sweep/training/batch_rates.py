"""Learning rates that differ from batch to batch of an epoch.

This module imports Keras, so it is imported where a model is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


class BatchRates(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The rate of each batch of the present epoch, looked up by the optimizer's count of batches.

    That count is part of a checkpoint, and the rates are assigned anew for each epoch, so nothing else is to be kept.
    """

    def __init__(self, batches: int) -> None:
        self.batches = batches  # of every epoch
        self._rates = keras.Variable(np.zeros(batches, np.float32), trainable=False, dtype="float32", name="rates")

    def __call__(self, step: Any) -> Any:
        return keras.ops.take(self._rates, keras.ops.mod(step, self.batches))

    def assign(self, rates: Sequence[float]) -> None:
        """Give the batches of the next epoch their rates."""
        self._rates.assign(np.asarray(rates, np.float32))

    def get_config(self) -> dict[str, Any]:
        return {"batches": self.batches}
