"""Packed bytes say when they are not what was written, and a file is the old one or the new one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.files import DamagedContent, pack_arrays, unpack_arrays, write_file_atomically
from tests.support.process import LIMIT_SECONDS

VALUES = {"history": [{"loss": 0.1 + 0.2, "epoch": 1.0}], "name": "a trial", "none": None}
ARRAYS: dict[str, NDArray[Any]] = {
    "kernel": np.random.default_rng(0).normal(size=(3, 3, 2)).astype(np.float32),
    "iteration": np.array(2**40, np.int64),
    "seed": np.array([1, 2**32 - 1], np.uint32),
    "empty": np.empty((0, 10), np.float32),
}
CONTENT = pack_arrays(VALUES, ARRAYS)
HEAD = CONTENT.index(b"PK")  # before the archive: what it is, and its checksum


def test_what_was_packed_comes_back_bit_for_bit() -> None:
    values, arrays = unpack_arrays(CONTENT)
    assert values == VALUES
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()


def test_figures_that_are_no_numbers_survive() -> None:
    values, arrays = unpack_arrays(pack_arrays({"loss": float("inf")}, {"nan": np.array([np.nan, -0.0])}))
    assert values == {"loss": float("inf")}
    assert arrays["nan"].tobytes() == np.array([np.nan, -0.0]).tobytes()


@pytest.mark.parametrize(
    "length",
    [0, 1, HEAD - 33, HEAD - 32, HEAD - 1, HEAD, HEAD + 1, len(CONTENT) // 2, len(CONTENT) - 22, len(CONTENT) - 1],
)
def test_torn_bytes_are_damaged(length: int) -> None:
    with pytest.raises(DamagedContent):
        unpack_arrays(CONTENT[:length])


def test_a_flipped_bit_anywhere_is_damage() -> None:
    places = {*range(HEAD + 64), *range(HEAD, len(CONTENT), 17), *range(len(CONTENT) - 64, len(CONTENT))}
    for place in places:
        altered = bytearray(CONTENT)
        altered[place] ^= 1 << place % 8
        with pytest.raises(DamagedContent):
            unpack_arrays(bytes(altered))


@pytest.mark.parametrize("content", [CONTENT + b"\0", CONTENT * 2, b"\0" * len(CONTENT), CONTENT[HEAD:], b"{}"])
def test_anything_else_is_damaged(content: bytes) -> None:
    with pytest.raises(DamagedContent):
        unpack_arrays(content)


@pytest.mark.parametrize("array", [np.array([{}], dtype=object), np.zeros(2, "V2")], ids=["objects", "bfloat16"])
def test_what_would_not_come_back_as_it_is_is_not_packed(array: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="the array weights of"):
        pack_arrays({}, {"weights": array})


def test_the_name_of_the_values_is_taken() -> None:
    with pytest.raises(ValueError, match="values"):
        pack_arrays({}, {"values": np.zeros(1)})


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "one" / "two" / "file"
    write_file_atomically(path, b"old")
    write_file_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


NO_ROOM = """
import resource, signal, sys
from pathlib import Path
from fmnist_sweep.files import write_file_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as a full disk, for this process
try:
    write_file_atomically(Path(sys.argv[1]), b"new" * 1000)
except OSError as error:
    print(type(error).__name__)
"""


def test_a_write_that_finds_no_room_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file_atomically(path, b"old")
    done = subprocess.run([sys.executable, "-c", NO_ROOM, path], capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert done.stdout == "OSError\n", done.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_cannot_take_its_place_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(OSError, match="file"):
        write_file_atomically(path, b"new")
    assert list(tmp_path.iterdir()) == [path]


FOREVER = """
import sys
from pathlib import Path
from fmnist_sweep.files import write_file_atomically
print("begun", flush=True)
while True:
    for letter in (b"a", b"b"):
        write_file_atomically(Path(sys.argv[1]), letter * 3_000_000)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file_atomically(path, b"a" * 3_000_000)
    waits = random.Random(1)
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", FOREVER, path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(waits.uniform(0.01, 0.15))
            process.send_signal(signal.SIGKILL)
        assert path.read_bytes() in (b"a" * 3_000_000, b"b" * 3_000_000)
