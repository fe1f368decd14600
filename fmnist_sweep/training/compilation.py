"""A model as a trial trains it: built and compiled from a config, the same for the trial and for its measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fmnist_sweep.training import models
from fmnist_sweep.training.optimization import build_optimizer, make_accuracy_metric

if TYPE_CHECKING:
    import keras

PREDICTION_BATCH = 512  # images predicted at once, at most: a matter of speed and memory alone


def compile_model(config: Mapping[str, Any]) -> keras.Model:
    """Build and compile the model of a trial's config; its precision is resolved, never `auto`."""
    import keras

    train, previous_policy = config["train"], keras.config.dtype_policy()
    keras.config.set_dtype_policy(train["precision"])
    try:
        model = models.build_model(config["model"], config["regularization"])
    finally:
        keras.config.set_dtype_policy(previous_policy)
    model.compile(
        optimizer=build_optimizer(config["optimizer"]),
        loss=train["loss"],
        metrics=[make_accuracy_metric(train["loss"])],
        jit_compile=False,  # XLA takes two to three times longer on a CPU
    )
    return model
