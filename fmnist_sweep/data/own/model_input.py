"""A picture file in the form that a model of own images takes: as it is, but for its size and its colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fmnist_sweep.data.description import DataDescription
from fmnist_sweep.data.own.picture_folders import drop_colours, has_colours, resize_picture
from fmnist_sweep.data.pictures.photographs import THUMBNAIL, Photograph
from fmnist_sweep.data.pictures.picture_files import open_picture


def read_own_picture(path: Path, description: DataDescription) -> Photograph:
    """Read a picture file as the training pictures were: resized and, for a model of grey images, without its colours.

    Its pixels have the shape of the description. Raises DataError for a file that is no picture.
    """
    name = "".join(character if character.isprintable() else "?" for character in str(path))
    image, assumptions = open_picture(path, name)
    height, width, channels = description.image_shape
    if (image.height, image.width) != (height, width):
        assumptions.append(f"resized from {image.height}x{image.width} to {height}x{width} pixels (height x width)")
    pixels = resize_picture(image, (height, width))
    if channels == 1:
        if has_colours(pixels):
            assumptions.append("colour converted to grey (ITU-R 601 luma)")
        pixels = drop_colours(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return Photograph(name, pixels, np.array(image), assumptions, [])
