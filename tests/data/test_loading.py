"""Loading the splits and opening the test split: what `load_splits` and `open_test` promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_sweep.data import DataConfig, load_splits, open_test
from fmnist_sweep.data import sources as sources_module
from fmnist_sweep.errors import DataError
from tests.conftest import data_config as config
from tests.support.caches import clear_splits_cache
from tests.support.idx_files import TEST_IMAGES, TEST_LABELS, assert_one_sentence

pytestmark = pytest.mark.usefixtures("fresh_home")


def test_small_files_load_as_read_only_arrays_that_are_not_canonical(folder: Path) -> None:
    splits = load_splits(config(dir=str(folder)))
    assert splits.train.images.shape == (160, 28, 28, 1)
    assert splits.train.images.dtype == np.uint8
    assert splits.validation.labels.dtype == np.int64
    assert splits.origin.source == "fashion_mnist"
    assert splits.origin.location == str(folder)
    assert not splits.origin.canonical
    assert splits.tag == f"fashion_mnist:{splits.sha256[:12]}"
    for split in (splits.train, splits.validation):
        assert not any(array.flags.writeable for array in (split.images, split.labels, split.index))


def test_load_never_opens_a_test_file(folder: Path) -> None:
    expected = load_splits(config(dir=str(folder))).sha256
    for name in (TEST_IMAGES, TEST_LABELS):
        poison = folder / f"{name}.gz"
        poison.unlink()
        os.mkfifo(poison)  # opening it would wait for ever
    clear_splits_cache()
    assert load_splits(config(dir=str(folder))).sha256 == expected


def test_load_reads_once_in_a_process_and_never_mixes_up_configs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[DataConfig] = []
    read_train = sources_module.read_train

    def counted(data: DataConfig) -> Any:
        reads.append(data)
        return read_train(data)

    monkeypatch.setattr(sources_module, "read_train", counted)
    one, other = config(dir=str(folder)), config(dir=str(folder), limit=100)
    assert load_splits(one) is load_splits(config(dir=str(folder)))
    assert load_splits(other).sha256 != load_splits(one).sha256
    assert len(reads) == 2


# --- the test split


def test_each_opening_of_the_test_split_is_a_line_in_the_ledger(folder: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "new" / "folder" / "openings.jsonl"
    split = open_test(config(dir=str(folder)), reason="confirmation of trial 3", ledger=ledger)
    open_test(config(dir=str(folder)), reason="once more", ledger=ledger)
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [line["reason"] for line in lines] == ["confirmation of trial 3", "once more"]
    assert lines[0]["sha256"] == lines[1]["sha256"]
    assert lines[0]["time"].endswith("+00:00")
    assert lines[0]["source"] == "fashion_mnist"
    assert lines[0]["location"] == str(folder)
    assert lines[0]["command"]
    assert split.images.shape == (33, 28, 28, 1)
    assert split.index.tolist() == list(range(33))
    assert not split.images.flags.writeable


def test_the_ledger_does_not_name_the_home_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ledger = tmp_path / "openings.jsonl"
    open_test(config(dir=str(folder)), reason="r", ledger=ledger)
    assert json.loads(ledger.read_text())["location"] == "~/idx"


def test_the_test_split_stays_closed_when_its_opening_cannot_be_recorded(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as error:
        open_test(config(dir=str(folder)), reason="r", ledger=tmp_path / "file" / "openings.jsonl")
    assert_one_sentence(error, "openings.jsonl", "stays closed")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_the_test_split_stays_closed_where_the_ledger_keeps_nothing(
    folder: Path, tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    make(tmp_path / "openings.jsonl")
    with pytest.raises(DataError) as error:
        open_test(config(dir=str(folder)), reason="r", ledger=tmp_path / "openings.jsonl")
    assert_one_sentence(error, "openings.jsonl", "stays closed")


def test_a_missing_test_file_is_an_error_and_not_recorded(folder: Path, tmp_path: Path) -> None:
    (folder / f"{TEST_IMAGES}.gz").unlink()
    with pytest.raises(DataError, match=TEST_IMAGES):
        open_test(config(dir=str(folder), fallback="drawn"), reason="r", ledger=tmp_path / "ledger")
    assert not (tmp_path / "ledger").exists()


def test_importing_the_room_imports_nothing_heavy() -> None:
    heavy = ["tensorflow", "pandas", "requests", "matplotlib", "rich", "kagglehub", "sklearn"]
    code = f"import sys, fmnist_sweep.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
