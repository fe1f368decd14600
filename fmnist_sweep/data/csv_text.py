"""A CSV file as a stream of bounded lines, whichever program wrote it: its separator, quotes and line ends.

Every cell of these files is a number, so that a quote says nothing and is left out: an open one cannot turn the rest of
the file into one cell.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from fmnist_sweep.errors import DataError
from fmnist_sweep.reading import describe_content, open_unpacked_file

# A line of 785 numbers has some 3,000 bytes, and a header with quotes 10,000.
MAX_LINE = 2**15
_BLOCK = 2**18
_MAX_LINES_BEFORE_HEADER = 20
_SEPARATORS = ",;\t|"
_BLANK = b" \n\x1a" + _SEPARATORS.encode()  # the byte 1A ends texts of old programs


class Header(NamedTuple):
    """The first line that is not blank. line: its number, from 1; names: in lower case, without quotes and spaces."""

    line: int
    separator: str
    names: list[str]


@contextmanager
def open_csv(path: Path) -> Iterator[tuple[Header, IO[bytes]]]:
    """The header of a CSV file, plain or packed, and all its lines from the first on, without quotes.

    Line ends become those of Unix, and blank lines at the end are left out. Errors: DataError where it is no text or a
    line is too long; RefusedFile, OSError, and UNPACKING_ERRORS while it is read.
    """
    with open_unpacked_file(path) as file:
        first = file.read(_BLOCK)
        kind = describe_content(first)
        if kind is not None:
            raise DataError(f"{path} is not a CSV file: expected a text in UTF-8, found {kind}; save it as CSV.")
        blocks = _clean_blocks(path, first.removeprefix(b"\xef\xbb\xbf"), file)
        beginning = next(blocks, b"")
        yield (
            _parse_header(path, beginning),
            io.BufferedReader(_BlockReader(_drop_blank_end(path, chain([beginning], blocks))), _BLOCK),
        )


def _parse_header(path: Path, beginning: bytes) -> Header:
    for number, line in enumerate(beginning.split(b"\n")[:_MAX_LINES_BEFORE_HEADER], 1):
        text = line.decode("utf-8", "replace")
        if text.strip() and not text.startswith("sep="):  # with this line Excel notes the separator
            separator = max(_SEPARATORS, key=text.count)
            return Header(number, separator, [name.strip().lower() for name in text.split(separator)])
    raise DataError(f"{path} holds no images: expected the header label,pixel1,...,pixel784, found blank lines only.")


def _clean_blocks(path: Path, first: bytes, file: IO[bytes]) -> Iterator[bytes]:
    """Parts of a file with one kind of line end and without quotes. Errors: DataError where a line is too long."""
    block, number, unfinished, ends_with_return = first, 1, 0, False
    while block:
        if ends_with_return and block.startswith(b"\n"):
            block = block[1:]
        ends_with_return = block.endswith(b"\r")
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b'"', b"")
        lengths = [len(line) for line in block.split(b"\n")]
        lengths[0] += unfinished
        if max(lengths) > MAX_LINE:
            line = number + next(at for at, length in enumerate(lengths) if length > MAX_LINE)
            raise DataError(
                f"{path}, line {line}: expected 785 numbers, found a line of more than {MAX_LINE:,} bytes; is it the "
                "right file?"
            )
        number, unfinished = number + len(lengths) - 1, lengths[-1]
        if block:
            yield block
        block = file.read(_BLOCK)


def _drop_blank_end(path: Path, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks without the lines at their end that hold nothing but spaces and separators."""
    held = b""
    for block in blocks:
        held += block
        content = held.rstrip(_BLANK)
        if content:
            yield content
            held = held[len(content) :]
        if len(held) > _BLOCK:
            raise DataError(f"{path} holds more than {_BLOCK:,} bytes of blank lines together: is it the right file?")


class _BlockReader(io.RawIOBase):
    """Blocks of bytes as a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
