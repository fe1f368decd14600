"""Imported by Python itself when this folder is on PYTHONPATH: changes what tests/support/steering.py steers.

Only once it is imported: what a worker sets up before must come before.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tests.support import steering


class _Finder:
    """Finds these modules as they are found without it, and changes each after it has run."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in steering.CHANGES or name in self._finding:
            return None
        self._finding.add(name)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        run = spec.loader.exec_module

        def run_and_change(module: ModuleType) -> None:
            run(module)
            steering.CHANGES[name](module)

        loader: Any = spec.loader
        loader.exec_module = run_and_change
        return spec

    def __init__(self) -> None:
        self._finding: set[str] = set()


if steering.is_steered():
    sys.meta_path.insert(0, _Finder())
