"""One trial: build, fit, evaluate -> TrialResult. It knows neither the store nor the oracle."""

from __future__ import annotations

import math
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.errors import DISK_ERRORS
from fmnist_sweep.files import DamagedContent
from fmnist_sweep.training import backend, snapshot
from fmnist_sweep.training.augmentation import augment_images, draw_epoch_order
from fmnist_sweep.training.compilation import PREDICTION_BATCH, compile_model
from fmnist_sweep.training.events import CheckpointRefused, EpochEnd, TrialEvent, TrialFailure, TrialResult, TrialSpec
from fmnist_sweep.training.growth import compute_batch_size, compute_side, shrink_images
from fmnist_sweep.training.models import has_whitening
from fmnist_sweep.training.optimization import (
    History,
    changes_within_epochs,
    compute_batch_rates,
    compute_learning_rate,
    encode_targets,
    find_best_epoch,
    should_stop,
)
from fmnist_sweep.training.own_code import ensure_active
from fmnist_sweep.training.own_metrics import compute_metrics, list_metrics
from fmnist_sweep.training.whitening import whiten_patches

if TYPE_CHECKING:
    import keras

    from fmnist_sweep.data import Splits
    from fmnist_sweep.training.batch_rates import BatchRates


class Diverged(ArithmeticError):
    """A loss became infinite or NaN."""


def run_trial(spec: TrialSpec, splits: Splits, is_stopping: Callable[[], bool] = lambda: False) -> Iterator[TrialEvent]:
    """Train a trial: yield an EpochEnd as each epoch ends, then one TrialResult, TrialFailure or CheckpointRefused.

    The next epoch begins when the next event is asked for. Only the train and validation splits are touched. A trial
    that resumes goes on with the epoch after its checkpoint, and its result is bit for bit that of one never stopped.
    is_stopping: asked as each epoch ends; if it says yes, that epoch has a checkpoint, however recent the last one is,
    and its event is the last. A checkpoint that cannot be used is not the trial's failure.
    """
    try:
        yield from _train_epochs(spec, splits, is_stopping)
    except (DamagedContent, snapshot.CheckpointMismatch) as error:
        yield CheckpointRefused(spec.trial_id, str(error))


def _train_epochs(spec: TrialSpec, splits: Splits, is_stopping: Callable[[], bool]) -> Iterator[TrialEvent]:
    checkpoint = None if spec.resume is None else snapshot.unpack_snapshot(spec.resume)
    history = [] if checkpoint is None else list(checkpoint.history)
    if len(history) > spec.config["train"]["epochs"]:
        raise snapshot.CheckpointMismatch(
            f"the checkpoint is of epoch {len(history)}, and the trial has {spec.config['train']['epochs']}"
        )
    try:
        ensure_active(spec.plugins)
        fit = _Fit(spec, splits)
        if checkpoint is not None:
            fit.restore(checkpoint)
            checkpoint = None  # its arrays are in the model now
        while not fit.is_finished(history):
            metrics = fit.train_epoch(history)
            history.append(metrics)
            # An epoch that finishes or fails the trial is followed by the event that says so.
            is_last = is_stopping() and not fit.is_finished(history) and _find_divergence(metrics) is None
            yield EpochEnd(spec.trial_id, len(history), metrics, fit.take_checkpoint(history, is_last), is_last)
            _refuse_nan(metrics, len(history))
            if is_last:
                return
        yield fit.finish(history)
    except snapshot.CheckpointMismatch:
        raise
    except Exception as error:  # whatever a configuration raises is its trial's failure, recorded with its traceback
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise  # the next trial would fail as well, and this one can still be trained
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:500]
        yield TrialFailure(spec.trial_id, reason, traceback.format_exc(), list(history))


def read_checkpoint_history(content: bytes) -> list[dict[str, float]]:
    """The metrics of each epoch up to a checkpoint. Raises DamagedContent if it is torn, altered or something else."""
    return snapshot.unpack_snapshot(content).history


def _refuse_nan(metrics: Mapping[str, float], epoch: int) -> None:
    name = _find_divergence(metrics)
    if name is not None:
        raise Diverged(f"{name} is {metrics[name]} after epoch {epoch}; a lower learning rate may help")


def _find_divergence(metrics: Mapping[str, float]) -> str | None:
    return next((name for name in ("loss", "val_loss") if not math.isfinite(metrics[name])), None)


