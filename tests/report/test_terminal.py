"""What a sweep shows: whole lines in a log, and true numbers in them."""

from __future__ import annotations

import io
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from fmnist_sweep.report import terminal
from fmnist_sweep.report.terminal import View
from fmnist_sweep.text import format_duration
from tests.report.test_leaderboard import entry


def shown(*, progress: bool = False) -> tuple[View, io.StringIO, Progress | None]:
    written = io.StringIO()
    console = Console(file=written, width=140, force_terminal=progress)
    bars = Progress(TextColumn("{task.description} {task.fields[note]}"), console=console) if progress else None
    return View(console, bars), written, bars


def metrics(**given: Any) -> dict[str, float]:
    return {"accuracy": 0.8, "val_accuracy": 0.75, "epoch_seconds": 1.5, **given}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599.6, "1 h 00 min"),
        (7384, "2 h 03 min"),
        (90000, "25 h 00 min"),
    ],
)
def test_a_duration_is_said_as_a_person_says_it(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


def test_a_log_has_a_line_for_each_event() -> None:
    view, written, _ = shown()
    finished = entry(1, 0.85)
    view.begin_sweep(2)
    view.begin_study("rmsprop", 1, 2, 4)
    view.begin_trial(finished, 1, 2)
    view.show_epoch("0001", 1, metrics())
    view.show_epoch("0001", 2, metrics())
    view.end_trial(finished)
    lines = written.getvalue().splitlines()
    assert len(lines) == 5
    assert "study 1 of 2: rmsprop (4 trials)" in lines[0]
    assert "rmsprop · 32 filters" in lines[1]
    assert "epoch 1/2: accuracy 0.8000, val_accuracy 0.7500, 1.5 s" in lines[2]
    assert "0.8500 [0.8400, 0.8600]" in lines[4]


def test_a_failed_trial_says_why() -> None:
    view, written, _ = shown()
    view.begin_trial(entry(2), 1, 2)
    view.end_trial(entry(2))
    assert "✗ rmsprop · 64 filters: Diverged: loss is nan" in written.getvalue()


def test_the_time_left_is_told_when_it_can_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    view, written, _ = shown()
    view.begin_sweep(4)
    view.begin_trial(entry(1), 1, 4)
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: view._pace.start_time + 20))
    view.show_epoch("0001", 1, metrics())
    assert "about 1 min 00 s left" in written.getvalue()
    view.show_epoch("0001", 2, metrics())
    view.show_epoch("0001", 3, metrics())
    view.show_epoch("0001", 4, metrics())
    assert "left" not in written.getvalue().splitlines()[-1]


def test_no_time_left_is_told_when_only_time_ends_the_search() -> None:
    view, written, _ = shown()
    view.begin_sweep(float("inf"))
    view.begin_study("x", 1, 1, float("inf"))
    view.begin_trial(entry(1), 1, 4)
    view.show_epoch("0001", 1, metrics())
    assert "left" not in written.getvalue()
    assert "inf" not in written.getvalue()


def test_epochs_that_early_stopping_saves_are_not_waited_for() -> None:
    view, written, _ = shown()
    view.begin_sweep(20)
    view.begin_trial(entry(1, 0.8), 1, 10)
    time.sleep(0.1)
    view.show_epoch("0001", 1, metrics())
    view.end_trial(entry(1, 0.8))
    view.begin_trial(entry(2, 0.8), 2, 10)
    for number in range(1, 10):
        view.show_epoch("0002", number, metrics())
    assert "left" in written.getvalue()
    view.show_epoch("0002", 10, metrics())
    assert "left" not in written.getvalue().splitlines()[-1]


def test_words_that_look_like_markup_are_shown_as_they_are() -> None:
    view, written, _ = shown()
    view.say("model.blocks=[[8],[bold]] [/bold]")
    assert written.getvalue().strip() == "model.blocks=[[8],[bold]] [/bold]"


NASTY = "after {tune: choice, values: [dense,every_layer]} [/red]"


def test_a_trial_named_like_markup_is_shown_as_it_is_in_the_leaderboard() -> None:
    view, written, _ = shown()
    view.show_leaderboard("title [bold]", [entry(1, 0.9, name=NASTY)])
    assert "[dense,every_layer]} [/red]" in written.getvalue()
    assert "title [bold]" in written.getvalue()


class Terminal(io.StringIO):
    """Standard output as a terminal has it."""

    def isatty(self) -> bool:
        return True


