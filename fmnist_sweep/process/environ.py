"""Puts environment variables back as they were, whoever changes them in between; and finds the home folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def restore_environment(*names: str) -> Iterator[None]:
    """Put these variables back when the block ends, as they were when it began: with their value, or absent."""
    previous = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def find_home() -> Path:
    """The user's home folder; a folder that does not exist where the system knows none, as in many containers."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/dev/null/home")
