"""A trial's result as bytes, for the file that keeps it until the tracking store has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fmnist_sweep.files import pack_arrays, unpack_arrays
from fmnist_sweep.training.events import Epoch, TrialResult


def pack_result(result: TrialResult, epochs: Sequence[Epoch]) -> bytes:
    """Pack a result, and the times at which its epochs ended, into checksummed bytes."""
    values = {
        "trial_id": result.trial_id,
        "history": result.history,
        "ended": [epoch.ended for epoch in epochs],
        "best_epoch": result.best_epoch,
        "parameters": result.parameters,
        "fit_seconds": result.fit_seconds,
        "ms_per_image": result.ms_per_image,
    }
    model = np.frombuffer(result.model, np.uint8)
    return pack_arrays(values, {"probabilities": result.probabilities, "model": model})


def unpack_result(content: bytes) -> tuple[TrialResult, list[Epoch]]:
    """Unpack a result. Raises DamagedContent if the bytes are not those that were packed."""
    values, arrays = unpack_arrays(content)
    end_times = values.pop("ended")
    result = TrialResult(**values, probabilities=arrays["probabilities"], model=arrays["model"].tobytes())
    epochs = [
        Epoch(number, row, end_time)
        for number, (row, end_time) in enumerate(zip(result.history, end_times, strict=True), 1)
    ]
    return result, epochs
