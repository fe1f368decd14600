"""The Keras cache, the download and the fallback, against real servers on this machine."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from fmnist_sweep.data import DataConfig, download, idx, load_splits, open_test
from fmnist_sweep.data.drawn import draw_images
from fmnist_sweep.errors import DataError
from tests.conftest import data_config, needs_fashion_mnist
from tests.support.caches import clear_splits_cache
from tests.support.process import LIMIT_SECONDS

config = partial(data_config, download=True)


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder and notes what was asked for; slowly, so that two processes meet."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        time.sleep(0.05)
        super().do_GET()

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server of this folder, and the list of what it is asked for."""
    asked: list[str] = []
    handler = type("Noting", (Handler,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", asked
        finally:
            server.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(download, "PLACES", ())
    clear_splits_cache()
    return download.get_cache_folder()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of four small files that count as the canonical ones in this test."""
    folder = tmp_path / "place"
    folder.mkdir()
    for part, count in (("train", 200), ("test", 33)):
        images, labels = draw_images(count, 3, stream="train" if part == "train" else "test")
        header = b"".join(number.to_bytes(4, "big") for number in (2051, count, 28, 28))
        contents = {
            "images": header + images.tobytes(),
            "labels": (2049).to_bytes(4, "big") + count.to_bytes(4, "big") + labels.astype(np.uint8).tobytes(),
        }
        for kind, content in contents.items():
            key: Any = (part, kind)
            name = idx.MEMBERS[key].name
            member = idx.Member(name, len(content), hashlib.md5(content).hexdigest())
            monkeypatch.setitem(idx.MEMBERS, key, member)
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder


def unreachable() -> str:
    """An address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def test_a_download_fills_the_keras_cache_and_is_not_repeated(
    cache: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(place) as (url, asked):
        monkeypatch.setattr(download, "PLACES", (url,))
        splits = load_splits(config())
        assert len(asked) == 4
        clear_splits_cache()
        load_splits(config())
        assert len(asked) == 4
    assert splits.origin.canonical
    assert splits.origin.location == str(cache)
    assert {path.name for path in cache.glob("*.gz")} == {path.name for path in place.iterdir()}
    assert not list(cache.glob(".*gz*"))
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("downloading http://") for line in lines] == [True] * 4


def test_the_cache_serves_without_any_network_and_without_the_test_files(cache: Path, place: Path) -> None:
    cache.mkdir(parents=True)
    for path in place.glob("train*"):
        path.rename(cache / path.name)
    assert len(load_splits(config(download=False)).train.labels) == 160


def test_a_damaged_cached_file_is_warned_about_and_downloaded_again(
    cache: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.mkdir(parents=True)
    damaged = cache / "train-images-idx3-ubyte.gz"
    damaged.write_bytes((place / damaged.name).read_bytes()[:500])
    with served(place) as (url, _):
        monkeypatch.setattr(download, "PLACES", (url,))
        load_splits(config())
    assert str(damaged) in capsys.readouterr().err
    assert damaged.read_bytes() == (place / damaged.name).read_bytes()


def test_unreachable_places_are_each_named_once_with_the_reason(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = (unreachable(), unreachable())
    monkeypatch.setattr(download, "PLACES", places)
    with pytest.raises(DataError) as error:
        load_splits(config())
    text = str(error.value)
    assert "\n" not in text
    for place in places:
        assert text.count(f"{urlsplit(place).netloc}: no connection") == 1
    assert "data.dir" in text


def test_a_place_that_never_answers_is_given_up(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "OPEN_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(download, "PLACES", (f"http://127.0.0.1:{silent.getsockname()[1]}/",))
        with pytest.raises(DataError, match=r"no answer within 0\.3 seconds"):
            load_splits(config())


class DrippingHandler(SimpleHTTPRequestHandler):
    """Promises a file and sends a byte of it every three seconds of a clock that moves by nothing else."""

    clock = 0.0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5000")
        self.end_headers()
        with suppress(OSError):  # the client goes away
            for _ in range(5000):
                self.wfile.write(b"\x1f")
                DrippingHandler.clock += 3
                time.sleep(0.01)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def dripping(handler: type[DrippingHandler] = DrippingHandler) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def test_a_place_that_drips_is_left_for_the_next(cache: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(time=time.time, monotonic=lambda: DrippingHandler.clock)
    monkeypatch.setattr(download, "time", clock)
    with dripping() as slow, served(place) as (url, _):
        monkeypatch.setattr(download, "PLACES", (slow,))
        with pytest.raises(DataError, match=r"too slow: \d+ bytes in"):
            load_splits(config())
        monkeypatch.setattr(download, "PLACES", (slow, url))
        assert load_splits(config()).origin.canonical
    assert not list(cache.glob(".*gz*"))


class DrippingHeaders(DrippingHandler):
    """Never comes to the end of its headers."""

    def do_GET(self) -> None:
        self.send_response(200)
        with suppress(OSError):
            while True:
                self.wfile.write(b"X")
                time.sleep(0.05)


class StallingHandler(DrippingHandler):
    """Sends one byte, and then nothing."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5000")
        self.end_headers()
        self.wfile.write(b"\x1f")
        self.rfile.read()  # until the client goes away


class LongHandler(DrippingHandler):
    """Sends for ever, as fast as it can."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "a lot")
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(b"\0" * 2**16)


@pytest.mark.parametrize(
    ("handler", "opening", "reading", "words"),
    [
        (DrippingHeaders, 0.5, LIMIT_SECONDS, "no answer within"),
        # The second where it stands still even before its first byte.
        (StallingHandler, LIMIT_SECONDS, 0.5, "no more bytes in time after 1 bytes|no answer in time"),
        (LongHandler, LIMIT_SECONDS, LIMIT_SECONDS, "served more than"),
    ],
)
def test_a_place_that_does_not_end_is_given_up(
    cache: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    handler: type[DrippingHandler],
    opening: float,
    reading: float,
    words: str,
) -> None:
    monkeypatch.setattr(download, "OPEN_SECONDS", opening)
    monkeypatch.setattr(download, "READ_SECONDS", reading)
    with dripping(handler) as url:
        monkeypatch.setattr(download, "PLACES", (url,))
        with pytest.raises(DataError, match=words):
            load_splits(config())
    assert not list(cache.glob(".*gz*"))


def test_unpacked_files_in_the_cache_are_taken_as_they_are(cache: Path, place: Path) -> None:
    cache.mkdir(parents=True)
    for path in place.glob("train*"):
        (cache / path.name).write_bytes(gzip.decompress(path.read_bytes()))
    assert load_splits(config(download=False)).origin.canonical


def test_a_pipe_in_the_cache_is_not_waited_for(cache: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.mkdir(parents=True)
    os.mkfifo(cache / "train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=r"data\.download is false"):
        load_splits(config(download=False))
    assert "it is a named pipe" in capsys.readouterr().err


def test_the_places_give_up_in_about_fifteen_seconds() -> None:
    assert len(download.PLACES) * download.OPEN_SECONDS <= 15


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (b"<html>log in to this network</html>", "a web page of 35 bytes"),
        (gzip.compress(b"some other file"), "with md5"),
        (gzip.compress(b"\0" * 2_000_000), "more than the"),
    ],
    ids=["a login page", "another file", "a gzip bomb"],
)
def test_wrong_bytes_are_deleted_and_the_next_place_is_tried(
    cache: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bytes, words: str
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for path in place.iterdir():
        (bad / path.name).write_bytes(wrong)
    with ExitStack() as servers:
        bad_url, bad_asked = servers.enter_context(served(bad))
        good_url, _ = servers.enter_context(served(place))
        monkeypatch.setattr(download, "PLACES", (bad_url,))
        with pytest.raises(DataError, match=words):
            load_splits(config())
        assert not list(cache.glob("*.gz"))
        assert not list(cache.glob(".*gz*"))
        monkeypatch.setattr(download, "PLACES", (bad_url, good_url))
        assert load_splits(config()).origin.canonical
    assert len(bad_asked) == 2  # one file a try: a bad place is left for all files


def test_a_place_without_the_file_is_named_with_its_answer(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    with served(tmp_path / "empty") as (url, _):
        monkeypatch.setattr(download, "PLACES", (url,))
        with pytest.raises(DataError, match="answered 404"):
            load_splits(config())


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="KERAS_HOME"):
        load_splits(config())


def test_without_the_real_data_drawn_images_stand_in_when_allowed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PLACES", (unreachable(),))
    data = config(fallback="drawn")
    splits = load_splits(data)
    assert splits.origin.source == "drawn"
    assert splits.tag.startswith("drawn:")
    assert not splits.origin.canonical
    assert "127.0.0.1" in (splits.origin.fallback_reason or "")
    assert "seed 0" in splits.origin.location
    test = open_test(data, reason="r", ledger=tmp_path / "ledger")
    assert np.array_equal(test.images, draw_images(200 // 6, 0, stream="test")[0])
    assert json.loads((tmp_path / "ledger").read_text())["source"] == "drawn"


def test_the_stand_in_is_the_same_data_as_asking_for_drawn(cache: Path) -> None:
    assert load_splits(config(download=False, fallback="drawn")).sha256 == load_splits(config(source="drawn")).sha256


def test_without_the_real_data_and_without_fallback_it_is_an_error(cache: Path) -> None:
    with pytest.raises(DataError, match=r"data\.download is false"):
        load_splits(config(download=False))


def test_drawn_test_images_never_join_real_training_images(cache: Path, place: Path, tmp_path: Path) -> None:
    cache.mkdir(parents=True)
    for path in place.glob("train*"):
        path.rename(cache / path.name)
    with pytest.raises(DataError, match="test files"):
        open_test(config(download=False, fallback="drawn"), reason="r", ledger=tmp_path / "ledger")


CHILD = """
import json, sys
from fmnist_sweep.data import DataConfig, download, idx, load_splits
given = json.loads(sys.argv[1])
download.PLACES = tuple(given["places"])
for part, kind, *member in given["members"]:
    idx.MEMBERS[part, kind] = idx.Member(*member)
print(load_splits(DataConfig(**given["config"])).sha256)
"""


def children(count: int, places: list[str], data: DataConfig) -> list[tuple[str, str]]:
    """Run `load` in real processes at once; what each wrote to stdout and stderr."""
    members = [[*key, *member] for key, member in idx.MEMBERS.items()]
    given = json.dumps({"places": places, "members": members, "config": data.model_dump()})
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen([sys.executable, "-c", CHILD, given], stdout=pipe, stderr=pipe, text=True)
        for _ in range(count)
    ]
    return [process.communicate(timeout=LIMIT_SECONDS) for process in started]


def test_two_processes_download_once_and_see_the_same(cache: Path, place: Path) -> None:
    with served(place) as (url, asked):
        (first, first_err), (second, second_err) = children(2, [url], config())
    assert first and first == second, first_err + second_err
    assert sorted(asked) == sorted(f"/{path.name}" for path in place.iterdir())


@needs_fashion_mnist
def test_the_real_files_are_downloaded_checked_and_canonical(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(Path(os.environ["FMNIST_DATA_DIR"])) as (url, _):
        monkeypatch.setattr(download, "PLACES", (url,))
        splits = load_splits(config())
    assert splits.origin.canonical
    assert len(splits.validation.labels) == 12_000
