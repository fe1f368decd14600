"""What a sweep shows: a live view for a person, plain lines for a log file."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from fmnist_sweep.report import TrialRecord, accuracy_text, best, ranked

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table


@dataclass
class _Pace:
    """Epochs done and still to come, and from them the time left."""

    total: float = 0  # epochs planned; inf when only time limits the search
    done: int = 0
    begun: float = field(default_factory=time.monotonic)

    def left(self) -> str:
        if not self.done or self.total == float("inf"):
            return ""
        seconds = (self.total - self.done) * (time.monotonic() - self.begun) / self.done
        return f"about {duration(seconds)} left" if seconds > 0 else ""


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def trials_text(planned: float) -> str:
    """A planned number of trials in words."""
    if planned == float("inf"):
        return "as many trials as time allows"
    return "1 trial" if planned == 1 else f"{planned:.0f} trials"


class View:
    """Progress of a sweep. One line for each event in a log; on a terminal also a bar that moves."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self.console = console
        self._progress = progress
        self._pace = _Pace()
        self._sweep_bar: TaskID | None = None
        self._trial_bar: TaskID | None = None
        self._trial_epochs = 0
        self._trial_done = 0

    def say(self, text: str, style: str = "") -> None:
        """One line, as it is."""
        self.console.print(text, style=style or None, markup=False, highlight=False)

    def begin(self, epochs: float) -> None:
        """The sweep begins, with so many epochs planned in all."""
        self._pace = _Pace(total=epochs)
        if self._progress:
            total = None if epochs == float("inf") else epochs
            self._sweep_bar = self._progress.add_task("sweep", total=total, note="")

    def study(self, label: str, number: int, of: int, planned: float) -> None:
        """A study begins."""
        self.say(f"study {number} of {of}: {label} ({trials_text(planned)})", "bold")
        if self._progress and self._sweep_bar is not None:
            self._progress.update(self._sweep_bar, description=f"study {number}/{of}")

    def trial(self, record: TrialRecord, number: int, epochs: int, done: int = 0) -> None:
        """A trial begins, or goes on after `done` epochs."""
        self._trial_epochs, self._trial_done = epochs, done
        self._pace.total -= done
        if self._progress:
            self._trial_bar = self._progress.add_task(record.name, total=epochs, completed=done, note="")
        else:
            self.say(f"  trial {number}: {record.name}{f', on from epoch {done}' if done else ''}")

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch ended."""
        self._pace.done += 1
        self._trial_done = epoch
        note = f"accuracy {metrics['accuracy']:.4f}, val_accuracy {metrics['val_accuracy']:.4f}"
        if self._progress and self._trial_bar is not None and self._sweep_bar is not None:
            self._progress.update(self._trial_bar, completed=epoch, note=note)
            self._progress.update(self._sweep_bar, completed=self._pace.done, note=self._pace.left())
        else:
            left = self._pace.left()
            ending = f", {left}" if left else ""
            self.say(f"    epoch {epoch}/{self._trial_epochs}: {note}, {metrics['epoch_seconds']:.1f} s{ending}")

    def ended(self, record: TrialRecord) -> None:
        """A trial finished or failed."""
        self._pace.total -= self._trial_epochs - self._trial_done  # epochs that early stopping or a failure saved
        if self._progress and self._trial_bar is not None:
            self._progress.remove_task(self._trial_bar)
            self._trial_bar = None
        if record.state == "failed":
            self.say(f"  ✗ {record.name}: {record.failure}", "red")
        else:
            seconds = duration(record.fit_seconds or 0)
            self.say(f"  ✓ {record.name}: {accuracy_text(record)} in {seconds}")

    def leaderboard(self, title: str, records: Sequence[TrialRecord], most: int = 10) -> None:
        """The best trials of a study or sweep."""
        self.console.print(_table(title, records, most))


def _table(title: str, records: Sequence[TrialRecord], most: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    # Text, because a name may hold brackets, which a plain string would have read as markup.
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    for column in ("", "trial", "validation accuracy [95%]", "best epoch", "parameters", "fit"):
        table.add_column(column, justify="left" if column == "trial" else "right", no_wrap=column != "trial")
    winner = best(records)
    ordered = ranked(records)
    for rank, record in enumerate(ordered[:most], 1):
        table.add_row(*map(Text, _cells(rank, record)), style="green" if record is winner else None)
    return table


def _cells(rank: int, record: TrialRecord) -> list[str]:
    if record.best_val_accuracy is None:
        return [str(rank), record.name, record.state, "", "", ""]
    fit = duration(record.fit_seconds or 0)
    return [
        str(rank),
        record.name,
        accuracy_text(record),
        str(record.best_epoch),
        f"{record.parameters:,}",
        fit,
    ]


class _Screen(io.TextIOBase):
    """Standard output, which may close while a sweep runs (a terminal that is closed, a pipe into head): it goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._is_open = stream, True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        self._tried(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._tried(self._stream.flush)

    def _tried(self, use: Callable[[], object]) -> None:
        if not self._is_open:
            return
        try:
            use()
        except OSError:
            self._is_open = False
            # What Python still holds for it would be an error once more at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def view() -> Iterator[View]:
    """A view for where standard output goes: a terminal, or a file."""
    from rich.console import Console

    screen: Any = _Screen(sys.stdout)
    if not sys.stdout.isatty():
        yield View(Console(file=screen, width=140, force_terminal=False, soft_wrap=False), None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    console = Console(file=screen)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("epochs  {task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield View(console, progress)
