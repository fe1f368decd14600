"""Dropout that trains on the very random numbers of Keras, drawn in a fifth of the time.

TensorFlow's generator (Philox, by Salmon et al., 2011: counters in, random bits out) is computed one counter at a time,
and takes almost half the time of a small network with dropout after each layer. XLA computes it on as many counters as
the processor has lanes. The same units are dropped, so every bit of a training stays; XLA computes nothing else.

This module imports Keras, so it is imported where a model is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import tensorflow as tf

from fmnist_sweep.training.backend import has_gpu

MIN_UNITS = 2**18  # of a batch; with fewer, compiling takes longer than the trial gains
# TensorFlow makes a uniform number of so many of the 32 random bits, the lowest.
_FRACTION_BITS = {"float32": 23, "bfloat16": 7}
_ROUNDS, _MULTIPLIERS, _KEY_STEPS = 10, (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)


class QuickDropout(keras.layers.Layer):  # type: ignore[misc]
    """Trains a plain Dropout layer: its rate, its state, its random numbers.

    batch_size: of the largest batch. Units of a batch are numbered through, so a shorter one has the first masks.
    """

    def __init__(self, plain: keras.layers.Dropout, batch_size: int, **settings: Any) -> None:
        super().__init__(name=f"quick_{plain.name}", dtype=plain.dtype_policy, **settings)
        self.plain, self.max_units = plain, batch_size * _count_units(plain)
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drop units of a batch."""
        if not training:
            return self.plain(inputs, training=False)
        rate, dtype = self.plain.rate, inputs.dtype
        seed = tf.cast(tf.math.floormod(self.plain.seed_generator.next(), tf.int32.max - 1), tf.int32)
        kept = tf.reshape(draw_mask(seed, rate, dtype, self.max_units)[: tf.size(inputs)], tf.shape(inputs))
        outputs = inputs * tf.constant(1 / (1 - rate), dtype)
        # Three tensors of one shape: tf.where looks for shapes to broadcast, and takes twice as long.
        return tf.raw_ops.Select(condition=kept, x=outputs, y=tf.zeros_like(outputs))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


def quicken_dropout(layer: keras.layers.Layer, batch_size: int) -> keras.layers.Layer:
    """What trains a layer of a model: its quick twin if it is a Dropout of many units, else the layer itself."""
    is_quick = (
        isinstance(layer, keras.layers.Dropout)
        and layer.rate > 0
        and layer.noise_shape is None
        and layer.compute_dtype in _FRACTION_BITS
        and batch_size * _count_units(layer) >= MIN_UNITS
        and not has_gpu()
    )
    return QuickDropout(layer, batch_size) if is_quick else layer


def _count_units(layer: keras.layers.Layer) -> int:
    """Units of one image."""
    return int(math.prod(layer.input.shape[1:]))


def draw_mask(seed: tf.Tensor, rate: float, dtype: tf.DType, count: int) -> tf.Tensor:
    """Draw which of `count` units stateless_dropout keeps at a seed (2,) int32: at least `count` booleans."""
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    bits = _FRACTION_BITS[dtype.name]
    # A unit is kept if its number is at least the rate, which is rounded to the precision first.
    threshold = math.ceil(float(dtype.as_numpy_dtype(rate)) * 2**bits)
    draw = _build_mask_kernel(_round_up(math.ceil(count / 4)))
    packed = draw(tf.bitcast(key, tf.uint32), tf.bitcast(counter, tf.uint32), _uint32(2**bits - 1), _uint32(threshold))
    return tf.cast(tf.reshape(tf.bitcast(packed, tf.uint8), [-1]), tf.bool)


def _round_up(count: int) -> int:
    """The next number of five significant bits: XLA keeps what it compiled for each count as long as it runs."""
    step = 1 << max(0, count.bit_length() - 5)
    return math.ceil(count / step) * step


@cache
def _build_mask_kernel(counters: int) -> Callable[..., tf.Tensor]:
    """Build the function of key (1, 2), counter (2, 2), fraction's bits and threshold: (counters,) uint32.

    The four bytes of each say whether the four numbers that its counter gives are at least the threshold.
    """

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def draw(key: tf.Tensor, counter: tf.Tensor, fraction: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
        packed = tf.zeros([counters], tf.uint32)
        for position, word in enumerate(_compute_philox(key, counter, counters)):
            kept = tf.cast(tf.bitwise.bitwise_and(word, fraction) >= threshold, tf.uint32)
            packed = tf.bitwise.bitwise_or(packed, tf.bitwise.left_shift(kept, _uint32(8 * position)))
        return packed

    return draw  # type: ignore[no-any-return]


def _compute_philox(key: tf.Tensor, counter: tf.Tensor, count: int) -> tuple[tf.Tensor, ...]:
    """Philox-4x32-10 of `count` counters from the first on, whose lower half is 0: four words (count,) uint32 each."""
    keys = [key[0, 0], key[0, 1]]
    zeros = tf.zeros([count], tf.uint32)
    words = (tf.cast(tf.range(count), tf.uint32), zeros, zeros + counter[1, 0], zeros + counter[1, 1])
    for _ in range(_ROUNDS):
        (high, low), (other_high, other_low) = (
            _multiply(word, multiplier) for word, multiplier in zip(words[::2], _MULTIPLIERS, strict=True)
        )
        words = (_xor(other_high, words[1], keys[0]), other_low, _xor(high, words[3], keys[1]), low)
        keys = [value + _uint32(step) for value, step in zip(keys, _KEY_STEPS, strict=True)]
    return words


def _multiply(words: tf.Tensor, multiplier: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The upper and the lower half of the product of 32-bit numbers."""
    product = tf.cast(words, tf.uint64) * tf.constant(multiplier, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(product, tf.constant(32, tf.uint64)), tf.uint32), tf.cast(product, tf.uint32)


def _xor(first: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
    for other in others:
        first = tf.bitwise.bitwise_xor(first, other)
    return first


def _uint32(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)
