"""What tests share: real processes, servers, browsers and disks, tiny studies, simulated trials."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""


def replace_everywhere(function: Callable[..., Any], replacement: Callable[..., Any]) -> None:
    """Put another function in the place of one of the package's, in every module that imported it by its name."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "fmnist_sweep" and getattr(module, function.__name__, None) is function:
            setattr(module, function.__name__, replacement)
