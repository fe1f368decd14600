"""What a sweep shows: a live view for a person, plain lines for a log file."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.report.leaderboard import (
    LeaderboardEntry,
    find_best_entry,
    format_entry_accuracy,
    format_score_cell,
    rank_entries,
    summarize_ties,
)
from fmnist_sweep.text import create_console, format_duration, format_trial_count, make_printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID
    from rich.table import Table


_MAX_BARS = 24  # of trials under way: more do not fit on a screen and take time to draw


@dataclass
class _Pace:
    """Counts of epochs and trials and the best accuracy so far, from which throughput and time left follow."""

    total: float = 0  # epochs planned; inf when only time limits the search
    done: int = 0
    trials: int = 0
    best: float | None = None
    start_time: float = field(default_factory=time.monotonic)

    def format_time_left(self) -> str:
        if not self.done or self.total == float("inf"):
            return ""
        seconds = (self.total - self.done) * (time.monotonic() - self.start_time) / self.done
        return f"about {format_duration(seconds)} left" if seconds > 0 else ""

    def format_rate(self) -> str:
        """Trials an hour, once there is one to count."""
        hours = (time.monotonic() - self.start_time) / 3600
        return f"{self.trials / hours:,.0f} trials an hour" if self.trials else ""

    def format_summary(self) -> str:
        best = "" if self.best is None else f"best {self.best:.4f}"
        return ", ".join(part for part in (best, self.format_rate(), self.format_time_left()) if part)


@dataclass
class _TrialDisplay:
    """A trial under way as it is shown.

    title: its number, and that of its study where trials of several may be under way. prefix: the worker that has it,
    empty where there is only one.
    """

    title: str
    name: str
    epochs: int
    done: int
    bar: TaskID | None = None
    prefix: str = ""


class Bars(Protocol):
    """The part of rich's Progress that a view needs: a bar for each trial under way and one for all."""

    def add_task(self, description: str, *, total: float | None = ..., completed: int = ..., **fields: Any) -> Any:
        """Add a bar, and return what names it."""

    def update(self, task_id: Any, *, completed: float | None = ..., **fields: Any) -> None:
        """Change a bar."""

    def remove_task(self, task_id: Any) -> None:
        """Take a bar away."""


