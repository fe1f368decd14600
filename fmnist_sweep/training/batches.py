"""Images in batches for Keras' fit and predict, through a pipeline that leaves nothing to wait for at its end.

Of arrays Keras makes a pipeline of tf.data that tunes itself. The thread that does so sleeps for 10 ms, then for twice
as long each time, and is not always woken when the pipeline ends, which waits for it: a fit of 12 s then takes 20.47 s
(benchmarks/pipeline.py). There is nothing to tune where batches are slices of an array in memory.

This module imports TensorFlow, so it is imported where a model is at hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras


def batch_arrays(*arrays: NDArray[Any], batch_size: int) -> tf.data.Dataset:
    """Make batches of the rows of arrays of one length, in their order; the last batch may be shorter."""
    whole = len(arrays[0]) // batch_size * batch_size
    batches = tf.data.Dataset.from_tensor_slices(
        tuple(array[:whole].reshape(-1, batch_size, *array.shape[1:]) for array in arrays)
    )
    if whole < len(arrays[0]):
        rest = tf.data.Dataset.from_tensors(tuple(array[whole:] for array in arrays))
        batches = batches.concatenate(rest) if whole else rest
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False  # of a graph that is made once a pass
    return batches.with_options(options)


def predict_images(model: keras.Model, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float32]:
    """What a model predicts of images (n, height, width, channels): probabilities (n, labels)."""
    predicted: NDArray[np.float32] = model.predict(batch_arrays(images, batch_size=batch_size), verbose=0)
    return predicted
