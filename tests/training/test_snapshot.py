"""A trial continued from a checkpoint is, bit for bit, the trial that was never stopped."""

from __future__ import annotations

import io
import os
import pickle
import re
import signal
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.data import Splits
from fmnist_sweep.files import DamagedContent, pack_arrays
from fmnist_sweep.study.checkpoints import Checkpoints
from fmnist_sweep.training import snapshot, trial
from fmnist_sweep.training.events import CheckpointRefused, EpochEnd, TrialResult, TrialSpec
from fmnist_sweep.training.optimization import find_best_epoch
from tests.support.process import run
from tests.support.small import TINY, events, failed, spec, splits
from tests.support.zygote import Zygote

# Validation labels that cannot be learnt: the best epoch is then seldom the last, and its weights must be carried over.
DATA = splits()
UNLEARNABLE = replace(
    DATA,
    validation=replace(DATA.validation, labels=np.random.default_rng(3).permutation(DATA.validation.labels)),
)
# Everything with a state of its own: random numbers of dropout, moving averages, augmentation, shuffling.
STATEFUL = (
    *TINY,
    "regularization.dropout=0.3",
    "regularization.dropout_after=every_layer",
    "regularization.batch_normalization=true",
    "regularization.l2=0.001",
    "train.augmentation.flip=true",
    "train.augmentation.shift=2",
    "train.epochs=4",
)
STOPPING = "train.early_stopping={monitor: val_loss, patience: 2, min_delta: 100.0}"  # it stops after three epochs
FITS = {
    "rmsprop, cosine": ["train=cosine", "train.schedule.warmup_epochs=1", "optimizer=rmsprop", "optimizer.momentum=.5"],
    "adam, plateau, bfloat16": [
        *("train=plateau", "train.schedule.patience=1", "optimizer=adam", "optimizer.learning_rate=0.05"),
        "search.objective=val_loss",
    ],
    "adamw, exponential, Keras' normalisation": [
        *("train=exponential", "optimizer=adamw", "train.loss=categorical_crossentropy", "train.normalization=keras"),
    ],
    "adam, one cycle, residual, growing": [
        *("train=one_cycle", "optimizer=adam", "model.residual=true", "model.pooling=before_normalization"),
        *("model.head=global_average", "model.dense_units=0", "train.label_smoothing=0.1"),
        *("train.resolution={start: 16, step: 6, every: 1}", "train.batch_growth={factor: 1.5, every: 2}"),
        "model.whitening=true",
    ],
    "muon, averaged, replicas": [
        *("optimizer=muon", "optimizer.learning_rate=0.005", "train.averaging=0.9", "train.replicas=2"),
        *("model.members=2", "regularization.dropout=0.2"),
    ],
    "sgd, stopping": ["optimizer=sgd", "optimizer.momentum=0.9", "optimizer.nesterov=true", STOPPING],
}


@dataclass(frozen=True)
class Fit:
    """A trial never stopped, and its checkpoint after each epoch."""

    spec: TrialSpec
    ended: list[EpochEnd]
    result: TrialResult


def fit(overrides: Sequence[str], data: Splits = UNLEARNABLE) -> Fit:
    given = replace(spec(overrides), checkpoint_seconds=0)
    ended, last = events(given, data)
    assert isinstance(last, TrialResult), last
    return Fit(given, ended, last)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name != "rmsprop, cosine" else name for name in FITS],
)
def whole(request: pytest.FixtureRequest) -> Fit:
    precision = "mixed_bfloat16" if "bfloat16" in request.param else "float32"
    schedule = [override for override in FITS[request.param] if override.startswith("train=")]
    others = [override for override in FITS[request.param] if override not in schedule]
    return fit([*schedule, *STATEFUL, *others, f"train.precision={precision}"])


def checkpoint(event: EpochEnd) -> bytes:
    assert event.checkpoint is not None
    return event.checkpoint


