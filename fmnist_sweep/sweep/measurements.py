"""What was measured about training on this machine, kept in the user's cache folder until it would change.

It says how long a sweep takes and which executor is quicker, and nothing about what a trial comes to. Whatever is wrong
with the file or its folder, the only consequence is that something is measured again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from fmnist_sweep import training
from fmnist_sweep.config.identity import hash_content, read_library_versions
from fmnist_sweep.executors import Placement
from fmnist_sweep.files import LockHeld, hold_lock_file, write_file_atomically
from fmnist_sweep.process.environ import find_home
from fmnist_sweep.reading import parse_json, read_file
from fmnist_sweep.training import backend
from fmnist_sweep.training.environment import describe_machine, read_cpu_info
from fmnist_sweep.training.probe import TrainingCost

_FORMAT = 1
_MAX_BYTES = 2**20
_MAX_ENTRIES = 1000  # the newest stay
_PATIENCE_SECONDS = 1.0  # for another sweep that is writing
_LONGEST_SECONDS = 1e7  # of an epoch or a start: what is longer was not measured
_MOST_PARAMETERS = 10**12
# Variables that TensorFlow chooses its kernels and threads by. Others change while it is imported.
_VARIABLES = (
    *("TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "XLA_FLAGS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
    *("OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "CUDA_VISIBLE_DEVICES"),
)


def locate_measurements() -> Path:
    """The file of measurements: in $FMNIST_SWEEP_CACHE, $XDG_CACHE_HOME/fmnist_sweep or ~/.cache/fmnist_sweep."""
    own, shared = os.environ.get("FMNIST_SWEEP_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own) / "measurements.json"
    # As the XDG specification asks, a relative path counts as none.
    folder = Path(shared) if shared and Path(shared).is_absolute() else find_home() / ".cache"
    return folder / "fmnist_sweep" / "measurements.json"


class Measurements:
    """The costs that were measured before under the conditions of this process, and those that are measured now."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = locate_measurements() if path is None else path
        self._costs = _read_costs(self.path)
        self._conditions = describe_conditions()

    def find_cost(self, workload: str, placement: Placement) -> TrainingCost | None:
        """The cost of a workload as it was measured with a placement; None where it was not measured."""
        return self._costs.get(self._make_key(workload, placement))

    def keep_costs(self, costs: Mapping[str, TrainingCost], placement: Placement) -> None:
        """Keep costs for later sweeps, by workload. Those of a configuration that cannot be trained are not kept."""
        measured = {
            self._make_key(workload, placement): cost for workload, cost in costs.items() if _is_plausible(asdict(cost))
        }
        if not measured:
            return
        self._costs |= measured
        # NotImplementedError: a file system without locks.
        with suppress(OSError, LockHeld, NotImplementedError):  # they are measured again
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with hold_lock_file(self.path.with_suffix(".lock"), _PATIENCE_SECONDS):
                # Another sweep may have written since; what is new goes to the end.
                earlier = {key: cost for key, cost in _read_costs(self.path).items() if key not in measured}
                entries = [*earlier.items(), *measured.items()][-_MAX_ENTRIES:]
                content = {"format": _FORMAT, "costs": {key: asdict(cost) for key, cost in entries}}
                write_file_atomically(self.path, json.dumps(content, indent=0).encode())

    def _make_key(self, workload: str, placement: Placement) -> str:
        """Name a measurement by all that would change it. A worker's depends on how many others train beside it."""
        return hash_content([self._conditions, workload, placement.name, placement.workers, placement.threads])


def _read_costs(path: Path) -> dict[str, TrainingCost]:
    """The costs in a file, by key; what is damaged, or is none of ours, is left out."""
    try:
        content: Any = parse_json(read_file(path, _MAX_BYTES))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or content.get("format") != _FORMAT or not isinstance(content.get("costs"), dict):
        return {}
    return {key: TrainingCost(**entry) for key, entry in content["costs"].items() if _is_plausible(entry)}


def _is_plausible(entry: Any) -> bool:
    """Whether these are the fields of a cost that a measurement can have."""
    if not isinstance(entry, dict) or entry.keys() != {"epoch_seconds", "parameters", "start_seconds"}:
        return False
    seconds, parameters = (entry["epoch_seconds"], entry["start_seconds"]), entry["parameters"]
    return (
        all(type(value) is float and math.isfinite(value) and 0 <= value < _LONGEST_SECONDS for value in seconds)
        and type(parameters) is int
        and 0 <= parameters < _MOST_PARAMETERS
    )


def describe_conditions() -> dict[str, Any]:
    """What the speed of training depends on beside the workload: the machine, libraries, and the code that trains."""
    return {
        "machine": describe_machine(),
        "instructions": sorted(read_cpu_info().get("flags", "").split()),
        "cores": backend.count_usable_cores(),
        "python": platform.python_version(),
        "libraries": read_library_versions(),
        "code": hash_training_code(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


@cache
def hash_training_code() -> str:
    """The hash of the sources that build, train and time a model: they change more often than the version does."""
    digest = hashlib.sha256()
    for path in sorted(Path(str(training.__file__)).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
