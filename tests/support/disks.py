"""A small real file system that can be filled, made larger and made read-only."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.process import LIMIT_SECONDS


@dataclass(frozen=True)
class Disk:
    """A mounted file system in memory."""

    path: Path

    def fill(self, leave: int = 0) -> None:
        """Write a file until not a byte is left, but for `leave` bytes."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            file.truncate(max(0, file.tell() - leave))

    def free(self) -> None:
        """Take that file away again."""
        self._ballast.unlink()

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """While this lasts, nobody can write, root neither."""
        _mount("-o", "remount,ro", str(self.path))
        try:
            yield
        finally:
            _mount("-o", "remount,rw", str(self.path))


@contextmanager
def disk(path: Path, megabytes: int) -> Iterator[Disk]:
    """Mount a file system of this size at a new folder."""
    path.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs the right to mount a file system, as root has ({error})")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=LIMIT_SECONDS)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, timeout=LIMIT_SECONDS)
