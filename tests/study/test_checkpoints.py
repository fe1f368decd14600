"""Checkpoints on disk: the two newest of each trial, and never a damaged one in place of a whole one."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fmnist_sweep.files import pack_arrays
from fmnist_sweep.study.checkpoints import Checkpoints


def content(epoch: int) -> bytes:
    return pack_arrays({"epoch": epoch}, {"weights": np.full(100, epoch, np.float32)})


class Kept:
    """Checkpoints in a folder of the test's own, what was said about them, and the files there are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.checkpoints = Checkpoints(folder, self.said.append)

    def save(self, trial_id: str, *epochs: int) -> None:
        for epoch in epochs:
            self.checkpoints.save(trial_id, epoch, content(epoch))

    def files(self, trial_id: str) -> list[str]:
        return sorted(path.name for path in (self.folder / trial_id).iterdir())

    def damage(self, trial_id: str, name: str) -> None:
        path = self.folder / trial_id / name
        path.write_bytes(path.read_bytes()[:-10])


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "checkpoints")


def test_a_trial_without_checkpoints_has_none(kept: Kept) -> None:
    assert kept.checkpoints.load_newest("0") is None
    assert kept.said == []


def test_the_two_newest_are_kept_and_the_newest_is_found(kept: Kept) -> None:
    kept.save("0", 1, 2, 9, 10, 11)
    assert kept.files("0") == ["000010.npz", "000011.npz"]
    assert kept.checkpoints.load_newest("0") == content(11)


def test_they_are_found_by_another_owner_after_a_kill(kept: Kept) -> None:
    kept.save("0", 1, 2)
    # What a writer killed in the middle leaves behind.
    (kept.folder / "0" / ".000003.npz.4711").write_bytes(content(3)[:50])
    again = Kept(kept.folder)
    assert again.checkpoints.load_newest("0") == content(2)
    assert again.said == []


def test_trials_do_not_see_each_others(kept: Kept) -> None:
    kept.save("0", 5)
    kept.save("1", 1, 2, 3)
    assert kept.checkpoints.load_newest("0") == content(5)
    kept.checkpoints.drop("1")
    assert kept.checkpoints.load_newest("1") is None
    assert kept.checkpoints.load_newest("0") == content(5)


def test_a_damaged_newest_is_named_and_the_one_before_taken(kept: Kept) -> None:
    kept.save("0", 3, 4)
    kept.damage("0", "000004.npz")
    assert kept.checkpoints.load_newest("0") == content(3)
    assert len(kept.said) == 1
    assert str(kept.folder / "0" / "000004.npz") in kept.said[0]
    assert "checksum" in kept.said[0]


def test_an_empty_file_is_damaged_too(kept: Kept) -> None:
    kept.save("0", 3, 4)
    (kept.folder / "0" / "000004.npz").write_bytes(b"")
    assert kept.checkpoints.load_newest("0") == content(3)
    assert len(kept.said) == 1


def test_two_damaged_ones_are_both_named_and_none_is_taken(kept: Kept) -> None:
    kept.save("0", 3, 4)
    kept.damage("0", "000003.npz")
    kept.damage("0", "000004.npz")
    assert kept.checkpoints.load_newest("0") is None
    assert ["000004.npz" in kept.said[0], "000003.npz" in kept.said[1]] == [True, True]


@pytest.mark.parametrize("epochs", [(1,), (1, 2), (1, 2, 3), (4,)])
def test_a_new_checkpoint_outlives_damaged_ones_of_later_epochs(kept: Kept, epochs: tuple[int, ...]) -> None:
    kept.save("0", 3, 4)
    kept.damage("0", "000003.npz")
    kept.damage("0", "000004.npz")
    kept.save("0", *epochs)  # the trial has begun anew
    kept.said.clear()
    assert kept.checkpoints.load_newest("0") == content(epochs[-1])
    assert kept.said == []


def test_dropping_all_leaves_nothing_and_dropping_nothing_is_no_error(kept: Kept) -> None:
    kept.checkpoints.drop("0")
    kept.checkpoints.drop_all()
    kept.save("0", 1)
    kept.save("1", 1)
    kept.checkpoints.drop_all()
    assert not kept.folder.exists()


def make_large(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**43)  # takes no place on the disk


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "it is a named pipe"),
        (Path.mkdir, "it is a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (make_large, "it has more than"),
    ],
)
def test_what_is_no_checkpoint_is_passed_over_and_never_waited_for(
    kept: Kept, make: Callable[[Path], object], reason: str
) -> None:
    kept.save("0", 1)
    make(kept.folder / "0" / "000002.npz")
    assert kept.checkpoints.load_newest("0") == content(1)
    assert reason in kept.said[0]


def test_a_checkpoint_that_unpacks_to_more_than_it_has_is_damaged(kept: Kept) -> None:
    kept.save("0", 1)
    swollen = io.BytesIO()
    np.savez_compressed(swollen, weights=np.zeros(10_000_000, np.float32), values=np.frombuffer(b"{}", np.uint8))
    magic = b"fmnist_sweep 1\n"
    packed = magic + hashlib.sha256(swollen.getvalue()).digest() + swollen.getvalue()
    (kept.folder / "0" / "000002.npz").write_bytes(packed)
    assert kept.checkpoints.load_newest("0") == content(1)
    assert "its arrays take more than" in kept.said[0]
