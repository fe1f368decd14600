"""The artifact files of a run: logged, and read back with a bound, as anybody may have put others there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from fmnist_sweep.reading import RefusedFile, read_file
from fmnist_sweep.text import quote_text
from fmnist_sweep.tracking.names import PREDICTIONS_FILE
from fmnist_sweep.tracking.store import is_server, locate_local_artifacts

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store

# Predictions for a million images have 56 MB; a report of a study, the next largest, has 5.
MAX_ARTIFACT_BYTES = 64 * 2**20
_MAX_FILES = 1000
_MAX_DEPTH = 8


class UnreadableArtifact(ValueError):
    """An artifact that is no file that this project logs: it cannot be read, or is far larger."""


class ListedFile(Protocol):
    """A file or folder as MLflow lists it. path: from the root of the artifacts."""

    path: str
    is_dir: bool
    file_size: int | None


def read_artifacts(store: Store, run_id: str) -> dict[str, bytes]:
    """The artifact files of a run by their path, without its predictions and what cannot be read."""
    folder = _locate_folder(store, run_id)
    if folder is None:
        names = [listed.path for listed in iterate_files(lambda path: store.client.list_artifacts(run_id, path))]
    else:
        files = (path for path in folder.rglob("*") if path.is_file())
        names = sorted(str(path.relative_to(folder)) for path in islice(files, _MAX_FILES))
    artifacts = {}
    for name in names:
        with suppress(UnreadableArtifact):  # it is none of the run's own
            content = None if name == PREDICTIONS_FILE else _read_artifact(store, run_id, folder, name)
            if content is not None:
                artifacts[name] = content
    return artifacts


def read_artifact(store: Store, run_id: str, name: str) -> bytes | None:
    """The content of one artifact file of a run, by its path; None if the run has no such file.

    Raises UnreadableArtifact, also if there is no such run.
    """
    from mlflow.exceptions import MlflowException

    try:
        return _read_artifact(store, run_id, _locate_folder(store, run_id), name)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise UnreadableArtifact(f"the store has no run {quote_text(run_id)}") from None


def _locate_folder(store: Store, run_id: str) -> Path | None:
    # What a server says is a folder of this machine is not read as one.
    return None if is_server(store.uri) else locate_local_artifacts(store, run_id)


def _read_artifact(store: Store, run_id: str, folder: Path | None, name: str) -> bytes | None:
    if folder is None:
        return _download_artifact(store, run_id, name)
    try:  # MLflow would copy it: a device or an endless file, too
        path = (folder / name).resolve(strict=True)
        if not path.is_relative_to(folder.resolve()):
            raise UnreadableArtifact("it leads out of the folder of its run")
        return read_file(path, MAX_ARTIFACT_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as error:
        raise UnreadableArtifact(getattr(error, "strerror", None) or str(error)) from None


def _download_artifact(store: Store, run_id: str, name: str) -> bytes | None:
    folder = str(PurePosixPath(name).parent)
    files = store.client.list_artifacts(run_id, None if folder == "." else folder)
    listed = next((each for each in files if each.path == name), None)
    if listed is None:
        return None
    refuse_size(listed, MAX_ARTIFACT_BYTES)
    if listed.is_dir:
        raise UnreadableArtifact("it is a folder")
    with tempfile.TemporaryDirectory() as target:
        try:
            return read_file(Path(store.client.download_artifacts(run_id, name, target)), MAX_ARTIFACT_BYTES)
        except RefusedFile as error:
            raise UnreadableArtifact(error.strerror) from None


def refuse_size(listed: ListedFile, max_bytes: int) -> None:
    """Raise UnreadableArtifact for a file that is larger than what may be expected."""
    if (listed.file_size or 0) > max_bytes:
        raise UnreadableArtifact(f"it has {listed.file_size:,} bytes, more than the {max_bytes:,} that are read")


def iterate_files(list_folder: Any, path: str | None = None, depth: int = 0) -> Iterator[ListedFile]:
    """The files below a folder of artifacts, but no more of them than are expected.

    list_folder: MLflow's list of a folder, by its path; None: the root.
    """
    count = 0
    for listed in sorted(list_folder(path), key=lambda each: str(each.path)):
        below = iterate_files(list_folder, listed.path, depth + 1) if listed.is_dir and depth < _MAX_DEPTH else [listed]
        for each in below:
            count += 1
            if count > _MAX_FILES:
                return
            if not each.is_dir:
                yield each


def log_files(store: Store, run_id: str, files: Mapping[str, bytes]) -> None:
    """Log files of a run, by their path among its artifacts."""
    if not files:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        store.client.log_artifacts(run_id, folder)
