"""Markdown: tables and lists, whose cells may hold any text."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A table; right: the columns that are set flush right, as numbers are."""
    rule = ["---:" if place in right else "---" for place in range(len(heads))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *map(escape_cells, rows)))


def escape_cells(cells: Sequence[str]) -> list[str]:
    """Texts as cells of a row: none can end its cell or the row, and line breaks become spaces."""
    return [" ".join(cell.splitlines()).replace("\\", "\\\\").replace("|", "\\|") for cell in cells]


def format_list(items: Sequence[str]) -> str:
    """A list, an item a line."""
    return "\n".join(f"- {item}" for item in items)
