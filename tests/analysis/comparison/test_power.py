"""How many seeds are needed: the field's own functions, what asks for more, and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from scipy import stats

from fmnist_sweep.analysis.comparison import Power, SpreadAssumptions, count_seeds_needed


def _needed(gain: float = 0.005, **settings: Any) -> Power:
    """For a spread of 0.003 on 6,000 images, 0.002 without their luck."""
    spread = {field.name: settings.pop(field.name) for field in fields(SpreadAssumptions) if field.name in settings}
    assumptions = SpreadAssumptions(**{"seed_sd": 0.003, "seed_images": 6000, **spread})
    return count_seeds_needed(gain, **{"images": 10_000, "assumptions": assumptions, **settings})


def _noncentral(gain: float, seeds: int, champion_seeds: int, error: float) -> float:
    """The power by scipy's noncentral t, on 10,000 images."""
    net = 0.003**2 - 0.03 / 6000
    share = 1 / seeds + 1 / champion_seeds
    over_images = (0.03 * share + 0.01) / 10_000
    variance = net * share + over_images
    single = net + 0.03 / 10_000
    parts = (single / seeds) ** 2 / (seeds - 1) + (single / champion_seeds) ** 2 / (champion_seeds - 1)
    freedom = variance**2 / (parts + over_images**2 / 10_000)
    bound = stats.t.isf(error / 2, freedom)
    return float(stats.nct.sf(bound, freedom, gain / math.sqrt(variance)))


@pytest.mark.parametrize("gain", [0.004, 0.005, 0.01, 0.02])
@pytest.mark.parametrize("comparisons", [1, 3])
def test_without_a_least_gain_the_power_is_the_tail_of_the_noncentral_t(gain: float, comparisons: int) -> None:
    found = _needed(gain, comparisons=comparisons)
    expected = _noncentral(gain, found.seeds, found.seeds, 0.05 / comparisons)

    assert found.power == pytest.approx(expected, abs=5e-4)
    assert found.power >= 0.8
    assert found.seeds == 2 or _noncentral(gain, found.seeds - 1, found.seeds - 1, 0.05 / comparisons) < 0.8


def test_a_champion_that_is_given_brings_its_own_seeds() -> None:
    beside_few, beside_many = _needed(champion_seeds=6), _needed(champion_seeds=20)

    assert beside_few.power == pytest.approx(_noncentral(0.005, beside_few.seeds, 6, 0.05), abs=5e-4)
    assert beside_few.seeds > _needed().seeds > beside_many.seeds


def test_a_least_gain_cuts_off_what_would_be_found_below_it() -> None:
    plain = _needed(0.01, min_gain=0.0)
    assert _needed(0.01, min_gain=0.001).power == pytest.approx(plain.power, abs=1e-6)
    # Of estimates around the least gain itself just half are high enough, however many seeds there are.
    at_bound = _needed(0.01, min_gain=0.01)
    assert at_bound.power == pytest.approx(0.5, abs=1e-3)
    assert (at_bound.seeds, at_bound.is_sufficient) == (30, False)


def test_a_recall_that_may_fall_little_asks_for_seeds_of_its_own() -> None:
    free, bound, tight = _needed(), _needed(class_drop=0.03), _needed(class_drop=0.01)

    assert free.seeds < bound.seeds < tight.seeds
    # One class, and an accuracy that leaves no doubt: only that class's luck is left.
    alone = _needed(0.1, class_drop=0.0, recall_sds=(0.1, 0.0), power=0.5)
    assert alone.seeds == 2
    assert alone.power == pytest.approx(stats.norm.cdf(1.0), abs=1e-3)
    assert _needed(class_drop=0.03, recall_sds=()).power == free.power


@pytest.mark.parametrize(
    "harder",
    [
        {"gain": 0.004},
        {"power": 0.9},
        {"comparisons": 3},
        {"level": 0.99},
        {"seed_sd": 0.004},
        {"seed_images": 20_000},
        {"images": 5_000},
        {"interaction": 0.03},
        {"min_gain": 0.004},
    ],
)
def test_what_is_harder_to_find_takes_more_seeds(harder: dict[str, Any]) -> None:
    assert _needed(**harder).seeds > _needed().seeds


def test_the_luck_of_images_is_taken_off_the_spread_that_was_measured_on_them() -> None:
    assert _needed().net_sd == pytest.approx(0.002)
    assert _needed(seed_sd=0.004, disagreement=0.03).net_sd == pytest.approx(math.sqrt(0.004**2 - 0.015 / 6000))
    assert _needed(seed_sd=0.001).net_sd == 0.0


def test_by_default_the_spread_is_the_one_measured_over_the_documented_models() -> None:
    assert count_seeds_needed(0.005, images=10_000).net_sd == pytest.approx(0.0030, abs=5e-5)


def test_two_seeds_are_the_least_and_the_first_that_suffice_are_taken() -> None:
    assert _needed(0.5).seeds == 2
    need = _needed()
    assert _needed(most=need.seeds) == need
    short = _needed(most=need.seeds - 1)
    assert (short.seeds, short.is_sufficient) == (need.seeds - 1, False)
    assert short.power < 0.8 <= need.power


def test_it_says_what_it_found_and_what_it_assumed() -> None:
    need = _needed(min_gain=0.001, comparisons=3)
    assert (need.seeds, need.is_sufficient) == (11, True)
    assert (
        str(need)
        == need.text
        == (
            "11 seeds per finalist detect a gain of 0.5 points with 80% power (seed sd 0.0020; two trainings disagree "
            "on 6.0% of images; 10,000 test images; 3 comparisons)."
        )
    )
    assert "0.5 points and no fall of a recall by more than 3 points with 8" in _needed(class_drop=0.03).text
    assert "10,000 test images; 1 comparison)." in _needed().text


def test_it_says_that_the_most_allowed_falls_short() -> None:
    short = _needed(champion_seeds=3)
    assert (short.seeds, short.is_sufficient) == (30, False)
    assert short.text.startswith("30 seeds per finalist, beside the champion's 3, detect a gain of 0.5 points with 5")
    assert short.text.endswith("This falls short of the 80% wanted, and more seeds are not allowed.")


def test_a_power_just_short_does_not_read_like_the_one_wanted() -> None:
    short = _needed(most=4, power=0.57)
    assert 0.566 < short.power < 0.567
    assert "with 56% power (" in short.text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _needed(0.0), "gain must lie between 0 and 1"),
        (lambda: _needed(0.5, images=0), "images must be at least 1"),
        (lambda: _needed(seed_images=0), "seed_images must be at least 1"),
        (lambda: _needed(comparisons=0), "comparisons must be at least 1"),
        (lambda: _needed(champion_seeds=1), "champion_seeds must be at least 2"),
        (lambda: _needed(most=1), "most must be at least 2"),
        (lambda: _needed(min_gain=-0.1), "min_gain must be a number from 0 up"),
        (lambda: _needed(class_drop=-0.1), "class_drop must be a number from 0 up"),
        (lambda: _needed(seed_sd=float("nan")), "seed_sd must be a number from 0 up"),
        (lambda: _needed(interaction=-1), "interaction must be a number from 0 up"),
        (lambda: _needed(class_drop=0.1, recall_sds=(0.1, -0.1)), "recall_sds must be a number from 0 up"),
        (lambda: _needed(level=95), "level must lie between 0 and 1"),
        (lambda: _needed(power=1.0), "power must lie between 0 and 1"),
        (lambda: _needed(disagreement=0.0), "disagreement must lie between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused_in_a_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
