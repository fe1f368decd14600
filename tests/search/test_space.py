"""Tunables <-> KerasTuner's HyperParameters: names, values, sizes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from fmnist_sweep.search import space, tunable
from fmnist_sweep.search.parameters import find_tunables

CASES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "choice": ({"tune": "choice", "values": [32, 48]}, [32, 48]),
    "one choice": ({"tune": "choice", "values": ["a"]}, ["a"]),
    "int": ({"tune": "int", "min_value": 1, "max_value": 3}, [1, 2, 3]),
    "int of one value": ({"tune": "int", "min_value": 3, "max_value": 3}, [3]),
    "int with a step": ({"tune": "int", "min_value": 1, "max_value": 6, "step": 2}, [1, 3, 5]),
    "int that reaches its end": ({"tune": "int", "min_value": 8, "max_value": 24, "step": 8}, [8, 16, 24]),
    "int that doubles": (
        {"tune": "int", "min_value": 8, "max_value": 64, "step": 2, "sampling": "log"},
        [8, 16, 32, 64],
    ),
    "boolean": ({"tune": "boolean"}, [False, True]),
    "float with a step": (
        {"tune": "float", "min_value": 0.0, "max_value": 0.5, "step": 0.1},
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5],
    ),
    "float that does not reach its end": (
        {"tune": "float", "min_value": 0.0, "max_value": 0.5, "step": 0.2},
        [0.0, 0.2, 0.4],
    ),
    "float by thirds": ({"tune": "float", "min_value": 0.1, "max_value": 0.7, "step": 0.3}, [0.1, 0.4, 0.7]),
    "float by tens": (
        {"tune": "float", "min_value": 1e-4, "max_value": 1e-1, "step": 10, "sampling": "log"},
        [1e-4, 1e-3, 1e-2, 1e-1],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_space_holds_every_value_of_a_tunable_its_last_one_too(case: str) -> None:
    spec, values = CASES[case]
    parameter = space.build_hyperparameters({"a": {"b": spec}}).space[0]
    assert parameter.name == "a.b"
    assert sorted(parameter.values) == values


@pytest.mark.parametrize("case", CASES)
def test_the_size_of_a_space_is_the_number_of_its_values(case: str) -> None:
    spec, values = CASES[case]
    assert space.count_combinations({"a": spec}) == len(values)
    assert space.count_grid_trials({"a": spec}) == len(values)


@pytest.mark.parametrize("case", CASES)
def test_every_value_comes_back_as_it_would_be_written(case: str) -> None:
    spec, values = CASES[case]
    for value in space.build_hyperparameters({"a": spec}).space[0].values:
        back = space.resolve_tunables({"a": spec}, {"a": value})["a"]
        assert back in values
        assert type(back) is type(values[0])
        assert len(str(back)) <= 6


def test_sizes_multiply() -> None:
    settings = {"a": {"tune": "boolean"}, "b": {"c": {"tune": "choice", "values": [1, 2, 3]}}, "d": 4}
    assert space.count_combinations(settings) == space.count_grid_trials(settings) == 6
    assert space.count_combinations({"d": 4}) == 1


def test_a_continuous_tunable_has_no_size() -> None:
    assert math.isinf(space.count_combinations({"a": {"tune": "float", "min_value": 0.0, "max_value": 1.0}}))
    assert space.count_combinations({"a": {"tune": "float", "min_value": 0.5, "max_value": 0.5}}) == 1


def test_resolving_leaves_no_tunable_and_changes_nothing_it_was_given() -> None:
    spec = {"tune": "choice", "values": [1, 2]}
    settings = {"a": {"b": spec, "c": [1]}, "d": "text"}
    resolved = space.resolve_tunables(settings, {"a.b": 2})
    assert resolved == {"a": {"b": 2, "c": [1]}, "d": "text"}
    resolved["a"]["c"].append(2)
    assert settings == {"a": {"b": spec, "c": [1]}, "d": "text"}
    assert list(find_tunables(resolved)) == []


def test_a_value_that_was_not_proposed_is_an_error_and_not_a_default() -> None:
    with pytest.raises(KeyError):
        space.resolve_tunables({"a": {"tune": "boolean"}}, {})


def test_a_default_is_handed_on() -> None:
    spec = {"tune": "float", "min_value": 0.0, "max_value": 1.0, "step": 0.25, "default": 0.5}
    assert space.build_hyperparameters({"a": spec}).space[0].default == 0.5


LARGE: dict[str, tuple[dict[str, Any], float]] = {
    "int": ({"tune": "int", "min_value": 0, "max_value": 2**31}, 2**31 + 1),
    "int with a step": ({"tune": "int", "min_value": 0, "max_value": 10**12, "step": 3}, 333_333_333_334),
    "int that doubles": ({"tune": "int", "min_value": 1, "max_value": 2**60, "step": 2, "sampling": "log"}, 61),
}


@pytest.mark.parametrize("case", LARGE)
def test_a_large_space_is_counted_without_listing_it(case: str) -> None:
    spec, count = LARGE[case]
    assert space.count_combinations({"a": spec}) == count
    assert space.count_grid_trials({"a": spec, "b": {"tune": "boolean"}}) == 2 * count
    assert space.find_unlisted_tunable({"b": 1, "a": {"c": spec}}) == (("a.c", count) if count > 10_000 else None)


@pytest.mark.parametrize(
    ("step", "sampling"),
    [(1e-9, "linear"), (1e-320, "linear"), (5e-324, "linear"), (1 + 1e-9, "log"), (1 + 1e-16, "log"), (1.0, "log")],
)
def test_a_step_that_makes_too_many_values_to_list_is_refused(step: float, sampling: str) -> None:
    spec = {"tune": "float", "min_value": 0.1, "max_value": 1.0, "step": step, "sampling": sampling}
    with pytest.raises(ValidationError, match=r"at most 10,000 can be stepped through|step must be above"):
        tunable.parse_tunable(spec)


def test_so_many_values_can_be_stepped_through() -> None:
    spec = {"tune": "float", "min_value": 0.0, "max_value": 1.0, "step": 0.0002}
    assert space.count_grid_trials({"a": spec}) == space.count_combinations({"a": spec}) == 5001
