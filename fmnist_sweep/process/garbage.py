"""Pauses of the garbage collector while objects are made that stay."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pause_garbage_collection() -> Iterator[None]:
    """Keep the garbage collector from searching for cycles in a block that makes many objects and no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def pause_while_importing() -> Iterator[None]:
    """Keep the garbage collector from searching what a block imports, then and later.

    MLflow and its database layer, as TensorFlow and Keras, make hundreds of thousands of objects that stay to the end.
    To search them, and once more when the process ends, takes two fifths of the time of `fmnist-sweep compare`
    (benchmarks/answers.py).
    """
    module_count = len(sys.modules)
    with pause_garbage_collection():
        yield
        if len(sys.modules) > module_count:
            gc.freeze()
