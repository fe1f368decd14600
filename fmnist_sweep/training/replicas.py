"""A network that trains on parts of a batch side by side: copies of it that share their weights, and add up gradients.

By itself TensorFlow shares each operation out among the cores, and a core that is done with its share waits for the
others, many times a batch. Replicas wait for each other at the end of a batch alone. Each normalises by the images of
its own part (Hoffer et al., 2017).

This module imports Keras, so it is imported where a model is built.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

_LOGITS = "_keras_logits"  # where Keras keeps them


class SplitBatch(keras.layers.Layer):  # type: ignore[misc]
    """Splits a batch into so many parts, the first of which have one image more where it cannot be even."""

    def __init__(self, parts: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.parts = parts

    def call(self, inputs: tf.Tensor) -> list[tf.Tensor]:
        n = tf.shape(inputs)[0]
        sizes = [(n + self.parts - 1 - number) // self.parts for number in range(self.parts)]
        return tf.split(inputs, sizes)  # type: ignore[no-any-return]

    def compute_output_spec(self, inputs: keras.KerasTensor) -> list[keras.KerasTensor]:
        return [keras.KerasTensor((None, *inputs.shape[1:]), inputs.dtype) for _ in range(self.parts)]


class JoinBatch(keras.layers.Layer):  # type: ignore[misc]
    """Joins what replicas say of the parts of a batch, in their order.

    Keras' losses go by what a softmax was computed from, which it keeps beside the probabilities; so it is joined, too.
    Of `binary_crossentropy` the value is another one without it.
    """

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        joined = tf.concat(inputs, axis=0)
        logits = [getattr(part, _LOGITS, None) for part in inputs]
        if all(part is not None for part in logits):
            setattr(joined, _LOGITS, tf.concat(logits, axis=0))
        return joined

    def compute_output_spec(self, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        return keras.KerasTensor((None, *inputs[0].shape[1:]), inputs[0].dtype)


def replicate_model(model: keras.Model, replicas: int) -> keras.Model:
    """What trains a model by so many replicas: a model of the same weights. A batch has at least one image for each."""
    pixels = keras.Input(model.input_shape[1:], dtype="uint8")
    parts = [keras.tree.flatten(model(part)) for part in SplitBatch(replicas, dtype="uint8")(pixels)]
    outputs = [JoinBatch(dtype="float32")(list(output)) for output in zip(*parts, strict=True)]
    return keras.Model(pixels, outputs if len(outputs) > 1 else outputs[0])
