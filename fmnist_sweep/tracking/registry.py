"""The registered model's versions: one for each run's model, registered and found by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.data.description import FASHION_MNIST, DataDescription, parse_description
from fmnist_sweep.errors import PromotionRefused, StoreError
from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.text import shorten_text
from fmnist_sweep.tracking.foreign import Misfit, check_version, select_fitting
from fmnist_sweep.tracking.models import read_model_status
from fmnist_sweep.tracking.names import (
    CHAMPION_ADDRESS,
    DEFAULT_EXPERIMENT,
    DESCRIPTION_TAG,
    KIND_TAG,
    MODEL_NAME,
    VERDICT_TAG,
)
from fmnist_sweep.tracking.queries import list_newest_runs, read_all_pages
from fmnist_sweep.tracking.store import MissingExperiment, Store, open_existing_store, point_mlflow_at

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

_DESCRIPTION = "Fashion-MNIST classifiers: raw pixels (n, 28, 28, 1) in, ten probabilities out."
_OWN_DESCRIPTION = "Classifiers of images: raw pixels (n, height, width, channels) in, a probability a label out."
CHAMPION, CHALLENGER = "champion", "challenger"
# MLflow takes 100,000 characters, MySQL's TEXT column 65,535 bytes, and a character takes up to four bytes.
MAX_TAG_LENGTH = 16_000
_MAX_DESCRIPTION_LENGTH = 5_000  # the width of the column
_MOST_NAMED = 20  # versions in a sentence
_MAX_PROMOTIONS = 100  # the newest, of which one says that something was registered
_NUMBER_OR_ALIAS = re.compile(r"(?P<number>[0-9]{1,9})|(?P<alias>[A-Za-z0-9_-]{1,255})")
_MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<number>[0-9]{1,9})|@(?P<alias>[A-Za-z0-9_-]{1,255}))")


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
    model_name: str = MODEL_NAME

    @property
    def data(self) -> DataDescription:
        """What the images are that it was trained on. Raises StoreError for a tag that no promotion writes."""
        text = self.tags.get(DESCRIPTION_TAG)
        try:
            return FASHION_MNIST if text is None else parse_description(text)
        except ValueError as error:
            raise StoreError(
                f"the tag {DESCRIPTION_TAG} of {self.full_name} says not what it was trained on ({error}): name "
                "another version."
            ) from None

    @property
    def full_name(self) -> str:
        """What it is called in a sentence."""
        return f"version {self.number} of models:/{self.model_name}"


def ensure_registered_model(store: Store) -> None:
    """Create the registered model if it is missing; any number of processes may do so at once."""
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(
            store.model_name, description=_DESCRIPTION if store.model_name == MODEL_NAME else _OWN_DESCRIPTION
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
            store.model_name, source=source, run_id=run_id, model_id=model_id, tags=values, description=text
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
        model_name=str(version.name),
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
            store.client.set_model_version_tag(store.model_name, version.number, key, value)
    if version.description != description:
        store.client.update_model_version(store.model_name, version.number, description)
    return _build_version(store.client.get_model_version(store.model_name, version.number))


def get_registered_model(store: Store) -> RegisteredModel | None:
    """The registered model with its tags and aliases, read at one moment; None if nothing is registered yet."""
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_registered_model(store.model_name)
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


def was_model_deleted(store: Store) -> bool:
    """Whether nothing is registered any more, though a promotion of this experiment registered something.

    MLflow keeps nothing of a registered model that is deleted; the run of the promotion says what it decided.
    """
    if get_registered_model(store) is not None:
        return False
    promotions = list_newest_runs(store, {KIND_TAG: "promotion"}, _MAX_PROMOTIONS)
    return any(run.tags.get(VERDICT_TAG, "worse") != "worse" for run in promotions)


def list_versions(store: Store) -> list[RegisteredVersion]:
    """All versions, the newest first. What is none is named and left out."""
    name = f"name = '{store.model_name}'"
    versions = read_all_pages(
        lambda token: store.client.search_model_versions(name, max_results=1000, page_token=token)
    )
    fitting = select_fitting(
        store, "version", map(_build_version, versions), check_version, lambda version: version.number
    )
    return sorted(fitting, key=lambda version: -int(version.number))


def open_version(uri: str | None, experiment: str, address: str) -> tuple[Store, RegisteredVersion]:
    """Open the store that has a version, and resolve the version's address.

    Where the default experiment is named, an address that begins with models:/NAME means the experiment of that name;
    where another is named, the default address means the champion of its registered model. Raises StoreError.
    """
    match = _MODEL_URI.fullmatch(address)
    store = None
    if match is not None and experiment == DEFAULT_EXPERIMENT != match["name"]:
        with suppress(MissingExperiment):
            store = open_existing_store(uri, match["name"])
    store = store or open_existing_store(uri, experiment)
    if address == CHAMPION_ADDRESS:
        address = f"models:/{store.model_name}@{CHAMPION}"
    return store, resolve_version(store, address)


def resolve_version(store: Store, uri: str) -> RegisteredVersion:
    """The version that an address names: models:/fashion-mnist@champion, models:/fashion-mnist/3, `champion` or `3`.

    Raises StoreError, which lists the versions and aliases there are.
    """
    match = _NUMBER_OR_ALIAS.fullmatch(uri) or _MODEL_URI.fullmatch(uri)
    if match is None:
        raise StoreError(
            f"{shorten_text(uri, 100)!r} names no version: expected models:/{store.model_name}@ALIAS, "
            f"models:/{store.model_name}/NUMBER, or the ALIAS or NUMBER alone."
        )
    parts = match.groupdict()
    if parts.get("name", store.model_name) != store.model_name:
        raise StoreError(
            f"{uri} is another registered model's: only those of models:/{store.model_name} can be named here."
        )
    number = str(int(parts["number"])) if parts["number"] else read_aliases(store).get(parts["alias"])
    version = None if number is None else _read_version(store, number)
    if version is None:
        raise StoreError(_describe_missing(store, uri, number))
    return version


def _read_version(store: Store, number: str) -> RegisteredVersion | None:
    """The version with this number; None if there is none. Raises StoreError for what is none."""
    from mlflow.exceptions import MlflowException

    try:
        version = _build_version(store.client.get_model_version(store.model_name, number))
        check_version(version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    except Misfit as error:
        raise StoreError(
            f"{version.full_name} is not what fmnist-sweep writes: {error}; name another version."
        ) from None
    return version


def _describe_missing(store: Store, uri: str, number: str | None) -> str:
    """Why no version has this address, and which there are. number: that it stands for; None for no alias."""
    numbers = [version.number for version in list_versions(store)]
    subject = f"{store.masked_uri} has no version {uri} of models:/{store.model_name}"
    if not numbers:
        return f"{subject}: {describe_empty_registry(store)}"
    aliases = read_aliases(store)
    alias_list = ", ".join(f"{alias} (version {target})" for alias, target in sorted(aliases.items())) or "none"
    remainder = f" and {len(numbers) - _MOST_NAMED} older" if len(numbers) > _MOST_NAMED else ""
    there_are = f"there are versions {', '.join(numbers[:_MOST_NAMED])}{remainder}, and of aliases: {alias_list}."
    # MLflow gives no number twice.
    was_deleted = number is not None and 0 < int(number) < int(numbers[0])
    return f"{subject} any more, as it was deleted: {there_are}" if was_deleted else f"{subject}: {there_are}"


def describe_empty_registry(store: Store) -> str:
    """Why no version is registered, and what registers one."""
    if was_model_deleted(store):
        return (
            "all that was registered was deleted, and MLflow cannot restore it; fmnist-sweep promote registers again."
        )
    return "nothing is registered yet; fmnist-sweep promote registers the best trial."
