"""How many parameters models have, each counted once and kept in the user's cache folder.

Whatever is wrong with the file or its folder, the only consequence is that something is counted again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_sweep.config.identity import hash_content, read_library_versions
from fmnist_sweep.files import LockHeld, hold_lock_file, write_file_atomically
from fmnist_sweep.reading import parse_json, read_file
from fmnist_sweep.sweep.measurements import hash_training_code, locate_measurements
from fmnist_sweep.training.model_size import count_parameters, describe_architecture

if TYPE_CHECKING:
    from fmnist_sweep.data import DataDescription

_FORMAT = 1
_MAX_BYTES = 2**20
_MAX_ENTRIES = 20_000  # the newest stay
_PATIENCE_SECONDS = 1.0  # for another sweep that is writing
_MOST_PARAMETERS = 10**12


class ModelSizes:
    """The sizes that were counted before by the same code and libraries, and those that are counted now."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = locate_measurements().with_name("model-sizes.json") if path is None else path
        self._conditions = hash_content([read_library_versions(), hash_training_code()])
        self._sizes = _read_sizes(self.path, self._conditions)
        self._new_sizes: dict[str, int] = {}

    def count(self, config: Mapping[str, Any], description: DataDescription) -> int | None:
        """The parameters of a resolved config's model; None if it cannot be built. TensorFlow has to be imported.

        description: of the data.
        """
        name = hash_content(describe_architecture(config, description))
        if name not in self._sizes:
            size = count_parameters(config, description)
            if size is None:
                return None
            self._sizes[name] = self._new_sizes[name] = size
        return self._sizes[name]

    def keep(self) -> None:
        """Keep what was counted for later sweeps."""
        if not self._new_sizes:
            return
        new_sizes, self._new_sizes = self._new_sizes, {}
        # NotImplementedError: a file system without locks.
        with suppress(OSError, LockHeld, NotImplementedError):  # they are counted again
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with hold_lock_file(self.path.with_suffix(".lock"), _PATIENCE_SECONDS):
                # Another sweep may have written since; what is new goes to the end.
                earlier = _read_sizes(self.path, self._conditions)
                sizes = dict([*earlier.items(), *new_sizes.items()][-_MAX_ENTRIES:])
                content = {"format": _FORMAT, "conditions": self._conditions, "sizes": sizes}
                write_file_atomically(self.path, json.dumps(content).encode())


def _read_sizes(path: Path, conditions: str) -> dict[str, int]:
    """The sizes in a file that were counted under these conditions; what is damaged, or none of ours, is left out."""
    try:
        content: Any = parse_json(read_file(path, _MAX_BYTES))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or (content.get("format"), content.get("conditions")) != (_FORMAT, conditions):
        return {}
    sizes = content.get("sizes")
    entries = sizes.items() if isinstance(sizes, dict) else ()
    return {name: size for name, size in entries if type(size) is int and 0 <= size < _MOST_PARAMETERS}
