"""Looks at the validation images: what they drop, when they end the training, and that they only ever stop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fmnist_sweep.promotion.foresight import foresee
from fmnist_sweep.promotion.look_journal import RecordedLook
from fmnist_sweep.promotion.look_text import describe_look
from fmnist_sweep.promotion.looks import LookRule, take_look

RULE = LookRule(
    most=20, comparisons=2, gain=0.005, min_gain=0.001, class_drop=0.05, power=0.85, level=0.95, validation_images=6000
)
CHAMPION = [0.903, 0.899, 0.901, 0.897, 0.902, 0.898]


def shift(gain: float, seeds: int = 4) -> list[float]:
    """Accuracies of a finalist that are ahead of the champion's by this."""
    return [accuracy + gain for accuracy in CHAMPION[:seeds]]


def test_a_finalist_behind_the_champion_is_dropped_and_without_one_left_training_ends() -> None:
    look = take_look(RULE, [shift(-0.01), shift(0.004)], CHAMPION[:4])
    assert [outlook.fate for outlook in look.outlooks] == ["futile", "goes on"]
    assert (look.remaining, look.ends_training) == ([1], False)
    look = take_look(RULE, [shift(-0.01), shift(-0.008)], CHAMPION[:4])
    assert (look.remaining, look.is_enough, look.ends_training) == ([], False, True)


def test_a_look_says_who_is_ahead_and_who_behind() -> None:
    look = take_look(RULE, [shift(-0.01), shift(0.004)], CHAMPION[:4])
    worse, better = describe_look(RecordedLook(look, ("one", "other"), ("1", "2")))
    assert worse.startswith("look after 4 seeds: one is 1.00 ± ")
    assert "points behind the champion" in worse
    assert better.startswith("look after 4 seeds: other is 0.40 ± ")
    assert "points ahead of the champion" in better


def test_a_finalist_far_behind_another_cannot_be_the_best_any_more() -> None:
    look = take_look(RULE, [shift(0.018, 6), shift(0.006, 6)], CHAMPION)
    assert [outlook.fate for outlook in look.outlooks] == ["goes on", "beaten"]


def test_a_clear_gain_is_enough_and_what_is_neither_clear_nor_futile_goes_on() -> None:
    for gain, enough in ((0.003, False), (0.005, False), (0.02, True)):
        look = take_look(RULE, [shift(gain, 6), shift(gain, 6)], CHAMPION)
        assert look.is_enough == look.ends_training == enough
        assert len(look.remaining) == 2


def test_a_gain_that_is_seen_with_more_spread_over_seeds_is_less_clear() -> None:
    wide = [accuracy + 6 * (accuracy - 0.9) for accuracy in CHAMPION]
    calm = take_look(RULE, [shift(0.012, 6)], CHAMPION).outlooks[0]
    noisy = take_look(RULE, [[accuracy + 0.012 for accuracy in wide]], wide).outlooks[0]
    assert noisy.gain == pytest.approx(calm.gain)
    assert noisy.se > 1.5 * calm.se
    assert noisy.chance_now < calm.chance_now


def test_the_seeds_that_a_champion_has_already_make_a_look_sharper() -> None:
    assert (
        take_look(RULE, [shift(0.004)], CHAMPION * 3).outlooks[0].se
        < take_look(RULE, [shift(0.004)], CHAMPION[:4]).outlooks[0].se
    )


def test_all_looks_lie_before_the_last_seed() -> None:
    assert RULE.looks == (4, 6, 8, 11, 14, 18)
    assert replace(RULE, most=15).looks == (4, 6, 8, 11, 14)
    assert replace(RULE, most=4).looks == ()


@pytest.mark.parametrize(
    ("finalists", "champion"), [([[0.9]], [0.9, 0.9]), ([[0.9, 0.9]], [0.9]), ([[0.9] * 3, [0.9] * 4], [0.9] * 3)]
)
def test_too_few_seeds_or_unequal_numbers_are_refused(finalists: list[list[float]], champion: list[float]) -> None:
    with pytest.raises(ValueError, match="two seeds of each"):
        take_look(RULE, finalists, champion)


def test_what_is_foreseen_is_the_same_each_time_and_more_is_found_of_a_greater_gain() -> None:
    equal, half, point = (foresee(RULE, gain, 5) for gain in (0.0, 0.005, 0.01))
    assert foresee(RULE, 0.005, 5) == half
    assert equal.chance < 0.05 < 0.7 < half.chance < point.chance
    assert point.trainings < equal.trainings < half.trainings < 3 * RULE.most - 5
    assert point.seeds < half.seeds <= RULE.most
