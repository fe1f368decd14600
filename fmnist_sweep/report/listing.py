"""The table of trials, or of configurations, for a terminal: as many columns as fit, and which do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep.analysis import settings as varied
from fmnist_sweep.analysis.table import SCORE, is_missing
from fmnist_sweep.tracking.trials import StoredTrial

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

NO_LIMIT = 9999  # columns of a terminal
_WIDEST_STATE = 30
Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Column:
    """One column: its name in messages, its heading, and what it says of a row of the table."""

    name: str
    head: str
    cell: Callable[[Row], str]
    widest: int | None = None


def listing(frame: pd.DataFrame, trials: Sequence[StoredTrial], console: Console) -> tuple[Table, list[str]]:
    """Trials with what varies among them, and the names of the columns for which there is no room."""
    several = [_setting("data")] if frame["data"].nunique() > 1 else []
    odd = (
        [Column("state", "state", _state, _WIDEST_STATE)]
        if any(state != "finished" for state in frame["state"])
        else []
    )
    settings = [_setting(key) for key in _varying(trials)]
    settings += [_setting("seed")] if len({trial.params.get("seed") for trial in trials}) > 1 else []
    run = Column("run", "run", lambda row: str(row["run_id"])[:8])
    trial = Column("trial", "trial", lambda row: f"{row['study_id']}/{row['trial_id']}")
    score = [Column(SCORE, "validation\naccuracy", lambda row: _fixed(row[SCORE], 4)), _INTERVAL]
    epoch = Column("best_epoch", "best\nepoch", lambda row: cell(row["best_epoch"]))
    parameters = Column("parameters", "parameters", lambda row: _thousands(row["parameters"]))
    processor = Column("cpu_seconds", "cpu s", lambda row: _fixed(row["cpu_seconds"], 1))
    return _fitting(
        frame,
        console,
        order=[run, trial, *several, *settings, *score, epoch, parameters, processor, *odd],
        always=[run, *score, *odd],
        then=[*several, *settings, epoch, processor, parameters, trial],
    )


def configurations(frame: pd.DataFrame, trials: Sequence[StoredTrial], console: Console) -> tuple[Table, list[str]]:
    """Configurations with mean, sd and count, and the names of the columns for which there is no room."""
    several = [_setting("data")] if frame["data"].nunique() > 1 else []
    settings = [_setting(key) for key in _varying([trial for trial in trials if trial.accuracy is not None])]
    spread = Column("mean", "mean ± sd (n)", _spread)
    seeds = Column("seeds", "seeds", lambda row: str(row["seeds"]).replace(" ", ","))
    run = Column("run", "run", lambda row: str(row["run_ids"])[:8])
    return _fitting(
        frame,
        console,
        order=[*several, *settings, spread, _INTERVAL, seeds, run],
        always=[spread, run],
        then=[*several, _INTERVAL, *settings, seeds],
    )


def named(frame: pd.DataFrame, names: Sequence[str]) -> Table:
    """The columns asked for, as they are."""
    return _table(frame.to_dict("records"), [Column(name, name, _setting(name).cell) for name in names])


def _varying(trials: Sequence[StoredTrial]) -> list[str]:
    return [setting.key for setting in varied.distinct(varied.find(trials))]


def _setting(key: str) -> Column:
    return Column(key, key.replace(".", ".\n"), lambda row: cell(row[key]))


def _fitting(
    frame: pd.DataFrame, console: Console, *, order: Sequence[Column], always: Sequence[Column], then: Sequence[Column]
) -> tuple[Table, list[str]]:
    """The table of the columns in `always` and of those in `then` for which there is room, in this order."""
    rows = frame.to_dict("records")
    chosen = list(always)
    for column in then:
        table = _table(rows, [each for each in order if each in (*chosen, column)])
        # What does not fit is said, not squeezed until it cannot be read.
        if console.measure(table, options=console.options.update(max_width=NO_LIMIT)).maximum <= console.width:
            chosen.append(column)
    return _table(rows, [each for each in order if each in chosen]), [each.name for each in then if each not in chosen]


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.head, overflow="fold", max_width=column.widest)
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def cell(value: Any) -> str:
    """A value of the table as it is shown."""
    if is_missing(value):
        return "–"
    if hasattr(value, "isoformat"):
        return str(value.isoformat(sep=" ", timespec="seconds"))
    return varied.as_text(value)


def _fixed(value: Any, digits: int) -> str:
    return "–" if is_missing(value) else f"{value:,.{digits}f}"


def _thousands(value: Any) -> str:
    return "–" if is_missing(value) else f"{value:,}"


def _interval(row: Row) -> str:
    return "–" if is_missing(row["low"]) else f"[{row['low']:.4f}, {row['high']:.4f}]"


def _spread(row: Row) -> str:
    spread = "" if is_missing(row["sd"]) else f" ± {row['sd']:.4f}"
    return f"{row['mean']:.4f}{spread} (n={row['n']})"


def _state(row: Row) -> str:
    return str(row["state"]) if is_missing(row["failure"]) else f"{row['state']}: {row['failure']}"


_INTERVAL = Column("low, high", "95% interval", _interval)
