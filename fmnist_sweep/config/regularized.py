"""Regularization is for the models that take it: of the others, its settings are neither drawn nor stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fmnist_sweep.config.keys import find_value
from fmnist_sweep.config.overrides import is_override_of, quote_override_value
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search.space import list_values_at
from fmnist_sweep.search.tunable import is_option_choice, is_tunable, parse_tunable
from fmnist_sweep.text import quote_text
from fmnist_sweep.training.models import BUILDERS, has_regularization

_GROUP = "regularization"


def is_regularized(model: Mapping[str, Any]) -> bool:
    """Whether a checked section `model`, or one of its options that are searched, has a builder that is regularized."""
    return any(map(has_regularization, list_values_at({"model": model}, "model", "builder")))


def limit_regularization(model: Mapping[str, Any], regularization: Mapping[str, Any]) -> dict[str, Any]:
    """A checked section `regularization` that is drawn only with the options of `model` that are regularized.

    model: the checked section. Where options of regularization itself are searched, it is left as it is.
    """
    if not is_option_choice(model) or is_option_choice(regularization):
        return dict(regularization)
    options = [option for option, section in model["settings"].items() if is_regularized(section)]
    if len(options) == len(model["settings"]):
        return dict(regularization)
    limited = dict(regularization)
    for key, value in regularization.items():
        if is_tunable(value) and "model" not in value.get("when", {}):
            otherwise = value.get("otherwise", parse_tunable(value).list_extremes()[0])
            limited[key] = {**value, "when": {**value.get("when", {}), "model": options}, "otherwise": otherwise}
    return limited


def drop_unused_regularization(config: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's resolved config without the regularization that its model does not take."""
    registration = BUILDERS.find_registration(find_value(config, "model.builder"))
    if registration is None or has_regularization(registration.name):
        return dict(config)
    return {**config, _GROUP: {}}


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
