"""Regularization is for the models that take it: of the others, its settings are neither drawn nor stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fmnist_sweep.config.overrides import is_override_of, quote_override_value
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search.space import list_values_at
from fmnist_sweep.text import quote_text
from fmnist_sweep.training.models import has_regularization

_GROUP = "regularization"


def is_regularized(model: Mapping[str, Any]) -> bool:
    """Whether a checked section `model`, or one of its options that are searched, has a builder that is regularized."""
    return any(map(has_regularization, list_values_at({"model": model}, "model", "builder")))


def refuse_unused_regularization(settings: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raise ConfigError if regularization was typed and no model of the settings takes any. overrides: as typed."""
    if is_regularized(settings["model"]):
        return
    for override in overrides:
        if is_override_of(override, (_GROUP,)) and override != f"{_GROUP}=none":
            (builder, *_) = list_values_at(settings, "model", "builder")
            raise ConfigError(
                f"{quote_text(override, 200)} (command line): the model {quote_override_value(builder)} takes no "
                f"{_GROUP}, so that it would change nothing; leave it out."
            )
