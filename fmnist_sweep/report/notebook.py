"""A sweep's progress in a notebook: bars that are drawn in place beneath the cell, and lines for what ended."""

from __future__ import annotations

import html
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fmnist_sweep.report.terminal import View, open_view
from fmnist_sweep.text import create_console, make_printable

_WIDTH = 110  # of lines: a notebook's output is narrower than a log
_BAR_WIDTH = 24  # characters


def is_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


@dataclass
class _Bar:
    """A bar: description, epochs done, epochs in all (None: not known), and what is said beside it."""

    description: str
    total: float | None
    completed: float
    note: str


class NotebookBars:
    """What `View` asks of rich's Progress, drawn in place beneath a notebook's cell."""

    def __init__(self) -> None:
        self._bars: dict[int, _Bar] = {}
        self._count = 0
        self._handle: Any = None

    def add_task(self, description: str, *, total: float | None = None, completed: int = 0, **fields: Any) -> Any:
        """Add a bar and return its number."""
        self._count += 1
        self._bars[self._count] = _Bar(description, total, completed, fields.get("note", ""))
        self._draw()
        return self._count

    def update(self, task_id: Any, *, completed: float | None = None, **fields: Any) -> None:
        """Change a bar."""
        bar = self._bars[task_id]
        bar.completed = bar.completed if completed is None else completed
        bar.note, bar.description = fields.get("note", bar.note), fields.get("description", bar.description)
        self._draw()

    def remove_task(self, task_id: Any) -> None:
        """Take a bar away."""
        del self._bars[task_id]
        self._draw()

    def close(self) -> None:
        """Take all bars away."""
        self._bars.clear()
        if self._handle is not None:
            self._draw()

    def _draw(self) -> None:
        import IPython.display

        display: Any = IPython.display.display
        content = {"text/plain": self.format_text(), "text/html": self.format_html()}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)

    def format_text(self) -> str:
        """The bars as lines of text."""
        return "\n".join(map(_format_line, self._bars.values()))

    def format_html(self) -> str:
        """The bars as HTML."""
        rows = []
        for bar in self._bars.values():
            share = "" if bar.total is None else f' value="{bar.completed:g}" max="{bar.total:g}"'
            words = html.escape(make_printable(f"{_format_count(bar)}  {bar.note}"))
            rows.append(
                f"<div>{html.escape(make_printable(bar.description))} <progress{share}></progress> {words}</div>"
            )
        return "".join(rows)


def _format_line(bar: _Bar) -> str:
    filled = 0 if not bar.total else min(_BAR_WIDTH, int(_BAR_WIDTH * bar.completed / bar.total))
    return make_printable(
        f"{bar.description} [{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {_format_count(bar)}  {bar.note}".rstrip()
    )


def _format_count(bar: _Bar) -> str:
    return f"{bar.completed:g}/{'?' if bar.total is None else f'{bar.total:g}'} epochs"


@contextmanager
def open_notebook_view() -> Iterator[View]:
    """Open the view of a notebook's cell."""
    bars = NotebookBars()
    try:
        yield View(create_console(file=sys.stdout, width=_WIDTH, force_terminal=False, force_jupyter=False), bars)
    finally:
        bars.close()


@contextmanager
def open_fitting_view(quiet: bool = False) -> Iterator[View]:
    """Open the view that suits this process: a notebook's, or a command's. quiet: one that shows nothing."""
    if quiet:
        yield View(create_console(file=io.StringIO()), None)
        return
    with open_notebook_view() if is_notebook() else open_view() as view:
        yield view
