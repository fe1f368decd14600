"""The registered model's versions: one for each run's model, found by name, and loaded once the file is checked."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_sweep.errors import PromotionRefused, StoreError
from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.reading import parse_yaml, read_file
from fmnist_sweep.text import shorten_text
from fmnist_sweep.tracking.connection import explain_outage
from fmnist_sweep.tracking.foreign import Misfit, check_version, select_fitting
from fmnist_sweep.tracking.models import (
    KERAS_FILE,
    UnusableModel,
    download_model_files,
    hash_file,
    load_keras_file,
    read_model_status,
)
from fmnist_sweep.tracking.names import MODEL_NAME, SHA256_TAG
from fmnist_sweep.tracking.queries import read_all_pages
from fmnist_sweep.tracking.run_files import UnreadableArtifact
from fmnist_sweep.tracking.store import Store, point_mlflow_at

if TYPE_CHECKING:
    import keras
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHAMPION, CHALLENGER = "champion", "challenger"
# MLflow takes 100,000 characters, MySQL's TEXT column 65,535 bytes, and a character takes up to four bytes.
MAX_TAG_LENGTH = 16_000
_MAX_DESCRIPTION_LENGTH = 5_000  # the width of the column
_NUMBER_OR_ALIAS = re.compile(r"(?P<number>[0-9]{1,9})|(?P<alias>[A-Za-z0-9_-]{1,255})")
_MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<number>[0-9]{1,9})|@(?P<alias>[A-Za-z0-9_-]{1,255}))")
_MAX_DESCRIPTION_BYTES = 2**20  # of the file MLmodel
_PICKLE_NAME = re.compile(r"pickle|\.(pkl|joblib|dill)$", re.IGNORECASE)


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the registered model.

    number: from 1. run_id: None if it was registered without a run. source: the address of its model. status: READY
    once it is complete. created: in ms since 1970.
    """

    number: str
    run_id: str | None
    source: str
    status: str
    tags: dict[str, str]
    description: str
    created: int


