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

from fmnist_sweep.report.leaderboard import TrialRecord, accuracy_text, best, ranked, score_cell, ties_text
from fmnist_sweep.text import console, duration, printable, trials_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table


_MOST_BARS = 24  # of trials under way: more fit on no screen, and to draw them takes time


@dataclass
class _Pace:
    """Epochs done and still to come, trials done, the best so far; and from them throughput and time left."""

    total: float = 0  # epochs planned; inf when only time limits the search
    done: int = 0
    trials: int = 0
    best: float | None = None
    begun: float = field(default_factory=time.monotonic)

    def left(self) -> str:
        if not self.done or self.total == float("inf"):
            return ""
        seconds = (self.total - self.done) * (time.monotonic() - self.begun) / self.done
        return f"about {duration(seconds)} left" if seconds > 0 else ""

    def rate(self) -> str:
        """Trials an hour, once there is one to count."""
        hours = (time.monotonic() - self.begun) / 3600
        return f"{self.trials / hours:,.0f} trials an hour" if self.trials else ""

    def words(self) -> str:
        best = "" if self.best is None else f"best {self.best:.4f}"
        return ", ".join(part for part in (best, self.rate(), self.left()) if part)


@dataclass
class _Shown:
    """A trial under way, as it is shown. where: the worker that has it; empty where there is only one."""

    number: int
    name: str
    epochs: int
    done: int
    bar: TaskID | None = None
    where: str = ""


class View:
    """Progress of a sweep: on a terminal a bar for each trial under way and one for all, in a log a line an event."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self.console = console
        self._progress = progress
        self._pace = _Pace()
        self._sweep_bar: TaskID | None = None
        self._trials: dict[str, _Shown] = {}
        self._several = False  # trials at once

    def say(self, text: str, style: str = "") -> None:
        """One line, as it is."""
        self.console.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True)

    def begin(self, epochs: float, slots: int = 1) -> None:
        """The sweep begins, with so many epochs planned in all, and so many trials at once."""
        self._pace, self._several = _Pace(total=epochs), slots > 1
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
        trial_id = record.trial_id
        before = self._trials.get(trial_id)
        self._pace.total += (before.done if before else 0) - done  # an attempt before this one may have got further
        self._forget(trial_id)
        shown = self._trials[trial_id] = _Shown(number, record.name, epochs, done)
        if self._progress and sum(each.bar is not None for each in self._trials.values()) < _MOST_BARS:
            note = "waits for a worker" if self._several else ""
            shown.bar = self._progress.add_task(printable(record.name), total=epochs, completed=done, note=note)
        elif not self._progress:
            self.say(f"  trial {number}: {record.name}{f', on from epoch {done}' if done else ''}")

    def started(self, trial_id: str, worker: str) -> None:
        """A trial that waited for a worker has one."""
        shown = self._trials[trial_id]
        shown.where = f"{worker}: "
        if self._progress and shown.bar is not None:
            self._progress.update(shown.bar, note=f"on {worker}")
        elif self._several and not self._progress:
            self.say(f"  trial {shown.number} is on {worker}")

    def epoch(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch ended."""
        shown = self._trials[trial_id]
        self._pace.done += 1
        shown.done = epoch
        accuracy = f"accuracy {metrics['accuracy']:.4f}, val_accuracy {metrics['val_accuracy']:.4f}"
        if self._progress:
            if shown.bar is not None:
                self._progress.update(shown.bar, completed=epoch, note=f"{shown.where}{accuracy}")
            self.tick()
        else:
            left = self._pace.left()
            ending = f", {left}" if left else ""
            of = f"trial {shown.number}, " if self._several else ""
            self.say(f"    {of}epoch {epoch}/{shown.epochs}: {accuracy}, {metrics['epoch_seconds']:.1f} s{ending}")

    def tick(self) -> None:
        """Show how far all is by now."""
        if self._progress and self._sweep_bar is not None:
            self._progress.update(self._sweep_bar, completed=self._pace.done, note=self._pace.words())

    def ended(self, record: TrialRecord) -> None:
        """A trial finished or failed."""
        shown, pace = self._trials[record.trial_id], self._pace
        pace.total -= shown.epochs - shown.done  # epochs that early stopping or a failure saved
        self._forget(record.trial_id)
        pace.trials += 1
        if record.state == "failed":
            self.say(f"  ✗ {record.name}: {record.failure}", "red")
        else:
            pace.best = max(pace.best or 0.0, record.best_val_accuracy or 0.0)
            seconds = duration(record.fit_seconds or 0)
            so_far = f" ({pace.words()})" if self._several and not self._progress else ""
            self.say(f"  ✓ {record.name}: {accuracy_text(record)} in {seconds}{so_far}")
        self.tick()

    def _forget(self, trial_id: str) -> None:
        shown = self._trials.pop(trial_id, None)
        if self._progress and shown is not None and shown.bar is not None:
            self._progress.remove_task(shown.bar)

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
        table.add_row(*map(Text, _cells(rank, record, winner)), style="green" if record is winner else None)
    if ties := ties_text(records):
        table.caption, table.caption_justify = Text(ties), "left"
    return table


def _cells(rank: int, record: TrialRecord, winner: TrialRecord | None) -> list[str]:
    if record.best_val_accuracy is None:
        return [str(rank), record.name, record.state, "", "", ""]
    fit = duration(record.fit_seconds or 0)
    return [
        str(rank),
        record.name,
        score_cell(record, winner),
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
    screen: Any = _Screen(sys.stdout)
    if not sys.stdout.isatty():
        yield View(console(file=screen, width=140, force_terminal=False, soft_wrap=False), None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    shown = console(file=screen)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("epochs  {task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=shown, transient=True) as progress:
        yield View(shown, progress)
