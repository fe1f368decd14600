"""Kaggle's CSV files: what is accepted, and how the first wrong value is named."""

from __future__ import annotations

import gzip
import io
import os
import sys
import threading
import tracemalloc
import types
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fmnist_sweep.data import kaggle_csv, load_splits, open_test, summarize_data
from fmnist_sweep.data.drawn import draw_images
from fmnist_sweep.data.splits import hash_in_any_order
from fmnist_sweep.errors import DataError
from tests.conftest import data_config
from tests.support.caches import clear_splits_cache
from tests.support.process import LIMIT_SECONDS

COLUMNS = ["label", *(f"pixel{number}" for number in range(1, 785))]


config = partial(data_config, source="kaggle_csv")


def table(count: int, stream: Any) -> pd.DataFrame:
    images, labels = draw_images(count, 5, stream=stream)
    return pd.DataFrame(np.column_stack([labels, images.reshape(count, -1)]), columns=COLUMNS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "csv"
    folder.mkdir()
    table(60, "train").to_csv(folder / "fashion-mnist_train.csv", index=False)
    table(10, "test").to_csv(folder / "fashion-mnist_test.csv", index=False)
    return folder


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "no-kaggle"))
    clear_splits_cache()


def test_csv_files_hold_the_same_images_as_they_were_written_from(folder: Path, tmp_path: Path) -> None:
    splits = load_splits(config(dir=str(folder)))
    images, labels = draw_images(60, 5)
    assert np.array_equal(splits.train.images, images[splits.train.index])
    assert np.array_equal(splits.validation.labels, labels[splits.validation.index])
    assert splits.origin.source == "kaggle_csv"
    assert not splits.origin.canonical
    test = open_test(config(dir=str(folder)), reason="r", ledger=tmp_path / "ledger")
    assert np.array_equal(test.images, draw_images(10, 5, stream="test")[0])


def test_the_order_of_rows_does_not_matter_to_being_canonical(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = table(60, "train").sample(frac=1, random_state=0)
    read = kaggle_csv.read_csv_part(folder, "train")
    monkeypatch.setitem(kaggle_csv.CANONICAL_HASHES, "train", hash_in_any_order(read))
    shuffled.to_csv(folder / "fashion-mnist_train.csv", index=False)
    assert load_splits(config(dir=str(folder))).origin.canonical


def test_a_swapped_test_file_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = kaggle_csv.read_csv_part(folder, "train")
    monkeypatch.setitem(kaggle_csv.CANONICAL_HASHES, "test", hash_in_any_order(read))
    with pytest.raises(DataError, match="found the canonical test images"):
        load_splits(config(dir=str(folder)))


@pytest.mark.parametrize("suffix", ["gz", "zip"])
def test_compressed_csv_files_are_accepted(folder: Path, suffix: str) -> None:
    expected = load_splits(config(dir=str(folder))).sha256
    path = folder / "fashion-mnist_train.csv"
    path.unlink()
    table(60, "train").to_csv(f"{path}.{suffix}", index=False)
    clear_splits_cache()
    assert load_splits(config(dir=str(folder))).sha256 == expected


def test_load_never_opens_the_test_csv(folder: Path) -> None:
    (folder / "fashion-mnist_test.csv").write_text("poison")
    assert len(load_splits(config(dir=str(folder))).train.labels) == 50


def test_columns_in_another_order_are_read_by_their_names(folder: Path) -> None:
    expected = load_splits(config(dir=str(folder))).sha256
    table(60, "train")[COLUMNS[::-1]].to_csv(folder / "fashion-mnist_train.csv", index=False)
    clear_splits_cache()
    assert load_splits(config(dir=str(folder))).sha256 == expected


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder), fallback="drawn"))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.drop(columns="pixel400"),
            "785 named label, pixel1 to pixel784, found 784 with no pixel400",
        ),
        (lambda t: t.rename(columns={"label": "class"}), "no label and an unexpected 'class'"),
        (lambda t: t.assign(extra=1), "an unexpected 'extra'"),
    ],
)
def test_wrong_columns_are_named(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame], words: str) -> None:
    change(table(60, "train")).to_csv(folder / "fashion-mnist_train.csv", index=False)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("pixel7", "", "expected a whole number from 0 to 255, found nothing"),
        ("pixel7", "NaN", "found 'NaN'"),
        ("pixel7", "256", "expected a whole number from 0 to 255, found '256'"),
        ("pixel7", "-1", "found '-1'"),
        ("pixel7", "0.5", "found '0.5'"),
        ("pixel7", "white", "found 'white'"),
        ("pixel7", "True", "found 'True'"),
        ("pixel7", "1e400", "found"),
        ("pixel7", "99999999999999999999999", "found"),
        ("label", "10", "expected a whole number from 0 to 9, found '10'"),
        ("label", "Shirt", "found 'Shirt'"),
    ],
)
def test_the_first_wrong_value_is_named_with_its_line_and_column(
    folder: Path, column: str, value: str, words: str
) -> None:
    rows = table(60, "train").astype(str)
    rows.loc[40, column] = value
    rows.loc[50, "pixel9"] = "300"
    rows.to_csv(folder / "fashion-mnist_train.csv", index=False)
    text = refusal(folder)
    assert words in text
    assert f"line 42, column {column}:" in text


