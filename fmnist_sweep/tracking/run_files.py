"""The artifact files of a run: logged, and read back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.tracking.names import PREDICTIONS_FILE

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store


def read_artifacts(store: Store, run_id: str) -> dict[str, bytes]:
    """The artifact files of a run by their path, without its predictions."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(store.client.download_artifacts(run_id, "", folder))
        artifacts = {
            str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
        }
    return {name: content for name, content in artifacts.items() if name != PREDICTIONS_FILE}


def read_artifact(store: Store, run_id: str, name: str) -> bytes | None:
    """The content of one artifact file of a run, by its path; None if the run has no such file."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(store.client.download_artifacts(run_id, name, folder)).read_bytes()
        except FileNotFoundError:
            return None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" or isinstance(error.__cause__, FileNotFoundError):
                return None
            if "No such artifact" in str(error):
                return None
            raise


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
