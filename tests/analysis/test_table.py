"""Trials as a table: types, conditions that are never code, order, configurations."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from fmnist_sweep.analysis.table import (
    SCORE_COLUMN,
    TableError,
    build_table,
    filter_rows,
    group_by_configuration,
    parse_condition,
    sort_rows,
)
from fmnist_sweep.training.evaluation import compute_wilson_interval
from tests.support.stored import trial

TRIALS = [
    trial(0, 0.90, model__filters=32, optimizer__name="adam", model__blocks=[[32], [64]], train__early=True, seed=1),
    trial(1, 0.91, model__filters=64, optimizer__name="sgd", optimizer__momentum=0.9, seed=1),
    trial(2, None, model__filters=64, optimizer__name="rmsprop", seed=2),
    trial(3, 0.88, state="running", model__filters=48, optimizer__name="adam", seed=3),
]


def chosen(*conditions: str) -> list[str]:
    frame = build_table(TRIALS)
    for condition in map(parse_condition, conditions):
        frame = filter_rows(frame, condition)
    return [run[-1] for run in frame["run_id"]]


def test_parameters_come_back_as_what_they_were_and_missing_ones_are_missing() -> None:
    frame = build_table(TRIALS)
    assert frame["model.filters"].tolist() == [32, 64, 64, 48]
    assert frame["model.filters"].dtype == "int64"
    assert frame["model.blocks"][0] == [[32], [64]]
    assert frame["train.early"][0] is True or frame["train.early"][0] == True  # noqa: E712 - of pandas' own type
    assert frame["optimizer.momentum"][1] == 0.9
    for key in ("model.blocks", "train.early", "optimizer.momentum"):
        assert frame[key].isna().tolist().count(True) == 3
    assert str(frame["began"].dtype).endswith("UTC]")


def test_only_finished_trials_have_an_accuracy_and_its_interval_is_wilsons() -> None:
    frame = build_table([replace(each, images=200) for each in TRIALS])
    assert frame[SCORE_COLUMN].isna().tolist() == [False, False, True, True]
    assert (frame["low"][0], frame["high"][0]) == compute_wilson_interval(180, 200)
    assert math.isnan(frame["low"][2])
    assert build_table(TRIALS)["low"].isna().all()  # without a number of images


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("model.filters>=48", "123"),
        ("model.filters < 48", "0"),
        ("model.filters<=32", "0"),
        ("model.filters=64", "12"),
        ("model.filters==64.0", "12"),
        ("model.filters!=64", "03"),
        ("best_val_accuracy > 0.9", "1"),
        ("optimizer.name=adam", "03"),
        ("optimizer.name~MS", "2"),
        ("optimizer.momentum=none", "023"),
        ("optimizer.momentum!=0.9", "023"),
        ("train.early=true", "0"),
        ("train.early=1", ""),
        ("model.blocks=[[32], [64]]", "0"),
        ("state=running", "3"),
        ("trial_id=0002", "2"),
        ("failure~diverged", "2"),
        ("began>1970-01-01T00:00:02", "3"),
        ("began<=1970-01-01T00:00:01+00:00", "01"),
    ],
)
def test_a_condition_keeps_the_trials_that_meet_it(text: str, runs: str) -> None:
    assert "".join(chosen(text)) == runs


def test_several_conditions_must_all_hold() -> None:
    assert chosen("model.filters>=48", "optimizer.name=adam") == ["3"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle.filters>=48", "did you mean model.filters?"),
        ("optimizer.name>adam", "compares numbers"),
        ("model.filters>=48 and seed=1", "a --where of its own"),
        ("model.filters", "expected KEY OP VALUE"),
        ("began>yesterday", "expected a date"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(TableError) as refused:
        chosen(text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("where", ["name={}", "{}=1", "name~{}", "name!=@{}"])
def test_code_in_a_condition_is_text_and_never_run(where: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    text = where.format(f"@__import__('pathlib').Path('{marker}').touch()")
    try:
        chosen(text)
    except TableError:
        assert where.startswith("{}")
    assert not marker.exists()


def test_sorting_puts_what_is_missing_last_both_ways_and_keeps_equals_in_order() -> None:
    frame = build_table(TRIALS)
    up = sort_rows(frame, "model.filters", descending=False)["run_id"]
    down = sort_rows(frame, "model.filters", descending=True)["run_id"]
    assert [run[-1] for run in up] == ["0", "3", "1", "2"]
    assert [run[-1] for run in down] == ["1", "2", "3", "0"]
    for descending in (False, True):
        assert sort_rows(frame, "optimizer.momentum", descending=descending)["run_id"].iloc[0][-1] == "1"
    assert sort_rows(frame, "began", descending=True)["run_id"].iloc[0][-1] == "3"
    with pytest.raises(TableError, match=r"did you mean model\.filters"):
        sort_rows(frame, "model.filter", descending=False)


def test_trials_that_differ_in_seed_alone_are_one_configuration() -> None:
    scores = {1: 0.90, 2: 0.91, 3: 0.905}
    seeds = [trial(seed, score, model__filters=32, seed=seed) for seed, score in scores.items()]
    again = trial(4, 0.90, model__filters=32, seed=1)
    others = [trial(5, 0.89, model__filters=64, seed=1), trial(6, None, model__filters=32, seed=4)]
    frame = group_by_configuration([*seeds, again, *others])
    assert frame["model.filters"].tolist() == [32, 64]
    assert frame["n"].tolist() == [3, 1]
    assert frame["mean"][0] == pytest.approx(statistics.fmean(scores.values()))
    assert frame["sd"][0] == pytest.approx(statistics.stdev(scores.values()))
    assert math.isnan(frame["sd"][1])
    assert frame["run_ids"][0].split() == [each.run_id for each in seeds]


@pytest.mark.parametrize("join", [" and ", " AND ", " or ", " && ", "&", ", ", ";", " | "])
@pytest.mark.parametrize("first", ["optimizer.name=adam", "model.filters>=48", "state!=FAILED"])
def test_two_conditions_in_one_are_refused_with_how_to_give_them(first: str, join: str) -> None:
    with pytest.raises(TableError, match="a second condition; give each condition a --where of its own"):
        parse_condition(f"{first}{join}train.epochs>3")


@pytest.mark.parametrize(
    "text", ["failure~loss and x=3", "name=bread and butter", "data=drawn:1,2", "name=a;b", "name=a & b"]
)
def test_a_value_may_have_such_words(text: str) -> None:
    assert str(parse_condition(text)) == text
