"""Addresses that name no store: each is refused in a sentence, whether it is opened to write or to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.errors import StoreError
from fmnist_sweep.tracking import connection
from fmnist_sweep.tracking.store import has_store_file, open_existing_store, open_store

_NO_FILES = {
    "the root": "sqlite:////",
    "the root above the root": "sqlite:////..",
    "no file": "sqlite:///",
    "the working directory": "sqlite:///.",
    "a zero byte": "sqlite:///a\0b.db",
    "bytes that are no text": "sqlite:///a\udcff.db",
    "a link to itself": "sqlite:///loop",
    "a folder below a link to itself": "sqlite:///loop/mlflow.db",
    "a long name": f"sqlite:///{'n' * 300}",
    "a folder with a long name": f"sqlite:///{'n' * 300}/mlflow.db",
    "another file": "sqlite:///notes.txt",
}
_NO_SERVERS = {
    "a scheme alone": "http://",
    "no scheme": "http",
    "an open bracket": "http://[::1",
    "a port out of range": "http://localhost:99999",
    "an empty label": "http://é..x/",
    "one slash": "sqlite:/mlflow.db",
    "a host": "sqlite://host/mlflow.db",
    "no database": "postgresql://",
    "nothing": "",
}
_NOTES = "these are notes, and somebody's." * 100


pytestmark = pytest.mark.usefixtures("slow_stores")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a new one with a link to itself and a file that is no database."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "notes.txt").write_text(_NOTES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("uri", [*_NO_FILES.values(), *_NO_SERVERS.values()], ids=[*_NO_FILES, *_NO_SERVERS])
def test_an_address_that_names_no_store_is_refused_in_a_sentence(uri: str, folder: Path) -> None:
    for opened in (open_existing_store, open_store):
        with pytest.raises(StoreError) as refused:
            opened(uri, "fashion-mnist")
        assert "\n" not in str(refused.value)
    assert (folder / "notes.txt").read_text() == _NOTES
    assert list(folder.rglob("*.db")) == []


@pytest.mark.parametrize("uri", _NO_FILES.values(), ids=_NO_FILES)
def test_a_file_that_cannot_be_a_store_is_looked_for_without_a_traceback(uri: str) -> None:
    try:
        assert has_store_file(uri) == uri.endswith("notes.txt")
    except StoreError as refused:
        assert "\n" not in str(refused)


def test_the_root_is_no_file() -> None:
    with pytest.raises(StoreError, match=r"tracking\.uri=sqlite:////: expected sqlite:///FILE"):
        open_store("sqlite:////", "fashion-mnist")


def test_a_folder_that_may_not_be_entered_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", deny)
    for ask in (has_store_file, lambda uri: open_existing_store(uri, "fashion-mnist")):
        with pytest.raises(StoreError, match=r"mine/mlflow\.db cannot be read \(Permission denied\)"):
            ask("sqlite:///mine/mlflow.db")


def test_only_the_tables_of_a_new_store_are_made_without_waiting_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their file is brought to the disk as a whole; what is logged later is there after a power cut, too."""
    create_client, levels = connection.create_client, list[tuple[str, int]]()

    def create_and_ask(uri: str) -> Any:
        client = create_client(uri)
        with client._tracking_client.store.engine.connect() as database:
            levels.append((Path(uri).name.rpartition(".")[0], database.exec_driver_sql("PRAGMA synchronous").scalar()))
        return client

    monkeypatch.setattr(connection, "create_client", create_and_ask)
    open_store(f"sqlite:///{tmp_path}/mlflow.db", "fashion-mnist")
    off, full = 0, 2
    assert levels == [(".mlflow.db", off), ("mlflow", full)]
