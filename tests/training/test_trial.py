"""One trial: every value of a config reaches the model or the fit, and what comes back is what was trained."""

from __future__ import annotations

import gc
import itertools
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from fmnist_sweep.data import Splits
from fmnist_sweep.training import backend, trial
from fmnist_sweep.training.events import TrialResult
from tests.support.small import TINY, failed, finished, spec, splits

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
    "members": ["model.members=2"],
    "global average": ["model.head=global_average"],
    "no dense layer": ["model.dense_units=0"],
    "precision": ["train.precision=mixed_bfloat16"],
    "replicas": ["train.replicas=2", "regularization.batch_normalization=true"],
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


def test_a_failed_trial_leaves_nothing_to_the_next(baseline: TrialResult) -> None:
    given = spec([*TINY, "train.precision=mixed_bfloat16"])
    failed(spec(TINY, **{**given.config, "model": {**given.config["model"], "filters": -1}}), DATA)
    assert np.array_equal(finished(spec(TINY), DATA).probabilities, baseline.probabilities)


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


@pytest.mark.parametrize(
    ("vendor", "flags", "precision"),
    [
        ("AuthenticAMD", "avx512f avx512_bf16", "mixed_bfloat16"),
        ("GenuineIntel", "avx512f avx512_bf16", "float32"),
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16", "mixed_bfloat16"),
        ("AuthenticAMD", "avx2", "float32"),
    ],
)
def test_auto_is_the_precision_in_which_the_processor_is_quicker(
    vendor: str, flags: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "read_cpu_info", lambda: {"vendor_id": vendor, "flags": flags})
    assert backend.resolve_precision("auto") == precision


def test_auto_is_float32_where_the_system_does_not_tell_its_processor() -> None:
    assert backend.choose_precision({}) == "float32"


def test_of_a_trial_no_graph_stays_once_another_has_begun() -> None:
    def count_graphs() -> int:
        finished(spec(TINY), DATA)
        backend.clear_session()
        return sum(type(each).__name__ == "FuncGraph" for each in gc.get_objects())

    first = count_graphs()
    assert count_graphs() == first
