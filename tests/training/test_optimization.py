"""What a fit is made of: schedules, early stopping, targets, optimizers."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
import yaml

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.training.optimization import (
    SCHEDULES,
    build_loss,
    build_optimizer,
    compute_batch_rates,
    compute_learning_rate,
    encode_targets,
    find_best_epoch,
    make_accuracy_metric,
    should_stop,
)
from tests.support.small import TINY


def history(*losses: float) -> list[dict[str, float]]:
    return [{"val_loss": loss, "val_accuracy": 1 - loss} for loss in losses]


@pytest.mark.parametrize(
    ("section", "attributes"),
    [
        ({"name": "rmsprop", "learning_rate": 0.02, "momentum": 0.3}, {"momentum": 0.3}),
        ({"name": "adam", "learning_rate": 0.02}, {}),
        ({"name": "adamw", "learning_rate": 0.02, "weight_decay": 0.1}, {"weight_decay": 0.1}),
        (
            {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9, "nesterov": True},
            {"momentum": 0.9, "nesterov": True},
        ),
    ],
    ids=lambda section: section.get("name", ""),
)
def test_an_optimizer_has_the_arguments_of_its_section(section: dict[str, Any], attributes: dict[str, Any]) -> None:
    optimizer = build_optimizer(section)
    assert type(optimizer).__name__.lower() == section["name"]
    assert float(optimizer.learning_rate) == pytest.approx(0.02)
    assert {key: getattr(optimizer, key) for key in attributes} == attributes


def rates(schedule: dict[str, Any], epochs: int, *losses: float) -> list[float]:
    told = history(*(losses or [1.0] * epochs))
    return [compute_learning_rate(schedule, 1.0, epochs, told[:done]) for done in range(epochs)]


def test_a_constant_rate_is_constant() -> None:
    assert rates({"name": "constant"}, 4) == [1.0] * 4


def test_an_exponential_rate_is_multiplied_each_epoch() -> None:
    assert rates({"name": "exponential", "factor": 0.5}, 4) == [1.0, 0.5, 0.25, 0.125]


COSINE = {"name": "cosine", "warmup_epochs": 0, "over_epochs": None}


def test_a_cosine_falls_to_nearly_nothing_and_never_to_zero() -> None:
    found = rates(COSINE, 10)
    assert found[0] == 1.0
    assert found == sorted(found, reverse=True)
    assert found[5] == pytest.approx(0.5)
    assert 0 < found[-1] < 0.1
    assert compute_learning_rate(COSINE, 1.0, 10, history(*[1.0] * 10)) > 0


def test_a_warm_up_climbs_to_the_whole_rate() -> None:
    assert rates({**COSINE, "warmup_epochs": 3}, 8)[:4] == [0.25, 0.5, 0.75, 1.0]


def test_a_warm_up_longer_than_the_fit_is_no_error() -> None:
    assert rates({**COSINE, "warmup_epochs": 9}, 3) == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_a_cosine_over_more_epochs_begins_as_the_longer_fit(warmup_epochs: int) -> None:
    schedule = {**COSINE, "warmup_epochs": warmup_epochs}
    assert rates({**schedule, "over_epochs": 9}, 3) == rates(schedule, 9)[:3]
    assert rates({**schedule, "over_epochs": 9}, 9) == rates(schedule, 9)
    assert rates({**schedule, "over_epochs": 4}, 4) == rates(schedule, 4) != rates(schedule, 9)[:4]


def test_a_cosine_stays_at_its_lowest_in_epochs_beyond_it() -> None:
    assert rates({**COSINE, "over_epochs": 2}, 5) == pytest.approx([1.0, 0.5, 1e-3, 1e-3, 1e-3])


CYCLE = {"name": "one_cycle", "warmup": 0.25, "over_epochs": None}


def batch_rates(schedule: dict[str, Any], epochs: int, total: int | None = None) -> list[float]:
    """Of ten batches in each of the first `epochs` epochs of a fit of `total`."""
    told = history(*[1.0] * epochs)
    return [
        rate
        for done in range(epochs)
        for rate in compute_batch_rates(schedule, 1.0, total or epochs, told[:done], batches=10)
    ]


def test_a_cycle_rises_to_the_whole_rate_and_falls_to_nearly_nothing_batch_by_batch() -> None:
    found = batch_rates(CYCLE, 4)
    assert found[0] == pytest.approx(0.1) and found[10] == max(found) == 1.0
    assert found[:11] == sorted(found[:11]) and found[10:] == sorted(found[10:], reverse=True)
    assert len(set(found)) == 40
    assert 0 < found[-1] < 0.01


def test_a_cycle_without_warm_up_begins_with_the_whole_rate() -> None:
    assert batch_rates({**CYCLE, "warmup": 0.0}, 2)[0] == 1.0


def test_a_cycle_over_more_epochs_begins_as_the_longer_fit() -> None:
    assert batch_rates({**CYCLE, "over_epochs": 9}, 3) == batch_rates(CYCLE, 3, total=9)
    assert batch_rates({**CYCLE, "over_epochs": 2}, 4)[20:] == [1e-3] * 20


@pytest.mark.parametrize("warmup", ["1", "-0.1", "soon", "null"])
def test_another_warm_up_of_a_cycle_is_refused(warmup: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.schedule\.warmup.*number"):
        compose_job([*TINY, "train=one_cycle", f"train.schedule.warmup={warmup}"])


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_smoothed_labels_share_a_part_of_their_weight_evenly(loss: str) -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(10), 5).astype(np.float32)
    labels = np.array([3, 0, 9, 3, 1])
    compute = build_loss(loss, 10, 0.2)
    assert callable(compute)
    weights = 0.8 * np.eye(10)[labels] + 0.02
    expected = -(weights * np.log(probabilities)).sum(axis=1)
    targets = encode_targets(loss, labels, 10)
    np.testing.assert_allclose(np.asarray(compute(targets, probabilities)), expected, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(compute(targets.reshape(5, -1), probabilities)), expected, rtol=1e-5)


def test_labels_that_are_not_smoothed_have_the_loss_of_keras() -> None:
    assert build_loss("sparse_categorical_crossentropy", 10, 0.0) == "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.loss=binary_crossentropy", "train.label_smoothing=0.1"],
        ["train.loss=binary_crossentropy", "train.label_smoothing={tune: float, min_value: 0.0, max_value: 0.2}"],
        [
            "train.loss={tune: choice, values: [binary_crossentropy, categorical_crossentropy]}",
            "train.label_smoothing=0.1",
        ],
        ["train.label_smoothing=1.0"],
        ["train.label_smoothing=-0.1"],
        ["train.label_smoothing=true"],
    ],
)
def test_smoothing_that_means_nothing_is_refused(overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"^train\.label_smoothing=.*(categorical_crossentropy|number)"):
        compose_job([*TINY, *overrides])


@pytest.mark.parametrize("given", ["null", "9", "{tune: choice, values: [3, 9]}"])
def test_the_epochs_of_a_cosine_may_be_null_a_number_or_tunable(given: str) -> None:
    job = compose_job([*TINY, "train=cosine", f"train.schedule.over_epochs={given}"])
    assert job.config.settings["train"]["schedule"]["over_epochs"] == yaml.safe_load(given)


@pytest.mark.parametrize("given", ["0", "2.5", "true", "soon", "{tune: choice, values: [0, 9]}"])
def test_other_epochs_of_a_cosine_are_refused_with_what_is_allowed(given: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.schedule\.over_epochs.*a whole number from 1 to 1000000 or null"):
        compose_job([*TINY, "train=cosine", f"train.schedule.over_epochs={given}"])


def test_a_plateau_lowers_the_rate_after_patience_epochs_without_a_lower_loss() -> None:
    schedule = {"name": "plateau", "factor": 0.1, "patience": 2}
    assert rates(schedule, 7, 1.0, 0.9, 0.9, 0.95, 0.8, 0.9, 0.9) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1])


def test_every_schedule_is_tried_here() -> None:
    assert set(SCHEDULES) == {"constant", "cosine", "exponential", "one_cycle", "plateau"}


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "stops"),
    [
        ([0.5], 1, 0.0, False),
        ([0.5, 0.5], 1, 0.0, True),
        ([0.5, 0.4, 0.4], 2, 0.0, False),
        ([0.5, 0.4, 0.4, 0.4], 2, 0.0, True),
        ([0.5, 0.45, 0.41], 2, 0.1, True),
        ([0.5, 0.45, 0.39], 2, 0.1, False),
        ([0.5, 0.6, 0.4, 0.5], 2, 0.0, False),
    ],
)
@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_a_fit_stops_when_patience_is_over(
    losses: list[float], patience: int, min_delta: float, stops: bool, monitor: str
) -> None:
    assert should_stop(history(*losses), monitor, patience, min_delta) is stops


def test_the_best_epoch_counts_from_one_and_the_first_of_equals_wins() -> None:
    assert find_best_epoch(history(0.3, 0.1, 0.1), "val_loss") == 2
    assert find_best_epoch(history(0.3, 0.1, 0.1), "val_accuracy") == 2
    assert (
        find_best_epoch(
            [{"val_loss": 0.1, "val_accuracy": 0.2}, {"val_loss": 0.2, "val_accuracy": 0.3}], "val_accuracy"
        )
        == 2
    )


def test_targets_are_integers_for_the_sparse_loss_and_rows_of_one_for_the_others() -> None:
    labels = np.array([3, 0])
    assert encode_targets("sparse_categorical_crossentropy", labels, 10) is labels
    for loss in ("categorical_crossentropy", "binary_crossentropy"):
        rows = encode_targets(loss, labels, 10)
        assert rows.shape == (2, 10)
        assert rows.argmax(axis=1).tolist() == [3, 0]
        assert rows.sum() == 2


def test_the_accuracy_metric_counts_labels_and_not_bits() -> None:
    probabilities = np.full((2, 10), 0.01, np.float32)
    probabilities[:, 4] = 0.4  # below a half: every bit of the second row but one is right
    for loss in ("sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"):
        metric = make_accuracy_metric(loss)
        metric.update_state(encode_targets(loss, np.array([4, 5]), 10), probabilities)
        assert float(metric.result()) == 0.5
        assert metric.name == "accuracy"


def test_a_rate_is_finite_for_any_history() -> None:
    for name, arguments in (
        ("constant", {}),
        ("cosine", {"warmup_epochs": 2, "over_epochs": None}),
        ("cosine", {"warmup_epochs": 2, "over_epochs": 1}),
        ("one_cycle", {"warmup": 0.0, "over_epochs": None}),
        ("one_cycle", {"warmup": 0.9, "over_epochs": 2}),
        ("exponential", {"factor": 0.5}),
        ("plateau", {"factor": 0.5, "patience": 1}),
    ):
        assert all(math.isfinite(rate) and rate > 0 for rate in rates({"name": name, **arguments}, 30))


@pytest.mark.parametrize("averaging", [0.0, 0.5])
def test_the_weights_of_an_epochs_end_are_their_running_average(averaging: float) -> None:
    optimizer = build_optimizer({"name": "sgd", "learning_rate": 1.0, "momentum": 0.0, "nesterov": False}, averaging)
    weight = keras.Variable(0.0)
    optimizer.build([weight])
    average = 0.0
    for step in range(1, 5):  # each moves the weight by -1
        optimizer.apply([np.float32(1)])
        average = averaging * average - (1 - averaging) * step if step > 1 else -1.0
    optimizer.finalize_variable_values([weight])  # as Keras' fit does when it ends
    assert float(weight) == pytest.approx(average)
