"""The two ways to images: `load_splits` for train and validation, `open_test` for the test split."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from functools import lru_cache
from pathlib import Path

from fmnist_sweep.data import download, sources
from fmnist_sweep.data.data_config import DataConfig, OwnDataConfig
from fmnist_sweep.data.folder import resolve_folder
from fmnist_sweep.data.opening_ledger import append_entry
from fmnist_sweep.data.splits import Origin, Split, Splits, hash_in_any_order, hash_splits, split_table, take_all
from fmnist_sweep.errors import DataError
from fmnist_sweep.masking import mask_address, mask_credentials
from fmnist_sweep.process.environ import find_home
from fmnist_sweep.text import format_utc_now

_load_lock = threading.Lock()


def load_splits(data: DataConfig) -> Splits:
    """Train and validation splits of a source; read once in a process, and no test file is opened.

    Errors: DataError where files are missing or damaged, cannot be had and no fallback is allowed, or cannot
    be split.
    """
    # The same config means other files where the working directory or the Keras cache is another.
    if data.dir is None and isinstance(data, OwnDataConfig):
        raise DataError(
            f"data={data.source} reads a folder of yours, and none is named: add data.dir=FOLDER, or --data-dir FOLDER."
        )
    folder = download.get_cache_folder() if data.dir is None else resolve_folder(data.dir)
    with _load_lock:  # lru_cache alone would let two threads read the same files at once
        return _load(data, folder)


@lru_cache(maxsize=4)
def _load(data: DataConfig, folder: Path) -> Splits:
    del folder  # only part of the key
    table, origin, description = sources.read_train(data)
    return split_table(table, data, origin, description)


def forget_splits() -> None:
    """Forget what was read: what reads it may be other code from now on."""
    with _load_lock:
        _load.cache_clear()


def open_test(data: DataConfig, *, reason: str, ledger: Path) -> Split:
    """The test split of the source that `load_splits` found; the ledger records the opening first.

    ledger: a file of one JSON line an opening, chained (opening_ledger), made with its folders when missing.
    Errors: DataError where the test files cannot be had, or the opening cannot be recorded.
    """
    splits = load_splits(data)
    origin = splits.origin
    split = take_all(sources.read_test(data, origin, splits.description))
    _record_opening(ledger, reason, origin, split)
    return split


def _record_opening(ledger: Path, reason: str, origin: Origin, split: Split) -> None:
    entry = {
        "time": format_utc_now(),
        "reason": mask_credentials(reason),
        "command": shlex.join(map(mask_address, sys.argv)),
        "source": origin.source,
        "location": mask_credentials(_hide_home(origin.location)),
        "images": len(split.labels),
        "sha256": hash_splits(split),
        "part": hash_in_any_order(split),
    }
    try:
        append_entry(ledger, entry)
    except OSError as error:
        raise DataError(
            f"{ledger} cannot record that the test split is opened ({error.strerror or error}), so it stays "
            "closed; make the file writable."
        ) from error


def _hide_home(location: str) -> str:
    """The location without the name of the user whose machine this is."""
    home = str(find_home())
    return f"~{location.removeprefix(home)}" if location.startswith(home + os.sep) else location
