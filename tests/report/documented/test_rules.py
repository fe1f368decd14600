"""Verdicts follow from figures."""

from __future__ import annotations

import pytest

from fmnist_sweep.report.documented.rules import is_credible, judge_figure
from fmnist_sweep.report.documented.write_ups import StatedFigure, read_write_ups


@pytest.mark.parametrize(
    ("stated", "kind", "values", "reached", "words"),
    [
        ("0.9", "val_accuracy", [0.90, 0.91, 0.92], True, "reached"),
        ("0.924", "val_accuracy", [0.91, 0.92, 0.915], True, "**reached**"),  # below, but within 2 sd of 0.005
        ("0.927", "val_accuracy", [0.91, 0.92, 0.915], False, "0.0120 short"),
        ("0.9800", "val_accuracy", [0.90, 0.91, 0.92], False, "0.0700 short"),
        ("0.8000", "val_accuracy", [0.90, 0.91, 0.92], True, "better by 0.1100"),
        ("0.2000", "val_loss", [0.30, 0.31, 0.32], False, "0.1100 short"),
        ("0.5000", "loss", [0.30, 0.31, 0.32], True, "better by 0.1900"),
        ("49", "epochs", [40, 44, 48], True, "agrees"),
        ("49", "epochs", [20, 21, 22], False, "differs** by 28.0"),
        ("> 0.90", "test_accuracy", [0.91, 0.92, 0.93], True, "all 3"),
        ("> 0.90", "test_accuracy", [0.91, 0.89, 0.93], False, "2 of 3"),
        ("> 0.90", "test_accuracy", [0.81, 0.89, 0.90], False, "not reached"),
    ],
)
def test_a_verdict_follows_from_the_figures(
    stated: str, kind: str, values: list[float], reached: bool, words: str
) -> None:
    found = judge_figure(StatedFigure(stated), kind, values)
    assert found.is_reached is reached
    assert words in found.text


def test_two_trainings_are_too_few_for_a_verdict() -> None:
    assert judge_figure(StatedFigure("0.5"), "accuracy", [0.9, 0.9]).is_reached is None


def test_half_a_unit_of_the_last_digit_is_leeway_for_a_rounded_figure() -> None:
    assert judge_figure(StatedFigure("0.92"), "accuracy", [0.9151] * 3).is_reached
    assert not judge_figure(StatedFigure("0.9200"), "accuracy", [0.9151] * 3).is_reached
    assert not judge_figure(StatedFigure("0.92"), "accuracy", [0.9149] * 3).is_reached


def test_the_figures_of_one_write_up_alone_are_not_credible_as_test_accuracies() -> None:
    hopeless = {
        (write_up.number, figure.text)
        for write_up in read_write_ups()
        for stated in write_up.figures.values()
        for kind, figure in stated.items()
        if kind != "epochs" and not is_credible(figure)
    }
    assert hopeless == {("004", "0.97238"), ("004", "0.9864")}
