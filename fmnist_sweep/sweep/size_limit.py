"""search.max_parameters: which configurations a search admits, and whether there are any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from fmnist_sweep.config.identity import Study
from fmnist_sweep.config.overrides import format_override_value
from fmnist_sweep.data import DataDescription
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search import space
from fmnist_sweep.search.ask_and_tell import list_samples
from fmnist_sweep.search.estimates import count_first_rung_trials
from fmnist_sweep.sweep.model_sizes import ModelSizes
from fmnist_sweep.text import quote_text
from fmnist_sweep.training import backend

_MAX_SAMPLES = 1000


class SizeLimit:
    """The limit of a study on the parameters of its models, which has to have one. Its sizes are counted once."""

    def __init__(self, study: Study, description: DataDescription, sizes: ModelSizes | None = None) -> None:
        limit = study.job.config.search.max_parameters
        assert limit is not None
        self._limit, self._settings, self._description = limit, study.settings, description
        self._sizes = ModelSizes() if sizes is None else sizes

    def admits(self, values: Mapping[str, Any]) -> bool:
        """Whether the model of these values is small enough. One that cannot be built is left to its trial to fail."""
        size = self.count(values)
        return size is None or size <= self._limit

    def count(self, values: Mapping[str, Any]) -> int | None:
        """The parameters of the model of these values; None if it cannot be built."""
        return self._sizes.count(space.resolve_tunables(self._settings, values), self._description)

    def keep_sizes(self) -> None:
        """Keep what was counted for later sweeps."""
        self._sizes.keep()


def refuse_unmet_limit(study: Study, description: DataDescription) -> None:
    """Raise ConfigError for a limit that nothing meets, or not enough does for the oracle, or not what comes first.

    description: of the data.
    """
    search = study.job.config.search
    if search.max_parameters is None:
        return
    backend.import_tensorflow()  # KerasTuner imports it, too, with its start-up notes
    limit = SizeLimit(study, description)
    try:
        _check_first(study, limit)
        _check_samples(study, limit, list_samples(search.name, study.settings, _MAX_SAMPLES))
        _check_rungs(study, limit)
    finally:
        limit.keep_sizes()


def _check_first(study: Study, limit: SizeLimit) -> None:
    for values in study.first:
        if not limit.admits(values):
            raise _make_error(
                study,
                f"what is to come first, {_format_values(values)}, has {limit.count(values):,} parameters; leave it "
                "out or raise the limit",
            )


def _check_samples(study: Study, limit: SizeLimit, samples: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a limit that none of these samples meets; it stops at the first that does."""
    sizes: list[tuple[int, Mapping[str, Any]]] = []
    for values in samples:
        size = limit.count(values)
        if size is None or limit.admits(values):
            return
        sizes.append((size, values))
    size, values = min(sizes, key=itemgetter(0))
    problem = f"its configuration has {size:,} parameters"
    if len(sizes) > 1:
        problem = (
            f"none of {len(sizes):,} configurations is so small, and the smallest of them, {_format_values(values)}, "
            f"has {size:,} parameters"
        )
    raise _make_error(study, f"{problem}; raise the limit or allow smaller models")


def _check_rungs(study: Study, limit: SizeLimit) -> None:
    """Refuse a search by Hyperband that would run out of configurations before its first rungs are full."""
    search, settings = study.job.config.search, study.settings
    combinations = space.count_combinations(settings)
    if search.name != "hyperband" or not study.tuned_keys or combinations > _MAX_SAMPLES:
        return
    required = count_first_rung_trials(study.job.config.oracle, settings)
    admitted = sum(map(limit.admits, list_samples(search.name, settings, _MAX_SAMPLES)))
    if admitted < required:
        raise _make_error(
            study,
            f"hyperband with {space.read_epochs(settings)} epochs begins {required} different trials, and only "
            f"{admitted} of the {combinations:.0f} configurations are so small; raise the limit, widen a tunable, "
            "lower train.epochs or use search=grid",
        )


def _make_error(study: Study, problem: str) -> ConfigError:
    limit = study.job.config.search.max_parameters
    return ConfigError(f"search.max_parameters={limit} (study {study.label}): {problem}.")


def _format_values(values: Mapping[str, Any]) -> str:
    return quote_text(" ".join(f"{key}={format_override_value(value)}" for key, value in values.items()), 200)
