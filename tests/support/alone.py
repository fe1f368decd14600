"""A trial in a process of its own, on one core: `zygote.call("tests.support.alone:train_trial", folder)`."""

from __future__ import annotations

import pickle
from pathlib import Path

from fmnist_sweep.data import load_splits
from fmnist_sweep.training import backend
from tests.support.small import finished

FILE = "trial"  # holds the spec, and afterwards the result


def train_trial(folder: Path) -> None:
    """Put the result of the trial in a folder in its spec's place."""
    backend.set_threads(1)
    given = pickle.loads((folder / FILE).read_bytes())
    result = finished(given, load_splits(given.data))
    (folder / FILE).write_bytes(pickle.dumps(result))
