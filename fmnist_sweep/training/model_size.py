"""The size of a model that is not built to be trained: its parameters are counted, and none of them is allocated."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fmnist_sweep.training import models
from fmnist_sweep.training.own_code import find_plugin

if TYPE_CHECKING:
    from fmnist_sweep.data import DataDescription

# What makes no difference to the number of parameters, and the value that is the quickest to build.
_SHAPELESS = {"dropout": 0.0, "l2": 0.0}


def count_parameters(config: Mapping[str, Any], description: DataDescription) -> int | None:
    """Count a model's parameters, as its trial would report them; None if it cannot be built. About 10 ms.

    config: resolved, of which the sections `model` and `regularization` count. description: of the data. TensorFlow
    computes nothing here.
    """
    import keras

    state = random.getstate()  # Keras draws its seeds from it
    try:
        with keras.StatelessScope(initialize_variables=False):
            architecture = strip_shapeless_settings(config)
            shape, labels = description.image_shape, len(description.labels)
            return int(models.build_model(**architecture, image_shape=shape, labels=labels).count_params())
    except Exception:  # whatever a configuration raises is its trial's failure, not the sweep's
        return None
    finally:
        random.setstate(state)


def describe_architecture(config: Mapping[str, Any], description: DataDescription) -> dict[str, Any]:
    """All that decides how many parameters the model of a resolved config has."""
    architecture = strip_shapeless_settings(config)
    plugin = find_plugin(models.BUILDERS, config["model"]["builder"])
    if plugin is not None:
        architecture["plugin"] = plugin.fingerprint
    if description.is_fashion_mnist:  # as architectures were described before there was other data
        return architecture
    return {**architecture, "image_shape": list(description.image_shape), "labels": len(description.labels)}


def strip_shapeless_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a resolved config that a model is built from, with what shapes nothing at its quickest value."""
    return {"model": config["model"], "regularization": {**config["regularization"], **_SHAPELESS}}
