"""Small studies and images that the test modules share: real configs, real splits, a few seconds of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.config.changed_defaults import drop_neutral_settings
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.job import Job
from fmnist_sweep.data import Splits
from fmnist_sweep.data.splits import Origin, Split, hash_splits
from fmnist_sweep.search import space
from fmnist_sweep.search.ask_and_tell import Proposal, Search
from fmnist_sweep.training import backend, trial
from fmnist_sweep.training.events import EpochEnd, TrialEvent, TrialFailure, TrialResult, TrialSpec

DRAWN = ("data=drawn", "data.images=200")
# The smallest networks, of a few hundredths of a second an epoch, for sweeps.
# What a default study would normalise, mirror, search and go by; a test that is about that says so itself.
PLAIN = (
    "model.growth=1",
    "model.pooling=after_activation",
    "optimizer.learning_rate=0.001",
    "regularization.batch_normalization=false",
    "train=default",
    "search=random",
)
SMALLEST = (
    *(*DRAWN, *PLAIN, "train.precision=float32", "train.batch_size=64", "train.epochs=3"),
    *("model.conv_layers=1", "model.dense_units=8"),
)
FILTERS = "model.filters={tune: int, min_value: 2, max_value: 60}"  # something to search
DROPOUT = "regularization.dropout=0.3"  # its random state is part of what must be continued
# A space of 54 combinations.
SPACE_OF_54 = (
    "model.filters={tune: choice, values: [32, 48, 64]}",
    "model.conv_layers={tune: int, min_value: 1, max_value: 3}",
    "optimizer.learning_rate=0.001",
    "regularization=dropout",
)
# The smallest network that still has each kind of layer.
TINY = (
    *DRAWN,
    "model.filters=4",
    "model.conv_layers=1",
    "model.dense_units=8",
    "model.growth=1",
    "model.pooling=after_activation",
    "regularization=none",
    "optimizer.learning_rate=0.001",
    "train.augmentation.flip=false",
    "train.precision=float32",
    "train.batch_size=16",
    "train.epochs=1",
    "search=random",
)


def splits(train: int = 64, validation: int = 20, seed: int = 0) -> Splits:
    """Learnable images: a bright row band tells the label."""
    images, labels = _images(train + validation, seed)
    first = Split(images[:train], labels[:train], np.arange(train))
    second = Split(images[train:], labels[train:], np.arange(train, train + validation))
    for array in (first.images, first.labels, second.images, second.labels):
        array.setflags(write=False)
    return Splits(first, second, Origin("drawn", "a test", False, None), hash_splits(first, second), 0)


def _images(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % 10
    images = generator.integers(0, 40, (n, 28, 28, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4 : 2 * label + 6] = 220
    return images, labels


def resolved(job: Job, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The trial config with `values` for the tunables; without, those of the oracle's first proposal."""
    settings = job.config.settings
    if values is None:
        first = search_of(job).ask()
        assert isinstance(first, Proposal)
        values = first.values
    return drop_neutral_settings(space.resolve_tunables(settings, values))


def search_of(job: Job) -> Search:
    """The search that a sweep would ask."""
    config = job.config
    return Search(config.search.name, config.oracle, config.settings, config.search.objective)


def spec(overrides: Sequence[str], **changes: Any) -> TrialSpec:
    """A trial of the config that the overrides compose; changes: of the resolved config, by section."""
    job = compose_job(overrides)
    config = {**resolved(job), **changes}
    config["train"]["precision"] = backend.resolve_precision(config["train"]["precision"])
    return TrialSpec("0", config, job.config.search.objective, job.config.data)


def events(given: TrialSpec, data: Splits) -> tuple[list[EpochEnd], TrialEvent]:
    """Each epoch of a trial, and how it ended."""
    # Its cores are shared out already, for all the trials of this process.
    with mock.patch.object(backend, "split_threads"):
        *epochs, last = trial.run_trial(given, data)
    assert all(isinstance(epoch, EpochEnd) for epoch in epochs)
    return [epoch for epoch in epochs if isinstance(epoch, EpochEnd)], last


def finished(given: TrialSpec, data: Splits) -> TrialResult:
    """The result of a trial that must not fail."""
    last = events(given, data)[1]
    assert isinstance(last, TrialResult), last
    return last


def failed(given: TrialSpec, data: Splits) -> TrialFailure:
    """The failure of a trial that must fail."""
    last = events(given, data)[1]
    assert isinstance(last, TrialFailure), last
    return last
