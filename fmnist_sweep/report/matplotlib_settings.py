"""Matplotlib with its own settings, whatever the user's are: the same figure is the same bytes for everybody."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

from fmnist_sweep.process.environ import restore_environment


@cache
def prepare_matplotlib() -> None:
    """Import matplotlib; call this before anything is imported from it.

    MPLBACKEND names a backend for windows or notebooks, and matplotlib does not even start where that one is not
    installed; every Jupyter kernel exports it to what it starts. A matplotlibrc, in the working directory too, may ask
    for LaTeX or other sizes.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of a home that cannot be written, and of such a file
    with restore_environment("MPLBACKEND"):
        os.environ["MPLBACKEND"] = "agg"
        import matplotlib
    matplotlib.rcdefaults()


@contextmanager
def keep_matplotlib_settings() -> Iterator[None]:
    """Put back matplotlib's settings when the block ends: those of a user's program, which our figures do without.

    A notebook's backend is read when matplotlib is imported, so that this imports it first where one is named.
    """
    if "MPLBACKEND" in os.environ:
        try:
            import_module("matplotlib")
        except (ImportError, ValueError):  # of a backend that is not installed here
            del os.environ["MPLBACKEND"]
    module: Any = sys.modules.get("matplotlib")
    settings = None if module is None else dict(module.rcParams.copy())
    try:
        yield
    finally:
        if settings is not None:
            dict.update(module.rcParams, settings)
