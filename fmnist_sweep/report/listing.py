"""The table of trials, or of configurations, for a terminal: as many columns as fit, and which do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep.analysis.settings import find_varied_settings, format_value, select_distinct_settings
from fmnist_sweep.analysis.table import SCORE_COLUMN, is_missing
from fmnist_sweep.text import format_interval, format_mean
from fmnist_sweep.tracking.trials import StoredTrial

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

NO_LIMIT = 9999  # columns of a terminal
_MAX_STATE_WIDTH = 30
TableRow = Mapping[Any, Any]


@dataclass(frozen=True)
class Column:
    """One column: its name in messages, its heading, and what it says of a row of the table."""

    name: str
    heading: str
    cell: Callable[[TableRow], str]
    max_width: int | None = None


def build_trial_table(frame: pd.DataFrame, trials: Sequence[StoredTrial], console: Console) -> tuple[Table, list[str]]:
    """Trials with what varies among them, and the names of the columns for which there is no room."""
    data_columns = [_make_setting_column("data")] if frame["data"].nunique() > 1 else []
    state_columns = (
        [Column("state", "state", _format_state, _MAX_STATE_WIDTH)]
        if any(state != "finished" for state in frame["state"])
        else []
    )
    settings = [_make_setting_column(key) for key in _list_varied_keys(trials)]
    settings += [_make_setting_column("seed")] if len({trial.params.get("seed") for trial in trials}) > 1 else []
    run = Column("run", "run", lambda row: str(row["run_id"])[:8])
    trial = Column("trial", "trial", lambda row: f"{row['study_id']}/{row['trial_id']}")
    score = [
        Column(SCORE_COLUMN, "validation\naccuracy", lambda row: _format_fixed(row[SCORE_COLUMN], 4)),
        _INTERVAL_COLUMN,
    ]
    epoch = Column("best_epoch", "best\nepoch", lambda row: format_cell(row["best_epoch"]))
    parameters = Column("parameters", "parameters", lambda row: _format_thousands(row["parameters"]))
    has_costs = any("size_bytes" in trial.metrics for trial in trials)  # runs of earlier versions have none
    size = [Column("size_bytes", "bytes", lambda row: _format_thousands(row["size_bytes"]))] if has_costs else []
    speed = (
        [Column("ms_per_image", "ms per\nimage", lambda row: _format_digits(row["ms_per_image"]))] if has_costs else []
    )
    cpu_time = Column("cpu_seconds", "cpu s", lambda row: _format_fixed(row["cpu_seconds"], 1))
    return _fit_columns(
        frame,
        console,
        order=[
            run,
            trial,
            *data_columns,
            *settings,
            *score,
            epoch,
            parameters,
            *size,
            *speed,
            cpu_time,
            *state_columns,
        ],
        required=[run, *score, *state_columns],
        optional=[*data_columns, *settings, epoch, cpu_time, parameters, *size, *speed, trial],
    )


def build_configuration_table(
    frame: pd.DataFrame, trials: Sequence[StoredTrial], console: Console
) -> tuple[Table, list[str]]:
    """Configurations with mean, sd and count, and the names of the columns for which there is no room."""
    data_columns = [_make_setting_column("data")] if frame["data"].nunique() > 1 else []
    settings = [
        _make_setting_column(key)
        for key in _list_varied_keys([trial for trial in trials if trial.accuracy is not None])
    ]
    spread = Column("mean", "mean ± sd (n)", _format_mean)
    seeds = Column("seeds", "seeds", lambda row: str(row["seeds"]).replace(" ", ","))
    run = Column("run", "run", lambda row: str(row["run_ids"])[:8])
    return _fit_columns(
        frame,
        console,
        order=[*data_columns, *settings, spread, _INTERVAL_COLUMN, seeds, run],
        required=[spread, run],
        optional=[*data_columns, _INTERVAL_COLUMN, *settings, seeds],
    )


def build_column_table(frame: pd.DataFrame, names: Sequence[str]) -> Table:
    """The columns asked for, as they are."""
    return _build_table(
        frame.to_dict("records"), [Column(name, name, _make_setting_column(name).cell) for name in names]
    )


def _list_varied_keys(trials: Sequence[StoredTrial]) -> list[str]:
    return [setting.key for setting in select_distinct_settings(find_varied_settings(trials))]


def _make_setting_column(key: str) -> Column:
    return Column(key, key.replace(".", ".\n"), lambda row: format_cell(row[key]))


def _fit_columns(
    frame: pd.DataFrame,
    console: Console,
    *,
    order: Sequence[Column],
    required: Sequence[Column],
    optional: Sequence[Column],
) -> tuple[Table, list[str]]:
    """Build the table of the required columns and of the optional ones for which there is room, in the given order."""
    rows = frame.to_dict("records")
    columns = list(required)
    widths = {column: _measure_table(_build_table(rows, [column]), console) for column in order}
    # Each column is measured once: two columns beside each other are wider than both alone by the gap.
    gap = _measure_table(_build_table(rows, [order[0], order[0]]), console) - 2 * widths[order[0]]
    width = sum(widths[column] + gap for column in columns) - gap
    for column in optional:
        # A column that does not fit is named in a message: squeezed, it could not be read.
        if width + gap + widths[column] <= console.width:
            columns.append(column)
            width += gap + widths[column]
    return _build_table(rows, [candidate for candidate in order if candidate in columns]), [
        candidate.name for candidate in optional if candidate not in columns
    ]


def _measure_table(table: Table, console: Console) -> int:
    """The width that a table would like to have."""
    return console.measure(table, options=console.options.update(max_width=NO_LIMIT)).maximum


def _build_table(rows: Sequence[TableRow], columns: Sequence[Column]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.heading, overflow="fold", max_width=column.max_width)
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def format_cell(value: Any) -> str:
    """A value of the table as it is shown."""
    if is_missing(value):
        return "–"
    if hasattr(value, "isoformat"):
        return str(value.isoformat(sep=" ", timespec="seconds"))
    return format_value(value)


def _format_fixed(value: Any, digits: int) -> str:
    return "–" if is_missing(value) else f"{value:,.{digits}f}"


def _format_digits(value: Any) -> str:
    return "–" if is_missing(value) else f"{value:,.3g}"


def _format_thousands(value: Any) -> str:
    return "–" if is_missing(value) else f"{value:,}"


def _format_interval(row: TableRow) -> str:
    return "–" if is_missing(row["low"]) else format_interval(row["low"], row["high"])


def _format_mean(row: TableRow) -> str:
    return format_mean(row["mean"], None if is_missing(row["sd"]) else row["sd"], row["n"])


def _format_state(row: TableRow) -> str:
    return str(row["state"]) if is_missing(row["failure"]) else f"{row['state']}: {row['failure']}"


_INTERVAL_COLUMN = Column("low, high", "95% interval", _format_interval)
