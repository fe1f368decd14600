"""The groups, options and keys of the configs that come with the product: for messages that say what may be meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fmnist_sweep.config.folders import find_conf_folder, find_experiments_folder, list_groups, read_option
from fmnist_sweep.config.keys import find_value
from fmnist_sweep.search.tunable import is_tunable

FLAGS = ("plan", "fresh")  # root keys that are true or false
_OTHER_KEYS = ("seed", *FLAGS, "checkpoint.every_seconds")  # in no group

# The keys that name what a section's other settings are for; an option of the group sets them together.
NAMING_KEYS = ("model.builder", "optimizer.name", "search.name", "executor.name", "train.schedule.name")


def list_options(group: str) -> list[str]:
    """The options of a config group."""
    folder = find_experiments_folder() if group == "experiment" else find_conf_folder() / group
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_options(group: str) -> Iterator[tuple[str, Any]]:
    """Each option of a group, and what it sets, by section of the config; none if there is no such group."""
    if group not in list_groups():
        return
    for path in sorted((find_conf_folder() / group).glob("*.yaml")):
        yield path.stem, read_option(path)


def list_known_keys(group: str) -> list[str]:
    """The keys below a dotted key, over all options of its group; of the root: the groups and the other keys."""
    if not group:
        return [*list_groups(), "seed", *FLAGS]
    keys: dict[str, None] = {}
    for _, content in read_options(group.split(".")[0]):
        value = find_value(content, group)
        keys |= dict.fromkeys(value if isinstance(value, Mapping) else {})
    return [key for key in keys if key != "defaults"]


def list_options_with(key: str) -> list[str]:
    """The options of its group that set a dotted key."""
    group, _, name = key.rpartition(".")
    return [
        option
        for option, content in read_options(key.split(".")[0])
        if isinstance(value := find_value(content, group), Mapping) and name in value
    ]


def list_options_setting(key: str, value: str) -> list[str]:
    """The options of its group that set a dotted key to a value."""
    return [option for option, content in read_options(key.split(".")[0]) if find_value(content, key) == value]


def find_keys(name: str) -> list[str]:
    """The groups and dotted keys that a name may mean: one that is its whole, or else those that it is the end of.

    Case and separators do not count: `learning-rate` and `optimizer.learningRate` are optimizer.learning_rate.
    """
    wanted = _drop_separators(name)
    keys = list(dict.fromkeys([*list_groups(), *_OTHER_KEYS, *_list_dotted_keys()]))
    whole = [key for key in keys if _drop_separators(key) == wanted]
    return whole or [key for key in keys if _drop_separators(key.rpartition(".")[2]) == wanted]


def suggest_keys(name: str) -> list[str]:
    """The groups and dotted keys that a name, or one much like it, may mean."""
    keys = [*list_groups(), *_OTHER_KEYS, *_list_dotted_keys()]
    close_names = difflib.get_close_matches(name.rpartition(".")[2], [key.rpartition(".")[2] for key in keys], 1, 0.8)
    return find_keys(name) or (find_keys(close_names[0]) if close_names else [])


def _list_dotted_keys() -> Iterator[str]:
    for group in list_groups():
        for _, content in read_options(group):
            yield from _flatten(content)


def _flatten(content: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys of a mapping; a tunable is one value."""
    for key, value in content.items():
        if key != "defaults" and not prefix.endswith("defaults."):
            yield from (
                _flatten(value, f"{prefix}{key}.")
                if isinstance(value, Mapping) and not is_tunable(value)
                else [f"{prefix}{key}"]
            )


def _drop_separators(name: str) -> str:
    return re.sub(r"[-_.\s]", "", name).lower()
