"""Kaggle's CSV files: what is accepted, and how the first wrong value is named."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fmnist_sweep.data import kaggle_csv, load_splits, open_test, summarize_data
from fmnist_sweep.data.drawn import draw_images
from fmnist_sweep.data.splits import hash_in_any_order
from fmnist_sweep.errors import DataError
from tests.support.caches import clear_splits_cache
from tests.support.kaggle_files import COLUMNS, config, refusal, table, write_tables

pytestmark = pytest.mark.usefixtures("no_credentials")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Kaggle's two files."""
    return write_tables(tmp_path / "csv")


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


def test_the_summary_says_that_every_cell_was_checked(folder: Path, tmp_path: Path) -> None:
    summary = summarize_data(config(dir=str(folder)), tmp_path / "ledger")
    assert summary.train_table == (60, 785)
    assert "checked" in summary.missing_note
