"""Batches are the rows of arrays in their order; a fit on them has the bits of one on arrays, and a prediction, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.data import load_splits
from fmnist_sweep.training import backend
from fmnist_sweep.training.compilation import CompiledModel, compile_model
from fmnist_sweep.training.optimization import encode_targets
from tests.support.small import SMALLEST, spec

backend.import_tensorflow()

from fmnist_sweep.training.batches import batch_arrays, predict_images  # noqa: E402

GIVEN = spec([*SMALLEST, "model.filters=4", "regularization.dropout=0.3"])
IMAGES = load_splits(GIVEN.data).train.images
LABELS = load_splits(GIVEN.data).train.labels


@pytest.mark.parametrize(("rows", "sizes"), [(12, [4, 4, 4]), (10, [4, 4, 2]), (3, [3]), (4, [4])])
def test_batches_are_all_rows_in_their_order(rows: int, sizes: list[int]) -> None:
    numbers = np.arange(rows)
    batches = list(batch_arrays(numbers, numbers[:, None] * [1.0, 2.0], batch_size=4))
    assert [len(first) for first, _ in batches] == sizes
    assert np.concatenate([first for first, _ in batches]).tolist() == numbers.tolist()
    assert np.concatenate([second for _, second in batches]).tolist() == [[n, 2.0 * n] for n in numbers]


def test_no_pipeline_tunes_itself_so_that_nothing_waits_for_its_end() -> None:
    assert batch_arrays(IMAGES, batch_size=64).options().autotune.enabled is False


def compile_and_fit(fit: Any) -> CompiledModel:
    import keras

    keras.utils.set_random_seed(3)
    compiled = compile_model(GIVEN.config, load_splits(GIVEN.data).description)
    fit(compiled)
    return compiled


def fit_arrays(compiled: CompiledModel, targets: NDArray[Any], batch_size: int) -> None:
    compiled.trainer.fit(IMAGES, targets, batch_size=batch_size, shuffle=False, verbose=0)


@pytest.mark.parametrize("batch_size", [60, 64, 1000])
def test_a_fit_has_the_bits_of_one_that_is_given_arrays(batch_size: int) -> None:
    targets = encode_targets(GIVEN.config["train"]["loss"], LABELS, 10)
    ours = compile_and_fit(lambda compiled: compiled.fit(IMAGES, targets, batch_size))
    plain = compile_and_fit(lambda compiled: fit_arrays(compiled, targets, batch_size))
    for one, other in zip(ours.plain.get_weights(), plain.plain.get_weights(), strict=True):
        assert np.array_equal(one, other)
    expected = plain.plain.predict(IMAGES, batch_size=batch_size, verbose=0)
    assert np.array_equal(predict_images(ours.plain, IMAGES, batch_size), expected)
