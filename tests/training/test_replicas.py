"""Replicas of a network, each on a part of a batch: what one network would learn, but for what it normalises by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from fmnist_sweep.data import load_splits
from fmnist_sweep.training import backend
from fmnist_sweep.training.compilation import CompiledModel, compile_model
from fmnist_sweep.training.events import TrialSpec
from fmnist_sweep.training.optimization import encode_targets
from tests.support.process import run
from tests.support.small import SMALLEST, spec

backend.import_tensorflow()

import tensorflow as tf  # noqa: E402

from fmnist_sweep.training.replicas import SplitBatch  # noqa: E402

PLAIN = (*SMALLEST, "model.filters=4", "regularization.dropout=0.0", "optimizer=sgd", "optimizer.learning_rate=0.1")
NORMALIZED = (*PLAIN, "regularization.batch_normalization=true")


@pytest.fixture(autouse=True)
def _cores_of_this_process() -> Iterator[None]:
    """They are shared out already, for all the networks that it trains."""
    with mock.patch.object(backend, "split_threads"):
        yield


def train(given: TrialSpec, images: int, batch_size: int) -> CompiledModel:
    import keras

    keras.utils.set_random_seed(3)
    splits = load_splits(given.data)
    compiled = compile_model(given.config, splits.description)
    targets = encode_targets(given.config["train"]["loss"], splits.train.labels[:images], 10)
    compiled.fit(splits.train.images[:images], targets, batch_size)
    return compiled


@pytest.mark.parametrize(("rows", "parts", "sizes"), [(6, 2, [3, 3]), (5, 2, [3, 2]), (7, 3, [3, 2, 2])])
def test_a_batch_is_split_in_its_order_as_evenly_as_can_be(rows: int, parts: int, sizes: list[int]) -> None:
    split = SplitBatch(parts)(tf.range(rows))
    assert [len(part) for part in split] == sizes
    assert np.concatenate(split).tolist() == list(range(rows))


@pytest.mark.parametrize(
    ("replicas", "overrides"),
    [(2, ()), (3, ("model.members=2",)), (2, ("train.loss=binary_crossentropy",)), (2, ("train.label_smoothing=0.1",))],
)
def test_without_normalisation_the_weights_are_those_of_one_network(replicas: int, overrides: Sequence[str]) -> None:
    one = train(spec([*PLAIN, *overrides]), 180, 64)
    several = train(spec([*PLAIN, *overrides, f"train.replicas={replicas}"]), 180, 64)
    for expected, found in zip(one.plain.get_weights(), several.plain.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_each_replica_normalises_by_its_part_and_all_move_the_same_averages() -> None:
    still = (*NORMALIZED, "optimizer.learning_rate=1e-9")  # so that two batches in a row meet the same weights
    found, expected = train(spec([*still, "train.replicas=2"]), 64, 64), train(spec(still), 64, 32)
    weights = zip(found.plain.weights, expected.plain.weights, strict=True)
    averages = [(one.numpy(), other.numpy()) for one, other in weights if "moving_" in one.path]
    assert averages
    for one, other in averages:
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("images", "batches"), [(128, 2), (129, 2), (130, 3)])
def test_a_last_batch_that_has_no_image_for_each_replica_is_left_out(images: int, batches: int) -> None:
    compiled = train(spec([*NORMALIZED, "train.replicas=2"]), images, 64)
    assert int(compiled.trainer.optimizer.iterations) == batches
    assert all(np.isfinite(weight).all() for weight in compiled.plain.get_weights())


SHARE = """
import json
from fmnist_sweep.training import backend
backend.set_threads(2)
import tensorflow as tf
def show():
    threading = tf.config.threading
    return [threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()]
backend.split_threads(2)
shared = show()
backend.set_threads(2)
backend.split_threads(2)
tf.reduce_sum([1.0])
try:
    backend.split_threads(1)
    refused = ""
except RuntimeError as error:
    refused = str(error)
print(json.dumps([shared, show(), refused]))
"""


@pytest.mark.slow
def test_the_cores_are_shared_out_once_before_the_first_operation(tmp_path: Path) -> None:
    ended = run("-c", SHARE, cwd=tmp_path)
    assert ended.returncode == 0, ended
    shared, later, refused = json.loads(ended.stdout)
    assert shared == later == [1, 2]
    assert "cannot be modified" in refused
