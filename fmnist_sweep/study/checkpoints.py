"""Checkpoints on disk: the two newest of each trial, as files that are whole even after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from fmnist_sweep.files import DamagedContent, read_packed_file, unpack_arrays, write_file_atomically

_KEPT_COUNT = 2  # the newest, and the one before in case the newest is damaged


class Checkpoints:
    """The checkpoints of one study's trials in a folder, to which only the study's owner writes."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say

    def save(self, trial_id: str, epoch: int, content: bytes) -> None:
        """Save the state after an epoch (from 1), and delete all but this and the one before."""
        newest = self._folder / trial_id / f"{epoch:06d}.npz"
        write_file_atomically(newest, content)
        # Checkpoints of later epochs were damaged: the trial continued from one before them.
        older = [path for path in self._list_paths(trial_id) if path < newest]
        for path in set(self._list_paths(trial_id)) - {newest, *older[-_KEPT_COUNT + 1 :]}:
            path.unlink(missing_ok=True)

    def load_newest(self, trial_id: str) -> bytes | None:
        """The newest intact checkpoint of a trial; None if there is none. Damaged ones are reported and passed over."""
        for path in reversed(self._list_paths(trial_id)):
            try:
                content = read_packed_file(path)
                unpack_arrays(content)
            except DamagedContent as error:
                self._say(f"{path} is damaged ({error}): training continues without it")
            else:
                return content
        return None

    def drop_older(self, trial_id: str) -> None:
        """Delete all checkpoints of an ended trial but the newest."""
        for path in self._list_paths(trial_id)[:-1]:
            path.unlink(missing_ok=True)

    def drop(self, trial_id: str) -> None:
        """Delete all checkpoints of a trial."""
        shutil.rmtree(self._folder / trial_id, ignore_errors=True)

    def drop_all(self) -> None:
        """Delete the checkpoints of all trials, when the study has ended."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _list_paths(self, trial_id: str) -> list[Path]:
        return sorted((self._folder / trial_id).glob("[0-9]*.npz"))
