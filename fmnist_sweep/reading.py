"""Files of others, read with a bound: regular files only, at most so many bytes, unpacked by what they are.

A named pipe or a device is refused and never waited for. What says how long it is (the entries of a zip archive, the
arrays of an .npz file, the aliases of a YAML file) is counted before any of it is unpacked.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import math
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tokenize import TokenError  # NumPy's reader of headers raises it
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What unpacking raises for a file that is cut short, altered or no such file.
UNPACKING_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error, zipfile.BadZipFile)
_CHUNK = 2**20
_MAX_ZIP_DIRECTORY = 2**20  # bytes of a zip archive's list of entries, which zipfile reads whole: 10,000 entries
_END_OF_ZIP = 2**16 + 22  # the list's address lies within so many bytes of the end
_UNUSUAL_FLAGS = 0x1 | 0x20 | 0x40  # of an entry: encrypted, patched data, strongly encrypted
_MAX_YAML_NODES = 100_000  # with each alias written out
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_CONTENT_KINDS = (
    (b"\x1f\x8b", "a gzip file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x00\x00\x08\x03", "an IDX images file"),
    (b"\x00\x00\x08\x01", "an IDX labels file"),
    (b"\xff\xfe", "a text in UTF-16"),
    (b"\xfe\xff", "a text in UTF-16"),
    (b"version https://git-lfs", "a Git LFS pointer in place of the file, which git lfs pull fetches"),
)


class RefusedFile(OSError):
    """A file that is not read: it is not a regular one, or it is longer than may be expected; `strerror` says which."""

    def __init__(self, reason: str, path: object = None) -> None:
        super().__init__(errno.EINVAL, reason, *([] if path is None else [str(path)]))


class SwollenText(ValueError):
    """A text whose aliases stand for far more than it says."""


@contextmanager
def open_regular_file(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file to read its bytes. Raises RefusedFile for a folder, pipe, device or socket, and OSError."""
    refuse_irregular(path.stat(), path)  # before it is opened, as opening a device may move it
    # What takes the path's place in between may be a pipe, which O_NONBLOCK does not wait for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        refuse_irregular(os.fstat(descriptor), path)
        yield file


def refuse_irregular(status: os.stat_result, path: Path) -> None:
    """Raise RefusedFile for what is no regular file."""
    if not stat.S_ISREG(status.st_mode):
        kind = next((words for check, words in _KINDS if check(status.st_mode)), "something else")
        raise RefusedFile(f"it is {kind}, not a file", path)


