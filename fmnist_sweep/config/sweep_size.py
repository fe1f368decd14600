"""How many studies a multirun describes, counted before any of its values is listed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep

from fmnist_sweep.errors import ConfigError
from fmnist_sweep.text import quote_text

_MAX_WRITTEN = 10**15
MAX_STUDIES = 1000  # each is composed and checked before the first begins, and has an experiment's run of its own


def refuse_large_sweep(overrides: Sequence[Override]) -> None:
    """Raise ConfigError if the overrides of a multirun describe more studies than one command can run."""
    counts = {
        str(override.input_line): _count_values(override) for override in overrides if override.is_sweep_override()
    }
    total = math.prod(counts.values()) if all(counts.values()) else 0
    if total <= MAX_STUDIES:
        return
    largest = max(counts, key=lambda line: counts[line])
    count = f"{total:,.0f}" if total < _MAX_WRITTEN else "far too many"
    raise ConfigError(
        f"{quote_text(largest)} (command line): with -m each value is a study, and together these are {count} studies; "
        f"give at most {MAX_STUDIES:,} in one command, or let a study search the values, as in "
        "'model.filters={tune: int, min_value: 8, max_value: 64}'."
    )


def _count_values(override: Override) -> float:
    """How many values an override sweeps over: whole, or math.inf."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep):
        return _count_range(value)
    # A glob's are the options of a group; an interval is refused as such.
    return sum(1 for _ in override.sweep_iterator()) if override.is_discrete_sweep() else 1


def _count_range(sweep: RangeSweep) -> float:
    start, stop, step = sweep.start or 0, sweep.stop or 0, sweep.step
    if step == 0:
        return math.inf
    if all(isinstance(number, int) for number in (start, stop, step)):
        return max(0, -((start - stop) // step))
    count = (stop - start) / step
    return max(0, math.ceil(count)) if math.isfinite(count) else math.inf
