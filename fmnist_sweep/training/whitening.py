"""A frozen first layer that whitens patches: of unit variance and uncorrelated, as the training images have them.

Its kernels are the eigenvectors of the patches' covariance, divided by the roots of their eigenvalues, once with each
sign, as a ReLU follows (Page, "How to train your ResNet 8", 2019; Jordan, "94% on CIFAR-10 in 3.29 seconds", 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.training.layers import WHITENING_LAYER, WHITENING_SIDE

if TYPE_CHECKING:
    import keras

EPSILON = 5e-4  # of variance, where pixels are 0..1: what hardly varies is not blown up (Jordan, 2024)
_MAX_PIXELS = 4_000_000  # of the images that are looked at: about 5,000 of 28x28, as Jordan takes
_CHUNK_PIXELS = 400_000  # at once, for their patches take dozens of bytes a pixel


def whiten_patches(model: keras.Model, images: NDArray[np.uint8]) -> None:
    """Give the first layer of a model its kernels. images: (n, height, width, channels), those that are trained on."""
    model.get_layer(WHITENING_LAYER).set_weights(list(compute_whitening(images)))


def compute_whitening(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute kernels (side, side, channels, 2 * size of a patch) and offsets, for pixels of 0..1 of such images.

    Of many images, some at even distances are looked at. Sums are of whole numbers, which float64 holds exactly, so
    that they depend on the images alone, whatever the number of threads.
    """
    n, height, width, channels = images.shape
    step = max(1, n * height * width // _MAX_PIXELS)
    images = images[::step]
    size = WHITENING_SIDE**2 * channels
    count, sums, products = 0, np.zeros(size), np.zeros((size, size))
    chunk = max(1, _CHUNK_PIXELS // (height * width))
    for start in range(0, len(images), chunk):
        patches = _cut_patches(images[start : start + chunk])
        count += len(patches)
        sums += patches.sum(axis=0)
        products += patches.T @ patches
    mean = sums / count / 255
    variances, vectors = np.linalg.eigh(products / count / 255**2 - np.outer(mean, mean))
    whitening = vectors / np.sqrt(np.maximum(variances, 0) + EPSILON)
    kernels = np.concatenate([whitening, -whitening], axis=1)
    shape = (WHITENING_SIDE, WHITENING_SIDE, channels, 2 * size)
    return kernels.reshape(shape).astype(np.float32), (-mean @ kernels).astype(np.float32)


def _cut_patches(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """All patches of images as the layer sees them, black beyond the edge: (number, size), in the order of a kernel."""
    _, height, width, _ = images.shape
    beyond = (0, WHITENING_SIDE - 1)  # as the padding of an even kernel
    padded = np.pad(images, ((0, 0), beyond, beyond, (0, 0))).astype(np.float64)
    offsets = np.ndindex(WHITENING_SIDE, WHITENING_SIDE)
    shifted = [padded[:, down : down + height, across : across + width] for down, across in offsets]
    patches = np.concatenate(shifted, axis=-1)
    return patches.reshape(-1, patches.shape[-1])
