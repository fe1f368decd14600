"""What held trials back: each case beside those in which nothing is said; what is printed composes."""

from __future__ import annotations

from typing import Any

import pytest

from fmnist_sweep.analysis.shortcomings import (
    find_early_ends,
    find_improvement,
    find_lack_of_time,
    find_overtime,
    judge_fit,
)
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.keys import flatten_config
from tests.analysis.test_edges import FIXED

EARLY = "train.early_stopping={monitor: val_loss, patience: 4, min_delta: 0.0}"


def settings_of(*overrides: str) -> dict[str, Any]:
    return compose_job(list_overrides(*overrides)).config.settings


def list_overrides(*overrides: str) -> list[str]:
    """The fixed settings, but for what these override."""
    keys = {override.partition("=")[0] for override in overrides}
    return [*(each for each in FIXED if each.partition("=")[0] not in keys), *overrides]


def composes(override: str, *overrides: str) -> bool:
    """Whether an override is accepted in the place of one of the same key."""
    key = override.partition("=")[0]
    others = [each for each in overrides if each.partition("=")[0] != key]
    return compose_job(list_overrides(*others, override)) is not None


def curve(*accuracies: float) -> list[dict[str, float]]:
    return [
        {"accuracy": value, "val_accuracy": value, "loss": 1 - value, "val_loss": 1 - value} for value in accuracies
    ]


@pytest.mark.parametrize(
    ("epochs", "accuracies", "best_epoch", "images", "gain"),
    [
        (3, (0.80, 0.85, 0.88), 3, 6000, 0.03),
        (2, (0.80, 0.85), 2, 6000, 0.05),
        (8, (0.80, 0.85, 0.86, 0.87, 0.88, 0.885, 0.89, 0.90), 8, 6000, 0.015),  # over the last two
        (3, (0.80, 0.88, 0.881), 3, 6000, None),  # hardly
        (3, (0.80, 0.85, 0.88), 3, 100, None),  # 100 images cannot tell
        (3, (0.80, 0.88, 0.87), 2, 6000, None),
        (1, (0.80,), 1, 6000, None),
        (5, (0.80, 0.85, 0.88), 3, 6000, None),  # ended early
    ],
)
def test_a_trial_was_still_improving(
    epochs: int, accuracies: tuple[float, ...], best_epoch: int, images: int, gain: float | None
) -> None:
    found = find_improvement(
        settings_of("train=default", f"train.epochs={epochs}"), curve(*accuracies), best_epoch, images
    )
    if gain is None:
        assert found is None
        return
    assert found is not None
    assert (found.epochs, found.override) == (epochs, f"train.epochs={2 * epochs}")
    assert found.gain == pytest.approx(gain)
    assert composes(found.override)


@pytest.mark.parametrize(
    ("overrides", "is_said"),
    [
        (["train=default"], True),
        (["train=exponential", "train.schedule.factor=0.9"], True),
        (["train=plateau"], True),
        (["train=cosine", "train.schedule.over_epochs=6"], True),
        (["train=cosine"], False),
        (["train=one_cycle"], False),
        (["train=exponential", "train.schedule.factor=0.5"], False),
    ],
)
def test_a_schedule_that_ends_with_the_epochs_improves_at_its_end_anyway(overrides: list[str], is_said: bool) -> None:
    settings = compose_job([*overrides, "train.epochs=3"]).config.settings
    assert (find_improvement(settings, curve(0.80, 0.85, 0.88), 3, 6000) is not None) is is_said


def test_tuned_epochs_are_a_range_and_the_most_epochs_are_no_less_than_all() -> None:
    tuned = settings_of("train.epochs={tune: int, min_value: 1, max_value: 3}")
    assert find_improvement(tuned, curve(0.8, 0.85, 0.88), 3, 6000) is None
    settings = settings_of()
    most = {**settings, "train": {**settings["train"], "epochs": 1_000_000}}
    assert find_improvement(most, curve(0.8, 0.9), 2, 6000) is None


DROPOUT = "regularization.dropout={tune: float, min_value: 0.0, max_value: 0.5, step: 0.1}"
FILTERS = "model.filters={tune: choice, values: [16,32]}"


