"""Markdown's tables: whatever a cell holds, it neither ends the cell nor the row, and is read back as it was."""

from __future__ import annotations

import pytest

from fmnist_sweep.report.markdown import escape_cells, format_table


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a | b", r"a \| b"),
        (r"a \| b", r"a \\\| b"),  # an escaped backslash, then an escaped bar
        ("a\\", r"a\\"),
        (r"C:\*.png", r"C:\\*.png"),
        ("two\nlines\r\nand\ra third", "two lines and a third"),
        ("**bold** `code`", "**bold** `code`"),
    ],
)
def test_a_cell_is_read_back_as_it_was(text: str, cell: str) -> None:
    assert escape_cells([text]) == [cell]


def test_a_table_has_a_line_a_row() -> None:
    table = format_table(["a", "b"], [["one\ntwo", "3 | 4"]], right=(1,))
    assert table.split("\n") == ["| a | b |", "| --- | ---: |", r"| one two | 3 \| 4 |"]
