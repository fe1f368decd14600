"""Where a value of a composed config was written: the command line, a recipe, or a file of a config group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fmnist_sweep.config.folders import find_conf_folder, find_experiments_folder, has_file, read_option
from fmnist_sweep.config.keys import has_key
from fmnist_sweep.config.overrides import format_override_value, parse_override_key
from fmnist_sweep.masking import mask_credentials


class ValueOrigins:
    """Finds where the values of one composed config were written.

    overrides: the job's, as typed. choices: the option of each group. sources: the folders that Hydra searched.
    options: those of each group whose options are searched; a key of one names it, as in optimizer.sgd.momentum.
    """

    def __init__(
        self,
        overrides: Sequence[str],
        choices: Mapping[str, str],
        sources: Sequence[str],
        options: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._overrides = overrides
        self._options = options or {}
        self._choices = {**choices, **{group: names[0] for group, names in self._options.items()}}
        self._sources = [Path(source) for source in sources if source and Path(source).is_dir()]

    def locate(self, key: str) -> str:
        """The file, or `command line`, in which the value of a dotted key was written."""
        plain_key, option = self._split_option(key)
        for override in reversed(self._overrides):
            name = parse_override_key(override)
            if name in self._choices and not override.partition("=")[2].startswith(
                "{"
            ):  # the choice of an option; the value is in that option's file
                continue
            # An override of model.filters.values decides model.filters, and the other way round.
            for meant in (key, plain_key):
                if name == meant or name.startswith(f"{meant}.") or meant.startswith(f"{name}."):
                    return "command line"
        return self._find_file(plain_key, option)

    def _split_option(self, key: str) -> tuple[str, str | None]:
        """A key without the option that it names, and that option; None for a key of all options."""
        group, _, rest = key.partition(".")
        for option in self._options.get(group, ()):
            if rest.startswith(f"{option}."):
                return f"{group}.{rest.removeprefix(f'{option}.')}", option
        return key, None

    def _find_file(self, key: str, option: str | None) -> str:
        group = key.split(".", 1)[0]
        # A recipe and a regularization may also set keys of other groups, and they come last in the defaults list. So
        # may an option of a group that is not the product's.
        for candidate in dict.fromkeys(("experiment", "regularization", group, *self._choices)):
            for path, name in self._list_files(candidate, option if candidate == group else None):
                if has_file(path) and (candidate == group or has_key(read_option(path), key)):
                    return name
        return "conf/config.yaml"

    def _list_files(self, group: str, option: str | None) -> Iterator[tuple[Path, str]]:
        """The files that an option of a group, the chosen one or this, may be in, and their names in messages."""
        file_name = f"{option or self._choices.get(group)}.yaml"
        if group == "experiment":
            yield find_experiments_folder() / file_name, f"experiments/{file_name}"
        for folder in self._sources:
            shown_folder = "conf" if folder == find_conf_folder() else folder
            yield folder / group / file_name, f"{shown_folder}/{group}/{file_name}"


def quote_as_written(sentence: str, resolved: Any, written: Any, path: str = "") -> str:
    """A sentence that quotes values of a config as `key=value`, with the `${...}` that was written for a value.

    What an interpolation stands for may be no business of whoever reads the sentence. resolved, written: the config
    with and without the values of its interpolations.
    """
    if written == resolved:
        return sentence
    if path:
        before, after = (mask_credentials(f"{path}={format_override_value(value)} (") for value in (resolved, written))
        sentence = sentence.replace(before, after)
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(written, Mapping):
        items = written.items()
    elif isinstance(written, list):
        items = enumerate(written)
    for key, value in items:
        inner = resolved[key] if isinstance(resolved, list) else resolved.get(key)
        sentence = quote_as_written(sentence, inner, value, f"{path}.{key}" if path else str(key))
    return sentence
