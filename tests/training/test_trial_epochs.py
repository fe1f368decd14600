"""The epochs of a trial: their steps, learning rates, losses and accuracies, and how many there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fmnist_sweep.training import trial
from fmnist_sweep.training.augmentation import draw_epoch_order
from fmnist_sweep.training.events import TrialResult
from tests.support.small import TINY, events, finished, spec, splits

DATA = splits()


@pytest.mark.parametrize(("batch_size", "steps"), [(16, 4), (60, 2), (64, 1), (1000, 1)])
def test_an_epoch_has_as_many_steps_as_batches(batch_size: int, steps: int) -> None:
    fit = trial._Fit(spec([*TINY, f"train.batch_size={batch_size}"]), DATA)
    fit.train_epoch([])
    assert int(fit._model.optimizer.iterations) == steps


@pytest.mark.parametrize("epochs", [1, 3])
def test_there_are_as_many_epochs_as_were_asked_for(epochs: int) -> None:
    ended, last = events(spec([*TINY, f"train.epochs={epochs}"]), DATA)
    assert [event.epoch for event in ended] == list(range(1, epochs + 1))
    assert isinstance(last, TrialResult)
    assert [event.metrics for event in ended] == last.history


def test_a_cycle_gives_the_optimizer_a_rate_for_each_batch() -> None:
    fit = trial._Fit(spec([*TINY, "train=one_cycle", "train.epochs=2"]), DATA)
    history: list[dict[str, float]] = []
    optimizer = fit._trainer.optimizer
    expected = [0.0001, 0.00055, 0.001, 0.00093301]  # of four batches; half an epoch of warm-up
    history.append(fit.train_epoch(history))
    assert int(optimizer.iterations) == 4
    assert [float(optimizer._learning_rate(batch)) for batch in range(4)] == pytest.approx(expected, rel=1e-4)
    assert history[0]["learning_rate"] == pytest.approx(sum(expected) / 4, rel=1e-4)
    history.append(fit.train_epoch(history))
    assert [float(optimizer._learning_rate(batch)) for batch in range(4, 8)] == pytest.approx(
        [0.00075, 0.0005, 0.00025, 0.000067], rel=1e-2
    )


def test_a_sparse_loss_is_smoothed_like_the_one_hot_one_and_validated_without() -> None:
    smoothed = [*TINY, "train.label_smoothing=0.3"]
    sparse, one_hot = (
        finished(spec([*smoothed, f"train.loss={loss}"]), DATA)
        for loss in ("sparse_categorical_crossentropy", "categorical_crossentropy")
    )
    np.testing.assert_allclose(one_hot.probabilities, sparse.probabilities, atol=1e-4)
    labels = DATA.validation.labels
    plain = -np.log(sparse.probabilities[np.arange(len(labels)), labels]).mean()
    assert sparse.history[-1]["val_loss"] == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize(
    ("overrides", "rates"),
    [
        (["train=exponential", "train.schedule.factor=0.5"], [0.001, 0.0005, 0.00025]),
        (["train=cosine", "train.schedule.warmup_epochs=1"], [0.0005, 0.001, 0.0005]),
        (["train=default"], [0.001, 0.001, 0.001]),
    ],
)
def test_the_schedule_sets_the_learning_rate_that_the_optimizer_uses(overrides: list[str], rates: list[float]) -> None:
    fit = trial._Fit(spec([*TINY, *overrides, "train.epochs=3"]), DATA)
    history: list[dict[str, float]] = []
    used = []
    while not fit.is_finished(history):
        history.append(fit.train_epoch(history))
        used.append(float(fit._model.optimizer.learning_rate))
    assert used == pytest.approx(rates)
    assert [row["learning_rate"] for row in history] == pytest.approx(rates)


def test_early_stopping_ends_a_fit_that_does_not_improve() -> None:
    stopping = "train.early_stopping={monitor: val_loss, patience: 2, min_delta: 100.0}"
    ended, _ = events(spec([*TINY, "train.epochs=10", stopping]), DATA)
    # The first epoch improves on nothing; two more may pass.
    assert len(ended) == 3


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"])
def test_accuracy_is_the_share_of_right_labels_whatever_the_loss(loss: str) -> None:
    data = splits(train=40, validation=40)
    # Training and validation images the same, and no step taken: both accuracies must be the share of right labels.
    same = replace(data, validation=data.train)
    overrides = [*TINY, f"train.loss={loss}", "optimizer=sgd", "optimizer.momentum=0.0", "optimizer.learning_rate=1e-9"]
    result = finished(spec(overrides), same)
    right = float((result.probabilities.argmax(axis=1) == same.validation.labels).mean())
    assert right < 0.8, "bits would be right more often"
    assert result.history[0]["val_accuracy"] == pytest.approx(right, abs=1e-6)
    assert result.history[0]["accuracy"] == pytest.approx(right, abs=1e-6)


def test_a_penalty_counts_in_the_validation_loss_as_in_the_training_loss() -> None:
    plain = finished(spec([*TINY, "optimizer.learning_rate=1e-9"]), DATA).history[0]
    penalised = finished(spec([*TINY, "optimizer.learning_rate=1e-9", "regularization.l2=0.1"]), DATA).history[0]
    assert penalised["val_loss"] - plain["val_loss"] == pytest.approx(penalised["loss"] - plain["loss"], rel=1e-2)
    assert penalised["val_loss"] > plain["val_loss"] + 1


def test_every_image_is_seen_once_an_epoch_in_an_order_of_its_own() -> None:
    orders = [draw_epoch_order(64, seed, epoch) for seed in (0, 1) for epoch in (1, 2)]
    assert all(sorted(order) == list(range(64)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
