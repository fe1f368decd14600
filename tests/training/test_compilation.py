"""A compiled model: what fits it, and that fitting it fast changes no bit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from fmnist_sweep.data import FASHION_MNIST
from fmnist_sweep.training import compilation
from fmnist_sweep.training.compilation import CompiledModel, compile_model
from tests.support.small import TINY, spec, splits

DATA = splits(train=90)  # five batches of 16 and a shorter one
OVERRIDES = (*TINY, "regularization.dropout=0.3", "regularization.batch_normalization=true")


def fitted(steps: int, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[CompiledModel, list[Any]]:
    """A model after two passes, so many batches at a time, and what each pass said."""
    monkeypatch.setattr(compilation, "_STEPS_PER_CALL", steps)
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    compiled = compile_model(config, FASHION_MNIST)
    images, targets = DATA.train.images, DATA.train.labels
    return compiled, [compiled.fit(images, targets, config["train"]["batch_size"]) for _ in range(2)]


def list_variables(compiled: CompiledModel) -> list[Any]:
    return [*compiled.trainer.variables, *compiled.trainer.optimizer.variables]


@pytest.mark.parametrize("normalization", ["fused", pytest.param("keras", marks=pytest.mark.slow)])
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "float32"])
def test_batches_at_a_time_change_no_bit(precision: str, normalization: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [f"train.precision={precision}", f"train.normalization={normalization}"]
    config = spec([*OVERRIDES, *settings]).config
    one, one_history = fitted(1, config, monkeypatch)
    several, history = fitted(4, config, monkeypatch)
    assert history == one_history
    for ours, theirs in zip(list_variables(several), list_variables(one), strict=True):
        assert ours.numpy().tobytes() == theirs.numpy().tobytes(), ours.path
    images = DATA.validation.images
    assert np.array_equal(several.plain.predict(images, verbose=0), one.plain.predict(images, verbose=0))
