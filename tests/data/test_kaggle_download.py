"""Kaggle's files without a folder: who may download them, and what is said when that fails."""

from __future__ import annotations

import sys
import threading
import types
from pathlib import Path

import pytest

from fmnist_sweep.data import kaggle_csv, load_splits
from fmnist_sweep.errors import DataError
from tests.support.kaggle_files import config, write_tables
from tests.support.process import LIMIT_SECONDS

pytestmark = pytest.mark.usefixtures("no_credentials")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Kaggle's two files."""
    return write_tables(tmp_path / "csv")


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
