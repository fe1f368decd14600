"""Batch normalisation by TensorFlow's fused operation, on the weights of plain Keras layers.

Keras 3 computes it from single operations, in float32 at any precision. The fused one takes half the time, and oneDNN
computes it in bfloat16 too. What is computed is the same; the last bits are not. A model that trains so is a twin: it
shares every layer and weight with the plain model, which predicts and is saved.

This module imports Keras, so it is imported where a model is built.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.Layer):  # type: ignore[misc]
    """Trains a plain BatchNormalization layer: its weights, its arithmetic, another operation."""

    def __init__(self, plain: keras.layers.BatchNormalization, **settings: Any) -> None:
        super().__init__(name=f"fused_{plain.name}", dtype=plain.dtype_policy, **settings)
        self.plain = plain
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Normalise a batch (n, features) or (n, rows, columns, features) and move the averages towards its own."""
        if not training or mask is not None:  # which no layer of an image model makes
            return self.plain(inputs, training=training, mask=mask)
        plain = self.plain
        shape = tf.shape(inputs)
        images = inputs if inputs.shape.rank == 4 else inputs[:, None, None, :]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images,
            scale=tf.convert_to_tensor(plain.gamma),
            offset=tf.convert_to_tensor(plain.beta),
            mean=tf.constant([], tf.float32),
            variance=tf.constant([], tf.float32),
            epsilon=plain.epsilon,
            is_training=True,
        )
        # The operation divides by n - 1, Keras by n.
        count = tf.cast(tf.reduce_prod(shape[:-1]), tf.float32)
        variance *= (count - 1) / count
        for average, value in ((plain.moving_mean, mean), (plain.moving_variance, variance)):
            average.assign(average * plain.momentum + value * (1 - plain.momentum))
        return tf.reshape(outputs, shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


def fuse_normalization(layer: keras.layers.Layer) -> keras.layers.Layer:
    """What trains a layer of a model: its fused twin if the operation can train it, else the layer itself."""
    return FusedBatchNormalization(layer) if _is_fusible(layer) else layer


def _is_fusible(layer: keras.layers.Layer) -> bool:
    if not isinstance(layer, keras.layers.BatchNormalization) or layer.renorm or layer.synchronized:
        return False
    rank = layer.input_spec.ndim
    return rank in (2, 4) and layer.axis in (-1, rank - 1) and layer.center and layer.scale
