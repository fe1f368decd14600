"""The data of a stored trial, loaded again by its config.yaml, which anybody may have altered."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fmnist_sweep.data import DataConfig, Splits, load_splits
from fmnist_sweep.data.data_config import choose_data_schema
from fmnist_sweep.errors import DataError
from fmnist_sweep.plugins import DATA_SOURCES
from fmnist_sweep.reading import parse_yaml
from fmnist_sweep.text import echo, quote_text
from fmnist_sweep.tracking.data_places import find_data_dir
from fmnist_sweep.tracking.names import CONFIG_FILE, DATA_TAG
from fmnist_sweep.tracking.run_files import UnreadableArtifact, read_artifact

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.tracking.trials import StoredTrial


def load_matching_splits(data: DataConfig, tag: str, name: str, use: str = "scored") -> Splits:
    """Splits of a source, checked to be the data with this tag. Errors: DataError where it is other data.

    name, use: of a model, and what it was on that data, for the message.
    """
    splits = load_splits(data)
    if splits.tag != tag:
        raise DataError(
            f"{splits.origin.location} is {splits.tag}, but {name} was {use} on {tag}: name the folder of that data "
            "with --data-dir."
        )
    return splits


def load_trial_splits(store: Store, trial: StoredTrial, data_dir: str | None) -> Splits:
    """The splits that a trial was trained and scored on, loaded again.

    data_dir: the folder of the data files; None: the one that they are found in (`find_data_dir`), which is said unless
    a sweep looks there, too. Raises DataError if the data is missing, or is other data.
    """
    owner_name = f"{trial.name} (run {trial.run_id})"
    try:
        content = read_artifact(store, trial.run_id, CONFIG_FILE)
    except UnreadableArtifact as error:
        raise _build_altered_config_error(owner_name, f"found that {error}") from None
    if content is None:
        raise DataError(f"{owner_name} has no config.yaml any more, which says what its data was.")
    expected = trial.tags.get(DATA_TAG)
    if expected is None:
        raise DataError(f"{owner_name} has no tag fmnist.data any more, which says what its data was.")
    build = partial(build_data_config, _parse_data_section(content, owner_name), owner_name=owner_name)
    if data_dir is None:
        say = partial(echo, err=True)
        data_dir = find_data_dir(store, trial.run_id, build, expected, trial.name, say)
    return load_matching_splits(build(data_dir), expected, trial.name)


def _parse_data_section(content: bytes, owner_name: str) -> Mapping[str, Any]:
    """The data section of a trial's config.yaml. owner_name: of the trial, for messages."""
    try:
        section = parse_yaml(content)["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise _build_altered_config_error(
            owner_name, f"found none ({type(error).__name__}: {quote_text(error, 120)})"
        ) from None
    if not isinstance(section, Mapping):
        raise _build_altered_config_error(owner_name, f"found a {type(section).__name__}")
    return section


def build_data_config(section: Mapping[str, Any], data_dir: str | None, owner_name: str = "a trial") -> DataConfig:
    """Build the data config of a trial from the data section of its config.yaml, and from where the data is here.

    owner_name: of the trial, for messages. Raises DataError if the section is not one that a sweep writes: others may
    have written to the store.
    """
    from pydantic import ValidationError

    source = section.get("source")
    if isinstance(source, str) and source.isidentifier() and source not in DATA_SOURCES:
        raise DataError(
            f"the images of {owner_name} are read by the data source {source}, which no plugin here registers: name "
            "its file, as in --plugins FILE.py, or install its package."
        )
    location: dict[str, Any] = {"dir": data_dir, "download": True, "fallback": None}
    for key in location:
        if key in section:
            raise _build_altered_config_error(owner_name, f"found the key {key}, which a trial does not keep")
    try:
        schema = choose_data_schema(section.get("source"))
        config = schema.model_validate({"include_validation": False, **section, **location})
    except ValidationError as error:
        mistake = error.errors()[0]
        field = ".".join(map(str, mistake["loc"]))
        raise _build_altered_config_error(owner_name, f"found that of {field[:80]}: {mistake['msg']}") from None
    return config


def _build_altered_config_error(owner_name: str, finding: str) -> DataError:
    return DataError(
        f"the config.yaml of {owner_name} is damaged or was altered: expected the data section that a sweep writes, "
        f"{finding}; take another trial, or train it again."
    )
