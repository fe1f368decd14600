"""A trial that fails says why and keeps its epochs; one that a user interrupts does not fail."""

from __future__ import annotations

from collections.abc import Generator
from typing import cast

import numpy as np
import pytest

from fmnist_sweep.training import trial
from fmnist_sweep.training.events import EpochEnd, TrialEvent, TrialFailure
from tests.support.small import TINY, failed, spec, splits

DATA = splits()


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


def test_what_a_user_interrupts_is_no_failure_of_the_trial() -> None:
    running = cast("Generator[TrialEvent, None, None]", trial.run_trial(spec([*TINY, "train.epochs=3"]), DATA))
    next(running)
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt)


def test_an_epoch_that_diverged_when_the_user_asked_for_an_end_fails_its_trial() -> None:
    diverging = ("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.learning_rate=10.0", "regularization.l2=1.0")
    given = spec([*TINY, *diverging, "train.batch_size=4", "train.epochs=3"])
    first, last = trial.run_trial(given, splits(), lambda: True)
    assert isinstance(first, EpochEnd)
    assert not first.last
    assert isinstance(last, TrialFailure)
