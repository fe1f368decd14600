"""The members of an ensemble: each learns what it would alone, and what is predicted is the mean of what they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from unittest import mock

import numpy as np
import pytest

from fmnist_sweep.data import load_splits
from fmnist_sweep.training import backend
from fmnist_sweep.training.compilation import CompiledModel, compile_model
from fmnist_sweep.training.optimization import encode_targets
from tests.support.small import SMALLEST, spec

backend.import_tensorflow()

import keras  # noqa: E402

PLAIN = (
    *SMALLEST,
    "model.filters=4",
    "model.residual=true",
    "regularization.dropout=0.0",
    "optimizer.learning_rate=.1",
)
MEMBERS, IMAGES, BATCH = 3, 80, 32  # the last batch is a shorter one


@pytest.fixture(autouse=True)
def _cores_of_this_process() -> Iterator[None]:
    """They are shared out already, for all the networks that it trains."""
    with mock.patch.object(backend, "split_threads"):
        yield


def compile_members(overrides: Sequence[str], members: int) -> CompiledModel:
    given = spec([*PLAIN, *overrides, f"model.members={members}"])
    return compile_model(given.config, load_splits(given.data).description)


def list_layers(model: keras.Model, member: int = 0, members: int = 1) -> list[keras.layers.Layer]:
    """A member's layers that have weights, from the first on: the members' layers take turns."""
    return [layer for layer in model.layers if layer.weights][member::members]


def train(compiled: CompiledModel, overrides: Sequence[str]) -> dict[str, float]:
    given = spec([*PLAIN, *overrides])
    train = load_splits(given.data).train
    targets = encode_targets(given.config["train"]["loss"], train.labels[:IMAGES], 10)
    return compiled.fit(train.images[:IMAGES], targets, BATCH)


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=sgd", "regularization.l2=0.01", "train.label_smoothing=0.1"),
        ("optimizer=sgd", "regularization.batch_normalization=true", "train.loss=binary_crossentropy"),
        ("optimizer=sgd", "train.loss=categorical_crossentropy", "train.normalization=keras"),
    ],
    ids=["penalty and smoothed labels", "normalised, binary loss", "plain"],
)
def test_each_member_learns_what_it_would_alone_and_the_figures_are_their_means(overrides: Sequence[str]) -> None:
    ensemble = compile_members(overrides, MEMBERS)
    alone = [compile_members(overrides, 1) for _ in range(MEMBERS)]
    for member, single in enumerate(alone):
        for own, shared in zip(list_layers(single.plain), list_layers(ensemble.plain, member, MEMBERS), strict=True):
            own.set_weights(shared.get_weights())
    before = [weights.copy() for weights in ensemble.plain.get_weights()]
    found = train(ensemble, overrides)
    figures = [train(single, overrides) for single in alone]
    assert found == pytest.approx({key: np.mean([each[key] for each in figures]) for key in found}, rel=1e-4)
    assert any(not np.array_equal(one, other) for one, other in zip(before, ensemble.plain.get_weights(), strict=True))
    for member, single in enumerate(alone):
        for own, shared in zip(list_layers(single.plain), list_layers(ensemble.plain, member, MEMBERS), strict=True):
            for expected, weights in zip(own.get_weights(), shared.get_weights(), strict=True):
                np.testing.assert_allclose(weights, expected, atol=1e-5)
    images = load_splits(spec([*PLAIN]).data).validation.images
    mean = np.mean([single.predict(images, 32) for single in alone], axis=0)
    np.testing.assert_allclose(ensemble.predict(images, 32), mean, atol=1e-5)


def test_members_share_a_whitening_layer_and_nothing_else_and_train_in_replicas() -> None:
    overrides = ("model.whitening=true", "train.replicas=2", "regularization.batch_normalization=true")
    ensemble, single = compile_members(overrides, MEMBERS), compile_members(overrides, 1)
    whitening = 2 * 2 * 8 + 8
    parameters = single.plain.count_params() - whitening
    assert ensemble.plain.count_params() == MEMBERS * parameters + whitening
    assert np.isfinite(train(ensemble, overrides)["loss"])
    first, second = (list_layers(ensemble.plain)[1 + member].get_weights()[0] for member in (0, 1))
    assert not np.array_equal(first, second), "they begin with other weights"
