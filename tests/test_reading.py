"""Files of others are read with a bound: regular ones only, so many bytes, unpacked by what they are."""

from __future__ import annotations

import ast
import contextlib
import gzip
import io
import os
import random
import socket
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_sweep.reading import (
    UNPACKING_ERRORS,
    RefusedFile,
    describe_content,
    load_arrays,
    open_unpacked_file,
    open_zip,
    parse_json,
    parse_yaml,
    read_file,
    read_head,
    read_stream,
)
from tests.support import ROOT


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


IRREGULAR: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a named pipe": make_fifo,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("read", [lambda path: read_file(path, 10), lambda path: read_head(path, 10)])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str, read: Callable[[Path], bytes]) -> None:
    IRREGULAR[kind](tmp_path / "it")
    with pytest.raises(RefusedFile) as error:
        read(tmp_path / "it")
    assert error.value.strerror == f"it is {kind}, not a file"
    assert error.value.filename == str(tmp_path / "it")


def test_a_link_to_a_regular_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link", 7) == b"content"


def test_a_file_longer_than_its_bound_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 2**40)  # takes no place on the disk
    tracemalloc.start()
    with pytest.raises(RefusedFile, match="more than the 1,000 bytes"):
        read_file(path, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    assert read_head(path, 5) == b"\0" * 5


def test_a_file_of_which_the_system_does_not_say_the_length_is_bounded_too() -> None:
    assert b"Vm" in read_file(Path("/proc/self/status"), 10_000)
    with pytest.raises(RefusedFile):
        read_file(Path("/proc/self/status"), 10)


class CountingFile(io.BytesIO):
    """Counts the bytes that are read of it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.count += len(content)
        return content


def test_of_a_stream_at_most_one_byte_more_is_read() -> None:
    file = CountingFile(bytes(5_000_000))
    with pytest.raises(RefusedFile):
        read_stream(file, 3_000_000)
    assert file.count == 3_000_001
    assert read_stream(io.BytesIO(b"abc"), 3) == b"abc"


def zipped(**entries: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, entry in entries.items():
            archive.writestr(name.replace("__", "/"), entry)
    return content.getvalue()


@pytest.mark.parametrize("name", ["data", "data.gz", "data.zip"])
@pytest.mark.parametrize(
    "content",
    [
        b"the content",
        gzip.compress(b"the content"),
        zipped(anything=b"the content"),
        zipped(data=b"the content", other=b"something else"),
        zipped(**{"folder__data": b"the content", "__MACOSX__folder__._data": b"of a Mac"}),
    ],
    ids=["plain", "gzip", "zip", "zip of two", "zip of a Mac"],
)
def test_a_file_is_unpacked_by_what_it_is_whatever_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    if b"other" in content and name == "data.gz":
        name = "data.zip"  # an entry is found by the archive's name
    (tmp_path / name).write_bytes(content)
    with open_unpacked_file(tmp_path / name) as file:
        assert file.read(100) == b"the content"


@cache
def make_bad_archives() -> dict[str, bytes]:
    encrypted = bytearray(zipped(a=b"1"))
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    crowded = io.BytesIO()
    with zipfile.ZipFile(crowded, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number:010d}", b"")
    whole = zipped(a=b"1")
    end = whole.index(b"PK\x05\x06")
    larger = whole[:end] + struct.pack("<IIQQ", 0x07064B50, 0, 0, 1)[:20] + whole[end:]
    return {
        "of two": zipped(a=b"1", b=b"2"),
        "of none": b"PK\x03\x04" + zipped()[4:],
        "encrypted": bytes(encrypted),
        "crowded": crowded.getvalue(),
        "zip64": larger,
        "torn": whole[:-5],
    }


@pytest.mark.parametrize("name", ["of two", "of none", "encrypted", "crowded", "zip64", "torn"])
def test_an_archive_that_is_not_one_whole_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "it.zip").write_bytes(make_bad_archives()[name])
    with pytest.raises(UNPACKING_ERRORS), open_unpacked_file(tmp_path / "it.zip") as file:
        file.read()


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: zipped(it=content)])
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_archive_raises_only_what_is_expected(
    tmp_path: Path, seed: int, pack: Callable[[bytes], bytes]
) -> None:
    draw = random.Random(seed)
    whole = pack(draw.randbytes(400))
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(4, len(content))] = draw.randrange(256)
        (tmp_path / "it").write_bytes(content[: draw.choice([None, draw.randrange(len(content))])])
        try:
            with open_unpacked_file(tmp_path / "it") as file:
                read_stream(file, 500)
        except (*UNPACKING_ERRORS, RefusedFile):
            pass


def npz(compression: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, entry in entries.items():
            archive.writestr(f"{name}.npy", entry)
    return content.getvalue()


def npy(shape: str, dtype: str = "'<f8'", content: bytes = b"") -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def test_arrays_come_back() -> None:
    content = io.BytesIO()
    np.savez_compressed(content, a=np.arange(5), b=np.array(["x"]))
    arrays = load_arrays(content.getvalue(), 1000)
    assert arrays["a"].tolist() == [0, 1, 2, 3, 4]
    assert arrays["b"].tolist() == ["x"]


@pytest.mark.parametrize(
    "content",
    [
        npz(zipfile.ZIP_DEFLATED, a=npy("(4000000,)", content=bytes(32_000_000))),
        npz(a=npy("(1000000000000000,)")),
        npz(a=npy("(-1,)")),
        npz(a=npy("(1000000, 1000000, 1000000)")),
        npz(a=npy("()", "'<V2000000000'")),
        npz(a=npy("()", "'|O'", b"\x80\x04N.")),
        npz(a=npy("(" * 2000)),
        npz(a=b"\x93NUMPY\x07\x00"),
        npz(a=b"nothing"),
        b"PK\x03\x04",
        b"",
    ],
)
def test_arrays_that_are_not_what_they_say_or_too_large_are_refused_before_they_take_memory(content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"\w"):
            load_arrays(content, 10_000_000)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("seed", range(5))
def test_altered_arrays_raise_only_a_value_error(seed: int) -> None:
    draw = random.Random(seed)
    buffer = io.BytesIO()
    np.savez(buffer, index=np.arange(9), labels=np.arange(9), probabilities=np.ones((9, 10), np.float32))
    for _ in range(40):
        content = bytearray(buffer.getvalue())
        for _ in range(draw.randint(1, 5)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        with contextlib.suppress(ValueError):
            load_arrays(bytes(content), 100_000)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize("text", [LAUGHS, "a: &a [*a]", "[" * 5000, "a: [", "? {a: 1}\n: 2", b"\xff\xfe\x00", "\x00"])
def test_a_yaml_that_grows_or_is_none_is_a_value_error(text: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_yaml(text)


def test_an_alias_as_such_is_fine() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: *a") == {"a": {"x": 1}, "b": {"x": 1}}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "", "{", b"\xff"])
def test_a_json_that_is_none_or_too_deep_is_a_value_error(text: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\n<!DOCTYPE html>", "a web page"),
        (b"\x00\x00\x08\x03\x00", "an IDX images file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"label,pixel1", None),
        (b"", None),
    ],
)
def test_what_a_file_is_shows_in_its_first_bytes(head: bytes, words: str | None) -> None:
    assert (describe_content(head) or "None").startswith(str(words))


def test_a_short_archive_has_a_short_list() -> None:
    with open_zip(io.BytesIO(zipped(a=b"1", b=b"2"))) as archive:
        assert archive.namelist() == ["a", "b"]


# What reads without a bound, and the modules that may: of files that the package or the system brings itself.
UNBOUNDED = {"read_bytes", "read_text", "safe_load", "ZipFile", "urlopen", "urlretrieve", "np.load", "json.load"}
OF_ONES_OWN = {
    "cli/new.py",  # the template
    "config/folders.py",  # conf/ and the recipes
    "config/foreign.py",  # a text that was read with a bound
    "process/states.py",  # /proc
    "report/documented/write_ups.py",  # experiments/documented
    "report/kept_parts.py",  # this project's code
    "report/plotly_chart.py",  # plotly's script
    "sweep/measurements.py",  # the code that trains
    "sweep/placement.py",  # /proc and /sys
    "training/environment.py",
    "training/export_runtime.py",  # arrays that the other side of an export wrote just now
    "training/trial.py",  # the model that was saved just now
}


def test_files_of_others_are_read_by_this_module_alone() -> None:
    package = ROOT / "fmnist_sweep"
    places = {
        str(path.relative_to(package))
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if {node.func.attr, ast.unparse(node.func)} & UNBOUNDED
    }
    assert sorted(places - {"reading.py"}) == sorted(OF_ONES_OWN)
