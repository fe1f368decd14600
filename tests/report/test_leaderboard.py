"""Reports: the leaderboard and the note, and what they say of failures and of nothing."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pytest

from fmnist_sweep.report.leaderboard import (
    LeaderboardEntry,
    build_leaderboard,
    count_states,
    find_best_entry,
    format_entry_accuracy,
    format_note,
    summarize_ties,
)


def entry(number: int, accuracy: float | None = None, **given: Any) -> LeaderboardEntry:
    """A finished trial, or a failed one when it has no accuracy."""
    values = {"model.filters": 32 * number}
    made = LeaderboardEntry(f"{number:04d}", "study", f"rmsprop · {32 * number} filters", values, f"run{number}")
    made.state, made.failure = "failed", "Diverged: loss is nan | lower it"
    if accuracy is not None:
        made.state, made.failure = "finished", None
        made.score = made.best_val_accuracy = accuracy
        made.interval = (accuracy - 0.01, accuracy + 0.01)
        made.best_epoch, made.parameters, made.fit_seconds = 2, 12345, 3.4
    for key, value in given.items():
        setattr(made, key, value)
    return made


ENTRIES = [entry(1, 0.85), entry(2), entry(3, 0.91), entry(4, 0.91)]


def test_the_best_is_the_first_of_the_highest_and_never_a_failed_one() -> None:
    assert find_best_entry(ENTRIES) is ENTRIES[2]
    assert find_best_entry([entry(1)]) is None
    assert find_best_entry([]) is None
    nothing_right = [entry(1), entry(2, 0.0)]
    assert find_best_entry(nothing_right) is nothing_right[1]


def test_trials_are_counted_by_state() -> None:
    counted = count_states(ENTRIES)
    assert (counted["trials_finished"], counted["trials_failed"], counted["trials_running"]) == (3, 1, 0)
    assert sum(counted.values()) == len(ENTRIES)


def test_the_leaderboard_has_the_best_first_and_the_failed_last() -> None:
    table = build_leaderboard(ENTRIES)
    assert table["trial_id"].tolist() == ["0003", "0004", "0001", "0002"]
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert table["model.filters"].tolist() == [96, 128, 32, 64]
    assert table["state"].tolist() == ["finished", "finished", "finished", "failed"]


def test_the_leaderboard_survives_being_a_csv() -> None:
    again = pd.read_csv(io.StringIO(build_leaderboard(ENTRIES).to_csv(index=False)), dtype={"trial_id": str})
    assert again["best_val_accuracy"].dropna().tolist() == [0.91, 0.91, 0.85]
    assert again["run_id"].tolist() == ["run3", "run4", "run1", "run2"]


def test_a_leaderboard_of_several_studies_has_the_tuned_values_of_all() -> None:
    other = entry(5, 0.9, values={"optimizer.momentum": 0.9})
    table = build_leaderboard([ENTRIES[0], other])
    assert {"model.filters", "optimizer.momentum"} <= set(table.columns)
    assert table["optimizer.momentum"].isna().tolist() == [False, True]


def test_a_leaderboard_of_nothing_is_empty_and_has_its_columns() -> None:
    table = build_leaderboard([])
    assert len(table) == 0
    assert {"rank", "name", "best_val_accuracy", "run_id"} <= set(table.columns)


def test_an_accuracy_is_told_with_its_interval_or_as_a_dash() -> None:
    assert format_entry_accuracy(ENTRIES[0]) == "0.8500 [0.8400, 0.8600]"
    assert format_entry_accuracy(ENTRIES[1]) == "–"


def test_the_note_names_the_best_and_the_luck_of_the_draw() -> None:
    text = format_note("Study x", None, ENTRIES, ["Command: `python`"])
    assert "rmsprop · 96 filters" in text
    assert "0.9100 [0.9000, 0.9200]" in text
    assert "optimistic" in text
    assert "Command: `python`" in text
    assert "Diverged: loss is nan / lower it" in text


def test_the_note_stays_short_and_says_how_many_are_left_out() -> None:
    text = format_note("Sweep", None, [entry(number, 0.5) for number in range(1, 51)], [])
    assert "30 more in leaderboard.csv" in text
    assert len(text.splitlines()) < 40


@pytest.mark.parametrize("entries", [[], [entry(1)]], ids=["none", "failed"])
def test_without_a_finished_trial_the_note_says_so(entries: list[LeaderboardEntry]) -> None:
    assert "no trial finished" in format_note("Study", None, entries, []).lower()


def test_a_warning_stands_on_the_note() -> None:
    assert "DRAWN" in format_note("Study", "DRAWN images", ENTRIES, [])


def test_a_name_with_a_bar_stays_in_its_cell_of_the_note() -> None:
    text = format_note("Study", None, [entry(1, 0.5, name="a | b")], [])
    assert "a \\| b&emsp;|" in text


def marked(*tied: bool | None) -> list[LeaderboardEntry]:
    return [entry(number, 0.95 - number / 100, tied=each) for number, each in enumerate(tied)]


def test_trials_that_cannot_be_told_apart_from_the_best_are_marked_and_counted() -> None:
    entries = marked(True, True, False, None)
    text = format_note("Study", None, entries, [])
    assert "1 of the other 3 trials is not distinguishable from the best (≈); 1 could not be compared with it." in text
    assert text.count("≈ 0.") == 1
    assert "≈ 0.9400 [0.9300, 0.9500]" in text
    assert build_leaderboard(entries)["tied_with_best"].tolist() == [True, True, False, None]


def test_where_all_others_are_worse_that_is_said_and_where_nothing_was_found_out_nothing() -> None:
    assert summarize_ties(marked(True, False)) == "The other trial is distinguishably worse than the best."
    assert (
        summarize_ties(marked(True, True, True, True))
        == "None of the other 3 trials is distinguishable from the best (≈)."
    )
    text = summarize_ties(marked(True, False, None))
    assert text == "None of the other 2 trials is known to be as good as the best; 1 could not be compared with it."
    assert summarize_ties(marked(None, None)) == ""
    assert summarize_ties([]) == ""


def test_the_leaderboard_has_the_interval_of_every_accuracy() -> None:
    table = build_leaderboard(ENTRIES)
    assert table["low"].dropna().tolist() == pytest.approx([0.90, 0.90, 0.84])
    assert table["high"].dropna().tolist() == pytest.approx([0.92, 0.92, 0.86])