@pytest.mark.parametrize(
    ("overrides", "train", "validation", "images", "expected"),
    [
        ((), 0.97, 0.92, 6000, "regularization.dropout=0.2"),
        (("regularization.dropout=0.4",), 0.97, 0.92, 6000, "regularization.dropout=0.5"),
        (("regularization.dropout=0.5",), 0.97, 0.92, 6000, "train.augmentation.shift=2"),
        ((DROPOUT,), 0.97, 0.92, 6000, "train.augmentation.shift=2"),
        ((DROPOUT, "train.augmentation.shift=3"), 0.97, 0.92, 6000, "regularization.l2=0.0001"),
        (
            (DROPOUT, "train.augmentation.shift=3", "regularization.l2={tune: choice, values: [0.0,0.001]}"),
            *(0.97, 0.92, 6000, "regularization.dropout.max_value=0.7"),
        ),
        ((), 0.945, 0.92, 6000, None),  # as the documented models are
        ((), 0.97, 0.92, 100, None),  # 100 images cannot tell
        ((), 0.92, 0.93, 6000, None),
        ((), 0.70, 0.71, 6000, "model.filters=64"),
        (("regularization.dropout=0.4",), 0.70, 0.71, 6000, "regularization.dropout=0.2"),
        ((FILTERS,), 0.70, 0.71, 6000, "model.filters.values=[16,32,64]"),
        # A range of one value has no edges.
        (("model.filters={tune: choice, values: [16]}",), 0.70, 0.71, 6000, "model.dense_units=128"),
        (("model.filters={tune: choice, values: [16,32], ordered: false}",), 0.70, 0.71, 6000, "model.dense_units=128"),
        (("model.filters={tune: int, min_value: 16, max_value: 16}",), 0.70, 0.71, 6000, "model.dense_units=128"),
        (("model.filters=4096",), 0.70, 0.71, 6000, "model.dense_units=128"),
        (("model.filters=4096", "model.dense_units=4096"), 0.70, 0.71, 6000, "train.epochs=6"),
        ((), 0.86, 0.84, 6000, None),
        ((), 0.80, 0.84, 100, None),  # 0.85 is within the error
    ],
)
def test_a_fit_is_too_close_or_too_loose(
    overrides: tuple[str, ...], train: float, validation: float, images: int, expected: str | None
) -> None:
    settings = settings_of(*overrides)
    values = {key: value for key, value in flatten_config(settings).items() if not key.endswith(".tune")}
    values |= {"regularization.dropout": 0.1} if DROPOUT in overrides else {}
    found = judge_fit(settings, values, {"accuracy": train, "val_accuracy": validation}, images)
    assert (None if found is None else found.override) == expected
    if found is not None:
        assert found.kind == ("apart" if train > 0.9 else "poor")
        assert composes(found.override, *overrides)


OVERTIME = "OverTime: 3 epochs after search.trial_minutes=2.5"


@pytest.mark.parametrize(
    ("failures", "ended", "override"),
    [
        ([OVERTIME, OVERTIME], 4, "search.trial_minutes=5"),
        ([OVERTIME] * 3, 3, "search.trial_minutes=5"),
        ([OVERTIME, OVERTIME], 5, None),
        ([OVERTIME], 2, None),
        ([OVERTIME, "Diverged: loss is nan", None], 4, None),
        ([], 0, None),
    ],
)
def test_half_of_the_trials_had_too_little_time(failures: list[str | None], ended: int, override: str | None) -> None:
    found = find_overtime(failures, ended)
    assert (None if found is None else found.override) == override
    assert found is None or composes(found.override)


@pytest.mark.parametrize(
    ("begun", "planned", "override"),
    [
        (5, 20.0, "search.max_minutes=40"),
        (10, 20.0, "search.max_minutes=20"),
        (11, 20.0, None),
        (1, 2.0, None),
        (5, float("inf"), None),
        (20, 20.0, None),
    ],
)
def test_half_of_the_planned_trials_did_not_begin(begun: int, planned: float, override: str | None) -> None:
    found = find_lack_of_time(10.0, begun, planned)
    assert (None if found is None else found.override) == override
    assert found is None or composes(found.override)


@pytest.mark.parametrize(
    ("overrides", "epochs", "override"),
    [
        (("train.epochs=20", EARLY), [6, 7, 8, 20], "train.early_stopping.patience=8"),
        (("train.epochs=20", EARLY), [6, 10, 11, 20], "train.early_stopping.patience=8"),
        (("train.epochs=20", EARLY), [6, 12, 13, 20], None),
        (("train.epochs=20", EARLY), [6], None),
        (("train.epochs=20", EARLY), [], None),
        (("train.epochs=20",), [6, 7, 8], None),  # Hyperband's, say
    ],
)
def test_half_of_the_trials_stopped_in_their_first_half(
    overrides: tuple[str, ...], epochs: list[int], override: str | None
) -> None:
    found = find_early_ends(settings_of(*overrides), epochs)
    assert (None if found is None else found.override) == override
    assert found is None or composes(found.override, *overrides)