def test_the_line_number_is_right_beyond_the_first_rows_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle_csv, "ROWS_AT_ONCE", 16)
    rows = table(60, "train")
    rows.loc[40, "pixel784"] = 999
    rows.to_csv(folder / "fashion-mnist_train.csv", index=False)
    assert "line 42, column pixel784" in refusal(folder)


@pytest.mark.parametrize("place", [0, 30])
@pytest.mark.parametrize("change", [lambda line: line + ",1", lambda line: line.rsplit(",", 1)[0], lambda line: ""])
def test_a_line_with_too_many_or_too_few_values_is_an_error(
    folder: Path, place: int, change: Callable[[str], str]
) -> None:
    path = folder / "fashion-mnist_train.csv"
    lines = path.read_text().splitlines()
    lines[1 + place] = change(lines[1 + place])
    path.write_text("\n".join(lines) + "\n")
    text = refusal(folder)
    assert f"line {2 + place}" in text


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x00\x01", b"\xff\xfe\x00,\n", b"label\n"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".zip"])
def test_garbage_is_one_sentence(folder: Path, content: bytes, suffix: str) -> None:
    path = folder / "fashion-mnist_train.csv"
    path.unlink()
    path.with_name(path.name + suffix).write_bytes(content)
    assert str(path.with_name(path.name + suffix)) in refusal(folder)


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


def test_a_damaged_file_does_not_hide_a_whole_one_beside_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = load_splits(config(dir=str(folder))).sha256
    path = folder / "fashion-mnist_train.csv"
    whole = path.read_bytes()
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(whole))
    path.write_bytes(whole[: len(whole) // 2])
    clear_splits_cache()
    assert load_splits(config(dir=str(folder))).sha256 == expected
    assert f"{path}.gz is used instead of a damaged file beside it: {path}, line" in capsys.readouterr().err


def test_a_folder_of_idx_files_gives_a_hint(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    assert "add data=fashion_mnist" in refusal(tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_said_at_once(folder: Path, make: Callable[[Path], Any]) -> None:
    path = folder / "fashion-mnist_train.csv"
    path.unlink()
    make(path)
    assert "not a file" in refusal(folder)


def test_a_file_in_place_of_the_folder_is_said(folder: Path) -> None:
    assert "found a file in place of the folder" in refusal(folder / "fashion-mnist_train.csv")


def test_a_file_with_a_header_only_is_an_error(folder: Path) -> None:
    table(60, "train").head(0).to_csv(folder / "fashion-mnist_train.csv", index=False)
    assert "holds no images" in refusal(folder)


def test_a_missing_file_in_a_named_folder_says_how_to_get_it(tmp_path: Path) -> None:
    text = refusal(tmp_path)
    for words in ("fashion-mnist_train.csv", "kaggle.com/datasets/zalando-research/fashionmnist", "data.dir"):
        assert words in text


def test_without_a_folder_the_error_says_how_to_get_the_files() -> None:
    with pytest.raises(DataError, match=r"data\.download is false.*KAGGLE_API_TOKEN"):
        load_splits(config())


def test_without_credentials_nothing_is_downloaded() -> None:
    with pytest.raises(DataError, match=r"without credentials.*KAGGLE_USERNAME"):
        load_splits(config(download=True))


def test_without_a_folder_drawn_images_stand_in_when_allowed() -> None:
    splits = load_splits(config(fallback="drawn"))
    assert splits.origin.source == "drawn"
    assert "kaggle.com" in (splits.origin.fallback_reason or "")


def test_with_credentials_kagglehub_gives_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kagglehub = pytest.importorskip("kagglehub", reason="kagglehub is not installed")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")
    asked: list[str] = []

    def download(handle: str) -> str:
        asked.append(handle)
        return str(folder)

    monkeypatch.setattr(kagglehub, "dataset_download", download)
    assert load_splits(config(download=True)).origin.location == str(folder)
    assert asked == ["zalando-research/fashionmnist"]


def test_a_refusal_by_kaggle_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    kagglehub = pytest.importorskip("kagglehub", reason="kagglehub is not installed")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")

    def refuse(handle: str) -> str:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(kagglehub, "dataset_download", refuse)
    with pytest.raises(DataError, match=r"kagglehub could not download .* \(no route to host\)"):
        load_splits(config(download=True))


def test_kaggle_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    kagglehub = pytest.importorskip("kagglehub", reason="kagglehub is not installed")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")
    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: threading.Event().wait(LIMIT_SECONDS))
    monkeypatch.setattr(kaggle_csv, "KAGGLE_SECONDS", 0.2)
    with pytest.raises(DataError, match=r"kagglehub could not download .* \(no answer within 0.2 seconds\)"):
        load_splits(config(download=True))


def test_without_kagglehub_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = types.ModuleType("kagglehub")
    missing.__spec__ = None
    monkeypatch.setitem(sys.modules, "kagglehub", missing)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'fmnist-sweep\[kaggle\]'"):
        load_splits(config(download=True))


def test_the_summary_says_that_every_cell_was_checked(folder: Path, tmp_path: Path) -> None:
    summary = summarize_data(config(dir=str(folder)), tmp_path / "ledger")
    assert summary.train_table == (60, 785)
    assert "checked" in summary.missing_note