def figures(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """The history without the seconds, which no two fits share."""
    return [{name: value for name, value in row.items() if not name.endswith("_seconds")} for row in history]


def weights(model: bytes) -> dict[str, NDArray[Any]]:
    """Every array of a .keras file."""
    found: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        content = archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    assert found
    return found


def assert_same_result(one: TrialResult, other: TrialResult) -> None:
    assert figures(one.history) == figures(other.history)
    assert one.best_epoch == other.best_epoch
    assert one.parameters == other.parameters
    assert one.probabilities.dtype == other.probabilities.dtype
    assert np.array_equal(one.probabilities, other.probabilities)
    mine, theirs = weights(one.model), weights(other.model)
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def assert_same_state(one: bytes, other: bytes) -> None:
    mine, theirs = snapshot.unpack_snapshot(one), snapshot.unpack_snapshot(other)
    assert figures(mine.history) == figures(theirs.history)
    assert [path for path, _ in mine.state] == [path for path, _ in theirs.state]
    differing = [path for (path, a), (_, b) in zip(mine.state, theirs.state, strict=True) if not np.array_equal(a, b)]
    assert differing == []
    assert np.array_equal(mine.best_probabilities, theirs.best_probabilities)
    assert (mine.best_weights is None) == (theirs.best_weights is None)
    for a, b in zip(mine.best_weights or (), theirs.best_weights or (), strict=True):
        assert np.array_equal(a, b)


def test_a_trial_continued_after_any_epoch_is_bit_for_bit_the_one_never_stopped(whole: Fit) -> None:
    # What is kept after an epoch between these is what the first of them is held against.
    for done in (1, len(whole.ended) - 1, len(whole.ended)):
        ended, last = events(replace(whole.spec, resume=checkpoint(whole.ended[done - 1])), UNLEARNABLE)
        assert [event.epoch for event in ended] == list(range(done + 1, len(whole.ended) + 1))
        assert isinstance(last, TrialResult), last
        assert_same_result(last, whole.result)
        for event in ended:
            assert_same_state(checkpoint(event), checkpoint(whole.ended[event.epoch - 1]))


def test_the_fits_above_have_what_a_checkpoint_has_to_carry(whole: Fit) -> None:
    after = snapshot.unpack_snapshot(checkpoint(whole.ended[-1]))
    paths = [path for path, _ in after.state]
    assert len(set(paths)) == len(paths)
    for part in ("seed_generator", "moving_mean", "iteration", "kernel"):
        assert any(part in path for path in paths)
    # A rate for each batch is looked up by the iteration.
    is_by_batch = whole.spec.config["train"]["schedule"]["name"] == "one_cycle"
    assert any("learning_rate" in path for path in paths) is not is_by_batch
    assert all(array.dtype.kind in "iuf" for _, array in after.state), "bfloat16 would not survive"
    assert len(whole.ended) == (3 if whole.spec.config["train"]["early_stopping"] else 4)


def test_the_weights_of_a_best_epoch_before_the_last_are_carried(whole: Fit) -> None:
    for event in whole.ended:
        best = find_best_epoch(trial.read_checkpoint_history(checkpoint(event)), whole.spec.objective)
        assert (snapshot.unpack_snapshot(checkpoint(event)).best_weights is None) == (best == event.epoch)
    assert whole.result.best_epoch < len(whole.ended), "else the tests above would not show that they are restored"


@pytest.fixture(scope="module")
def never_stopped() -> Fit:
    return fit(STATEFUL, DATA)


def test_the_seconds_of_the_epochs_before_are_counted_and_the_optimizer_counts_on(never_stopped: Fit) -> None:
    first = never_stopped.ended[0]
    ended, last = events(replace(never_stopped.spec, resume=checkpoint(first)), DATA)
    assert isinstance(last, TrialResult)
    assert last.history[0] == first.metrics
    seconds = [event.metrics["epoch_seconds"] for event in (first, *ended)]
    assert last.fit_seconds == pytest.approx(sum(seconds))
    states = [snapshot.unpack_snapshot(checkpoint(event)).state for event in ended]
    steps = [int(array) for state in states for path, array in state if path.endswith("/iteration")]
    assert steps == [4 * event.epoch for event in ended], "64 images in batches of 16"


def train_and_keep(folder: Path) -> None:
    """Train the trial of a folder and keep its checkpoints there; after the epoch in `killed_after`, be killed."""
    kept, killed_after = Checkpoints(folder / "checkpoints", print), int((folder / "killed_after").read_text())
    for event in trial.run_trial(pickle.loads((folder / "spec").read_bytes()), splits()):
        if isinstance(event, EpochEnd):
            kept.save(event.trial_id, event.epoch, checkpoint(event))
            if event.epoch == killed_after:
                os.kill(os.getpid(), signal.SIGKILL)
    (folder / "result").write_bytes(pickle.dumps(event))


def train_in_a_process(zygote: Zygote, given: TrialSpec, folder: Path, killed_after: int = 0) -> int:
    (folder / "spec").write_bytes(pickle.dumps(given))
    (folder / "killed_after").write_text(str(killed_after))
    return zygote.ask("tests.training.test_snapshot:train_and_keep", folder).returncode


def test_a_killed_process_is_continued_by_another_as_if_nothing_had_happened(
    zygote: Zygote, tmp_path: Path, never_stopped: Fit
) -> None:
    assert train_in_a_process(zygote, never_stopped.spec, tmp_path, killed_after=2) == -signal.SIGKILL
    newest = Checkpoints(tmp_path / "checkpoints", print).load_newest(never_stopped.spec.trial_id)
    assert newest is not None
    assert len(trial.read_checkpoint_history(newest)) == 2
    assert train_in_a_process(zygote, replace(never_stopped.spec, resume=newest), tmp_path) == 0
    assert_same_result(pickle.loads((tmp_path / "result").read_bytes()), never_stopped.result)


@pytest.mark.parametrize(
    "train",
    [
        "one_cycle",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("default", "exponential", "plateau", "cosine")),
    ],
)
def test_a_promoted_trial_is_bit_for_bit_one_trained_to_its_epochs_from_scratch(train: str) -> None:
    overrides = [f"train={train}", *TINY, "regularization.dropout=0.3", "train.epochs=4", "optimizer=adam"]
    overrides += ["train.schedule.over_epochs=4"] if train in ("cosine", "one_cycle") else []
    low = replace(spec([*overrides, "train.epochs=2"]), keep_final=True)
    ended, _ = events(low, UNLEARNABLE)
    assert [event.checkpoint is not None for event in ended] == [False, True]
    _, promoted = events(replace(spec(overrides), resume=checkpoint(ended[-1])), UNLEARNABLE)
    scratch = fit(overrides).result
    assert isinstance(promoted, TrialResult), promoted
    assert_same_result(promoted, scratch)


