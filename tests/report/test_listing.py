"""The list of trials on a terminal: which columns there is room for."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from fmnist_sweep.analysis.table import build_table
from fmnist_sweep.report import listing
from fmnist_sweep.report.listing import NO_LIMIT, Column, build_trial_table
from fmnist_sweep.text import create_console
from tests.support.stored import simulation


def make_console(width: int) -> Console:
    return create_console(file=io.StringIO(), width=width)


def make_column(name: str, number: int) -> Column:
    return Column(name, f"head\n{name}" * (number + 1), lambda row: str(row[name]), 12 if number == 5 else None)


def fit_one_by_one(
    frame: pd.DataFrame, width: int, order: list[Column], required: list[Column], optional: list[Column]
) -> list[str]:
    """The names of the columns that do not fit, each found by measuring the whole table."""
    console, columns = make_console(width), list(required)
    for column in optional:
        candidates = [candidate for candidate in order if candidate in (*columns, column)]
        table = listing._build_table(frame.to_dict("records"), candidates)
        if console.measure(table, options=console.options.update(max_width=NO_LIMIT)).maximum <= width:
            columns.append(column)
    return [column.name for column in optional if column not in columns]


@pytest.mark.parametrize("width", [20, 60, 61, 62, 80, 100, 130, 300])
def test_as_many_columns_are_shown_as_fit(width: int) -> None:
    words = ["", "a longer text", "two\nlines", "漢字", "[b]no markup[/b]", "a" * 30]
    frame = pd.DataFrame({name: words[number:] + words[:number] for number, name in enumerate("abcdef")})
    columns = [make_column(name, number) for number, name in enumerate(frame.columns)]
    order, required, optional = columns, [columns[3], columns[0]], [columns[5], columns[1], columns[4], columns[2]]
    table, left_out = listing._fit_columns(
        frame, make_console(width), order=order, required=required, optional=optional
    )
    assert left_out == fit_one_by_one(frame, width, order, required, optional)
    assert len(table.columns) + len(left_out) == len(columns)


def test_the_table_of_trials_is_no_wider_than_the_terminal() -> None:
    trials = simulation(12, 60).trials
    for width in (70, 90, 120, 400):
        console = make_console(width)
        table, left_out = build_trial_table(build_table(trials), trials, console)
        assert console.measure(table, options=console.options.update(max_width=NO_LIMIT)).maximum <= width
        assert bool(left_out) == (width < 400)
