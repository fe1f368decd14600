"""Networks that train on parts of a batch: refused where a part would be empty, or options disagree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmnist_sweep.config.overrides import quote_override_value
from fmnist_sweep.config.refusals import Locator
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search.space import list_values_at, read_replicas
from fmnist_sweep.search.tunable import list_extremes


def refuse_unusable_replicas(settings: Mapping[str, Any], locate: Locator) -> None:
    """Raise ConfigError for more replicas than images in a batch, or another number in each option of `train`."""
    numbers = sorted(set(list_values_at(settings, "train", "replicas")))
    if len(numbers) > 1:
        raise ConfigError(
            f"train.replicas ({locate('train.replicas')}): the options of train that are searched have "
            f"{', '.join(map(str, numbers))}; expected one number for all."
        )
    replicas = read_replicas(settings)
    for batch_size in list_values_at(settings, "train", "batch_size"):
        if min(list_extremes(batch_size)) < replicas:
            raise ConfigError(
                f"train.replicas={replicas} ({locate('train.replicas')}): more than there are images in a batch "
                f"(train.batch_size={quote_override_value(batch_size)}); expected at most as many."
            )