def read_file(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file of at most `max_bytes`. Raises RefusedFile and OSError."""
    with open_regular_file(path) as file:
        if os.fstat(file.fileno()).st_size > max_bytes:  # nothing of it is read then
            raise _build_length_error(max_bytes, path)
        return read_stream(file, max_bytes, path)


def read_text_file(path: Path, max_bytes: int) -> str:
    """The text of a regular file in UTF-8. Raises RefusedFile, OSError and UnicodeDecodeError."""
    return read_file(path, max_bytes).decode("utf-8")


def read_head(path: Path, count: int) -> bytes:
    """The first `count` bytes of a regular file, or all if it has fewer. Raises RefusedFile and OSError."""
    with open_regular_file(path) as file:
        return file.read(count)


def read_stream(file: IO[bytes], max_bytes: int, path: object = None) -> bytes:
    """All bytes of an open file, of which at most one more than `max_bytes` is read. Raises RefusedFile if it is there.

    path: of the file, for the error.
    """
    content = bytearray()
    while chunk := file.read(min(_CHUNK, max_bytes + 1 - len(content))):
        content += chunk
        if len(content) > max_bytes:
            raise _build_length_error(max_bytes, path)
    return bytes(content)


def _build_length_error(max_bytes: int, path: object) -> RefusedFile:
    return RefusedFile(f"it has more than the {max_bytes:,} bytes that are read of such a file", path)


def describe_content(head: bytes) -> str | None:
    """What a file is by its first bytes, in words; None if they do not tell."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page"
    return next((words for magic, words in _CONTENT_KINDS if head.startswith(magic)), None)


@contextmanager
def open_unpacked_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file and unpack it by its content, whatever its name: gzip, a zip archive of one file, or neither.

    What it unpacks to has no bound: read it with `read_stream` or in parts. Raises RefusedFile, OSError and, while it
    is read too, UNPACKING_ERRORS.
    """
    with open_regular_file(path) as file:
        head = file.read(4)
        file.seek(0)
        if head.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast(IO[bytes], unpacked)
        elif head == b"PK\x03\x04":
            with open_zip(file) as archive, archive.open(_find_only_entry(archive, path)) as entry:
                yield entry
        else:
            yield file


def open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """Open a zip archive of at most some 10,000 entries, unencrypted. Raises zipfile.BadZipFile.

    An entry never unpacks to more than the size that it states (`file_size`): zipfile stops there.
    """
    _refuse_long_directory(file)
    try:
        archive = zipfile.ZipFile(file)
    except (ValueError, NotImplementedError, struct.error) as error:
        raise zipfile.BadZipFile(str(error)) from None
    for entry in archive.infolist():
        packed_otherwise = entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if packed_otherwise or entry.flag_bits & _UNUSUAL_FLAGS or entry.header_offset < 0:
            raise zipfile.BadZipFile("an entry is encrypted, or packed in an unusual way")
    return archive


def _refuse_long_directory(file: IO[bytes]) -> None:
    """Refuse a zip archive whose list of entries would fill the memory; zipfile reads it whole and checks nothing."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _END_OF_ZIP))
    tail = file.read(_END_OF_ZIP)
    file.seek(0)
    start = tail.find(b"PK\x05\x06")
    while start >= 0:
        # A "zip64" archive states the length elsewhere. It is for 4 GiB or 65,536 entries, which nothing here has.
        if int.from_bytes(tail[start + 12 : start + 16], "little") > _MAX_ZIP_DIRECTORY or tail[
            max(0, start - 20) : start
        ].startswith(b"PK\x06\x07"):
            raise zipfile.BadZipFile("it lists too many entries")
        start = tail.find(b"PK\x05\x06", start + 1)


def _find_only_entry(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one file of an archive, or the one of several that has the archive's name."""
    entries = [
        entry
        for entry in archive.infolist()
        if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")  # macOS adds such a folder
    ]
    named = [entry for entry in entries if PurePosixPath(entry.filename).name in (path.name, path.stem)]
    for choice in (entries, named):
        if len(choice) == 1:
            return choice[0]
    raise zipfile.BadZipFile(f"it holds {len(entries)} files, not one")


def load_arrays(content: bytes, max_bytes: int, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file's bytes, together at most `max_bytes` in memory; nothing in it is unpickled.

    names: of those that are read; None: all. Raises ValueError if it is no such file, or holds more.
    """
    import numpy as np

    try:
        with open_zip(io.BytesIO(content)) as archive:
            _refuse_large_arrays(archive, max_bytes)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files if names is None or name in names}
    except (*UNPACKING_ERRORS, SyntaxError, TokenError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError(f"not an .npz file ({type(error).__name__}: {error})") from None


def list_arrays(content: bytes) -> list[str]:
    """The names of the arrays in an .npz file's bytes, none of which is read. Raises ValueError for another file."""
    try:
        with open_zip(io.BytesIO(content)) as archive:
            return [entry.filename.removesuffix(".npy") for entry in archive.infolist()]
    except UNPACKING_ERRORS as error:
        raise ValueError(f"not an .npz file ({type(error).__name__}: {error})") from None


def _refuse_large_arrays(archive: zipfile.ZipFile, max_bytes: int) -> None:
    """Refuse arrays that would take more memory than they may, or than the bytes that there are of them."""
    import numpy as np

    if sum(entry.file_size for entry in archive.infolist()) > max_bytes:
        raise ValueError(f"its arrays take more than {max_bytes:,} bytes")
    for entry in archive.infolist():
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                raise ValueError(f"the array {entry.filename[:40]!r} has a format of version {version}")
            shape, _, dtype = read_header(file)
        if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize > entry.file_size:
            raise ValueError(f"the array {entry.filename[:40]!r} states another size than it has")


def parse_yaml(text: str | bytes) -> Any:
    """The plain values of a YAML text, which stays small with each alias written out. Raises ValueError, SwollenText.

    Source: the "billion laughs" are a YAML of some lines, whose aliases of aliases stand for 10^9 values.
    """
    import yaml

    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise ValueError(f"it is no YAML ({type(error).__name__}: {' '.join(str(error).split())})") from None
    if _count_nodes(content, {}) > _MAX_YAML_NODES:
        raise SwollenText(f"its aliases stand for more than {_MAX_YAML_NODES:,} values")
    return content


def _count_nodes(content: object, counts: dict[int, float]) -> float:
    """How many values there are with each alias written out; math.inf if one holds itself."""
    if not isinstance(content, Mapping | list):
        return 1
    if id(content) not in counts:
        counts[id(content)] = math.inf  # while it is being counted
        parts = content.values() if isinstance(content, Mapping) else content
        counts[id(content)] = 1 + sum(_count_nodes(part, counts) for part in parts)
    return counts[id(content)]


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, also if it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
