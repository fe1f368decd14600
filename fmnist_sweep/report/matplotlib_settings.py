"""Matplotlib with its own settings, whatever the user's are: the same figure is the same bytes for everybody."""

from __future__ import annotations

import logging
import os
from functools import cache

from fmnist_sweep.environ import restore_environment


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
