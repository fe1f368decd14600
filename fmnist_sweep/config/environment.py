"""What `${oc.env:NAME}` may read: a config may come from elsewhere, and its values go to a store that it may name.

OmegaConf's own resolver would give a config any variable of the environment, passwords included.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from fmnist_sweep.config.keys import find_value
from fmnist_sweep.config.overrides import is_override_of
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.masking import mask_address
from fmnist_sweep.text import quote_text

_READABLE = re.compile(r"FMNIST_DATA_DIR|FMNIST_SWEEP_\w+", re.ASCII)
_MISSING = object()
# What is sent along, out of the environment, to the address that a key holds.
_SENT_VARIABLES = {
    "tracking.uri": ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    "executor.address": ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"),
}


class RefusedVariable(ConfigError):
    """An environment variable that no config may read. The sentence never holds its value."""


def guard_environment() -> None:
    """Let every `${oc.env:...}` of this process, however deep it stands, read the readable variables only."""
    OmegaConf.register_new_resolver("oc.env", _read_variable, replace=True)


def _read_variable(name: Any, default: Any = _MISSING) -> str | None:
    """The value of a readable variable, as OmegaConf's own resolver gives it. Raises RefusedVariable for others."""
    if _READABLE.fullmatch(str(name)) is None:
        raise RefusedVariable(
            f"a config may not read the environment variable {quote_text(name)}: only FMNIST_DATA_DIR, and names that "
            "begin with FMNIST_SWEEP_; write the value itself"
        )
    if str(name) in os.environ:
        return os.environ[str(name)]
    if default is _MISSING:
        raise KeyError(f"Environment variable '{name}' not found")
    return None if default is None else str(default)


def refuse_untyped_addresses(config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raise ConfigError for an address that a config file names, if a password of the environment would go there."""
    for key, variables in _SENT_VARIABLES.items():
        address = find_value(config, key)
        present = [name for name in variables if os.environ.get(name)]
        if not isinstance(address, str) or address.startswith("sqlite:") or not present:
            continue
        if not any(is_override_of(override, (key,)) for override in overrides):
            raise ConfigError(
                f"{key}={mask_address(address)} (a config file): {present[0]} of the environment would be sent there, "
                f"and a config may come from elsewhere; type {key}=ADDRESS on the command line as well."
            )


def find_refused_variable(error: BaseException | None) -> RefusedVariable | None:
    """The refusal that led to an error of Hydra or OmegaConf, which wrap it in several layers; else None."""
    while error is not None and not isinstance(error, RefusedVariable):
        error = error.__cause__ or error.__context__
    return error
