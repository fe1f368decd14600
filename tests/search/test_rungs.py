"""The arithmetic of promotions, without an oracle around it."""

from __future__ import annotations

import random

import pytest

from fmnist_sweep.search.rungs import Rungs, estimate_trial_rungs, list_asha_rungs


@pytest.mark.parametrize(
    ("lowest", "factor", "epochs", "rungs"),
    [
        (1, 3, 9, [1, 3, 9]),
        (1, 3, 10, [1, 3, 9, 10]),
        (1, 3, 8, [1, 3, 8]),
        (2, 2, 12, [2, 4, 8, 12]),
        (1, 3, 1, [1]),
        (5, 3, 4, [4]),
        (1, 1_000_000, 1_000_000, [1, 1_000_000]),
    ],
)
def test_rungs_are_powers_of_the_factor_and_the_last_one_has_all_epochs(
    lowest: int, factor: int, epochs: int, rungs: list[int]
) -> None:
    assert list_asha_rungs(lowest, factor, epochs) == rungs


def test_the_best_of_a_rung_is_promoted_once_it_is_in_the_top_third_of_what_has_ended_there() -> None:
    rungs = Rungs(2, 3)
    rungs.end_trial(0, 0, 0.5)
    rungs.end_trial(0, 1, 0.1)
    assert rungs.promote() is None
    rungs.end_trial(0, 2, 0.9)
    assert rungs.promote() == (0, 1)
    assert rungs.promote() is None, "one of three, and it is promoted"
    for number, loss in ((3, 0.8), (4, 0.7), (5, 0.6)):
        rungs.end_trial(0, number, loss)
    assert rungs.promote() == (0, 0), "the second best of six"
    rungs.end_trial(0, 6, 0.0)
    assert rungs.promote() == (0, 6), "a better one that came later, although two of seven are promoted already"


def test_the_highest_rung_goes_first() -> None:
    rungs = Rungs(3, 2)
    for number in range(4):
        rungs.end_trial(0, number, number)
    for number in (4, 5):
        rungs.end_trial(1, number, number)
    assert [rungs.promote() for _ in range(4)] == [(1, 4), (0, 0), (0, 1), None]


def test_failed_trials_count_as_ended_and_are_never_promoted() -> None:
    rungs = Rungs(2, 3)
    rungs.end_trial(0, 0, None)
    rungs.end_trial(0, 1, None)
    rungs.end_trial(0, 2, 0.9)
    assert rungs.promote() == (0, 2)
    for number in range(3, 12):
        rungs.end_trial(0, number, None)
    assert rungs.promote() is None
    assert rungs.promote_last() is None


def test_of_equals_the_one_that_was_proposed_first_goes_first_in_whatever_order_they_ended() -> None:
    rungs = Rungs(2, 2)
    for number in (3, 1, 2, 0):
        rungs.end_trial(0, number, 0.5)
    assert [rungs.promote() for _ in range(3)] == [(0, 0), (0, 1), None]


def test_without_enough_to_promote_the_best_is_promoted_until_one_was_trained_to_the_end() -> None:
    rungs = Rungs(3, 4)
    rungs.end_trial(0, 0, 0.5)
    rungs.end_trial(0, 1, 0.4)
    assert rungs.promote() is None
    assert rungs.promote_last() == (0, 1)
    rungs.end_trial(1, 2, 0.3)
    assert rungs.promote_last() == (1, 2)
    rungs.end_trial(2, 3, None)
    assert rungs.promote_last() == (0, 0), "the best failed there: the next"
    rungs.end_trial(1, 4, 0.6)
    assert rungs.promote_last() == (1, 4)
    rungs.end_trial(2, 5, 0.6)
    assert rungs.promote_last() is None


def test_promotions_are_those_of_the_published_algorithm() -> None:
    # Algorithm 2 of Li et al. (2020), as it is printed: the top 1/factor of each rung, without those promoted.
    generator, factor, count = random.Random(1), 3, 4
    rungs, ended = Rungs(count, factor), [dict[int, float]() for _ in range(count)]
    promoted: list[set[int]] = [set() for _ in range(count)]
    running: list[tuple[int, int]] = []
    number = 0
    for _ in range(600):
        if running and generator.random() < 0.5:
            rung, one = running.pop(generator.randrange(len(running)))
            ended[rung][one] = generator.random()
            rungs.end_trial(rung, one, ended[rung][one])
            continue
        expected = None
        for rung in reversed(range(count - 1)):
            top = sorted(ended[rung], key=ended[rung].__getitem__)[: len(ended[rung]) // factor]
            candidates = [one for one in top if one not in promoted[rung]]
            if candidates:
                expected = (rung, candidates[0])
                promoted[rung].add(candidates[0])
                break
        assert rungs.promote() == expected
        running.append((0 if expected is None else expected[0] + 1, number))
        number += 1
    assert ended[3]


def test_the_estimate_of_a_search_has_every_configuration_and_more_the_more_there_are() -> None:
    assert estimate_trial_rungs(1, 3, 7) == [0] * 7
    assert estimate_trial_rungs(3, 3, 1) == [0, 1, 2]
    assert estimate_trial_rungs(3, 3, 0) == []
    for configurations in (5, 27, 300, 2_500):
        trial_rungs = estimate_trial_rungs(3, 3, configurations)
        assert trial_rungs.count(0) == pytest.approx(configurations, rel=0.01)
        assert configurations // 3 <= trial_rungs.count(1) <= configurations
        assert trial_rungs.count(2) >= 1
