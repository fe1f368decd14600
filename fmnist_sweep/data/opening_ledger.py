"""The ledger of openings of the test images: lines of JSON, each with the hash of all lines before it.

Whoever edits or removes a line breaks the chain, or the head that a registry keeps of it. Lines of earlier releases
have no hash; the first line after them vouches for them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fmnist_sweep.reading import parse_json, read_file, refuse_irregular

PREVIOUS_KEY = "previous"  # of an entry: the hash of all lines before it
_EMPTY_HASH = hashlib.sha256(b"").hexdigest()
_MAX_BYTES = 2**28
_CHUNK = 2**20


@dataclass(frozen=True)
class OpeningLedger:
    """What a ledger holds.

    entries: the values of each line, empty for a line that is no JSON (a write was cut short). hashes: of the lines up
    to each, that line included. broken_line: number, from 1, of the first line that does not follow from those before.
    """

    entries: Sequence[Mapping[str, Any]]
    hashes: Sequence[str]
    broken_line: int | None

    @cached_property
    def head(self) -> str:
        """The hash of all lines."""
        return self.hashes[-1] if self.hashes else _EMPTY_HASH


def read_ledger(path: Path) -> OpeningLedger:
    """Read a ledger; one that is not there has no entry. Raises OSError."""
    try:
        content = read_file(path, _MAX_BYTES)
    except FileNotFoundError:
        content = b""
    entries: list[Mapping[str, Any]] = []
    hashes: list[str] = []
    broken_line = None
    for number, line in enumerate(_split_lines(content), 1):
        previous = hashes[-1] if hashes else _EMPTY_HASH
        entry = _parse_entry(line)
        if broken_line is None and entry.get(PREVIOUS_KEY, previous) != previous:
            broken_line = number
        entries.append(entry)
        hashes.append(_hash_next(previous, line))
    return OpeningLedger(entries, hashes, broken_line)


def append_entry(path: Path, entry: Mapping[str, Any]) -> None:
    """Add an entry to a ledger, made with its folders if it is missing; on disk when this returns. Raises OSError.

    One process at a time adds one, so that each names the hash of the line before it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of a pipe, O_NONBLOCK waits for no reader.
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
    try:
        refuse_irregular(os.fstat(descriptor), path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        content = _read_all(descriptor)
        previous = _EMPTY_HASH
        for line in _split_lines(content):
            previous = _hash_next(previous, line)
        text = json.dumps({**entry, PREVIOUS_KEY: previous}) + "\n"
        if content and not content.endswith(b"\n"):  # a write was cut short
            text = "\n" + text
        _write_all(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _split_lines(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    return lines[:-1] if not lines[-1] else lines


def _hash_next(previous: str, line: bytes) -> str:
    return hashlib.sha256(previous.encode() + line).hexdigest()


def _parse_entry(line: bytes) -> Mapping[str, Any]:
    try:
        entry = parse_json(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _read_all(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    content = bytearray()
    while chunk := os.read(descriptor, _CHUNK):
        content += chunk
    return bytes(content)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