def ensure_registered_model(store: Store) -> None:
    """Create the registered model if it is missing; any number of processes may do so at once."""
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(
            MODEL_NAME, description="Fashion-MNIST classifiers: raw pixels (n, 28, 28, 1) in, ten probabilities out."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def register_version(
    store: Store, run_id: str, model_id: str, *, tags: Mapping[str, str], description: str
) -> RegisteredVersion:
    """Register a run's model, or update the version that it has, with these tags and this description.

    The caller holds `lock_registry`. Values that are too long for MLflow's databases are cut. Raises PromotionRefused
    for an incomplete model.
    """
    _refuse_incomplete(store, run_id, model_id)
    ensure_registered_model(store)
    source = f"models:/{model_id}"
    values = {key: shorten_text(mask_credentials(str(value)), MAX_TAG_LENGTH) for key, value in tags.items()}
    text = shorten_text(mask_credentials(description), _MAX_DESCRIPTION_LENGTH)
    for version in reversed(list_versions(store)):
        if (version.run_id, version.source) == (run_id, source):
            return _update_version(store, version, values, text)
    # MLflow looks the model up with a client of its own, which must use this store.
    with point_mlflow_at(store):
        created_version = store.client.create_model_version(
            MODEL_NAME, source=source, run_id=run_id, model_id=model_id, tags=values, description=text
        )
    return _build_version(created_version)


def _build_version(version: ModelVersion) -> RegisteredVersion:
    return RegisteredVersion(
        number=str(version.version),
        run_id=version.run_id,
        source=version.source,
        status=str(version.status),
        tags=version.tags,
        description=version.description or "",
        created=version.creation_timestamp,
    )


def _refuse_incomplete(store: Store, run_id: str, model_id: str) -> None:
    # MLflow itself would register a model whose logging was killed, and call the version READY.
    status = read_model_status(store, model_id) or "not there any more"
    if status != "READY":
        raise PromotionRefused(
            f"the model {model_id} of run {run_id} is {status}, and only a READY one is registered: train it again."
        )


def _update_version(
    store: Store, version: RegisteredVersion, tags: Mapping[str, str], description: str
) -> RegisteredVersion:
    for key, value in tags.items():
        if version.tags.get(key) != value:
            store.client.set_model_version_tag(MODEL_NAME, version.number, key, value)
    if version.description != description:
        store.client.update_model_version(MODEL_NAME, version.number, description)
    return _build_version(store.client.get_model_version(MODEL_NAME, version.number))


def get_registered_model(store: Store) -> RegisteredModel | None:
    """The registered model with its tags and aliases, read at one moment; None if nothing is registered yet."""
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_registered_model(MODEL_NAME)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def map_aliases(model: RegisteredModel | None) -> dict[str, str]:
    """The number of the version that each alias points at, by alias."""
    return {} if model is None else {str(alias): str(number) for alias, number in model.aliases.items()}


def read_aliases(store: Store) -> dict[str, str]:
    """The number of the version that each alias points at, by alias."""
    return map_aliases(get_registered_model(store))


def find_aliased_version(store: Store, alias: str) -> RegisteredVersion | None:
    """The version that an alias points at; None if it points nowhere."""
    # MLflow's own look-up takes `latest` for the newest version, though it is no alias.
    number = read_aliases(store).get(alias)
    return None if number is None else _read_version(store, number)


def list_versions(store: Store) -> list[RegisteredVersion]:
    """All versions, the newest first. What is none is named and left out."""
    name = f"name = '{MODEL_NAME}'"
    versions = read_all_pages(
        lambda token: store.client.search_model_versions(name, max_results=1000, page_token=token)
    )
    fitting = select_fitting(
        store, "version", map(_build_version, versions), check_version, lambda version: version.number
    )
    return sorted(fitting, key=lambda version: -int(version.number))


def resolve_version(store: Store, uri: str) -> RegisteredVersion:
    """The version that an address names: models:/fashion-mnist@champion, models:/fashion-mnist/3, `champion` or `3`.

    Raises StoreError, which lists the versions and aliases there are.
    """
    match = _NUMBER_OR_ALIAS.fullmatch(uri) or _MODEL_URI.fullmatch(uri)
    if match is None:
        raise StoreError(
            f"{shorten_text(uri, 100)!r} names no version: expected models:/{MODEL_NAME}@ALIAS, "
            f"models:/{MODEL_NAME}/NUMBER, or the ALIAS or NUMBER alone."
        )
    parts = match.groupdict()
    if parts.get("name", MODEL_NAME) != MODEL_NAME:
        raise StoreError(f"{uri} is another registered model's: only those of models:/{MODEL_NAME} can be named here.")
    alias_numbers = read_aliases(store)
    number = str(int(parts["number"])) if parts["number"] else alias_numbers.get(parts["alias"])
    versions = {version.number: version for version in list_versions(store)}
    if number not in versions:
        raise StoreError(
            f"{store.masked_uri} has no version {uri} of models:/{MODEL_NAME}: "
            f"{_describe_versions(versions, alias_numbers)}"
        )
    return versions[number]


def _read_version(store: Store, number: str) -> RegisteredVersion:
    version = _build_version(store.client.get_model_version(MODEL_NAME, number))
    try:
        check_version(version)
    except Misfit as error:
        raise StoreError(
            f"{_format_name(version)} is not what fmnist-sweep writes: {error}; name another version."
        ) from None
    return version


def _describe_versions(numbers: Mapping[str, Any], alias_numbers: Mapping[str, str]) -> str:
    if not numbers:
        return "nothing is registered yet; fmnist-sweep promote registers the best trial."
    alias_list = ", ".join(f"{alias} (version {number})" for alias, number in sorted(alias_numbers.items())) or "none"
    examples = [*numbers][:20]
    remainder = f" and {len(numbers) - len(examples)} older" if len(numbers) > len(examples) else ""
    return f"there are versions {', '.join(examples)}{remainder}, and of aliases: {alias_list}."


def load_version(store: Store, version: RegisteredVersion) -> keras.Model:
    """Load a version's model in Keras' safe mode, from the file that was registered. Raises PromotionRefused."""
    with tempfile.TemporaryDirectory() as folder:
        file = download_verified_file(store, version, Path(folder))
        try:
            return load_keras_file(file)
        except UnusableModel as error:
            raise PromotionRefused(
                f"{_format_name(version)} cannot be loaded safely ({shorten_text(str(error), 300)}): name another "
                "version, or train it again."
            ) from None


def download_verified_file(store: Store, version: RegisteredVersion, folder: Path) -> Path:
    """Download a version's .keras file into a folder, and check that its sha256 is the registered one.

    Raises PromotionRefused if the file is altered or missing, if the version has no checksum, and if the model's files
    hold anything that MLflow would run or unpickle.
    """
    expected = version.tags.get(SHA256_TAG)
    if not expected:
        raise PromotionRefused(
            f"{_format_name(version)} has no tag {SHA256_TAG} to check its file by: it was not registered by "
            "fmnist-sweep promote, which registers a run's model with that tag."
        )
    location = _download_files(store, version, folder)
    if not (location / "MLmodel").is_file():
        raise _build_missing_file_error(version, "there is no MLmodel among its files")
    violation = _find_foreign_content(location)
    if violation is not None:
        raise PromotionRefused(
            f"{_format_name(version)} is never loaded: {violation}; expected a .keras file alone, as a sweep logs it; "
            "train it again, or name another version."
        )
    file = location / KERAS_FILE
    if not file.is_file():
        raise _build_missing_file_error(version, f"there is no {KERAS_FILE} among its files")
    actual = hash_file(file)
    if actual != expected:
        raise PromotionRefused(
            f"the file of {_format_name(version)} was altered: its sha256 is {actual[:12]}…, but {expected[:12]}… was "
            "registered; put the file back from a copy, or name another version."
        )
    return file


def _format_name(version: RegisteredVersion) -> str:
    return f"version {version.number} of models:/{MODEL_NAME}"


def _build_missing_file_error(version: RegisteredVersion, reason: str) -> PromotionRefused:
    return PromotionRefused(
        f"the file of {_format_name(version)} is gone ({shorten_text(reason, 300)}): put it back from a copy, or name "
        "another version."
    )


def _download_files(store: Store, version: RegisteredVersion, folder: Path) -> Path:
    from mlflow.exceptions import MlflowException

    try:
        return download_model_files(store, f"models:/{MODEL_NAME}/{version.number}", folder)
    except UnreadableArtifact as error:
        raise PromotionRefused(
            f"{_format_name(version)} is never loaded: {error}; name another version, or train it again."
        ) from None
    except (MlflowException, FileNotFoundError) as error:
        reason = explain_outage(error, store.uri)
        if reason is not None:
            raise StoreError(
                f"{store.masked_uri} cannot give the files of {_format_name(version)} for now: {reason}"
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
