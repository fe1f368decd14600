"""What a process keeps for good: forgotten between tests, or kept where that changes nothing but the time."""

from __future__ import annotations

import copy
import pickle
from functools import cache, lru_cache
from typing import Any

import hydra
from hydra._internal.config_repository import ConfigRepository
from hydra.core.global_hydra import GlobalHydra

from fmnist_sweep.config.folders import find_conf_folder
from fmnist_sweep.data import loading
from fmnist_sweep.report import kept_parts


def clear_splits_cache() -> None:
    """Let the next `load_splits` read its files again."""
    loading._load.cache_clear()


def pack_once() -> None:
    """Let this process and its forks pack the same content once: a fifth of a second for each store's first report."""
    vars(kept_parts).update(_pack=cache(kept_parts._pack))


def compose_once() -> None:
    """Let Hydra compose the same words once, and read each file once: a tenth of a second, two thousand times.

    Only from the configs of this checkout, which no test changes, and where no variable of the environment is read.
    What is kept is pickled: to make it again takes a fifth of the time of copying it.
    """
    compose, load = hydra.compose, ConfigRepository.load_config
    own = {"hydra.conf", str(find_conf_folder()), ""}
    loaded = dict[str, bytes]()

    @lru_cache(maxsize=512)  # a config is twenty kilobytes
    def compose_own(name: str, overrides: tuple[str, ...]) -> bytes:
        return pickle.dumps(compose(name, list(overrides), return_hydra_config=True))

    def compose_or_copy(name: str, overrides: list[str], return_hydra_config: bool) -> Any:
        sources = {source.path for source in GlobalHydra.instance().config_loader().get_sources()}
        if not return_hydra_config or not sources <= own or any("${" in override for override in overrides):
            return compose(name, overrides, return_hydra_config)
        return pickle.loads(compose_own(name, tuple(overrides)))

    def load_or_copy(self: ConfigRepository, config_path: str) -> Any:
        if not {source.path for source in self.sources} <= own:
            return load(self, config_path)
        if config_path not in loaded:
            loaded[config_path] = pickle.dumps(load(self, config_path))
        return pickle.loads(loaded[config_path])

    vars(hydra).update(compose=compose_or_copy)
    ConfigRepository.load_config = load_or_copy  # type: ignore[method-assign]
    # Hydra copies it before each composing, only to give it other sources: those of one repository never change.
    ConfigRepository.__deepcopy__ = lambda self, memo: copy.copy(self)  # type: ignore[attr-defined]