def short(**changes: Any) -> TrialSpec:
    return replace(spec([*TINY, "train.epochs=3"]), **changes)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, []),
        ({"checkpoint_seconds": 0.0}, [1, 2, 3]),
        ({"checkpoint_seconds": 3600.0, "keep_final": True}, [3]),
    ],
)
def test_checkpoints_come_as_often_as_asked_for(changes: dict[str, Any], kept: list[int]) -> None:
    ended, _ = events(short(**changes), DATA)
    assert [event.epoch for event in ended if event.checkpoint is not None] == kept


def test_the_last_epoch_of_a_fit_that_stops_early_is_kept_as_the_final_one() -> None:
    ended, _ = events(replace(spec([*TINY, "train.epochs=9", STOPPING]), keep_final=True), DATA)
    assert [event.epoch for event in ended if event.checkpoint is not None] == [3]


def test_checkpoints_are_at_least_so_many_seconds_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, clock = [], [0.0]
    monkeypatch.setattr(trial, "time", SimpleNamespace(**{**vars(time), "monotonic": lambda: clock[0]}))
    for event in trial.run_trial(replace(spec([*TINY, "train.epochs=4"]), checkpoint_seconds=1.5), DATA):
        if isinstance(event, EpochEnd) and event.checkpoint is not None:
            kept.append(event.epoch)
        if isinstance(event, EpochEnd) and event.epoch == 2:
            clock[0] += 1.5
    assert kept == [3]


