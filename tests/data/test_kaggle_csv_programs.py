"""Kaggle's CSV files as other programs write them are read, and what is no such file is one short sentence."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.data import kaggle_csv, load_splits
from tests.support.caches import clear_splits_cache
from tests.support.kaggle_files import config, refusal, write_tables

pytestmark = pytest.mark.usefixtures("no_credentials")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Kaggle's two files."""
    return write_tables(tmp_path / "csv")


def write_lines(folder: Path, change: Callable[[list[str]], Any], encoding: str = "utf-8") -> Path:
    """Write the training file anew: what `change` makes of its lines, as one text, or bytes as they are."""
    path = folder / "fashion-mnist_train.csv"
    content = change(path.read_text().splitlines())
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def separated(separator: str) -> Callable[[list[str]], str]:
    return lambda lines: "\n".join(line.replace(",", separator) for line in lines)


def zipped(lines: list[str], name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, "\n".join(lines))
    return content.getvalue()


OTHER_PROGRAMS: dict[str, Callable[[list[str]], Any]] = {
    "semicolons": separated(";"),
    "tabs": separated("\t"),
    "bars": separated("|"),
    "spaces after commas": separated(", "),
    "spaces around": lambda lines: "\n".join(f"  {line.replace(',', ' , ')} " for line in lines),
    "semicolons, as Excel notes them": lambda lines: "sep=;\r\n" + separated(";")(lines),
    "two blank lines at the end": lambda lines: "\n".join(lines) + "\n\n\n",
    "spaces at the end": lambda lines: "\n".join(lines) + "\n  \n \t",
    "empty rows at the end": lambda lines: "\n".join([*lines, "," * 784, "," * 784]),
    "the end of an old text": lambda lines: "\n".join(lines) + "\n\x1a",
    "no line end": lambda lines: "\n".join(lines),
    "blank lines before": lambda lines: "\n\n" + "\n".join(lines),
    "Windows' line ends": lambda lines: "\r\n".join(lines) + "\r\n\r\n",
    "old Macs' line ends": lambda lines: "\r".join(lines) + "\r",
    "a byte order mark": lambda lines: "\ufeff" + "\n".join(lines),
    "a byte order mark and quotes": lambda lines: (
        "\ufeff" + "\n".join(f'"{x.replace(",", chr(34) + "," + chr(34))}"' for x in lines)
    ),
    "capitals": lambda lines: "\n".join([lines[0].title(), *lines[1:]]),
    "a quoted header": lambda lines: "\n".join(['"' + lines[0].replace(",", '","') + '"', *lines[1:]]),
    "numbers with a point": lambda lines: "\n".join([lines[0], *(line.replace(",", ".0,") for line in lines[1:])]),
    "gzip, by content": lambda lines: gzip.compress("\n".join(lines).encode()),
    "zip, by content": lambda lines: zipped(lines, "anything.csv"),
}


@pytest.mark.parametrize("name", OTHER_PROGRAMS)
def test_the_same_rows_are_read_whatever_program_wrote_them(folder: Path, name: str) -> None:
    expected = load_splits(config(dir=str(folder))).sha256
    write_lines(folder, OTHER_PROGRAMS[name])
    clear_splits_cache()
    assert load_splits(config(dir=str(folder))).sha256 == expected


@pytest.mark.parametrize("name", ["blank lines before", "Windows' line ends", "old Macs' line ends", "semicolons"])
def test_line_numbers_are_those_of_the_file_whatever_program_wrote_it(folder: Path, name: str) -> None:
    def change(lines: list[str]) -> Any:
        lines[30] = lines[30].rpartition(",")[0] + ",300"
        return OTHER_PROGRAMS[name](lines)

    write_lines(folder, change)
    line = 33 if name == "blank lines before" else 31
    assert f"line {line}, column pixel784: expected a whole number from 0 to 255, found '300'" in refusal(folder)


NOT_THESE: dict[str, tuple[Callable[[list[str]], Any], str]] = {
    "spaces only": (separated(" "), "found 1 with no label"),
    "UTF-16": (lambda lines: "\n".join(lines).encode("utf-16"), "found a text in UTF-16"),
    "a web page": (lambda lines: "<!doctype html><title>Kaggle</title>", "found a web page"),
    "images": (lambda lines: b"\0\0\x08\x03" + bytes(100), "found an IDX images file"),
    "no header": (lambda lines: "\n".join(lines[1:]), "with no label and an unexpected '"),
    "a column twice": (lambda lines: "\n".join([f"label,{lines[0]}", *lines[1:]]), "label twice"),
    "an index": (lambda lines: "\n".join([f",{lines[0]}", *(f"1,{x}" for x in lines[1:])]), "an unexpected ''"),
    "a blank line amid": (lambda lines: "\n".join([*lines[:9], "", *lines[9:]]), "line 10"),
    "a cell of NULs": (lambda lines: "\n".join([*lines[:9], "\0" * 10**6]), "line 10: expected 785 numbers"),
    "a cell of letters": (lambda lines: "\n".join([lines[0], "x" * 500 + lines[1][1:]]), "'xxxxxx"),
    "a line without end": (lambda lines: lines[0] + "\n" + "1," * 10**6, "a line of more than 32,768 bytes"),
    "a header without end": (lambda lines: "label," * 10**5, "line 1: expected 785 numbers"),
    "a long name": (
        lambda lines: "\n".join([lines[0].replace("pixel9,", "y" * 9000 + ","), *lines[1:]]),
        "no pixel9 and",
    ),
    "an open quote": (lambda lines: "\n".join([lines[0], '"5' + "\n" * 600_000 + "5"]), "blank lines together"),
    "blank lines only": (lambda lines: "\n" * 1000, "found blank lines only"),
    "a zip of two": (lambda lines: zipped(lines, "a.csv")[:-9], "cannot be read as CSV"),
    "a torn gzip": (lambda lines: gzip.compress("\n".join(lines).encode())[:-9], "cannot be read as CSV"),
    "gzip in gzip": (lambda lines: gzip.compress(gzip.compress(b"label")), "found a gzip file"),
}


@pytest.mark.parametrize("name", NOT_THESE)
def test_what_is_no_such_csv_is_one_short_sentence(folder: Path, name: str) -> None:
    change, words = NOT_THESE[name]
    path = write_lines(folder, change)
    text = refusal(folder)
    assert words in text
    assert len(text) < 500 + len(str(path)) + len(kaggle_csv.HOW_TO_GET)
    assert text.isprintable()


@pytest.mark.parametrize("line", [b"\0" * 3000 + b"\n", b"1,2\n", b",".join([b"1"] * 785) + b"\n"])
def test_a_bomb_in_gzip_takes_a_bounded_memory(folder: Path, monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    monkeypatch.setattr(kaggle_csv, "MAX_IMAGES", 200)
    monkeypatch.setattr(kaggle_csv, "ROWS_AT_ONCE", 100)
    header = (folder / "fashion-mnist_train.csv").read_bytes().split(b"\n")[0] + b"\n"
    # gzip files one after the other are one: 300 MB of lines in a small file, made in no time.
    rows = gzip.compress(line * (2**20 // len(line))) * 300
    (folder / "fashion-mnist_train.csv").write_bytes(gzip.compress(header) + rows)
    tracemalloc.start()
    try:
        refusal(folder)
        assert tracemalloc.get_traced_memory()[1] < 60 * 2**20
    finally:
        tracemalloc.stop()
