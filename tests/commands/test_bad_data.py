"""Data that is damaged or missing: one sentence that names the file and the place in it, and nothing left behind."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fmnist_sweep.errors import ExitCode
from tests.support.refusals import VERBS, check_refused, run_without_data

# These run as processes of their own, as a user's shell starts them; the others in this process.
AS_PROCESSES = {"IDX truncated", "gzip truncated", "CSV with NaN"}
# Each function fills a folder and gives the overrides that name it, and what the sentence says.
Damage = Callable[[Path], tuple[list[str], list[str]]]


def idx(images: int, *, cut: int = 0) -> bytes:
    header = b"".join(number.to_bytes(4, "big") for number in (2051, images, 28, 28))
    content = header + bytes(images * 28 * 28)
    return content[: len(content) - cut]


def idx_labels(images: int) -> bytes:
    return (2049).to_bytes(4, "big") + images.to_bytes(4, "big") + bytes(number % 10 for number in range(images))


def truncated_idx(folder: Path) -> tuple[list[str], list[str]]:
    (folder / "train-images-idx3-ubyte").write_bytes(idx(40, cut=100))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_labels(40))
    return [f"data.dir={folder}"], [str(folder / "train-images-idx3-ubyte"), "truncated", "40 images"]


def truncated_gzip(folder: Path) -> tuple[list[str], list[str]]:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(40))[:-20])
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_labels(40)))
    return [f"data.dir={folder}"], [str(folder / "train-images-idx3-ubyte.gz")]


def swapped_idx(folder: Path) -> tuple[list[str], list[str]]:
    (folder / "train-images-idx3-ubyte").write_bytes(idx_labels(40))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(40))
    return [f"data.dir={folder}"], [str(folder / "train-images-idx3-ubyte"), "2051", "swapped"]


def written_csv(folder: Path, change: Callable[[list[str], list[list[object]]], None]) -> list[str]:
    header = ["label", *(f"pixel{number}" for number in range(1, 785))]
    generator = np.random.default_rng(0)
    rows: list[list[object]] = [[n % 10, *generator.integers(0, 256, 784).tolist()] for n in range(40)]
    change(header, rows)
    with (folder / "fashion-mnist_train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return ["data=kaggle_csv", f"data.dir={folder}"]


def missing_column(folder: Path) -> tuple[list[str], list[str]]:
    def change(header: list[str], rows: list[list[object]]) -> None:
        header.pop(7)
        for row in rows:
            row.pop(7)

    return written_csv(folder, change), ["fashion-mnist_train.csv", "no pixel7", "784"]


def changed(row: int, column: int, value: object, words: list[str]) -> Damage:
    def damage(folder: Path) -> tuple[list[str], list[str]]:
        def change(header: list[str], rows: list[list[object]]) -> None:
            rows[row][column] = value

        return written_csv(folder, change), ["fashion-mnist_train.csv", f"line {row + 2}", *words]

    return damage


def no_such_folder(folder: Path) -> tuple[list[str], list[str]]:
    return [f"data.dir={folder / 'nope'}"], [str(folder / "nope"), "data.dir"]


def nowhere_to_be_had(folder: Path) -> tuple[list[str], list[str]]:
    return ["data.fallback=null", "data.download=false"], ["no-keras", "data.dir", "data.download"]


def more_than_there_is(folder: Path) -> tuple[list[str], list[str]]:
    return ["data=drawn", "data.images=200", "data.limit=201"], ["data.limit=201", "200"]


DATA_MISTAKES: dict[str, Damage] = {
    "no such folder": no_such_folder,
    "nowhere to be had": nowhere_to_be_had,
    "a limit above what there is": more_than_there_is,
    "IDX truncated": truncated_idx,
    "gzip truncated": truncated_gzip,
    "IDX swapped": swapped_idx,
    "CSV without a column": missing_column,
    "CSV with NaN": changed(3, 5, "nan", ["pixel5", "'nan'", "0 to 255"]),
    "CSV with nothing": changed(3, 5, "", ["pixel5", "nothing", "0 to 255"]),
    "CSV with label 10": changed(6, 0, 10, ["column label", "'10'", "0 to 9"]),
    "CSV with value 256": changed(0, 784, 256, ["pixel784", "'256'", "0 to 255"]),
}


@pytest.mark.parametrize("mistake", DATA_MISTAKES)
def test_damaged_or_missing_data_is_told_in_one_sentence_and_nothing_is_created(
    mistake: str, empty: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    overrides, words = DATA_MISTAKES[mistake](folder)
    check_refused(run_without_data(empty, *overrides, process=mistake in AS_PROCESSES), ExitCode.DATA, words, empty)


def test_looking_at_data_takes_no_override_of_anything_else(empty: Path) -> None:
    ended = run_without_data(empty, "data", "model=cnn", module=VERBS)
    check_refused(ended, ExitCode.CONFIG, ["model=cnn", "only overrides of data"], empty)


def test_looking_at_data_that_is_missing_is_told_as_in_a_sweep(empty: Path, tmp_path: Path) -> None:
    ended = run_without_data(empty, "data", f"data.dir={tmp_path / 'nope'}", module=VERBS)
    check_refused(ended, ExitCode.DATA, [str(tmp_path / "nope")], empty)
