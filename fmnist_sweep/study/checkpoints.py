"""Checkpoints on disk: whole files, the two newest of each trial, found again after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from fmnist_sweep.files import DamagedContent, unpack_arrays, write_file_atomically

_KEPT_COUNT = 2  # the newest, and the one before should the newest turn out damaged


class Checkpoints:
    """The checkpoints of one study's trials below a folder; only the study's owner writes there."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say

    def save(self, trial_id: str, epoch: int, content: bytes) -> None:
        """Keep the state after an epoch (from 1) and the one before it, and drop all others of the trial."""
        newest = self._folder / trial_id / f"{epoch:06d}.npz"
        write_file_atomically(newest, content)
        # Those of later epochs were passed over as damaged when the trial began again before them.
        older = [path for path in self._list_paths(trial_id) if path < newest]
        for path in set(self._list_paths(trial_id)) - {newest, *older[-_KEPT_COUNT + 1 :]}:
            path.unlink(missing_ok=True)

    def load_newest(self, trial_id: str) -> bytes | None:
        """The newest checkpoint of a trial that is whole, or None; a damaged one is named and passed over."""
        for path in reversed(self._list_paths(trial_id)):
            content = path.read_bytes()
            try:
                unpack_arrays(content)
            except DamagedContent as error:
                self._say(f"{path} is damaged ({error}): what was before it is used, and trained on from there")
            else:
                return content
        return None

    def drop_older(self, trial_id: str) -> None:
        """Keep only the newest of a trial that has ended."""
        for path in self._list_paths(trial_id)[:-1]:
            path.unlink(missing_ok=True)

    def drop(self, trial_id: str) -> None:
        """Forget a trial that needs none any more."""
        shutil.rmtree(self._folder / trial_id, ignore_errors=True)

    def drop_all(self) -> None:
        """Forget all of them: the study has ended."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _list_paths(self, trial_id: str) -> list[Path]:
        return sorted((self._folder / trial_id).glob("[0-9]*.npz"))
