"""The recorded table and the searches that are replayed on it (benchmarks/replay), on tables that are made up here."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from replay import compare, figures, record, searches
from replay.searches import EVEN, FORESIGHT, OVERRIDES, Replay, Strategy
from replay.table import DamagedTable, Row, Table, format_row, name_shorter_table, open_table, read_table, read_tables

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.search.ask_and_tell import Search

SPACE = (
    "model.filters={tune: choice, values: [16, 24, 32]}",
    "model.conv_layers={tune: int, min_value: 3, max_value: 4}",
    "optimizer.learning_rate={tune: float, min_value: 0.001, max_value: 0.004, sampling: log}",
    "regularization.dropout={tune: float, min_value: 0.0, max_value: 0.5, step: 0.1}",
)
EPOCHS, ROWS, TRIALS, SEEDS = 9, 16, 8, (1, 2, 3)
INF = float("inf")
DESCRIPTION = {"title": "MADE UP", "precision": "none", "machine": "none", "images": [], "drawing_seed": 1}
SHORT_EPOCHS = (1, 3)


def make_row(number: int, values: dict[str, float], noise: float = 0.01) -> Row:
    """A made-up configuration: best at a rate of 0.002, better the wider; early epochs tell the end but for noise."""
    draw = random.Random(number)
    end = 0.92 - 0.02 * abs(np.log(values["optimizer.learning_rate"] / 0.002)) + 0.0005 * values["model.filters"]
    accuracies = [
        end - 0.1 * (EPOCHS - epoch) / EPOCHS + noise * draw.uniform(-1, 1) * (EPOCHS - epoch) / EPOCHS
        for epoch in range(1, EPOCHS + 1)
    ]
    seconds = values["model.filters"] / 4
    return Row(number, values, tuple(accuracies), (seconds + 2, *[seconds] * (EPOCHS - 1)), 1.0, 1000)


def cut_row(row: Row, epochs: int) -> Row:
    """The same configuration, by a schedule of so many epochs: a little worse than at the end of the longest."""
    score = (row.accuracies[-1] if row.failure is None else 0.5) - 0.01 / epochs
    return replace(row, accuracies=(score,) * epochs, cpu_seconds=(7.0, *[5.0] * (epochs - 1)), failure=None)


@pytest.fixture(scope="module")
def table() -> Table:
    """A tenth of a table, with a row that failed after two epochs."""
    settings = compose_job([*SPACE, f"train.epochs={EPOCHS}"]).config.settings
    rows = [make_row(task.number, dict(task.values)) for task in record.draw_tasks(settings, ROWS)]
    failed = rows[3]
    rows[3] = Row(3, failed.values, failed.accuracies[:2], failed.cpu_seconds[:3], 1.0, 1000, "diverged")
    shorter = {
        epochs: Table(shorten(settings, epochs), tuple(cut_row(row, epochs) for row in rows)) for epochs in SHORT_EPOCHS
    }
    return Table({**DESCRIPTION, "settings": settings}, tuple(rows), shorter)


def shorten(settings: dict[str, Any], epochs: int) -> dict[str, object]:
    return {**DESCRIPTION, "settings": {**settings, "train": {**settings["train"], "epochs": epochs}}}


@pytest.fixture(scope="module")
def replays(table: Table) -> dict[str, list[Replay]]:
    """All searches replayed on it, and the control."""
    found = {
        # The process takes as long as all others together, and a grid has no seed.
        each.name: compare.replay_seeds(table, each, SEEDS[: 1 if each.oracle in ("bayesian", "grid") else None], INF)
        for each in searches.list_strategies(table)
    }
    return {**found, EVEN: compare.replay_seeds(table, None, SEEDS, INF)}


def test_rows_of_one_network_cost_what_the_quickest_of_them_did(table: Table) -> None:
    values = dict(table.rows[0].values)
    quick, slow, failed, other = (make_row(number, values) for number in range(4))
    slow = replace(slow, cpu_seconds=tuple(3 * each for each in slow.cpu_seconds), other_cpu_seconds=9.0)
    failed = replace(failed, cpu_seconds=slow.cpu_seconds[:2], accuracies=failed.accuracies[:1], failure="diverged")
    other = replace(other, cpu_seconds=slow.cpu_seconds, parameters=7)
    evened = Table(table.description, (slow, failed, quick, other)).even_costs()
    assert [row.cpu_seconds for row in evened.rows] == [
        *(quick.cpu_seconds, quick.cpu_seconds[:2], quick.cpu_seconds),
        other.cpu_seconds,
    ]
    assert [row.other_cpu_seconds for row in evened.rows] == [1.0] * 4
    assert [row.accuracies for row in evened.rows] == [each.accuracies for each in (slow, failed, quick, other)]


def test_each_search_finds_the_best_configuration_and_has_each_at_most_once(
    table: Table, replays: dict[str, list[Replay]]
) -> None:
    assert set(replays) == {*OVERRIDES, FORESIGHT, EVEN}
    for name, found in replays.items():
        for each in found:
            assert each.configurations <= ROWS, name
            assert each.scores == sorted(each.scores)
            assert each.scores[-1] == max(table.finals) or each.configurations == ROWS, name


def test_full_length_searches_pay_for_each_row_and_halving_ones_for_promotions(
    table: Table, replays: dict[str, list[Replay]]
) -> None:
    for name in ("random", "tpe", "bayesian", "grid"):
        for each in replays[name]:
            assert each.full_length == each.configurations == len(each.seconds)
    asha = replays["asha"][0]
    assert asha.full_length < asha.configurations < len(asha.seconds)
    whole = sum(row.compute_cost(0, EPOCHS) for row in table.rows)
    assert asha.seconds[-1] < 0.7 * whole


def test_a_trial_that_goes_on_pays_for_its_own_epochs_and_for_another_start() -> None:
    row = make_row(0, {"model.filters": 16, "optimizer.learning_rate": 0.002})
    assert row.compute_cost(0, 1) == 1 + 6
    assert row.compute_cost(1, 3) == 1 + 2 + 2 * 4  # built, traced, two epochs
    assert row.compute_cost(0, EPOCHS) == 1 + 2 + EPOCHS * 4


def test_a_search_that_restarts_is_told_of_whole_schedules_and_pays_for_all_of_their_epochs(table: Table) -> None:
    strategy = searches.compose_strategy("asha", OVERRIDES["asha, restarting"])
    asked = list[tuple[int, int]]()

    class Watched(Table):
        def find_short_row(self, number: int, epochs: int) -> Row:
            asked.append((number, epochs))
            return super().find_short_row(number, epochs)

    found = searches.replay(Watched(table.description, table.rows, table.shorter), strategy, 1, INF)
    assert {epochs for _, epochs in asked} == {*SHORT_EPOCHS, EPOCHS}
    rows = {row.number: row for row in table.rows}
    costs = [
        (cut_row(rows[number], epochs) if epochs < EPOCHS else rows[number]).compute_cost(0, epochs)
        for number, epochs in asked
    ]
    assert np.diff([0, *found.seconds]) == pytest.approx(costs)


def test_the_rungs_of_whole_schedules_are_ranked_beside_those_of_the_longest(table: Table) -> None:
    ranks = figures.rank_rungs(table)
    assert [(rank.epoch, rank.is_whole) for rank in ranks] == [
        *((epoch, False) for epoch in range(1, EPOCHS)),
        *((epochs, True) for epochs in SHORT_EPOCHS),
    ]
    assert [rank.overall.value for rank in ranks if rank.is_whole] == pytest.approx([1, 1])


def test_tables_of_shorter_schedules_are_read_with_the_longest_and_must_be_of_the_same(tmp_path: Path) -> None:
    path, settings = tmp_path / "table.jsonl", compose_job([*SPACE, f"train.epochs={EPOCHS}"]).config.settings
    row = make_row(0, {"model.filters": 16, "optimizer.learning_rate": 0.002})
    with open_table(path, {**DESCRIPTION, "settings": settings}) as recorded:
        recorded.append_row(row)
        recorded.append_row(make_row(1, dict(row.values)))
    assert read_tables(path).shorter == {}
    with open_table(name_shorter_table(path, 3), shorten(settings, 3)) as recorded:
        recorded.append_row(cut_row(row, 3))
        said = list[str]()
        assert (read_tables(path, said.append).shorter, len(said)) == ({}, 1), "it is not complete yet"
        assert "1 of 2 rows" in said[0]
        recorded.append_row(replace(cut_row(row, 3), number=1))
    table = read_tables(path)
    assert table.find_short_row(0, 3).accuracies == pytest.approx(cut_row(row, 3).accuracies, abs=1e-6)
    with pytest.raises(DamagedTable, match="no training of configuration 0 by a schedule of 1 epoch is"):
        table.find_short_row(0, 1)
    with open_table(name_shorter_table(path, 1), {**shorten(settings, 1), "precision": "another"}):
        pass
    with pytest.raises(DamagedTable, match="has another precision"):
        read_tables(path)


def test_an_oracle_is_told_the_result_of_the_values_that_it_proposed(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {tuple(row.values.items()): row for row in table.rows}
    told = list[tuple[Row, float | None]]()

    class Heard(Search):
        def tell(self, trial_id: str, score: float | None) -> None:
            values = self._oracle.trials[trial_id].hyperparameters.values
            told.append((known[tuple((name, values[name]) for name in table.rows[0].values)], score))
            super().tell(trial_id, score)

    monkeypatch.setattr(searches, "Search", Heard)
    for name in ("tpe", "asha with tpe", "hyperband"):
        told.clear()
        searches.replay(table, searches.compose_strategy(name, OVERRIDES[name]), 1, INF)
        assert told, name
        assert all(score is None or score in row.accuracies for row, score in told), name


def test_searches_that_go_by_results_are_replayed_the_same_from_the_same_seed(table: Table) -> None:
    tpe: Strategy = searches.compose_strategy("asha with tpe", OVERRIDES["asha with tpe"])
    once, again, other = (searches.replay(table, tpe, seed, INF) for seed in (1, 1, 2))
    assert (once.seconds, once.scores) == (again.seconds, again.scores)
    assert once.seconds != other.seconds


def test_the_summary_and_the_picture_name_every_search_and_what_the_table_is(
    table: Table, replays: dict[str, list[Replay]], tmp_path: Path
) -> None:
    from replay.picture import draw

    summary = figures.summarize(table, replays, TRIALS)
    assert summary.startswith("MADE UP; 16 configurations, 1 of them failed")
    for name in replays:
        assert summary.count(f"| {name} |") == len(figures.MARGINS) + 1
    draw(tmp_path / "curves.svg", table, replays, TRIALS)
    assert (tmp_path / "curves.svg").stat().st_size > 10_000


def test_a_rung_that_says_the_end_ranks_as_it_does_and_one_of_chance_does_not() -> None:
    ends = [0.9 + 0.001 * number for number in range(60)]
    draw = random.Random(0)
    told = Table(settings_only(), tuple(make_two_rungs(end - 0.1, end) for end in ends))
    drawn = Table(settings_only(), tuple(make_two_rungs(draw.uniform(0.5, 0.6), end) for end in ends))
    assert figures.rank_rungs(told)[0].overall.value == pytest.approx(1)
    assert figures.rank_rungs(told)[0].best.value == pytest.approx(1)
    by_chance = figures.rank_rungs(drawn)[0].overall
    assert by_chance.low is not None and by_chance.high is not None
    assert by_chance.low < 0 < by_chance.high < 0.6


def make_two_rungs(first: float, end: float) -> Row:
    return Row(0, {}, (first, *[end] * (EPOCHS - 1)), (1.0,) * EPOCHS, 0.0, 1)


def settings_only() -> dict[str, object]:
    return {**DESCRIPTION, "settings": {"train": {"epochs": EPOCHS}}}


def test_a_median_has_an_interval_that_holds_where_some_searches_never_got_there() -> None:
    estimate = figures.estimate_median([*range(150), *[INF] * 50])
    assert (estimate.value, estimate.low, estimate.high) == (99, 86, 114)
    assert figures.estimate_median([INF]).value == INF


def test_a_share_of_costs_is_that_of_the_medians() -> None:
    share = figures.estimate_share([1.0, 2, 3, 4, 5] * 20, [10.0, 20, 30, 40, 50] * 20)
    assert share.value == pytest.approx(0.1)
    assert share.low == share.high == pytest.approx(0.1)


def test_a_table_goes_on_after_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path, row = tmp_path / "table.jsonl", make_row(0, {"model.filters": 16, "optimizer.learning_rate": 0.002})
    with open_table(path, settings_only()) as recorded:
        recorded.append_row(row)
    whole = path.read_text()
    path.write_text(whole + format_row(row)[:40])
    assert len(read_table(path).rows) == 1
    with open_table(path, settings_only()) as recorded:
        assert recorded.numbers == {0}
        recorded.append_row(make_row(1, dict(row.values)))
    assert path.read_text().startswith(whole)
    assert [each.number for each in read_table(path).rows] == [0, 1]


def test_a_table_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    with (
        open_table(path, settings_only()),
        pytest.raises(DamagedTable, match="another recorder writes to it"),
        open_table(path, settings_only()),
    ):
        raise AssertionError
    before = path.read_bytes()
    with (
        pytest.raises(DamagedTable, match="recorded with another machine"),
        open_table(path, {**settings_only(), "machine": "another"}),
    ):
        raise AssertionError
    assert path.read_bytes() == before
    path.write_text("torn")
    with pytest.raises(DamagedTable):
        read_table(path)


def test_a_configuration_is_recorded_as_the_product_trains_it() -> None:
    job = compose_job(
        [*SPACE, "data=drawn", "data.images=200", "train.epochs=2", "train.batch_size=20", "search=random"]
    )
    (task,) = record.draw_tasks(job.config.settings, 1)
    row = record.train(task, job)
    assert row is not None and row.failure is None
    assert len(row.accuracies) == len(row.cpu_seconds) == 2
    assert row.parameters > 10_000
    assert task.config["train"]["schedule"].get("over_epochs") is None  # the cycle is as long as the longest training
