"""Images that grow over the epochs of a training: refused for models and data that have one size only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmnist_sweep.config.overrides import quote_override_value
from fmnist_sweep.config.refusals import Locator
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search.space import list_searched_sections, list_values_at
from fmnist_sweep.search.tunable import list_extremes


def refuse_one_size(settings: Mapping[str, Any], locate: Locator) -> None:
    """Raise ConfigError if images grow and a model of the settings has weights for images of one size only."""
    resolutions = _list_resolutions(settings)
    if resolutions and not all(map(_takes_any_size, list_searched_sections(settings["model"]))):
        raise ConfigError(
            f"train.resolution={quote_override_value(resolutions[0])} ({locate('train.resolution')}): its first epochs "
            "train on smaller images, and only model=cnn with model.head=global_average has weights for any size; "
            "choose these, or train.resolution=null."
        )


def refuse_full_start(settings: Mapping[str, Any], image_shape: tuple[int, int, int]) -> None:
    """Raise ConfigError if images are to grow from a size that is not below their own. image_shape: of the data."""
    side = min(image_shape[:2])
    for resolution in _list_resolutions(settings):
        start = resolution["start"]
        if max(list_extremes(start)) >= side:
            size = "x".join(map(str, image_shape[:2]))
            raise ConfigError(
                f"train.resolution.start={quote_override_value(start)}: the images have {size} pixels, and can grow "
                f"only from fewer; expected a number below {side}, or train.resolution=null."
            )


def _list_resolutions(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [resolution for resolution in list_values_at(settings, "train", "resolution") if resolution is not None]


def _takes_any_size(model: Mapping[str, Any]) -> bool:
    return model["builder"] == "cnn" and model.get("head") == "global_average"