def test_a_checkpoint_tells_its_history_and_is_not_printed(never_stopped: Fit) -> None:
    second = never_stopped.ended[1]
    assert trial.read_checkpoint_history(checkpoint(second)) == [event.metrics for event in never_stopped.ended[:2]]
    assert len(repr(second)) < 500
    assert len(repr(replace(never_stopped.spec, resume=second.checkpoint))) < 3000


def refused(given: TrialSpec, data: Splits) -> str:
    """Why a trial cannot go on from its checkpoint; that is all it says."""
    (event,) = trial.run_trial(given, data)
    assert isinstance(event, CheckpointRefused)
    return event.reason


@pytest.mark.parametrize(
    "other",
    [
        ["model.filters=5"],
        ["model.conv_layers=2"],
        ["model.dense_units=9"],
        ["regularization.batch_normalization=true"],
        ["regularization.dropout=0.5"],
        ["optimizer=sgd", "optimizer.momentum=0.9"],
        ["optimizer.momentum=0.5"],
    ],
    ids=lambda other: other[0],
)
def test_a_checkpoint_of_another_model_or_optimizer_is_refused(other: list[str], final: bytes) -> None:
    given = replace(spec([*TINY, "train.epochs=3", *other]), resume=final)
    assert re.search(r"another model or optimizer: it has .* where this trial has ", refused(given, DATA))


@pytest.fixture(scope="module")
def final() -> bytes:
    ended, _ = events(short(keep_final=True), DATA)
    return checkpoint(ended[-1])


def test_a_checkpoint_with_other_validation_images_is_refused(final: bytes) -> None:
    assert re.search("20 validation images, and the trial has 30", refused(short(resume=final), splits(validation=30)))


def test_a_checkpoint_with_more_epochs_than_the_trial_is_refused(final: bytes) -> None:
    assert re.search("of epoch 3, and the trial has 1", refused(replace(spec(TINY), resume=final), DATA))


def test_damaged_bytes_are_no_failure_of_the_trial_but_an_error(final: bytes) -> None:
    altered = bytearray(final)
    altered[len(altered) // 2] ^= 1
    for content in (b"", final[:-1], bytes(altered), pack_arrays({"kind": "something else"}, {})):
        assert refused(short(resume=content), DATA)
        with pytest.raises(DamagedContent):
            trial.read_checkpoint_history(content)


def test_an_epoch_that_diverged_leaves_no_checkpoint_to_continue_from() -> None:
    # The rate climbs until the penalty makes the weights longer with each step instead of shorter.
    rising = ("train=cosine", "train.schedule.warmup_epochs=9", "optimizer.learning_rate=5.0", "regularization.l2=1.0")
    overrides = [*rising[:1], *TINY, "optimizer=sgd", "optimizer.momentum=0.0", *rising[1:], "train.epochs=9"]
    ended, _ = events(replace(spec(overrides), checkpoint_seconds=0, keep_final=True), DATA)
    assert ended[-1].checkpoint is None
    before = [event.checkpoint for event in ended[:-1]]
    assert before
    assert None not in before
    again = failed(replace(spec(overrides), resume=before[-1]), DATA)
    assert again.reason.startswith("Diverged: ")
    assert len(again.history) == len(ended)


def test_reading_a_checkpoint_does_not_import_tensorflow(tmp_path: Path) -> None:
    imports = "import sys; from fmnist_sweep.study import checkpoints; from fmnist_sweep.training import trial"
    assert run("-c", f"{imports}; sys.exit('tensorflow' in sys.modules)", cwd=tmp_path).returncode == 0
