"""Fetch the Fashion-MNIST IDX files into the Keras cache, whole and checked or not at all."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from fmnist_sweep.data.idx import MEMBERS, Member, Part, get_other_part
from fmnist_sweep.errors import DataError
from fmnist_sweep.files import hold_lock_file, replace_file, write_file_atomically
from fmnist_sweep.process.environ import find_home
from fmnist_sweep.reading import UNPACKING_ERRORS, describe_content, open_unpacked_file, read_file
from fmnist_sweep.text import echo, quote_text

if TYPE_CHECKING:
    import requests

PLACES: tuple[str, ...] = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
CONNECT_SECONDS = 4.0
READ_SECONDS = 10.0
# A host has many addresses and requests tries each for CONNECT_SECONDS, and a name server may be silent too:
# this bounds all of it, so that three places give up in 15 seconds.
OPEN_SECONDS = 5.0
# A place that sends bytes more slowly, on the average since the beginning, is given up after a grace of some seconds.
SLOWEST_BYTES_PER_SECOND = 8192.0
GRACE_SECONDS = 20.0
CHUNK = 2**16
FAILURE = ".download.failed"

Advance = Callable[[int], object]
_Result = TypeVar("_Result")


class _PlaceError(Exception):
    """Why a place cannot be used, in words."""


def get_cache_folder() -> Path:
    """Where `keras.datasets.fashion_mnist` keeps its files: below $KERAS_HOME or ~/.keras."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else find_home() / ".keras") / "datasets" / "fashion-mnist"


def get_cached_path(member: Member) -> Path:
    """Where the Keras cache has this file."""
    return get_cache_folder() / f"{member.name}.gz"


def find_fault(path: Path, member: Member) -> str | None:
    """What is wrong with a canonical file, packed or not, in words; None if it is whole."""
    digest = hashlib.md5(usedforsecurity=False)
    length, kind = 0, None
    try:
        with open_unpacked_file(path) as file:
            while chunk := file.read(2**20):
                kind = kind or describe_content(chunk)
                length += len(chunk)
                digest.update(chunk)
                if length > member.length:
                    return f"more than the {member.length} bytes of {member.name}"
    except FileNotFoundError:
        return "missing"
    except UNPACKING_ERRORS as error:
        return f"not a whole gzip file ({error})"
    except OSError as error:
        return f"unreadable ({error.strerror or error})"
    if digest.hexdigest() != member.md5:
        what = f"{kind} of " if kind else ""
        return f"{what}{length} bytes with md5 {digest.hexdigest()}, not {member.md5} of {member.name}"
    return None


def is_cached(part: Part) -> bool:
    """Whether the Keras cache has both files of a part, whole; a damaged one is warned about."""
    faults = {path: find_fault(path, member) for path, member in _list_part_files(part)}
    for path, problem in faults.items():
        if problem not in (None, "missing"):
            echo(f"{path} is skipped: it is {problem}.", err=True)
    return all(problem is None for problem in faults.values())


def download_part(part: Part) -> None:
    """Download the files of a part that the Keras cache lacks, and any other of the four that is absent.

    The other part comes along unopened, as a machine may have a network only now. Several processes may call
    this at once: one downloads, the others wait and find the files.
    Errors: DataError that names each place and why it failed, or the folder that cannot be written.
    """
    folder = get_cache_folder()
    start_time = time.time()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with hold_lock_file(folder / ".download.lock"):
            _refuse_failed_since(start_time, folder)
            _fetch_from_places(_list_missing(part), part)
    except OSError as error:
        raise DataError(
            f"{folder} cannot take the download: expected to write there, found {error.strerror or error}; "
            "set KERAS_HOME to a folder you can write, or data.dir to one that has the files."
        ) from error


def _refuse_failed_since(start_time: float, folder: Path) -> None:
    """Take over the failure of a process that tried while this one waited: they must not time out in turn."""
    failure = folder / FAILURE
    if failure.exists() and failure.stat().st_mtime > start_time:
        raise DataError(read_file(failure, 2**16).decode(errors="replace"))


def _list_part_files(part: Part) -> list[tuple[Path, Member]]:
    return [(get_cached_path(MEMBERS[part, kind]), MEMBERS[part, kind]) for kind in ("images", "labels")]


def _list_missing(part: Part) -> list[Member]:
    """The part's files that are missing or damaged, then the other part's that are missing."""
    missing = [member for path, member in _list_part_files(part) if find_fault(path, member) is not None]
    other = get_other_part(part)
    return missing + [member for path, member in _list_part_files(other) if not path.exists()]


