"""Trials as one table: filtered, sorted, grouped by configuration."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fmnist_sweep.analysis import comparison
from fmnist_sweep.analysis.proportions import compute_accuracy_interval
from fmnist_sweep.analysis.settings import find_varied_settings, group_by_seed, is_number, number_configurations
from fmnist_sweep.tracking.foreign import parse_parameter
from fmnist_sweep.tracking.names import ATTEMPT_TAG, DATA_TAG, KIND_TAG, PRECISION_TAG, SWEEP_ID_TAG
from fmnist_sweep.tracking.trials import StoredTrial

if TYPE_CHECKING:
    import pandas as pd

SCORE_COLUMN = "best_val_accuracy"
_COUNT_COLUMNS = ("attempt", "images", "best_epoch", "parameters", "size_bytes")


def build_table(trials: Sequence[StoredTrial]) -> pd.DataFrame:
    """A row a trial, in the order given; the columns are described in fmnist_sweep.trials."""
    import pandas as pd

    columns: dict[str, list[Any]] = {
        name: [read_value(trial) for trial in trials] for name, read_value in _COLUMNS.items()
    }
    intervals = [compute_interval(trial) for trial in trials]
    columns["low"], columns["high"] = [low for low, _ in intervals], [high for _, high in intervals]
    first = (*_FIRST_COLUMNS, "low", "high")  # the interval stands beside its accuracy
    sorted_columns = {name: columns[name] for name in (*first, *(name for name in columns if name not in first))}
    labels = dict.fromkeys(label for trial in trials for label in trial.description.labels)
    f1_keys = [f"val_f1.{label}" for label in labels]
    f1_columns = [key for key in f1_keys if any(key in trial.metrics for trial in trials)]
    for key in dict.fromkeys(key for trial in trials for key in trial.params):
        if key not in sorted_columns and key not in f1_keys:  # anybody can log a parameter called run_id
            sorted_columns[key] = [trial.parse_value(key) for trial in trials]
    for key in f1_columns:
        sorted_columns[key] = [trial.metrics.get(key, math.nan) for trial in trials]
    return pd.DataFrame({name: _make_series(name, values) for name, values in sorted_columns.items()})


_COLUMNS: dict[str, Callable[[StoredTrial], Any]] = {
    "run_id": lambda trial: trial.run_id,
    "name": lambda trial: trial.name,
    "kind": lambda trial: trial.tags.get(KIND_TAG),
    "sweep_id": lambda trial: trial.tags.get(SWEEP_ID_TAG),
    "study_id": lambda trial: trial.study_id,
    "trial_id": lambda trial: trial.trial_id,
    "attempt": lambda trial: parse_parameter(trial.tags.get(ATTEMPT_TAG)),
    "state": lambda trial: trial.state,
    "data": lambda trial: trial.tags.get(DATA_TAG),
    "precision": lambda trial: trial.tags.get(PRECISION_TAG),
    SCORE_COLUMN: lambda trial: math.nan if trial.accuracy is None else trial.accuracy,
    "images": lambda trial: trial.images,
    "best_epoch": lambda trial: _convert_to_int(trial.metrics.get("best_epoch")),
    "last_val_loss": lambda trial: trial.metrics.get("val_loss", math.nan),
    "parameters": lambda trial: _convert_to_int(trial.metrics.get("parameters")),
    "size_bytes": lambda trial: _convert_to_int(trial.metrics.get("size_bytes")),
    "ms_per_image": lambda trial: trial.metrics.get("ms_per_image", math.nan),
    "fit_seconds": lambda trial: trial.metrics.get("fit_seconds", math.nan),
    "cpu_seconds": lambda trial: trial.metrics.get("cpu_seconds", math.nan),
    "began": lambda trial: trial.began,
    "ended": lambda trial: trial.ended,
    "failure": lambda trial: trial.failure,
}
_FIRST_COLUMNS = tuple(_COLUMNS)[: tuple(_COLUMNS).index(SCORE_COLUMN) + 1]


def compute_interval(trial: StoredTrial) -> tuple[float, float]:
    """Wilson's 95 % interval of a trial's accuracy; NaN where it has none, or its number of images is not known."""
    return compute_accuracy_interval(trial.accuracy, trial.images) or (math.nan, math.nan)


def _convert_to_int(value: float | None) -> int | None:
    return None if value is None else int(value)


def _make_series(name: str | None, values: list[Any]) -> pd.Series[Any]:
    import pandas as pd

    if name in ("began", "ended"):
        return pd.Series(pd.to_datetime(values, unit="ms", utc=True))
    types = {type(value) for value in values if value is not None}
    if name in _COUNT_COLUMNS or (types == {int} and None in values):
        return pd.Series(values, dtype="Int64")  # an int64 has no place for a missing one
    if types == {bool} and None in values:
        return pd.Series(values, dtype="boolean")
    if types and types <= {int, float}:
        return pd.Series(values, dtype="int64" if types == {int} else "float64")
    return pd.Series(values, dtype=None if types in ({bool}, {str}) else "object")


class TableError(ValueError):
    """A condition or key that does not fit the table; its text says what was expected and ends in a full stop."""


@dataclass(frozen=True)
class Condition:
    """What the values of a column must be: KEY OP VALUE, as in model.filters>=48. value: as typed."""

    key: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}{self.operator}{self.value}"


_CONDITION_PATTERN = re.compile(r"\s*([^=!<>~]+?)\s*(!=|<=|>=|==|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
# A second condition behind the value of the first, which would be taken for a part of that value.
_SECOND_CONDITION_PATTERN = re.compile(
    r"(?:\s+(?:and|or)\s+|\s*(?:&&?|\|\|?|[,;])\s*)[\w.]+\s*(?:!=|<=|>=|==|=|<|>|~)", re.IGNORECASE
)
_COMPARATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda cell, value: cell < value,
    "<=": lambda cell, value: cell <= value,
    ">": lambda cell, value: cell > value,
    ">=": lambda cell, value: cell >= value,
}


def parse_condition(text: str) -> Condition:
    """KEY OP VALUE as a condition; nothing in it is ever evaluated as code. Raises TableError for other text."""
    match = _CONDITION_PATTERN.fullmatch(text)
    if match is None:
        raise TableError("expected KEY OP VALUE with one of = != < <= > >= ~ (contains), as in model.filters>=48.")
    key, operator, value = match.groups()
    if operator != "~" and _SECOND_CONDITION_PATTERN.search(value):
        raise TableError(f"{value!r} holds a second condition; give each condition a --where of its own.")
    return Condition(key, "=" if operator == "==" else operator, value)


def filter_rows(frame: pd.DataFrame, condition: Condition) -> pd.DataFrame:
    """The rows that meet a condition; a missing value meets none but != and =none.

    Raises TableError for a column that is not there and a value that does not compare with its cells.
    """
    check_key(frame, condition.key)
    is_met = _make_test(condition)
    return frame[[is_met(cell) for cell in frame[condition.key].tolist()]]


def check_key(frame: pd.DataFrame, key: str) -> None:
    """Raise TableError, which names the nearest column, if the table has no column `key`."""
    if key not in frame.columns:
        matches = difflib.get_close_matches(key, list(frame.columns), n=1, cutoff=0.5)
        hint = f"did you mean {matches[0]}?" if matches else "parameters have dotted names as on the command line."
        raise TableError(f"no trial here has {key}; {hint}")


def _make_test(condition: Condition) -> Callable[[Any], bool]:
    value = None if condition.value.lower() in ("none", "null", "") else parse_parameter(_lower_truth(condition.value))
    if condition.operator == "~":
        return lambda cell: not is_missing(cell) and condition.value.lower() in format_cell_as_text(cell).lower()
    if condition.operator in ("=", "!="):
        wanted = condition.operator == "="
        return lambda cell: _is_equal(cell, value, condition.value) is wanted
    compare = _COMPARATORS[condition.operator]
    if condition.key in ("began", "ended"):
        time = _parse_time(condition)
        return lambda cell: not is_missing(cell) and compare(cell, time)
    if not is_number(value):
        raise TableError(
            f"{condition.operator} compares numbers, and {condition.value!r} is none; give each condition a --where of "
            "its own."
        )
    return lambda cell: is_number(cell) and compare(cell, value)


def _lower_truth(text: str) -> str:
    return text.lower() if text.lower() in ("true", "false") else text


def _is_equal(cell: Any, value: Any, text: str) -> bool:
    if is_missing(cell):
        return value is None
    if is_number(cell) and is_number(value):
        return bool(cell == value)
    # The text too: an id may be of digits alone.
    return (type(cell) is type(value) and bool(cell == value)) or format_cell_as_text(cell) == text


def _parse_time(condition: Condition) -> datetime:
    try:
        time = datetime.fromisoformat(condition.value)
    except ValueError:
        raise TableError(f"expected a date or time, as in {condition.key}>2026-01-31T18:00.") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def is_missing(cell: Any) -> bool:
    """Whether a cell of the table holds no value."""
    import pandas as pd

    return not isinstance(cell, list | dict) and bool(pd.isna(cell))


def format_cell_as_text(cell: Any) -> str:
    """A cell as text: one that is none as JSON."""
    return cell if isinstance(cell, str) else json.dumps(cell, default=str)


def sort_rows(frame: pd.DataFrame, key: str, *, descending: bool) -> pd.DataFrame:
    """The rows by one column: numbers by size, all else as text; rows without a value last, equals as they were.

    Raises TableError if there is no such column.
    """
    check_key(frame, key)
    places = range(len(frame))
    cells = frame[key].tolist()
    filled_places = [place for place in places if not is_missing(cells[place])]
    filled_places.sort(key=lambda place: _make_sort_key(cells[place]), reverse=descending)
    return frame.iloc[[*filled_places, *(place for place in places if is_missing(cells[place]))]]


def _make_sort_key(cell: Any) -> tuple[int, Any]:
    if hasattr(cell, "timestamp"):
        return 0, cell.timestamp()
    return (0, cell) if is_number(cell) or isinstance(cell, bool) else (1, format_cell_as_text(cell))


_CONFIGURATION_COLUMNS = ("data", "n", "mean", "sd", "low", "high", "seeds", "run_ids")


def group_by_configuration(trials: Sequence[StoredTrial]) -> pd.DataFrame:
    """A row a configuration of finished trials: mean, sd over seeds and n, the highest mean first.

    Trials that differ in nothing but their seed, on the same data, are one configuration; a second trial with the same
    seed is no new draw and left out. Columns: each setting with more than one value, n, mean, sd (NaN for one seed),
    low and high (Student's 95 % interval of the mean), seeds and run_ids (joined by spaces).
    """
    import pandas as pd

    finished = [trial for trial in trials if trial.accuracy is not None]
    settings = find_varied_settings(finished)
    shown_settings = [setting for setting in settings if setting.key not in _CONFIGURATION_COLUMNS]
    rows = []
    for places in group_by_seed(finished, number_configurations(finished, settings)):
        members = [finished[place] for place in places]
        repeats = comparison.summarize_repeats([trial.accuracy or 0.0 for trial in members])
        rows.append(
            {
                **{setting.key: setting.values[places[0]] for setting in shown_settings},
                "data": members[0].tags.get(DATA_TAG),
                "n": repeats.n,
                "mean": repeats.mean,
                **{
                    name: math.nan if (value := getattr(repeats, name)) is None else value
                    for name in ("sd", "low", "high")
                },
                "seeds": " ".join(str(trial.params.get("seed")) for trial in members),
                "run_ids": " ".join(trial.run_id for trial in members),
            }
        )
    rows.sort(key=lambda row: -row["mean"])
    names = [*(setting.key for setting in shown_settings), *_CONFIGURATION_COLUMNS]
    # By the values alone: a setting may have the name of an own column of trials.
    return pd.DataFrame({name: _make_series(None, [row[name] for row in rows]) for name in names})
