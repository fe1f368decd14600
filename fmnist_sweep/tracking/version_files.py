"""A registered version's model: downloaded, checked by the checksum that was registered, and loaded."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_sweep.errors import PromotionRefused, StoreError
from fmnist_sweep.reading import parse_json, parse_yaml, read_file
from fmnist_sweep.text import shorten_text
from fmnist_sweep.tracking.connection import explain_outage
from fmnist_sweep.tracking.models import (
    KERAS_FILE,
    UnusableModel,
    download_model_files,
    hash_file,
    load_keras_file,
)
from fmnist_sweep.tracking.names import PLUGINS_TAG, SHA256_TAG
from fmnist_sweep.tracking.registry import RegisteredVersion
from fmnist_sweep.tracking.run_files import UnreadableArtifact
from fmnist_sweep.training.own_code import refuse_other_plugins

if TYPE_CHECKING:
    import keras

    from fmnist_sweep.tracking.store import Store

_MAX_DESCRIPTION_BYTES = 2**20  # of the file MLmodel
_PICKLE_NAME = re.compile(r"pickle|\.(pkl|joblib|dill)$", re.IGNORECASE)


def load_version(store: Store, version: RegisteredVersion) -> keras.Model:
    """Load a version's model in Keras' safe mode, from the file that was registered. Raises PromotionRefused.

    Raises ConfigError if a plugin that it was trained with is missing or differs.
    """
    refuse_other_plugins(_read_plugins(version), version.full_name)
    with tempfile.TemporaryDirectory() as folder:
        file = download_verified_file(store, version, Path(folder))
        try:
            return load_keras_file(file)
        except UnusableModel as error:
            raise PromotionRefused(
                f"{version.full_name} cannot be loaded safely ({shorten_text(str(error), 300)}): name another "
                "version, or train it again."
            ) from None


def _read_plugins(version: RegisteredVersion) -> Mapping[str, str]:
    """The fingerprints of the plugins that a version was trained with, by name."""
    try:
        plugins = parse_json(version.tags.get(PLUGINS_TAG, "{}"))
        return {str(name): str(fingerprint) for name, fingerprint in plugins.items()}
    except (ValueError, AttributeError):
        raise PromotionRefused(
            f"the tag {PLUGINS_TAG} of {version.full_name} was altered: name another version, or train it again."
        ) from None


def download_verified_file(store: Store, version: RegisteredVersion, folder: Path) -> Path:
    """Download a version's .keras file into a folder, and check that its sha256 is the registered one.

    Raises PromotionRefused if the file is altered or missing, if the version has no checksum, and if the model's files
    hold anything that MLflow would run or unpickle.
    """
    expected = version.tags.get(SHA256_TAG)
    if not expected:
        raise PromotionRefused(
            f"{version.full_name} has no tag {SHA256_TAG} to check its file by: it was not registered by "
            "fmnist-sweep promote, which registers a run's model with that tag."
        )
    location = _download_files(store, version, folder)
    if not (location / "MLmodel").is_file():
        raise _build_missing_file_error(version, "there is no MLmodel among its files")
    violation = _find_foreign_content(location)
    if violation is not None:
        raise PromotionRefused(
            f"{version.full_name} is never loaded: {violation}; expected a .keras file alone, as a sweep logs it; "
            "train it again, or name another version."
        )
    file = location / KERAS_FILE
    if not file.is_file():
        raise _build_missing_file_error(version, f"there is no {KERAS_FILE} among its files")
    actual = hash_file(file)
    if actual != expected:
        raise PromotionRefused(
            f"the file of {version.full_name} was altered: its sha256 is {actual[:12]}…, but {expected[:12]}… was "
            "registered; put the file back from a copy, or name another version."
        )
    return file


def _build_missing_file_error(version: RegisteredVersion, reason: str) -> PromotionRefused:
    return PromotionRefused(
        f"the file of {version.full_name} is gone ({shorten_text(reason, 300)}): put it back from a copy, or name "
        "another version."
    )


def _download_files(store: Store, version: RegisteredVersion, folder: Path) -> Path:
    from mlflow.exceptions import MlflowException

    try:
        return download_model_files(store, f"models:/{store.model_name}/{version.number}", folder)
    except UnreadableArtifact as error:
        raise PromotionRefused(
            f"{version.full_name} is never loaded: {error}; name another version, or train it again."
        ) from None
    except (MlflowException, FileNotFoundError) as error:
        reason = explain_outage(error, store.uri)
        if reason is not None:
            raise StoreError(
                f"{store.masked_uri} cannot give the files of {version.full_name} for now: {reason}"
            ) from None
        raise _build_missing_file_error(version, str(error).strip().splitlines()[0]) from None


def _find_foreign_content(folder: Path) -> str | None:
    """What a downloaded model holds, beside its .keras file, that MLflow would load; None if there is nothing."""
    pickle_files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if _PICKLE_NAME.search(path.name))
    if pickle_files:
        return f"it holds pickled objects ({pickle_files[0]}), and to unpickle is to run code"
    try:
        flavours = parse_yaml(read_file(folder / "MLmodel", _MAX_DESCRIPTION_BYTES))["flavors"]
        kinds = {str(name): dict(settings) for name, settings in flavours.items()}
    except (OSError, TypeError, KeyError, AttributeError, ValueError):
        return "its file MLmodel cannot be read"
    return _find_foreign_flavour(kinds)


def _find_foreign_flavour(kinds: Mapping[str, Mapping[str, Any]]) -> str | None:
    python = kinds.get("python_function", {})
    others = sorted(set(kinds) - {"keras", "python_function"})
    if others or "keras" not in kinds:
        return f"its flavour is {', '.join(others or kinds) or 'none'}, not keras"
    if python.get("loader_module", "mlflow.keras") != "mlflow.keras":
        return f"its python_function is loaded by {python['loader_module']}, not by mlflow.keras"
    if any(python.get(key) for key in ("code", "python_model", "artifacts", "model_code_path")):
        return "its python_function brings code of its own"
    keras = kinds["keras"]
    if keras.get("save_exported_model") or keras.get("data") != KERAS_FILE.parts[0]:
        return "its flavour keras names other files"
    return None
