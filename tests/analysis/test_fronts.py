"""Small against good: what nothing beats in accuracy and cost alike, and limits on what a model may cost."""

from __future__ import annotations

import math
import random

import pytest

from fmnist_sweep.analysis.fronts import (
    LIMITED,
    MEASURES,
    CostFront,
    CostMeasure,
    compute_front,
    compute_fronts,
    find_front,
    parse_cost_limits,
)
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.tracking.trials import StoredTrial
from tests.support.stored import trial

PARAMETERS = MEASURES["parameters"]


def is_beaten(place: int, accuracies: list[float], costs: list[float]) -> bool:
    """By the definition: another is no worse in either and better in one."""
    here = (accuracies[place], -costs[place])
    others = [(accuracy, -cost) for accuracy, cost in zip(accuracies, costs, strict=True)]
    return any(other[0] >= here[0] and other[1] >= here[1] and other != here for other in others)


@pytest.mark.parametrize("seed", range(40))
def test_the_front_is_what_nothing_beats_in_both(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randrange(1, 30)
    # Of few values, so that there are equals in one and in both.
    accuracies = [draw.randrange(8) / 8 for _ in range(count)]
    costs = [float(draw.randrange(1, 8)) for _ in range(count)]
    front = find_front(accuracies, costs)
    assert sorted(front) == [place for place in range(count) if not is_beaten(place, accuracies, costs)]
    assert [costs[place] for place in front] == sorted(costs[place] for place in front)


def test_nothing_has_no_front() -> None:
    assert find_front([], []) == []
    assert compute_fronts([]) == ()


def made(number: int, accuracy: float | None, **costs: float) -> StoredTrial:
    """A trial with these costs alone, on the images a."""
    each = trial(number, accuracy)
    each.metrics.clear()  # type: ignore[attr-defined]
    each.metrics.update(costs | ({} if accuracy is None else {"best_val_accuracy": accuracy}))  # type: ignore[attr-defined]
    each.tags.update({"fmnist.data": "fashion_mnist:a"})  # type: ignore[attr-defined]
    return each


def test_trials_without_the_cost_and_on_other_images_are_not_on_it() -> None:
    other = made(3, 0.99, parameters=1.0)
    other.tags.update({"fmnist.data": "drawn:b"})  # type: ignore[attr-defined]
    trials = [
        made(0, 0.9, parameters=900.0),
        made(1, 0.8),
        made(2, 0.7, parameters=math.inf),
        other,
        made(4, None, parameters=1.0),
        made(5, 0.6, parameters=0.0),
        made(6, 0.5, parameters=500.0),
        made(7, 0.4, parameters=700.0),
    ]
    front = compute_front(trials, PARAMETERS, "fashion_mnist:a")
    assert front == CostFront(PARAMETERS, {0: 900.0, 6: 500.0, 7: 700.0}, (6, 0))


def test_a_cost_that_is_the_same_for_all_has_no_front() -> None:
    trials = [made(0, 0.9, parameters=5.0, size_bytes=7.0), made(1, 0.8, parameters=5.0, size_bytes=6.0)]
    assert [front.measure.key for front in compute_fronts(trials)] == ["bytes"]
    assert compute_fronts(trials[:1]) == ()


@pytest.mark.parametrize(
    ("measure", "cost", "text"),
    [
        ("parameters", 1234567.0, "1,234,567"),
        ("bytes", 999.0, "999"),
        ("milliseconds", 0.012345, "0.0123"),
        ("cpu_seconds", 123456.0, "123,456"),
    ],
)
def test_a_cost_is_shown_with_as_many_digits_as_say_something(measure: str, cost: float, text: str) -> None:
    assert MEASURES[measure].format_cost(cost) == text


def test_limits_admit_what_is_known_to_cost_no_more() -> None:
    (limit, other) = parse_cost_limits(("parameters=1e3", "milliseconds=0.5"))
    assert [str(limit), str(other)] == ["parameters=1000", "milliseconds=0.5"]
    assert limit.admits(made(0, 0.9, parameters=1000.0))
    assert not limit.admits(made(0, 0.9, parameters=1001.0))
    assert not limit.admits(made(0, 0.9))
    assert not limit.admits(made(0, None, parameters=5.0))
    assert other.admits(made(0, 0.9, ms_per_image=0.5))
    assert not other.admits(made(0, 0.9, ms_per_image=0.51))


@pytest.mark.parametrize(
    "text",
    [
        *("parameters", "parameters=", "=5", "", "parameters=x", "parameters=0", "parameters=-5", "parameters=nan"),
        *("parameters=inf", "cpu_seconds=5", "size=5", "parameters<=5", "parameters=1=2", "parameters=100k"),
    ],
)
def test_another_limit_is_refused_in_one_sentence_that_says_what_is_expected(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_cost_limits((text,))
    said = str(refused.value)
    assert said.startswith(f"--within {text}: expected parameters, bytes or milliseconds and a number above 0, as in")
    assert said.count("\n") == 0 and said.endswith("--within parameters=100000.")


def test_one_cost_has_one_limit() -> None:
    with pytest.raises(ConfigError, match="--within parameters: it is limited twice"):
        parse_cost_limits(("parameters=5", "bytes=7", "parameters=6"))


@pytest.mark.parametrize("measure", [MEASURES[key] for key in LIMITED], ids=LIMITED)
def test_the_cheapest_is_named_where_none_fits(measure: CostMeasure) -> None:
    (limit,) = parse_cost_limits((f"{measure.key}=1",))
    named = limit.name_least([made(0, 0.9, **{measure.metric: 7.0}), made(1, 0.8, **{measure.metric: 5.0})])
    assert named.startswith("; the least is 5: raise the limit")
    assert "none says" in limit.name_least([made(0, 0.9)])
