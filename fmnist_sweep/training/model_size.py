"""The size of a model that is not built to be trained: its parameters are counted, and none of them is allocated."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from fmnist_sweep.training import models

# What makes no difference to the number of parameters, and the value that is the quickest to build.
_SHAPELESS = {"dropout": 0.0, "l2": 0.0}


def count_parameters(config: Mapping[str, Any]) -> int | None:
    """Count a model's parameters, as its trial would report them; None if it cannot be built. About 10 ms.

    config: resolved, of which the sections `model` and `regularization` count. TensorFlow computes nothing here.
    """
    import keras

    state = random.getstate()  # Keras draws its seeds from it
    try:
        with keras.StatelessScope(initialize_variables=False):
            return int(models.build_model(**describe_architecture(config)).count_params())
    except Exception:  # whatever a configuration raises is its trial's failure, not the sweep's
        return None
    finally:
        random.setstate(state)


def describe_architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that decides how many parameters its model has."""
    return {"model": config["model"], "regularization": {**config["regularization"], **_SHAPELESS}}
