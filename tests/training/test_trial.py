"""One trial: every value of a config reaches the model or the fit, and what comes back is what was trained."""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import pytest

from fmnist_sweep.data import Splits
from fmnist_sweep.training import backend, trial
from fmnist_sweep.training.augmentation import draw_epoch_order
from fmnist_sweep.training.events import EpochEnd, TrialEvent, TrialFailure, TrialResult
from tests.support.small import TINY, events, failed, finished, spec, splits

DATA = splits()


@pytest.fixture
def model_of(tmp_path: Path) -> Any:
    """The saved model of a result, loaded."""

    def load(result: TrialResult) -> keras.Model:
        path = tmp_path / "model.keras"
        path.write_bytes(result.model)
        return trial.load_model(path)

    return load


@pytest.fixture(scope="module")
def baseline() -> TrialResult:
    return finished(spec(TINY), DATA)


# Each of these is a value that a search may draw: another value must be another result.
MATTERS = {
    "filters": ["model.filters=5"],
    "conv_layers": ["model.conv_layers=2"],
    "kernel_size": ["model.kernel_size=5"],
    "dense_units": ["model.dense_units=9"],
    "dropout": ["regularization.dropout=0.3"],
    "dropout_after": ["regularization.dropout=0.3", "regularization.dropout_after=every_layer"],
    "batch_normalization": ["regularization.batch_normalization=true"],
    "Keras' batch_normalization": ["regularization.batch_normalization=true", "train.normalization=keras"],
    "batch_normalization_layers": [
        "regularization.batch_normalization=true",
        "regularization.batch_normalization_layers=1",
    ],
    "l2": ["regularization.l2=0.1"],
    "learning_rate": ["optimizer.learning_rate=0.01"],
    "rmsprop momentum": ["optimizer.momentum=0.5"],
    "adam": ["optimizer=adam"],
    "adam learning_rate": ["optimizer=adam", "optimizer.learning_rate=0.01"],
    "adamw": ["optimizer=adamw"],
    "adamw weight_decay": ["optimizer=adamw", "optimizer.weight_decay=0.5"],
    "adamw learning_rate": ["optimizer=adamw", "optimizer.learning_rate=0.01"],
    "muon": ["optimizer=muon"],
    "muon other_rate": ["optimizer=muon", "optimizer.other_rate=1.0"],
    "sgd": ["optimizer=sgd", "optimizer.momentum=0.0"],
    "sgd learning_rate": ["optimizer=sgd", "optimizer.momentum=0.0", "optimizer.learning_rate=0.01"],
    "sgd momentum": ["optimizer=sgd", "optimizer.momentum=0.9"],
    "sgd nesterov": ["optimizer=sgd", "optimizer.momentum=0.9", "optimizer.nesterov=true"],
    "batch_size": ["train.batch_size=8"],
    "epochs": ["train.epochs=2", "search.objective=val_loss"],
    "one-hot binary loss": ["train.loss=binary_crossentropy"],
    "flip": ["train.augmentation.flip=true"],
    "shift": ["train.augmentation.shift=2"],
    "cosine": ["train=cosine", "train.schedule.warmup_epochs=1"],
    "constant rate": ["train=default"],
    "warmup of one_cycle": ["train=one_cycle", "train.schedule.warmup=0.5"],
    "averaging": ["train.averaging=0.9"],
    "batch_growth": ["train.epochs=2", "search.objective=val_loss", "train.batch_growth={factor: 2, every: 1}"],
    "resolution": ["model.head=global_average", "train.resolution={start: 16, step: 12, every: 1}"],
    "label_smoothing": ["train.label_smoothing=0.1"],
    "growth": ["model.conv_layers=2", "model.growth=2.0"],
    "pooling first": ["model.pooling=before_normalization", "regularization.batch_normalization=true"],
    "residual": ["model.residual=true"],
    "whitening": ["model.whitening=true"],
    "global average": ["model.head=global_average"],
    "no dense layer": ["model.dense_units=0"],
    "precision": ["train.precision=mixed_bfloat16"],
    "seed": ["seed=2"],
    "weaker seed": ["seed=0"],
}


# One each of the model, the fit and the seed.
A_FEW = ("filters", "learning_rate", "seed")


@pytest.mark.parametrize("names", [A_FEW, pytest.param(tuple(MATTERS), marks=pytest.mark.slow)], ids=["a few", "all"])
def test_another_value_gives_another_result_than_every_other(names: tuple[str, ...], baseline: TrialResult) -> None:
    results = {name: finished(spec([*TINY, *MATTERS[name]]), DATA).probabilities for name in names}
    results["baseline"] = baseline.probabilities
    pairs = itertools.combinations(results, 2)
    assert [pair for pair in pairs if np.array_equal(results[pair[0]], results[pair[1]])] == []


