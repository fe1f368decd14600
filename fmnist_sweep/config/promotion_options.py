"""Options of a promotion that do nothing in a sweep, where somebody set them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.config.folders import find_conf_folder, read_option
from fmnist_sweep.config.overrides import quote_override_value
from fmnist_sweep.errors import ConfigError

if TYPE_CHECKING:
    from fmnist_sweep.config.refusals import Locator
    from fmnist_sweep.config.schema import Config

# What a sweep reads: whether another hour is worth it depends on it.
_USED_BY_SWEEPS = frozenset(("gain",))


def refuse_promotion_options(config: Config, locate: Locator) -> None:
    """Raise ConfigError for an option of promote that was set for a sweep, on the command line or in a recipe.

    An option of the group promote sets all of them, so that its own file may hold them.
    """
    places = {
        name: locate(f"promote.{name}") for name in type(config.promote).model_fields if name not in _USED_BY_SWEEPS
    }
    set_names = [name for name, place in places.items() if Path(place).parent.name != "promote"]
    if not set_names:
        return
    defaults = read_option(find_conf_folder() / "promote" / "default.yaml")["promote"]
    # A mapping typed for all of promote stands for each of them: what it changed comes first.
    name = min(set_names, key=lambda name: bool(getattr(config.promote, name) == defaults.get(name)))
    setting = f"promote.{name}={quote_override_value(getattr(config.promote, name))}"
    raise ConfigError(
        f"{setting} ({places[name]}): does nothing in a sweep, which reads only promote.gain of promote; leave it out "
        f"here, and type it afterwards: fmnist-sweep promote {setting}."
    )
