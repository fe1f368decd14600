"""`plugins=FILE.py` on a command line: own code is named by whoever types, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fmnist_sweep.config.overrides import parse_override_key
from fmnist_sweep.config.refusals import MOST_QUOTED
from fmnist_sweep.config.schema import Config
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.plugins import DATA_SOURCES, METRICS, ORACLES, Registry
from fmnist_sweep.search.space import list_values_at
from fmnist_sweep.text import quote_text
from fmnist_sweep.training.augmentation import AUGMENTATIONS
from fmnist_sweep.training.models import BUILDERS
from fmnist_sweep.training.optimization import OPTIMIZERS, SCHEDULES
from fmnist_sweep.training.own_code import PluginSource, find_plugin, list_active
from fmnist_sweep.training.own_metrics import list_metrics

PLUGINS_KEY = "plugins"


def split_plugins(overrides: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The files that overrides name as plugins, and the other overrides. Raises ConfigError."""
    files: list[str] = []
    others: list[str] = []
    for override in overrides:
        key = parse_override_key(override)
        if key.partition(".")[0] != PLUGINS_KEY:
            others.append(override)
            continue
        value = override.partition("=")[2].strip()
        is_list = value.startswith("[") and value.endswith("]")
        names = [name.strip().strip("'\"") for name in (value[1:-1].split(",") if is_list else [value])]
        if override.partition("=")[0] != PLUGINS_KEY or not all(names) or ("," in value and not is_list):
            raise ConfigError(
                f"{quote_text(override, MOST_QUOTED)} (command line): expected plugins=FILE.py, or plugins=[A.py,B.py] "
                "for several."
            )
        files += [name for name in names if name not in files]
    return files, tuple(others)


def find_used_plugins(config: Config) -> tuple[PluginSource, ...]:
    """The active plugins that count for a study: all files, and the packages that it uses something of."""
    used = {source for registry, name in _list_names(config) if (source := find_plugin(registry, name)) is not None}
    return tuple(source for source in list_active() if source.is_file or source in used)


def find_scorers(plugins: Sequence[PluginSource]) -> tuple[PluginSource, ...]:
    """The active plugins with metrics beside these, which a study uses: packages that are installed."""
    return tuple(source for source in list_active() if source not in plugins and list_metrics([source]))


def describe_plugins(sources: Sequence[PluginSource]) -> Mapping[str, str]:
    """The fingerprint of each plugin, by name."""
    return {source.name: source.fingerprint for source in sources}


def _list_names(config: Config) -> list[tuple[Registry, object]]:
    settings = config.settings
    schedules = list_values_at(settings, "train", "schedule")
    augmentations = list_values_at(settings, "train", "augmentation")
    return [
        *((BUILDERS, name) for name in list_values_at(settings, "model", "builder")),
        *((OPTIMIZERS, name) for name in list_values_at(settings, "optimizer", "name")),
        *((SCHEDULES, section["name"]) for section in schedules),
        *((AUGMENTATIONS, section.get("name")) for section in augmentations),
        (DATA_SOURCES, config.data.source),
        (ORACLES, config.search.name),
        (METRICS, config.search.objective.removeprefix("val_")),
    ]
