"""How often a network may halve its images: as the section of a config is checked, and once the images are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationInfo

from fmnist_sweep.data.description import IMAGE_SIDE, MAX_SIDE, DataDescription
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search.space import list_searched_sections, list_values_at
from fmnist_sweep.search.tunable import list_extremes

# Key of a validation's context: whether the images may have another size than Fashion-MNIST's.
OWN_IMAGES = "own_images"


def check_poolings(poolings: int, info: ValidationInfo) -> int:
    """Refuse more poolings than Fashion-MNIST allows, or any image if the context says that these are one's own."""
    is_own = bool(info.context and info.context.get(OWN_IMAGES))
    side = MAX_SIDE if is_own else IMAGE_SIDE
    if poolings > count_poolings(side):
        image = f"an image, of at most {MAX_SIDE} pixels" if is_own else f"the {IMAGE_SIDE}-pixel image"
        raise ValueError(
            f"each of these is followed by a pooling that halves {image}, which allows at most {count_poolings(side)} "
            f"({_format_halving(side)})"
        )
    return poolings


def check_blocks(blocks: list[list[int]], info: ValidationInfo) -> list[list[int]]:
    """Refuse more blocks than poolings are allowed: each ends in one."""
    check_poolings(len(blocks), info)
    return blocks


def count_poolings(side: int) -> int:
    """How often an image can be halved, rounded down, until it is one pixel across."""
    return side.bit_length() - 1


def refuse_deep_models(settings: Mapping[str, Any], description: DataDescription) -> None:
    """Raise ConfigError for more poolings than the images of a study allow.

    settings: a study's, tunables included. Up to as many as Fashion-MNIST allows, an image that is one pixel already
    stays as it is, so that the default space fits small images, too.
    """
    height, width, _ = description.image_shape
    starts = [
        start
        for each in list_values_at(settings, "train", "resolution")
        if each
        for start in list_extremes(each["start"])
    ]
    side = min(height, width, *starts)
    allowed = max(count_poolings(side), count_poolings(IMAGE_SIDE))
    for key, most in _list_poolings(settings["model"]):
        if most > allowed:
            first = f", and {side} at first (train.resolution.start)" if side < min(height, width) else ""
            raise ConfigError(
                f"{key}: {most} are asked for, each followed by a pooling that halves the image, and the images of "
                f"{description.name} have {height}x{width} pixels{first}, which allows at most {allowed} "
                f"({_format_halving(side)}); take fewer, or larger images."
            )


def _list_poolings(section: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The keys of the project's own models that say how many poolings there are, and the most that each may mean."""
    for model in list_searched_sections(section):
        if model["builder"] == "cnn":
            yield "model.conv_layers", max(list_extremes(model["conv_layers"]))
        if model["builder"] == "conv_stack":
            yield "model.blocks", max(map(len, list_extremes(model["blocks"])))


def _format_halving(side: int) -> str:
    sides = [side]
    while sides[-1] > 1:
        sides.append(sides[-1] // 2)
    return " → ".join(map(str, sides))