def test_the_sparse_and_the_one_hot_categorical_loss_are_the_same_function(baseline: TrialResult) -> None:
    one_hot = finished(spec([*TINY, "train.loss=categorical_crossentropy"]), DATA)
    np.testing.assert_allclose(one_hot.probabilities, baseline.probabilities, atol=1e-4)


def untimed(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if not key.endswith("_seconds")} for row in history]


def test_the_same_spec_gives_bit_identical_weights_and_figures(baseline: TrialResult, model_of: Any) -> None:
    again = finished(spec(TINY), DATA)
    assert np.array_equal(again.probabilities, baseline.probabilities)
    for one, other in zip(model_of(again).get_weights(), model_of(baseline).get_weights(), strict=True):
        assert np.array_equal(one, other)
    assert untimed(again.history) == untimed(baseline.history)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_result_says_how_long_an_image_takes(epochs: int) -> None:
    result = finished(spec([*TINY, f"train.epochs={epochs}"]), DATA)
    assert result.ms_per_image is not None and 0 < result.ms_per_image < 1000


def test_a_trial_between_two_equal_ones_does_not_change_the_second(baseline: TrialResult) -> None:
    finished(spec([*TINY, "seed=9", "train.precision=mixed_bfloat16"]), DATA)
    assert np.array_equal(finished(spec(TINY), DATA).probabilities, baseline.probabilities)


def kinds(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def test_the_architecture_is_in_the_saved_model(model_of: Any) -> None:
    overrides = [*TINY, "model.filters=6", "model.conv_layers=3", "model.kernel_size=5", "model.dense_units=7"]
    result = finished(spec(overrides), DATA)
    model = model_of(result)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [(layer.filters, layer.kernel_size) for layer in convolutions] == [(6, (5, 5))] * 3
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [7, 10]
    assert result.parameters == model.count_params()


def test_the_regularization_is_in_the_saved_model(model_of: Any) -> None:
    overrides = [
        *TINY,
        "model.conv_layers=2",
        "regularization.dropout=0.3",
        "regularization.dropout_after=every_layer",
        "regularization.batch_normalization=true",
        "regularization.batch_normalization_layers=2",
        "regularization.l2=0.01",
    ]
    model = model_of(finished(spec(overrides), DATA))
    assert kinds(model).count("BatchNormalization") == 2
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.3] * 3
    hidden = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)][:-1]
    assert [float(layer.kernel_regularizer.l2) for layer in hidden] == [pytest.approx(0.01)] * 3


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


def test_mixed_precision_computes_in_bfloat16_and_answers_in_float32(model_of: Any) -> None:
    result = finished(spec([*TINY, "train.precision=mixed_bfloat16"]), DATA)
    model = model_of(result)
    convolution = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    assert convolution.dtype_policy.name == "mixed_bfloat16"
    assert convolution.kernel.dtype == "float32"
    assert model.layers[-1].compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32", "the next trial must not inherit it"


NOISY = [*TINY, "train.epochs=8", "optimizer=adam", "optimizer.learning_rate=0.05", "train.batch_size=8"]


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_the_model_is_that_of_the_best_epoch_by_the_objective(objective: str, model_of: Any) -> None:
    result = finished(spec([*NOISY, f"search.objective={objective}"]), shuffled_labels())
    values = [row[objective] for row in result.history]
    best = min(values) if objective == "val_loss" else max(values)
    assert result.best_epoch == values.index(best) + 1
    assert result.best_epoch < len(values), "else this test would show nothing"
    labels = shuffled_labels().validation.labels
    row = result.history[result.best_epoch - 1]
    assert row["val_accuracy"] == pytest.approx((result.probabilities.argmax(axis=1) == labels).mean())
    loss = -np.log(np.clip(result.probabilities[np.arange(len(labels)), labels], 1e-7, 1)).mean()
    assert row["val_loss"] == pytest.approx(loss, rel=1e-3)
    again = model_of(result).predict(shuffled_labels().validation.images, verbose=0)
    np.testing.assert_allclose(again, result.probabilities, atol=1e-5)


def shuffled_labels() -> Splits:
    """Validation labels that cannot be learnt: the figures of the epochs go up and down."""
    shuffled = np.random.default_rng(3).permutation(DATA.validation.labels)
    return replace(DATA, validation=replace(DATA.validation, labels=shuffled))


