"""The folder to read the images of a run from again: where a sweep looks, or where they were read for the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.data import DataConfig, load_splits
from fmnist_sweep.data.data_config import OwnDataConfig
from fmnist_sweep.data.download import get_cache_folder
from fmnist_sweep.data.folder import resolve_folder
from fmnist_sweep.errors import DataError
from fmnist_sweep.text import quote_text
from fmnist_sweep.tracking.datasets import read_data_location

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store

# Takes a folder, None for where a sweep looks by itself; makes the config of a run's data there.
BuildData = Callable[[str | None], DataConfig]


def find_data_dir(
    store: Store, run_id: str, build: BuildData, tag: str, name: str, say: Callable[[str], None]
) -> str | None:
    """The folder to read a run's images from if nobody names one; None: where a sweep looks by itself.

    Fashion-MNIST is first looked for in FMNIST_DATA_DIR, which is never the folder of images of one's own. Then comes
    the folder that the run's images were read from, which anybody may have altered in the store: it counts only if it
    holds the images with this tag. name: of the run, for messages. Raises DataError if images of one's own are gone.
    """
    is_own = isinstance(build(None), OwnDataConfig)
    named = None if is_own else os.environ.get("FMNIST_DATA_DIR") or None
    if named is not None and _holds(build(named), tag):
        return named
    recorded = read_data_location(store, run_id)
    if recorded is not None and Path(recorded).exists() and _holds(build(recorded), tag):
        if named is not None or is_own or resolve_folder(recorded) != get_cache_folder():
            say(f"images: from {quote_text(recorded, 200)}, where those of {name} were read")
        return recorded
    if is_own:
        before = "" if recorded is None else f", and are not in {quote_text(recorded, 200)} any more"
        raise DataError(
            f"{name} was trained on {tag}: these images are your own{before}; name their folder with --data-dir FOLDER."
        )
    return named


def _holds(data: DataConfig, tag: str) -> bool:
    try:
        return load_splits(data).tag == tag
    except DataError:
        return False
