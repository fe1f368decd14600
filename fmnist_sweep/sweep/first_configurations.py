"""What a study trains before all others: search.first as typed, and the values of the run that search.like names."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from fmnist_sweep.config.changed_defaults import drop_neutral_settings
from fmnist_sweep.config.job import Job
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.config.known_configurations import complete_first, complete_values, drop_repeated
from fmnist_sweep.config.overrides import quote_override_value
from fmnist_sweep.errors import ConfigError, StoreError
from fmnist_sweep.search import space
from fmnist_sweep.search.parameters import list_parameters
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.tracking.foreign import parse_parameter
from fmnist_sweep.tracking.names import KIND_TAG
from fmnist_sweep.tracking.queries import StoredRun, search_runs_by_prefix
from fmnist_sweep.tracking.store import MissingExperiment, has_store_file, open_existing_store
from fmnist_sweep.tracking.trial_search import SHORTEST_ID

_SECTIONS = ("model", "optimizer", "regularization", "train")
# What may differ: how long it trains, and what it computes in on this machine.
_FREE_KEYS = ("train.epochs", "train.schedule.over_epochs", "train.precision")


def resolve_first(
    job: Job, settings: Mapping[str, Any], state: Path
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The configurations that a study trains first, and for search.like its run and the values that it gave.

    settings: the study's. state: the folder of its store's state. Raises ConfigError.
    """
    search = job.config.search
    first = complete_first(settings, search.first, "search.first")
    if search.like is None:
        return first, None
    like = _read_like(job, settings, search.like) or _recall_like(state, settings, search.like)
    if like is None:
        _refuse_missing(job, search.like)
    return drop_repeated([*first, like["values"]]), like


def _recall_like(state: Path, settings: Mapping[str, Any], run_id: str) -> dict[str, Any] | None:
    """What an earlier study of this folder read from the run, which may be gone by now."""
    for folder in list_study_folders(state):
        with suppress(StoreError):  # a damaged journal, which `studies` names
            like = folder.read_record().about.get("like")
            if isinstance(like, dict) and _is_named(str(like.get("run")), run_id):
                values = like.get("values")
                if isinstance(values, dict):
                    with suppress(ConfigError):  # of a study with another space
                        completed = complete_values(settings, values, f"search.like={run_id}")
                        if completed == values:
                            return {"run": like["run"], "values": completed}
    return None


def _is_named(run_id: str, name: str) -> bool:
    return len(name) >= SHORTEST_ID and run_id.startswith(name)


def _read_like(job: Job, settings: Mapping[str, Any], run_id: str) -> dict[str, Any] | None:
    """What the store has of the run; None if it has no such run."""
    tracking = job.config.tracking
    if len(run_id) < SHORTEST_ID or not has_store_file(tracking.uri):
        return None
    try:
        store = open_existing_store(tracking.uri, tracking.experiment)
    except MissingExperiment:
        return None
    runs = [run for run in search_runs_by_prefix(store, run_id) if run.tags.get(KIND_TAG) in ("trial", "confirmation")]
    if len(runs) > 1:
        names = ", ".join(run.run_id for run in runs[:5])
        raise ConfigError(f"search.like={run_id}: it names {len(runs)} runs ({names}); write more of the id.")
    return {"run": runs[0].run_id, "values": _read_values(runs[0], settings)} if runs else None


def _refuse_missing(job: Job, run_id: str) -> NoReturn:
    raise ConfigError(
        f"search.like={quote_override_value(run_id)}: no trial or confirmation in the experiment "
        f"{job.config.tracking.experiment} of this store has this run id; fmnist-sweep compare lists what is there."
    )


def _read_values(run: StoredRun, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run's trial for the tunables of a study whose other settings it shares."""
    source = f"search.like={run.run_id}"
    recorded = _nest(_read_settings(run.params))
    groups = space.find_option_groups(settings)
    errors: list[ConfigError] = []
    for options in itertools.product(*groups.values()):
        try:
            return _fit_recorded(source, recorded, settings, dict(zip(groups, options, strict=True)))
        except ConfigError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    tried = " and ".join(groups)
    raise ConfigError(f"{source}: that trial has no option that is searched of {tried}; add the one that it has.")


def _read_settings(params: Mapping[str, str]) -> dict[str, Any]:
    """The settings among the parameters of a trial's run, by dotted key.

    An option that was drawn has the parameters optimizer=sgd and optimizer.sgd.momentum beside optimizer.momentum.
    """
    options = tuple(f"{group}.{params[group]}." for group in _SECTIONS if group in params)
    return {
        key: parse_parameter(text)
        for key, text in params.items()
        if key.partition(".")[0] in _SECTIONS and "." in key and not key.startswith(options)
    }


def _fit_recorded(
    source: str, recorded: Mapping[str, Any], settings: Mapping[str, Any], options: Mapping[str, str]
) -> dict[str, Any]:
    """The values with which a study trains what is recorded, with these options of its groups. Raises ConfigError."""
    recorded_values, given = flatten_config(recorded), dict[str, Any](options)
    for parameter in list_parameters(settings):
        if parameter.name in options or not parameter.is_drawn(given):
            continue
        if parameter.key not in recorded_values:
            raise ConfigError(
                f"{source}: that trial has no {parameter.key}, which this study tunes; name a trial that has it."
            )
        given[parameter.name] = recorded_values[parameter.key]
    # Before its values are held against the space: another optimizer says more than a rate outside of its range.
    own_values = flatten_config(drop_neutral_settings(space.resolve_tunables(settings, given)))
    _refuse_other_settings(source, own_values, flatten_config(drop_neutral_settings(recorded)))
    return complete_values(settings, given, source)


def _refuse_other_settings(source: str, own: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    for key in sorted({*own, *recorded}):
        if key in _FREE_KEYS or key.split(".")[0] not in _SECTIONS or own.get(key) == recorded.get(key):
            continue
        theirs = f"{key}={quote_override_value(recorded[key])}" if key in recorded else f"no {key}"
        ours = f"{key}={quote_override_value(own[key])}" if key in own else f"no {key}"
        raise ConfigError(f"{source}: that trial has {theirs}, and this study {ours}; give it the same, or tune it.")


def _nest(flat_values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat_values.items():
        *parents, name = key.split(".")
        section = nested
        for parent in parents:
            inner = section.setdefault(parent, {})
            section = inner if isinstance(inner, dict) else {}
        section[name] = value
    return nested