class View:
    """Progress of a sweep: on a terminal a bar for each trial under way and one for all, in a log a line an event.

    A trial is named by its id and its study's number in the sweep, from 1.
    """

    def __init__(self, console: Console, progress: Bars | None) -> None:
        self.console = console
        self._progress = progress
        self._pace = _Pace()
        self._sweep_bar: TaskID | None = None
        self._trials: dict[tuple[int, str], _TrialDisplay] = {}
        self._is_parallel = False  # trials at once
        self._study_count = 1

    def say(self, text: str, style: str = "") -> None:
        """Print one line, without markup and credentials."""
        self.console.print(mask_credentials(text), style=style or None, markup=False, highlight=False, soft_wrap=True)

    def begin_sweep(self, epochs: float, slots: int = 1) -> None:
        """Show that the sweep begins. epochs: planned in all; slots: trials at once."""
        self._pace, self._is_parallel = _Pace(total=epochs), slots > 1
        if self._progress:
            total = None if epochs == float("inf") else epochs
            self._sweep_bar = self._progress.add_task("sweep", total=total, note="")

    def begin_study(self, label: str, number: int, count: int, trials: float) -> None:
        """Show that a study begins, the number-th of so many."""
        self._study_count = count
        self.say(f"study {number} of {count}: {label} ({format_trial_count(trials)})", "bold")
        if self._progress and self._sweep_bar is not None:
            self._progress.update(self._sweep_bar, description=f"study {number}/{count}")

    def begin_trial(self, entry: LeaderboardEntry, number: int, epochs: int, done: int = 0, *, study: int = 1) -> None:
        """Show that a trial begins, or continues after `done` epochs."""
        key = study, entry.trial_id
        previous = self._trials.get(key)
        self._pace.total += (previous.done if previous else 0) - done  # an attempt before this one may have got further
        self._remove_trial(key)
        is_ambiguous = self._is_parallel and self._study_count > 1
        title = f"study {study}, trial {number}" if is_ambiguous else f"trial {number}"
        display = self._trials[key] = _TrialDisplay(title, entry.name, epochs, done)
        if self._progress and sum(other.bar is not None for other in self._trials.values()) < _MAX_BARS:
            note = "waits for a worker" if self._is_parallel else ""
            display.bar = self._progress.add_task(make_printable(entry.name), total=epochs, completed=done, note=note)
        elif not self._progress:
            self.say(f"  {title}: {entry.name}{f', on from epoch {done}' if done else ''}")

    def show_worker(self, trial_id: str, worker: str, *, study: int = 1) -> None:
        """Show which worker has a trial that waited for one."""
        display = self._trials[study, trial_id]
        display.prefix = f"{worker}: "
        if self._progress and display.bar is not None:
            self._progress.update(display.bar, note=f"on {worker}")
        elif self._is_parallel and not self._progress:
            self.say(f"  {display.title} is on {worker}")

    def show_epoch(self, trial_id: str, epoch: int, metrics: Mapping[str, float], *, study: int = 1) -> None:
        """Show the metrics of an epoch that ended."""
        display = self._trials[study, trial_id]
        self._pace.done += 1
        display.done = epoch
        accuracy = f"accuracy {metrics['accuracy']:.4f}, val_accuracy {metrics['val_accuracy']:.4f}"
        if self._progress:
            if display.bar is not None:
                self._progress.update(display.bar, completed=epoch, note=f"{display.prefix}{accuracy}")
            self.refresh()
        else:
            time_left = self._pace.format_time_left()
            suffix = f", {time_left}" if time_left else ""
            prefix = f"{display.title}, " if self._is_parallel else ""
            self.say(
                f"    {prefix}epoch {epoch}/{display.epochs}: {accuracy}, {metrics['epoch_seconds']:.1f} s{suffix}"
            )

    def refresh(self) -> None:
        """Show the progress of the whole sweep."""
        if self._progress and self._sweep_bar is not None:
            self._progress.update(self._sweep_bar, completed=self._pace.done, note=self._pace.format_summary())

    def end_trial(self, entry: LeaderboardEntry, *, study: int = 1) -> None:
        """Show that a trial finished or failed."""
        display, pace = self._trials[study, entry.trial_id], self._pace
        pace.total -= display.epochs - display.done  # epochs that early stopping or a failure saved
        self._remove_trial((study, entry.trial_id))
        pace.trials += 1
        if entry.state == "failed":
            self.say(f"  ✗ {entry.name}: {entry.failure}", "red")
        else:
            pace.best = max(pace.best or 0.0, entry.best_val_accuracy or 0.0)
            seconds = format_duration(entry.fit_seconds or 0)
            summary = f" ({pace.format_summary()})" if self._is_parallel and not self._progress else ""
            self.say(f"  ✓ {entry.name}: {format_entry_accuracy(entry)} in {seconds}{summary}")
        self.refresh()

    def _remove_trial(self, key: tuple[int, str]) -> None:
        display = self._trials.pop(key, None)
        if self._progress and display is not None and display.bar is not None:
            self._progress.remove_task(display.bar)

    def show_leaderboard(self, title: str, entries: Sequence[LeaderboardEntry], limit: int = 10) -> None:
        """Show the best trials of a study or sweep."""
        self.console.print(_build_leaderboard_table(title, entries, limit))


def _build_leaderboard_table(title: str, entries: Sequence[LeaderboardEntry], limit: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    # Text, because rich would read brackets in a plain string as markup.
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    for column in ("", "trial", "validation accuracy [95%]", "best epoch", "parameters", "fit"):
        table.add_column(column, justify="left" if column == "trial" else "right", no_wrap=column != "trial")
    winner = find_best_entry(entries)
    ordered = rank_entries(entries)
    for rank, entry in enumerate(ordered[:limit], 1):
        table.add_row(*map(Text, _format_cells(rank, entry, winner)), style="green" if entry is winner else None)
    if ties := summarize_ties(entries):
        table.caption, table.caption_justify = Text(ties), "left"
    return table


def _format_cells(rank: int, entry: LeaderboardEntry, winner: LeaderboardEntry | None) -> list[str]:
    if entry.best_val_accuracy is None:
        return [str(rank), entry.name, entry.state, "", "", ""]
    fit = format_duration(entry.fit_seconds or 0)
    return [
        str(rank),
        entry.name,
        format_score_cell(entry, winner),
        str(entry.best_epoch),
        f"{entry.parameters:,}",
        fit,
    ]


class _Screen(io.TextIOBase):
    """Standard output that may close while a sweep runs (a closed terminal, a pipe into head): the sweep goes on."""

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
        self._call_while_open(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._call_while_open(self._stream.flush)

    def _call_while_open(self, operation: Callable[[], object]) -> None:
        if not self._is_open:
            return
        try:
            operation()
        except OSError:
            self._is_open = False
            # Python would fail once more at exit, when it flushes what it still holds.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def open_view() -> Iterator[View]:
    """Open the view that suits standard output: a terminal's, or a file's."""
    screen: Any = _Screen(sys.stdout)
    if not sys.stdout.isatty():
        yield View(create_console(file=screen, width=140, force_terminal=False, soft_wrap=False), None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    terminal = create_console(file=screen)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("epochs  {task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=terminal, transient=True) as progress:
        yield View(terminal, progress)
