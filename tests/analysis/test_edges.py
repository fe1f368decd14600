"""Edges of ranges: which are found, what widens them, that what is printed composes, and when nothing is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from fmnist_sweep.analysis.edges import Edge, compute_rise_probability, find_edges
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.keys import find_value
from fmnist_sweep.search.tunable import is_tunable

FIXED = (
    *("data=drawn", "model=cnn", "model.filters=32", "model.conv_layers=2", "model.kernel_size=3", "optimizer=adam"),
    *("model.dense_units=64", "regularization=none", "optimizer.learning_rate=0.001", "train.epochs=3"),
)


def study(*tunables: str) -> tuple[list[str], Mapping[str, Any]]:
    """The overrides and settings of a study of these tunables alone."""
    keys = {tunable.partition("=")[0] for tunable in tunables}
    overrides = [*(override for override in FIXED if override.partition("=")[0] not in keys), *tunables]
    settings = compose_job(overrides).config.settings
    fixed = {
        name: f"{section}.{name}"
        for section in ("model", "optimizer", "regularization")
        for name, value in settings[section].items()
        if is_tunable(value) and f"{section}.{name}" not in keys
    }
    assert not fixed
    return overrides, settings


def rising(key: str, values: Sequence[Any]) -> tuple[list[dict[str, Any]], list[float]]:
    """Trials whose accuracy rises in the order of the values, each tried three times."""
    return [{key: value} for value in values for _ in range(3)], [
        0.8 + 0.01 * place for place in range(3 * len(values))
    ]


@pytest.mark.parametrize(
    ("key", "tunable", "values", "override"),
    [
        ("model.filters", "{tune: choice, values: [32,48,64]}", [32, 48, 64], "values=[32,48,64,96]"),
        ("model.filters", "{tune: choice, values: [32,48,64]}", [64, 48, 32], "values=[16,32,48,64]"),
        ("model.filters", "{tune: choice, values: [64,32,48]}", [32, 48, 64], "values=[64,32,48,96]"),
        ("model.filters", "{tune: choice, values: [64,128]}", [128, 64], "values=[32,64,128]"),
        ("model.filters", "{tune: choice, values: [32,4096]}", [32, 4096], None),
        ("model.kernel_size", "{tune: choice, values: [3,5,7]}", [3, 5, 7], "values=[3,5,7,11]"),
        ("model.kernel_size", "{tune: choice, values: [1,2,3]}", [3, 2, 1], None),
        ("model.conv_layers", "{tune: int, min_value: 1, max_value: 3}", [1, 2, 3], "max_value=4"),
        ("model.conv_layers", "{tune: int, min_value: 1, max_value: 4}", [1, 2, 3, 4], None),
        ("model.conv_layers", "{tune: int, min_value: 1, max_value: 3}", [3, 2, 1], None),
        ("model.conv_layers", "{tune: int, min_value: 2, max_value: 4}", [4, 3, 2], "min_value=1"),
        ("model.dense_units", "{tune: int, min_value: 64, max_value: 256}", [70, 150, 250], "max_value=352"),
        ("model.dense_units", "{tune: int, min_value: 64, max_value: 256, step: 32}", [64, 128, 256], "max_value=352"),
        ("model.dense_units", "{tune: int, min_value: 64, max_value: 256}", [250, 150, 66], "min_value=16"),
        (
            "model.dense_units",
            "{tune: int, min_value: 16, max_value: 256, sampling: log}",
            [16, 64, 256],
            "max_value=1024",
        ),
        (
            "regularization.dropout",
            "{tune: float, min_value: 0.0, max_value: 0.5, step: 0.1}",
            [0.1, 0.5],
            "max_value=0.7",
        ),
        ("regularization.dropout", "{tune: float, min_value: 0.0, max_value: 0.5, step: 0.1}", [0.5, 0.0], None),
        ("regularization.dropout", "{tune: float, min_value: 0.0, max_value: 0.9, step: 0.1}", [0.1, 0.9], None),
        ("regularization.dropout", "{tune: float, min_value: 0.0, max_value: 0.8}", [0.1, 0.78], "max_value=0.9"),
        (
            "regularization.dropout",
            "{tune: choice, values: [0.0,0.25,0.5]}",
            [0.0, 0.25, 0.5],
            "values=[0.0,0.25,0.5,0.8]",
        ),
        (
            "optimizer.learning_rate",
            "{tune: float, min_value: 0.0001, max_value: 0.01, sampling: log}",
            [0.0002, 0.001, 0.009],
            "max_value=0.1",
        ),
        (
            "optimizer.learning_rate",
            "{tune: float, min_value: 0.0001, max_value: 0.01, sampling: log}",
            [0.009, 0.001, 0.0001],
            "min_value=1e-05",
        ),
        (
            "regularization.l2",
            "{tune: float, min_value: 0.00001, max_value: 0.001, sampling: log, step: 10}",
            [0.00001, 0.0001, 0.001],
            "max_value=0.01",
        ),
        # No order, no edge.
        ("model.filters", "{tune: choice, values: [32,48,64], ordered: false}", [32, 48, 64], None),
        ("regularization.batch_normalization", "{tune: boolean}", [False, True], None),
        ("regularization.dropout_after", "{tune: choice, values: [dense,every_layer]}", ["dense", "every_layer"], None),
        ("model.filters", "{tune: choice, values: [32]}", [32, 32], None),
    ],
)
def test_the_edge_that_accuracy_rises_to_is_widened_as_far_as_is_allowed(
    key: str, tunable: str, values: list[Any], override: str | None
) -> None:
    overrides, settings = study(f"{key}={tunable}")
    edges = find_edges(settings, *rising(key, values))
    if override is None:
        assert edges == []
        return
    (edge,) = edges
    assert edge == Edge(key, values[-1], edge.is_upper, 3 * len(values), f"{key}.{override}")
    assert edge.is_upper is (values[-1] > values[0])
    widened = find_value(compose_job([*overrides, edge.override]).config.settings, key)
    assert widened[override.partition("=")[0]] != find_value(settings, key)[override.partition("=")[0]]


FILTERS = "model.filters={tune: choice, values: [32,48,64]}"


@pytest.mark.parametrize(
    ("values", "accuracies"),
    [
        ([], []),
        ([64], [0.9]),
        ([32, 48, 64], [0.7, 0.8, 0.9]),  # of three trials one in six orders is this one
        ([32, 32, 32, 64, 64, 64], [0.89, 0.88, 0.87, 0.9, 0.5, 0.4]),  # the best alone
        ([32, 48, 48, 48, 64, 64], [0.7, 0.8, 0.81, 0.92, 0.9, 0.91]),  # the best lies within
        ([64, 64, 64, 64, 64, 64], [0.7, 0.8, 0.81, 0.9, 0.91, 0.92]),  # nothing to compare with
        ([32, 48, 64, 32, 48, 64], [0.9] * 6),
        ([7, 7, 7, 7, 7, 7], [0.7, 0.8, 0.81, 0.9, 0.91, 0.92]),  # none of the choice
    ],
)
def test_where_too_little_speaks_for_an_edge_nothing_is_said(values: list[int], accuracies: list[float]) -> None:
    _, settings = study(FILTERS)
    assert find_edges(settings, [{"model.filters": value} for value in values], accuracies) == []


def test_a_value_that_was_not_drawn_is_no_value() -> None:
    _, settings = study(FILTERS, "model.dense_units={tune: int, min_value: 64, max_value: 256}")
    trials, accuracies = rising("model.filters", [32, 48, 64])
    (edge,) = find_edges(settings, [{"model.dense_units": 100}, *trials[1:]], accuracies)
    assert (edge.key, edge.trials) == ("model.filters", 8)
    assert find_edges(settings, [*trials[:-1], {"model.dense_units": 250}], accuracies) == []  # the best has none


def test_among_equals_an_edge_is_found_for_less_than_one_tunable_in_ten() -> None:
    _, settings = study(
        FILTERS,
        "model.conv_layers={tune: int, min_value: 2, max_value: 3}",
        "regularization.dropout={tune: float, min_value: 0.1, max_value: 0.5}",
    )
    random, found, studies = np.random.default_rng(0), 0, 250
    for count in (8, 20):
        for _ in range(studies):
            trials = [
                {
                    "model.filters": int(random.choice([32, 48, 64])),
                    "model.conv_layers": int(random.integers(2, 4)),
                    "regularization.dropout": float(random.uniform(0.1, 0.5)),
                }
                for _ in range(count)
            ]
            found += len(find_edges(settings, trials, random.normal(0.9, 0.01, count).tolist()))
    assert 0.02 < found / (3 * 2 * studies) < 0.1


def test_the_probability_of_a_rise_is_kendalls() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(2)
    for _ in range(20):
        one, other = random.integers(0, 4, 15).tolist(), random.normal(0, 1, 15).tolist()
        expected = stats.kendalltau(one, other, method="asymptotic", alternative="greater").pvalue
        # Without the correction for continuity, which makes it no smaller.
        assert expected - 1e-9 <= compute_rise_probability(list(zip(one, other, strict=True))) < expected + 0.04
    assert compute_rise_probability([(1, 0.5)] * 5) == 1