def test_a_trial_named_like_markup_does_not_break_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    nasty = entry(1, 0.9, name=NASTY)
    with terminal.open_view() as view:
        view.begin_sweep(1)
        view.begin_trial(nasty, 1, 1)
        view.show_epoch("0001", 1, metrics())
        view.end_trial(nasty)


def test_the_leaderboard_has_the_best_first_and_no_more_rows_than_asked() -> None:
    view, written, _ = shown()
    view.show_leaderboard("all", [entry(1, 0.85), entry(2), entry(3, 0.91)], limit=2)
    text = written.getvalue()
    assert text.index("96 filters") < text.index("32 filters")
    assert "64 filters" not in text
    assert "12,345" in text


def test_a_bar_moves_and_goes_when_its_trial_has_ended() -> None:
    view, _, bars = shown(progress=True)
    assert bars is not None
    with bars:
        view.begin_sweep(2)
        view.begin_study("rmsprop", 1, 1, 1)
        view.begin_trial(entry(1, 0.9), 1, 2)
        view.show_epoch("0001", 1, metrics())
        assert [task.completed for task in bars.tasks] == [1, 1]
        view.show_epoch("0001", 2, metrics())
        view.end_trial(entry(1, 0.9))
        assert [task.completed for task in bars.tasks] == [2]


def test_several_at_once_are_told_apart_with_throughput_and_the_best_so_far() -> None:
    view, written, _ = shown()
    view.begin_sweep(4, slots=2)
    view.begin_trial(entry(1), 1, 2)
    view.begin_trial(entry(2), 2, 2)
    view.show_worker("0002", "worker 1 (process 7)")
    view.show_epoch("0002", 1, metrics())
    view.show_epoch("0001", 1, metrics())
    view.show_epoch("0002", 2, metrics())
    view.end_trial(entry(2, 0.85))
    text = written.getvalue()
    assert "trial 2 is on worker 1 (process 7)" in text
    assert "trial 2, epoch 1/2: accuracy" in text
    assert "trial 1, epoch 1/2: accuracy" in text
    assert "(best 0.8500, " in text
    assert "trials an hour" in text.splitlines()[-1]


def test_trials_of_several_studies_at_once_are_told_apart_by_their_study() -> None:
    view, written, _ = shown()
    view.begin_sweep(4, slots=2)
    view.begin_study("rmsprop", 1, 2, 1)
    view.begin_trial(entry(1), 1, 2, study=1)
    view.begin_study("adam", 2, 2, 1)
    view.begin_trial(entry(1), 1, 2, study=2)
    view.show_worker("0001", "worker 1 (process 7)", study=2)
    view.show_epoch("0001", 1, metrics(), study=2)
    view.end_trial(entry(1, 0.85), study=1)
    view.show_epoch("0001", 2, metrics(), study=2)
    text = written.getvalue()
    for words in ("study 1, trial 1: ", "study 2, trial 1: ", "study 2, trial 1 is on worker 1 (process 7)"):
        assert text.count(words) == 1
    assert "study 2, trial 1, epoch 2/2: accuracy" in text


def test_epochs_that_a_lost_worker_takes_with_it_are_waited_for_again() -> None:
    view, written, _ = shown()
    view.begin_sweep(10, slots=2)
    view.begin_trial(entry(1), 1, 10)
    for epoch in range(1, 10):
        view.show_epoch("0001", epoch, metrics())
    view.begin_trial(entry(1), 1, 10, done=2)
    assert "on from epoch 2" in written.getvalue()
    for epoch in range(3, 10):
        view.show_epoch("0001", epoch, metrics())
    time.sleep(0.1)
    view.show_epoch("0001", 10, metrics())
    assert "left" not in written.getvalue().splitlines()[-1]


def test_on_a_terminal_each_trial_under_way_has_a_bar_with_its_worker() -> None:
    view, _, bars = shown(progress=True)
    assert bars is not None
    with bars:
        view.begin_sweep(4, slots=2)
        view.begin_study("rmsprop", 1, 1, 2)
        view.begin_trial(entry(1), 1, 2)
        view.begin_trial(entry(2), 2, 2)
        assert bars.tasks[1].fields["note"] == "waits for a worker"
        view.show_worker("0001", "worker 1 (process 7)")
        view.show_worker("0002", "worker 2 (process 8)")
        view.show_epoch("0002", 1, metrics())
        assert [task.completed for task in bars.tasks] == [1, 0, 1]
        assert "worker 2 (process 8)" in bars.tasks[2].fields["note"]
        view.end_trial(entry(2, 0.9))
        assert len(bars.tasks) == 2
        assert bars.tasks[0].fields["note"].startswith("best 0.9000, ")
