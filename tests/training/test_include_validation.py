"""data.include_validation: trained on all images, so that the validation images judge and choose nothing."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import DataConfig, Splits, load_splits
from fmnist_sweep.data.drawn import draw_images
from fmnist_sweep.data.splits import ImageTable, Origin, hash_images, split_table
from fmnist_sweep.errors import ConfigError
from tests.conftest import data_config, needs_fashion_mnist
from tests.support.small import TINY, finished, spec
from tests.support.small import splits as small_splits


def drawn(**given: Any) -> DataConfig:
    return data_config(source="drawn", images=300, **given)


def _both(config: DataConfig) -> tuple[Splits, Splits]:
    """The same images: with the validation images held out, and with them in the training."""
    return load_splits(config), load_splits(config.model_copy(update={"include_validation": True}))


def test_all_images_are_trained_on_and_the_same_ones_are_validated_on() -> None:
    apart, together = _both(drawn())
    assert len(together.train.labels) == 300
    assert len(together.train.labels) == len(apart.train.labels) + len(apart.validation.labels)
    assert set(together.train.index.tolist()) == {*apart.train.index.tolist(), *apart.validation.index.tolist()}
    assert np.array_equal(together.validation.images, apart.validation.images)
    assert np.array_equal(together.validation.index, apart.validation.index)
    assert together.removed_duplicates == 0


def test_the_images_have_another_hash_and_tag_than_those_with_some_held_out() -> None:
    apart, together = _both(drawn())
    assert together.sha256 != apart.sha256
    assert together.tag != apart.tag
    assert together.tag.startswith("drawn:")


def test_the_limit_counts_all_images() -> None:
    apart, together = _both(drawn(limit=100))
    assert len(together.train.labels) == 100
    assert len(apart.train.labels) < 100


def test_an_image_that_equals_a_validation_image_is_dropped_from_the_training_only_where_that_one_is_held_out() -> None:
    images, labels = draw_images(200, 7, stream="train")
    twice = ImageTable(np.concatenate([images, images]), np.concatenate([labels, labels]))
    origin = Origin("drawn", "a test", False, None)
    apart, together = (split_table(twice, drawn(include_validation=given), origin) for given in (False, True))
    assert apart.removed_duplicates > 0
    assert not {*hash_images(apart.train.images)} & {*hash_images(apart.validation.images)}
    assert together.removed_duplicates == 0
    assert len(together.train.labels) == 400


@needs_fashion_mnist
def test_of_fashion_mnist_every_label_is_trained_on_as_often() -> None:
    apart, together = _both(data_config(dir=os.environ["FMNIST_DATA_DIR"], validation=0.1))
    assert len(apart.train.labels) == 54_000
    assert len(together.train.labels) == 60_000
    assert np.bincount(together.train.labels).tolist() == [6000] * 10
    assert together.origin.canonical
    assert set(hash_images(together.validation.images)) <= set(hash_images(together.train.images))


def test_what_a_trial_is_described_by_is_as_before_where_images_are_held_out() -> None:
    assert "include_validation" not in drawn().describe_content()
    assert drawn(include_validation=True).describe_content()["include_validation"] is True


@pytest.mark.slow
def test_the_last_epoch_is_kept_however_the_epochs_before_did() -> None:
    # Every image is shown with its label, then with the next one: the validation accuracy can but fall.
    given = spec([*TINY, "train.epochs=6", "optimizer.learning_rate=0.03"])
    data = small_splits()
    wrong = small_splits(seed=1)
    confused = Splits(
        data.train,
        wrong.validation.__class__(wrong.validation.images, (wrong.validation.labels + 1) % 10, wrong.validation.index),
        data.origin,
        data.sha256,
        0,
    )
    chosen = finished(given, confused)
    accuracies = [epoch["val_accuracy"] for epoch in chosen.history]
    assert chosen.best_epoch == 1 + int(np.argmax(accuracies)) < len(accuracies)
    told = type(given)(**{**vars(given), "data": given.data.model_copy(update={"include_validation": True})})
    kept = finished(told, confused)
    assert [epoch["val_accuracy"] for epoch in kept.history] == accuracies
    assert kept.best_epoch == len(accuracies)
    last = (kept.probabilities.argmax(axis=1) == confused.validation.labels).mean()
    assert last == pytest.approx(accuracies[-1])
    assert not np.array_equal(kept.probabilities, chosen.probabilities)


STOPPING = "train.early_stopping={monitor: val_loss, patience: 2, min_delta: 0.0}"


@pytest.mark.parametrize(
    ("watching", "key"), [((STOPPING,), "train.early_stopping"), (("train=plateau",), "train.schedule")]
)
def test_what_goes_by_the_validation_images_is_refused_in_one_sentence(watching: tuple[str, ...], key: str) -> None:
    compose_job([*TINY, *watching])
    with pytest.raises(ConfigError) as refused:
        compose_job([*TINY, *watching, "data.include_validation=true"])
    told = str(refused.value)
    assert told.startswith("data.include_validation=true (command line): ")
    assert key in told
    assert "\n" not in told


@pytest.mark.parametrize("group", ["default", "cosine", "exponential", "augmented"])
def test_what_goes_by_no_validation_image_may_be_trained_on_all_of_them(group: str) -> None:
    job = compose_job([*TINY, f"train={group}", "train.early_stopping=null", "data.include_validation=true"])
    assert job.config.data.include_validation


@pytest.mark.parametrize("given", ["1", "perhaps", "null"])
def test_other_values_than_true_and_false_are_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.include_validation"):
        compose_job([*TINY, f"data.include_validation={given}"])
