"""The members of an ensemble, as they are trained: apart, each by its own loss, where the model averages what they say.

This module imports Keras, so it is imported where a model is built.
"""

from __future__ import annotations

import keras

from fmnist_sweep.training.layers import OUTPUT_LAYER


def separate_members(ensemble: keras.Model) -> keras.Model:
    """What trains an ensemble: a model of the same weights that has an output (n, labels) for each member."""
    return keras.Model(ensemble.inputs, list(ensemble.get_layer(OUTPUT_LAYER).input))
