"""The training images of an epoch: their order, and the random changes to them.

All of it is drawn from (seed, epoch) alone, so that a training continues exactly, wherever it was stopped.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fmnist_sweep import plugins

AUGMENTATIONS = plugins.AUGMENTATIONS
PLAIN_AUGMENTATION = "mirror_and_shift"  # what a section without a name stands for

Images = NDArray[np.uint8]  # (n, height, width, channels)
Shift = Annotated[int, Field(ge=0, le=8)]


def draw_epoch_order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Draw the order in which an epoch (from 1) sees n images; it depends on (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch, 0]).permutation(n)


def augment_images(section: Mapping[str, Any], images: Images, *, seed: int, epoch: int) -> Images:
    """Change training images by a resolved `train.augmentation` section, for one epoch (from 1)."""
    name = section.get("name", PLAIN_AUGMENTATION)
    arguments = {key: value for key, value in section.items() if key != "name"}
    drawn = {"seed": seed, "epoch": epoch}
    handed = {key: value for key, value in drawn.items() if AUGMENTATIONS.takes(name, key)}
    changed: Images = AUGMENTATIONS[name](images, **arguments, **handed)
    return changed


def mirrors_images(section: Mapping[str, Any]) -> bool:
    """Whether a resolved `train.augmentation` section mirrors images; False for own code, of which nothing is known."""
    name = section.get("name", PLAIN_AUGMENTATION)
    return name == alternate_and_erase.__name__ or (name == mirror_and_shift.__name__ and section.get("flip") is True)


@plugins.augmentation
def mirror_and_shift(
    images: Images,
    *,
    flip: bool,
    shift: Shift,
    seed: int,
    epoch: int,
) -> Images:
    """Mirror images (n, 28, 28, 1) at random (flip) and move them by up to `shift` pixels, by (seed, epoch) alone."""
    if not flip and not shift:
        return images
    generator = np.random.default_rng([seed, epoch, 1])
    if flip:
        images = _mirror(images, generator.random(len(images)) < 0.5)
    return _shift(images, shift, generator)


@plugins.augmentation
def alternate_and_erase(
    images: Images, *, shift: Shift, erase: Annotated[int, Field(ge=0, le=64)], seed: int, epoch: int
) -> Images:
    """Mirror each image in every other epoch, move it by up to `shift` pixels, and black out a square of it.

    Two epochs in a row see an image both ways round, where drawing anew shows half of them twice the same (Jordan,
    2024). erase: side of the square in pixels; its centre is anywhere in the image, so less of it may be within
    (DeVries and Taylor, 2017).
    """
    generator = np.random.default_rng([seed, epoch, 1])
    n = len(images)
    is_odd = np.random.default_rng([seed, 0, 2]).random(n) < 0.5
    images = _mirror(images, is_odd[draw_epoch_order(n, seed, epoch)] ^ (epoch % 2 == 0))
    return _erase(_shift(images, shift, generator), erase, generator)


def _mirror(images: Images, mask: NDArray[np.bool_]) -> Images:
    return np.where(mask[:, None, None, None], images[:, :, ::-1], images)


def _shift(images: Images, shift: int, generator: np.random.Generator) -> Images:
    """Move each image by up to so many pixels; what comes in is black."""
    if not shift:
        return images
    n, *size, _ = images.shape
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
    windows: NDArray[Any] = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(1, 2))
    rows, columns = generator.integers(0, 2 * shift + 1, (2, n))
    return np.moveaxis(windows[np.arange(n), rows, columns], 1, -1)  # the channels last again


def _erase(images: Images, side: int, generator: np.random.Generator) -> Images:
    """Black out a square of each image."""
    if not side:
        return images
    n, height, width, _ = images.shape

    def draw_mask(length: int) -> NDArray[np.bool_]:
        start = generator.integers(0, length, (n, 1)) - side // 2
        return (np.arange(length) >= start) & (np.arange(length) < start + side)

    inside = draw_mask(height)[:, :, None] & draw_mask(width)[:, None, :]
    return np.where(inside[..., None], np.uint8(0), images)