def test_the_model_takes_raw_pixels(baseline: TrialResult, model_of: Any) -> None:
    model = model_of(baseline)
    assert model.input_shape == (None, 28, 28, 1)
    assert model.inputs[0].dtype == "uint8"
    pixels = np.asarray(DATA.validation.images)
    assert pixels.max() > 1
    np.testing.assert_allclose(model.predict(pixels, verbose=0), baseline.probabilities, atol=1e-5)


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


def test_a_diverging_trial_is_a_failure_that_keeps_its_epochs_and_says_what_may_help() -> None:
    overrides = [
        *TINY,
        "optimizer=sgd",
        "optimizer.momentum=0.9",
        "optimizer.learning_rate=10",
        "regularization.l2=1.0",
        "train.batch_size=4",
        "train.epochs=9",
    ]
    failure = failed(spec(overrides), DATA)
    assert failure.reason.startswith("Diverged: ")
    assert "loss is" in failure.reason
    assert "learning rate" in failure.reason
    assert "Traceback" in failure.traceback
    assert 1 <= len(failure.history) <= 9
    assert not np.isfinite(failure.history[-1]["loss"]) or not np.isfinite(failure.history[-1]["val_loss"])


def test_a_model_that_cannot_be_built_is_a_failure_with_its_traceback() -> None:
    given = spec(TINY)
    broken = {**given.config, "model": {**given.config["model"], "filters": -1}}
    failure = failed(spec(TINY, **broken), DATA)
    assert failure.history == []
    assert "ValueError" in failure.reason
    assert len(failure.reason.splitlines()) == 1
    assert "Traceback" in failure.traceback
    assert "models.py" in failure.traceback


def test_a_failed_trial_leaves_nothing_to_the_next(baseline: TrialResult) -> None:
    given = spec([*TINY, "train.precision=mixed_bfloat16"])
    failed(spec(TINY, **{**given.config, "model": {**given.config["model"], "filters": -1}}), DATA)
    assert np.array_equal(finished(spec(TINY), DATA).probabilities, baseline.probabilities)


def test_what_a_user_interrupts_is_no_failure_of_the_trial() -> None:
    running = cast("Generator[TrialEvent, None, None]", trial.run_trial(spec([*TINY, "train.epochs=3"]), DATA))
    next(running)
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt)


_opened: list[str] | None = None


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(arguments[0]))


def test_only_the_splits_it_is_handed_are_touched_and_they_are_not_changed(tmp_path: Path) -> None:
    global _opened
    sys.addaudithook(_listen)
    before = [array.copy() for split in (DATA.train, DATA.validation) for array in (split.images, split.labels)]
    given = spec([*TINY, "train.augmentation.flip=true", "train.augmentation.shift=2"])
    _opened = []
    try:
        finished(given, DATA)
        opened = _opened
    finally:
        _opened = None
    assert any("keras" in path for path in opened), "the listener hears"
    assert [path for path in opened if "t10k" in path or "test" in Path(path).name.lower().split(".")[0]] == []
    after = [array for split in (DATA.train, DATA.validation) for array in (split.images, split.labels)]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_file_that_carries_code_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "code.keras")
    with pytest.raises(ValueError, match="Lambda"):
        trial.load_model(tmp_path / "code.keras")


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_precision_by_name_is_taken_as_it_is(precision: str) -> None:
    assert backend.resolve_precision(precision) == precision


def test_auto_is_settled_for_this_machine() -> None:
    assert backend.resolve_precision("auto") in ("float32", "mixed_bfloat16")
    assert backend.resolve_precision("auto") == backend.resolve_precision("auto")


def test_every_image_is_seen_once_an_epoch_in_an_order_of_its_own() -> None:
    orders = [draw_epoch_order(64, seed, epoch) for seed in (0, 1) for epoch in (1, 2)]
    assert all(sorted(order) == list(range(64)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_an_epoch_that_diverged_when_the_user_asked_for_an_end_fails_its_trial() -> None:
    diverging = ("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.learning_rate=10.0", "regularization.l2=1.0")
    given = spec([*TINY, *diverging, "train.batch_size=4", "train.epochs=3"])
    first, last = trial.run_trial(given, splits(), lambda: True)
    assert isinstance(first, EpochEnd)
    assert not first.last
    assert isinstance(last, TrialFailure)


def test_of_a_trial_no_graph_stays_once_another_has_begun() -> None:
    def count_graphs() -> int:
        finished(spec(TINY), DATA)
        backend.clear_session()
        return sum(type(each).__name__ == "FuncGraph" for each in gc.get_objects())

    first = count_graphs()
    assert count_graphs() == first