def _fetch_from_places(missing: list[Member], part: Part) -> None:
    failures: list[str] = []
    for place in PLACES:
        try:
            while missing:
                _fetch_file(place, missing[0])
                del missing[0]
        except _PlaceError as error:
            failures.append(f"{urlsplit(place).netloc}: {error}")
    needed = {member for _, member in _list_part_files(part)}
    if needed.intersection(missing):
        sentence = (
            f"Fashion-MNIST is not in {get_cache_folder()} and could not be downloaded ({'; '.join(failures)}): put "
            "the four IDX files in a folder and set data.dir (or FMNIST_DATA_DIR) to it, or run where there is "
            "internet."
        )
        failure = DataError(sentence)
        write_file_atomically(get_cache_folder() / FAILURE, str(failure).encode())
        raise failure


def _fetch_file(place: str, member: Member) -> None:
    """Download one file into the cache, where it appears only once it is checked."""
    with replace_file(get_cached_path(member)) as partial_path:
        # gzip makes nothing longer by more than some bytes in a block.
        _stream(f"{place}{member.name}.gz", partial_path, member.length + member.length // 1000 + 2**10)
        problem = find_fault(partial_path, member)
        if problem is not None:
            raise _PlaceError(f"served {member.name}.gz as {problem}")


def _stream(url: str, target: Path, max_bytes: int) -> None:
    """Save what an address serves, at most `max_bytes`. Raises _PlaceError, also if it comes too slowly."""
    import requests
    import urllib3

    start_time = time.monotonic()
    try:
        with _open_url(url) as response, target.open("wb") as file:
            length = response.headers.get("Content-Length", "")
            with _show_progress(url, int(length) if length.isdecimal() and len(length) < 20 else None) as advance:
                # One call to the network each, where iter_content would wait for a whole chunk, byte by byte.
                while chunk := response.raw.read1(CHUNK, decode_content=False):
                    file.write(chunk)
                    advance(len(chunk))
                    if file.tell() > max_bytes:
                        raise _PlaceError(f"served more than {max_bytes:,} bytes")
                    _refuse_slow(file.tell(), time.monotonic() - start_time)
    except requests.RequestException as error:
        raise _PlaceError(_describe_error(error)) from error
    except urllib3.exceptions.HTTPError as error:
        reason = "no more bytes in time" if isinstance(error, urllib3.exceptions.TimeoutError) else "broken off"
        raise _PlaceError(f"{reason} after {target.stat().st_size:,} bytes") from error


def _refuse_slow(received: int, seconds: float) -> None:
    if received < (seconds - GRACE_SECONDS) * SLOWEST_BYTES_PER_SECOND:
        raise _PlaceError(f"too slow: {received:,} bytes in {seconds:.0f} seconds")


@contextmanager
def _open_url(url: str) -> Iterator[requests.Response]:
    """A response whose headers came within OPEN_SECONDS."""
    import requests

    def get() -> requests.Response:
        # "identity" keeps requests from unpacking a .gz file that a server declares as an encoding.
        timeouts = (CONNECT_SECONDS, READ_SECONDS)
        try:
            return requests.get(url, stream=True, timeout=timeouts, headers={"Accept-Encoding": "identity"})
        except requests.RequestException:
            raise
        except OSError as error:  # a file of certificates that the environment names and that is not there
            raise requests.RequestException(error) from error

    try:
        opened = call_within(OPEN_SECONDS, get)
    except TimeoutError as error:
        raise _PlaceError(str(error)) from None
    with opened as response:
        response.raise_for_status()
        yield response


def call_within(seconds: float, function: Callable[[], _Result]) -> _Result:
    """What a function returns or raises, if it does within so many seconds; else TimeoutError is raised."""
    outcome: Future[_Result] = Future()

    def call() -> None:
        try:
            outcome.set_result(function())
        except Exception as error:
            outcome.set_exception(error)

    # A daemon: a thread that is still connecting must keep neither this call nor the process waiting.
    threading.Thread(target=call, daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        if outcome.done():
            raise
        raise TimeoutError(f"no answer within {seconds:g} seconds") from None


def _describe_error(error: requests.RequestException) -> str:
    """The short cause of a failed request: urllib3 wraps it in several layers."""
    import requests

    if error.response is not None:
        return f"answered {error.response.status_code} {quote_text(error.response.reason)}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    cause: object = error.args[0] if error.args else error
    cause = getattr(cause, "reason", cause)
    return f"{type(error).__name__}: {quote_text(cause, 200)}"


@contextmanager
def _show_progress(url: str, total: int | None) -> Iterator[Advance]:
    """A bar on a terminal, one plain line elsewhere; both on stderr, as stdout is for results."""
    if not sys.stderr.isatty():
        print(f"downloading {url}", file=sys.stderr, flush=True)
        yield lambda size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(url.rsplit("/", 1)[-1], total=total)
        yield lambda size: progress.advance(task, size)
