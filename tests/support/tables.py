"""A new store's tables, copied from a store made once: MLflow takes a second to make them, in a hundred tests.

The fixture `quick_stores` does so for all that tests run in their own process but those with `slow_stores`; the forks
of the zygote do it unless their environment says FAULTS_TABLES="".
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def copy_tables(kept: Path) -> Callable[[Path], None]:
    """What makes a store's tables from now on: `kept`, which the first who needs it makes, is copied."""
    from fmnist_sweep.files import replace_file
    from fmnist_sweep.tracking import connection

    make_tables = connection._make_tables

    def copy(path: Path) -> None:
        if path.exists() and (path.is_dir() or path.stat().st_size):
            return
        with FileLock(f"{kept}.lock"):
            if not kept.exists():
                make_tables(kept)
        with replace_file(path) as temporary:
            shutil.copyfile(kept, temporary)

    connection._make_tables = copy
    return make_tables
