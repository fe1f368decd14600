"""The summary of the data, as a terminal and a figure show it."""

from __future__ import annotations

from pathlib import Path

from fmnist_sweep.data import LABELS, load_splits, summarize_data
from fmnist_sweep.report.data_summary import render_summary
from fmnist_sweep.report.figures.examples import draw_examples
from tests.conftest import data_config as config


def test_the_summary_of_drawn_data_is_shown_under_a_loud_banner(tmp_path: Path) -> None:
    from rich.console import Console

    data = config(source="drawn")
    console = Console(width=120, record=True, file=(tmp_path / "out").open("w"))
    console.print(render_summary(summarize_data(data, tmp_path / "ledger")))
    text = console.export_text()
    assert "DRAWN STAND-IN" in text
    for label in LABELS:
        assert label in text


def test_the_example_figure_has_a_row_for_each_label(tmp_path: Path) -> None:
    figure = draw_examples(load_splits(config(source="drawn")))
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()] == list(LABELS)
    figure.savefig(tmp_path / "examples.png", dpi=20)


# --- the real data, and what it costs
