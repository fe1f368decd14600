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

    def __init__(self, max_batches: int) -> None:
        self.max_batches = max_batches  # of an epoch
        self._rates = keras.Variable(np.zeros(max_batches, np.float32), trainable=False, dtype="float32", name="rates")
        self._first_step = keras.Variable(0, trainable=False, dtype="int64", name="first_step")

    def __call__(self, step: Any) -> Any:
        return keras.ops.take(self._rates, keras.ops.cast(step, "int64") - self._first_step)

    def assign(self, rates: Sequence[float], first_step: int) -> None:
        """Give the batches of the next epoch their rates. first_step: the optimizer's count before the first batch."""
        self._rates.assign(np.pad(np.asarray(rates, np.float32), (0, self.max_batches - len(rates))))
        self._first_step.assign(first_step)

    def get_config(self) -> dict[str, Any]:
        return {"max_batches": self.max_batches}
