"""The diagnosis of stored trials in sentences, on the page, and read back from a file that others may have written."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest

from fmnist_sweep.analysis.diagnosis import Diagnosis, Prospect, SearchedStudy, diagnose
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.report.advice import Advice, encode_advice, parse_advice, word_diagnosis
from fmnist_sweep.tracking.trials import StoredTrial
from tests.analysis.test_edges import FIXED
from tests.report.test_page import NASTY, Outline, gathered, html
from tests.support.stored import Simulation, trial

OVERRIDES = [
    *(each for each in FIXED if each not in ("model.filters=32", "optimizer.learning_rate=0.001")),
    "optimizer.learning_rate={tune: float, min_value: 0.0001, max_value: 0.01, sampling: log}",
    "model.filters={tune: choice, values: [32,48,64]}",
]
JOURNAL = "0123456789abcdef"


def of(*accuracies: tuple[int, float | None], seconds: float = 0.9, **given: Any) -> Simulation:
    """Trials of these filters and accuracies, one after the other."""
    trials = []
    for number, (filters, accuracy) in enumerate(accuracies):
        params = {"model__filters": filters, "train__epochs": 3, "regularization__dropout": 0.0} | given
        made = trial(number, accuracy, **params)
        made.tags["fmnist.journal"] = JOURNAL  # type: ignore[index]
        began = round(1000 * number * seconds)
        trials.append(replace(made, began=began, ended=began + round(1000 * seconds), images=6000))
    return Simulation(trials, {})


def said(found: Simulation, min_gain: float = 0.005, **study: Any) -> list[str]:
    searched = SearchedStudy(compose_job(OVERRIDES).config.settings, **study)
    advice = word_diagnosis(diagnose(gathered(found), {JOURNAL: searched}), min_gain)
    for each in advice:
        if each.override:
            assert compose_job([*OVERRIDES, each.override])
    return list(map(str, advice))


def test_what_speaks_for_something_is_said_in_a_sentence_each() -> None:
    edge, hour = said(
        of(*((filters, 0.88 + 0.0005 * filters + 0.001 * n) for filters in (32, 48, 64) for n in range(3)))
    )
    assert edge == (
        "model.filters: the best trial has 64, at the upper edge of the range, and over 9 trials accuracy rises "
        "towards it; widen it: 'model.filters.values=[32,48,64,96]'"
    )
    assert hour.startswith(
        "Another hour, about 4,000 trials more, is expected to raise the best validation accuracy by"
    )
    assert "; to train them: search.max_trials=" in hour


def test_of_one_trial_or_of_equal_ones_nothing_is_said_but_what_an_hour_is_worth() -> None:
    assert said(of((64, 0.9))) == []
    assert said(of((64, None))) == []
    assert said(of()) == []
    (hour,) = said(of(*((filters, 0.9) for filters in (32, 48, 64) for _ in range(3)), seconds=900))
    assert hour == (
        "Another hour, about 4 trials more, is expected to raise the best validation accuracy by less than 0.0001."
    )


def test_a_space_or_an_oracle_that_is_used_up_promises_nothing() -> None:
    found = of(*((filters, 0.9) for filters in (32, 48, 64) for _ in range(3)))
    assert said(found, is_exhausted=True) == []


def test_trials_of_a_lower_rung_say_nothing_of_their_configurations() -> None:
    rising = [(filters, 0.88 + 0.0005 * filters + 0.001 * n) for filters in (32, 48, 64) for n in range(3)]
    assert said(of(*rising, train__epochs=1)) == []


def test_limits_are_said_of_all_trials() -> None:
    found = of((32, 0.9), (48, None), (64, None))
    for each in found.trials[1:]:
        each.tags["fmnist.failure"] = "OverTime: 1 epoch after search.trial_minutes=5"  # type: ignore[index]
    assert said(found, minutes=30.0, planned=12.0) == [
        "search.trial_minutes=5 cut down 2 of 3 trials; give them longer: search.trial_minutes=10",
        "search.max_minutes=30 ended the search before 9 of 12 trials began; give it longer: search.max_minutes=120",
    ]


def test_of_trials_of_unknown_studies_nothing_is_said() -> None:
    found = gathered(of(*((64, 0.9 + 0.001 * n) for n in range(9))))
    assert diagnose(found, {}) == Diagnosis()
    assert word_diagnosis(diagnose(found, {"another": SearchedStudy({})}), 0.005) == []


@pytest.mark.parametrize(
    ("gain", "override"), [(0.0049, ""), (0.005, "search.max_trials=30"), (0.2, "search.max_trials=30")]
)
def test_an_hour_that_is_worth_it_is_said_with_its_override(gain: float, override: str) -> None:
    (advice,) = word_diagnosis(Diagnosis(prospect=Prospect(gain, 18, 12, 0.0031, 6000, 30)), 0.005)
    assert advice.override == override
    assert (
        "; the best of these 12 is flattered by about 0.0031, as it was picked on its 6,000 images" in advice.sentence
    )


def test_advice_is_read_back_as_it_was_kept() -> None:
    advice = [Advice("Widen it:", "model.filters.values=[1,2]"), Advice("Nothing ≈ to type.")]
    assert parse_advice(encode_advice(advice)) == advice


@pytest.mark.parametrize(
    "content",
    [
        *(None, b"", b"\xff", b"{}", b"3", b"[" * 100_000, b'[1, null, "x", {}, [], {"sentence": 3, "override": ""}]'),
        json.dumps([{"sentence": "x" * 5000, "override": ""}]).encode(),
        json.dumps([{"sentence": "x"}]).encode(),
    ],
)
def test_what_is_no_advice_is_left_out(content: bytes | None) -> None:
    assert parse_advice(content) == []


def test_the_page_shows_advice_as_a_list_of_text() -> None:
    advice = [Advice("Widen it:", "model.filters.values=[1,2]"), Advice(NASTY, NASTY), Advice("Nothing to type.")]
    content = html(gathered(of((64, 0.9))), advice=advice)
    outline = Outline(content)
    assert outline.open == []
    assert "Widen it: 'model.filters.values=[1,2]'" in outline.text
    assert NASTY not in content
    assert shlex.quote(NASTY)[1:9] in outline.text
    assert "advice" not in [dict(attrs).get("class") for _, attrs in Outline(html(gathered(of((64, 0.9))))).found]


OPTIONS = [
    *(each for each in FIXED if not each.startswith("optimizer")),
    "optimizer={tune: option, of: [adam, sgd]}",
    "optimizer.adam.learning_rate=0.001",
    "optimizer.sgd.learning_rate={tune: float, min_value: 0.001, max_value: 0.1, sampling: log}",
]


def of_journal(number: int, accuracy: float, **params: Any) -> StoredTrial:
    made = trial(number, accuracy, **params, train__epochs=3)
    made.tags["fmnist.journal"] = JOURNAL  # type: ignore[index]
    return made


def test_an_option_has_edges_of_its_own() -> None:
    settings = compose_job(OPTIONS).config.settings
    trials: list[StoredTrial] = []
    for number, rate in enumerate((0.001, 0.003, 0.01, 0.02, 0.05, 0.09)):
        for name, value in (("sgd", rate), ("adam", 0.001)):
            fixed = {f"optimizer__{key}": given for key, given in settings["optimizer"]["settings"][name].items()}
            accuracy = 0.9 + 0.001 * number if name == "sgd" else 0.8
            trials.append(of_journal(len(trials), accuracy, **(fixed | {"optimizer__learning_rate": value})))
    (edge,) = diagnose(gathered(Simulation(trials, {})), {JOURNAL: SearchedStudy(settings)}).edges
    assert (edge.trials, edge.override) == (6, "optimizer.sgd.learning_rate.max_value=1.0")
    widened = compose_job([*OPTIONS, edge.override]).config.settings["optimizer"]["settings"]["sgd"]
    assert widened["learning_rate"]["max_value"] == 1.0


@pytest.mark.parametrize(("layers", "found"), [(2, ["model.dense_units.max_value=352"]), (1, [])])
def test_what_a_condition_kept_from_being_drawn_is_no_value(layers: int, found: list[str]) -> None:
    overrides = [
        *(each for each in FIXED if each not in ("model.dense_units=64", "model.conv_layers=2")),
        "model.dense_units={tune: int, min_value: 64, max_value: 256, when: {model.conv_layers: [2]}, otherwise: 256}",
        "model.conv_layers={tune: choice, values: [1,2]}",
    ]
    trials = [
        of_journal(
            number,
            0.9 + 0.001 * number,
            model__dense_units=units,
            model__conv_layers=layers if number == 5 else 2,
        )
        for number, units in enumerate((64, 100, 150, 200, 250, 256))
    ]
    settings = compose_job(overrides).config.settings
    edges = diagnose(gathered(Simulation(trials, {})), {JOURNAL: SearchedStudy(settings)}).edges
    assert [edge.override for edge in edges if edge.key == "model.dense_units"] == found
    assert all(compose_job([*overrides, edge.override]) for edge in edges)