class _Fit:
    """A model in training: one epoch at a time, the weights of the best one kept."""

    def __init__(self, spec: TrialSpec, splits: Splits) -> None:
        import keras

        self._spec, self._train = spec, spec.config["train"]
        self._seed: int = spec.config["seed"]
        self._splits = splits
        loss = self._train["loss"]
        label_count = len(splits.description.labels)
        self._targets = encode_targets(loss, splits.train.labels, label_count)
        self._validation_targets = encode_targets(loss, splits.validation.labels, label_count)
        self._best_weights: list[NDArray[Any]] = []
        self._best_probabilities = np.empty((0, label_count), np.float32)
        self._predicting_seconds: list[
            float
        ] = []  # of processor time an image, of each pass over the validation images
        # A fresh graph each time: names and seeds do not depend on the trials before, and memory does not grow.
        backend.clear_session()
        keras.utils.set_random_seed(self._seed)
        self._metrics = list_metrics(spec.plugins)
        self._base_rate = float(spec.config["optimizer"]["learning_rate"])
        self._compiled = compile_model(spec.config, splits.description)
        self._model, self._trainer = self._compiled.plain, self._compiled.trainer
        if has_whitening(spec.config["model"]):
            whiten_patches(self._model, splits.train.images)
        self._batch_rates = self._make_batch_rates()
        self._trainer.optimizer.build(self._trainer.trainable_variables)  # its variables are there to be restored
        self._checkpoint_time = time.monotonic()

    def _make_batch_rates(self) -> BatchRates | None:
        """Let the optimizer have a rate for each batch, if the schedule changes within an epoch."""
        if not changes_within_epochs(self._train["schedule"]):
            return None
        from fmnist_sweep.training.batch_rates import BatchRates

        rates = BatchRates(self._count_batches(1))  # no later epoch has more
        self._trainer.optimizer.learning_rate = rates
        return rates

    def _count_batches(self, epoch: int) -> int:
        return math.ceil(len(self._targets) / compute_batch_size(self._train, epoch))

    def restore(self, checkpoint: snapshot.Snapshot) -> None:
        """Go on from a snapshot. Raises CheckpointMismatch if its model, optimizer or images are others."""
        snapshot.restore_state(self._trainer, checkpoint.state)
        if len(checkpoint.best_probabilities) != len(self._validation_targets):
            raise snapshot.CheckpointMismatch(
                f"the checkpoint predicted {len(checkpoint.best_probabilities)} validation images, "
                f"and the trial has {len(self._validation_targets)}"
            )
        self._best_weights = self._model.get_weights() if checkpoint.best_weights is None else checkpoint.best_weights
        self._best_probabilities = checkpoint.best_probabilities

    def take_checkpoint(self, history: list[dict[str, float]], is_last: bool) -> bytes | None:
        """Pack the state after the last epoch of `history` if a checkpoint is due, and restart the time to the next.

        An epoch that diverged has none: a trial continued from it would pass for a sound one.
        """
        interval = self._spec.checkpoint_seconds
        is_due = interval is not None and (is_last or time.monotonic() - self._checkpoint_time >= interval)
        is_due = is_due or (self._spec.keep_final and self.is_finished(history))
        if not is_due or _find_divergence(history[-1]):
            return None
        is_best = self._find_best_epoch(history) == len(history)
        content = snapshot.pack_snapshot(
            snapshot.Snapshot(
                history=list(history),
                state=snapshot.copy_state(self._trainer),
                best_weights=None if is_best else self._best_weights,
                best_probabilities=self._best_probabilities,
            )
        )
        self._checkpoint_time = time.monotonic()
        return content

    def _find_best_epoch(self, history: History) -> int:
        """The epoch to keep: the last where validation images were trained on, since these can choose none."""
        if self._spec.data.include_validation:
            return len(history)
        return find_best_epoch(history, self._spec.objective)

    def is_finished(self, history: History) -> bool:
        stopping = self._train["early_stopping"]
        if len(history) >= self._train["epochs"]:
            return True
        return bool(stopping) and bool(history) and should_stop(history, **stopping)

    def train_epoch(self, history: History) -> dict[str, float]:
        """Train one epoch and validate it; returns the values of the metrics that are logged each epoch."""
        epoch, start, cpu_start = len(history) + 1, time.perf_counter(), time.process_time()
        rate = self._set_learning_rate(history)
        order = draw_epoch_order(len(self._targets), self._seed, epoch)
        images = augment_images(
            self._train["augmentation"], self._splits.train.images[order], seed=self._seed, epoch=epoch
        )
        images = shrink_images(images, compute_side(self._train, epoch, min(images.shape[1:3])))
        metrics = self._compiled.fit(images, self._targets[order], compute_batch_size(self._train, epoch))
        probabilities = self._predict(self._splits.validation.images)
        metrics |= self._validate(probabilities)
        metrics["learning_rate"] = rate
        metrics["epoch_seconds"] = time.perf_counter() - start
        metrics["epoch_cpu_seconds"] = time.process_time() - cpu_start
        if self._find_best_epoch([*history, metrics]) == epoch:
            self._best_weights = self._model.get_weights()
            self._best_probabilities = np.asarray(probabilities, np.float32)
        return metrics

    def _predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (n, labels); how long an image took is kept."""
        start, batch_size = time.process_time(), _choose_batch_size(len(self._splits.validation.images))
        probabilities = self._compiled.predict(images, batch_size)
        self._predicting_seconds.append((time.process_time() - start) / len(images))
        return probabilities

    def _measure_image_time(self) -> float:
        """Milliseconds of processor time an image: the least of all passes but the first, which traces the graph."""
        images = self._splits.validation.images
        while len(self._predicting_seconds) < 2:  # after a single epoch, or where none was left to train
            self._predict(images[: _choose_batch_size(len(images))])
        return 1000 * min(self._predicting_seconds[1:])

    def _set_learning_rate(self, history: History) -> float:
        """Set the rate of the epoch that follows `history`, or that of each of its batches; returns their mean."""
        schedule, epochs = self._train["schedule"], self._train["epochs"]
        if self._batch_rates is None:
            rate = compute_learning_rate(schedule, self._base_rate, epochs, history)
            self._trainer.optimizer.learning_rate = rate
            return rate
        rates = compute_batch_rates(schedule, self._base_rate, epochs, history, self._count_batches(len(history) + 1))
        self._batch_rates.assign(rates, int(self._trainer.optimizer.iterations))
        return math.fsum(rates) / len(rates)

    def _validate(self, probabilities: NDArray[np.float32]) -> dict[str, float]:
        """Loss (with the penalties on the weights, as in training) and accuracy on the validation images.

        Labels are not smoothed here, so that losses of trials that smooth them differently can be compared.
        From predictions rather than Keras' own validation: what is scored is then what is kept for the best epoch,
        and one graph is traced instead of two.
        """
        import keras

        loss = keras.ops.mean(keras.losses.get(self._train["loss"])(self._validation_targets, probabilities))
        correct = probabilities.argmax(axis=1) == self._splits.validation.labels
        return {
            "val_loss": float(loss) + float(sum(self._model.losses)) / self._compiled.members,
            "val_accuracy": float(correct.mean()),
            **compute_metrics(self._metrics, self._splits.validation.labels, probabilities),
        }

    def finish(self, history: list[dict[str, float]]) -> TrialResult:
        """Give the model the weights of the best epoch, and pack it with that epoch's predictions.

        The model cannot be trained on afterwards.
        """
        self._model.set_weights(self._best_weights)
        ms_per_image = self._measure_image_time()
        return TrialResult(
            trial_id=self._spec.trial_id,
            history=list(history),
            best_epoch=self._find_best_epoch(history),
            probabilities=self._best_probabilities,
            model=_serialize_model(self._model),
            parameters=int(self._model.count_params()),
            fit_seconds=sum(row["epoch_seconds"] for row in history),
            ms_per_image=ms_per_image,
        )


def _choose_batch_size(image_count: int) -> int:
    """Images a batch, of equal batches where that is possible: for a shorter last one Keras traces again."""
    for parts in range(math.ceil(image_count / PREDICTION_BATCH), 1 + image_count // 128):
        if image_count % parts == 0:
            return image_count // parts
    return PREDICTION_BATCH


def _serialize_model(model: keras.Model) -> bytes:
    """The content of the model's .keras file; it takes the optimizer from the model, which ends its training."""
    # A .keras file holds the optimizer's state whatever `include_optimizer` says: two or three times the bytes.
    model.optimizer, model.compiled = None, False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.read_bytes()


def load_model(path: Path) -> keras.Model:
    """Load a saved .keras model. Raises ValueError if it carries code (a lambda), which is never run."""
    import keras

    return keras.saving.load_model(path, safe_mode=True, compile=False)
