"""Kaggle's CSV files: what is accepted, and how the first wrong value is named."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fmnist_sweep.data import clear_splits_cache, kaggle_csv, load_splits, open_test, summarize_data
from fmnist_sweep.data.drawn import draw_images
from fmnist_sweep.errors import DataError
from tests.conftest import data_config

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
    monkeypatch.setitem(kaggle_csv.CANONICAL_HASHES, "train", kaggle_csv._hash_rows(read))
    shuffled.to_csv(folder / "fashion-mnist_train.csv", index=False)
    assert load_splits(config(dir=str(folder))).origin.canonical


def test_a_swapped_test_file_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = kaggle_csv.read_csv_part(folder, "train")
    monkeypatch.setitem(kaggle_csv.CANONICAL_HASHES, "test", kaggle_csv._hash_rows(read))
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


def test_reading_is_fast_enough_for_the_real_file(folder: Path) -> None:
    path = folder / "fashion-mnist_train.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *lines * 100]) + "\n")
    began = time.perf_counter()
    assert len(kaggle_csv.read_csv_part(folder, "train").labels) == 6000
    assert time.perf_counter() - began < 5  # 60,000 rows: ten times that at the very most
