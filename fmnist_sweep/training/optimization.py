"""The parts of a fit: optimizers, losses, schedules, early stopping.

Schedules and early stopping depend on the history so far alone, so weights and history suffice to continue a training.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fmnist_sweep import plugins
from fmnist_sweep.search.tunable import MAX_COUNT, Count
from fmnist_sweep.training.layers import OUTPUT_LAYER

if TYPE_CHECKING:
    import keras

OPTIMIZERS, SCHEDULES = plugins.OPTIMIZERS, plugins.SCHEDULES

History = Sequence[Mapping[str, float]]
LearningRate = Annotated[float, Field(gt=0, le=10)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
WeightDecay = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0, lt=1)]


@plugins.optimizer
def rmsprop(*, learning_rate: LearningRate, momentum: Momentum) -> "keras.Optimizer":
    """Build RMSprop (Hinton's lecture 6e, 2012)."""
    import keras

    return keras.optimizers.RMSprop(learning_rate=learning_rate, momentum=momentum)


@plugins.optimizer
def adam(*, learning_rate: LearningRate) -> "keras.Optimizer":
    """Build Adam (Kingma and Ba, 2015)."""
    import keras

    return keras.optimizers.Adam(learning_rate=learning_rate)


@plugins.optimizer
def adamw(*, learning_rate: LearningRate, weight_decay: WeightDecay) -> "keras.Optimizer":
    """Build Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    import keras

    return keras.optimizers.AdamW(learning_rate=learning_rate, weight_decay=weight_decay)


@plugins.optimizer
def sgd(*, learning_rate: LearningRate, momentum: Momentum, nesterov: bool) -> "keras.Optimizer":
    """Build stochastic gradient descent with momentum."""
    import keras

    return keras.optimizers.SGD(learning_rate=learning_rate, momentum=momentum, nesterov=nesterov)


@plugins.optimizer
def muon(
    *, learning_rate: LearningRate, weight_decay: WeightDecay, other_rate: Annotated[float, Field(gt=0, le=100)]
) -> "keras.Optimizer":
    """Build Muon (Jordan et al., 2024) for all kernels but the output's, and AdamW for everything else.

    other_rate: AdamW's learning rate, as a multiple of Muon's.
    """
    from fmnist_sweep.training.muon import KernelMuon

    return KernelMuon(
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        adam_weight_decay=weight_decay,
        adam_lr_ratio=other_rate,
        exclude_layers=[OUTPUT_LAYER],
    )


def build_optimizer(section: Mapping[str, Any], averaging: float = 0.0) -> "keras.Optimizer":
    """Build the optimizer of a resolved `optimizer` section.

    averaging: share of itself that the running average of the weights keeps at each batch. At the end of each epoch
    the weights become their average (Polyak and Juditsky, 1992), with which the next one goes on. 0 for none.
    """
    built: keras.Optimizer = OPTIMIZERS[section["name"]](
        **{key: value for key, value in section.items() if key != "name"}
    )
    built.use_ema, built.ema_momentum = averaging > 0, averaging
    return built


# A schedule maps (base rate, finished epochs, total epochs, history, its own arguments) to the next epoch's rate.


@plugins.schedule
def constant(base: float, finished_epochs: int, epochs: int, history: History) -> float:
    """Return the same rate in every epoch."""
    return base


@plugins.schedule
def cosine(
    base: float,
    finished_epochs: int,
    epochs: int,
    history: History,
    *,
    warmup_epochs: Annotated[int, Field(ge=0, le=MAX_COUNT)],
    over_epochs: Count | None,
) -> float:
    """Warm up linearly, then follow half a cosine down to 0.1 % of the base rate (Loshchilov and Hutter, 2017).

    over_epochs: number of epochs to the end of the cosine; None for those of the fit. With a number, a shorter fit
    equals the beginning of a longer one. After the end, the rate stays at its lowest.
    """
    if finished_epochs < warmup_epochs:
        return base * (finished_epochs + 1) / (warmup_epochs + 1)
    horizon = epochs if over_epochs is None else over_epochs
    progress = min(1.0, (finished_epochs - warmup_epochs) / max(1, horizon - warmup_epochs))
    return base * max(1e-3, 0.5 * (1 + math.cos(math.pi * progress)))


@plugins.batch_schedule
def one_cycle(
    base: float,
    finished_epochs: float,
    epochs: int,
    history: History,
    *,
    warmup: Annotated[float, Field(ge=0, lt=1)],
    over_epochs: Count | None,
) -> float:
    """Rise from a tenth of the base rate to the whole of it, then follow half a cosine down (Smith, 2018).

    It changes with each batch: finished_epochs counts parts of an epoch. warmup: share of the epochs in which the rate
    rises. over_epochs: as for `cosine`.
    """
    progress = min(1.0, finished_epochs / (epochs if over_epochs is None else over_epochs))
    if progress < warmup:
        return base * (0.1 + 0.9 * progress / warmup)
    return base * max(1e-3, 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))))


@plugins.schedule
def exponential(base: float, finished_epochs: int, epochs: int, history: History, *, factor: Factor) -> float:
    """Multiply the previous epoch's rate by `factor`."""
    return float(base * factor**finished_epochs)


@plugins.schedule
def plateau(
    base: float, finished_epochs: int, epochs: int, history: History, *, factor: Factor, patience: Count
) -> float:
    """Multiply the rate by `factor` whenever the validation loss has not fallen for `patience` epochs."""
    rate, best, stale_epochs = base, math.inf, 0
    for row in history:
        if row["val_loss"] < best:
            best, stale_epochs = row["val_loss"], 0
        else:
            stale_epochs += 1
        if stale_epochs >= patience:
            rate, stale_epochs = rate * factor, 0
    return rate


def changes_within_epochs(schedule: Mapping[str, Any]) -> bool:
    """Whether a resolved `train.schedule` section gives each batch of an epoch a rate of its own."""
    registration = SCHEDULES.find_registration(schedule["name"])
    return registration is not None and registration.changes_within_epochs


def compute_learning_rate(schedule: Mapping[str, Any], base: float, epochs: int, history: History) -> float:
    """Compute the rate of the epoch that follows `history`, by a resolved `train.schedule` section."""
    return _compute_rate(schedule, base, len(history), epochs, history)


def compute_batch_rates(
    schedule: Mapping[str, Any], base: float, epochs: int, history: History, batches: int
) -> list[float]:
    """Compute the rate of each batch of the epoch that follows `history`, for a schedule that changes within epochs."""
    return [_compute_rate(schedule, base, len(history) + batch / batches, epochs, history) for batch in range(batches)]


def _compute_rate(
    schedule: Mapping[str, Any], base: float, finished_epochs: float, epochs: int, history: History
) -> float:
    arguments = {key: value for key, value in schedule.items() if key != "name"}
    return float(SCHEDULES[schedule["name"]](base, finished_epochs, epochs, history, **arguments))


def find_best_epoch(history: History, monitor: str) -> int:
    """Find the epoch (from 1) with the lowest loss or the highest accuracy; of equals, the first."""
    values = [row[monitor] for row in history]
    return values.index(min(values) if monitor.endswith("loss") else max(values)) + 1


def should_stop(history: History, monitor: str, patience: int, min_delta: float) -> bool:
    """Whether `monitor` has not improved by more than `min_delta` in the last `patience` epochs."""
    sign = -1 if monitor.endswith("loss") else 1
    best, stale_epochs = -math.inf, 0
    for row in history:
        if sign * row[monitor] > best + min_delta:
            best, stale_epochs = sign * row[monitor], 0
        else:
            stale_epochs += 1
    return stale_epochs >= patience


def encode_targets(loss: str, labels: NDArray[np.int64], label_count: int) -> NDArray[Any]:
    """Encode labels as the loss takes them: integers for the sparse loss, one-hot rows (n, label_count) for others."""
    if loss == "sparse_categorical_crossentropy":
        return labels
    return np.eye(label_count, dtype=np.float32)[labels]


def build_loss(name: str, label_count: int, label_smoothing: float = 0.0) -> str | Callable[[Any, Any], Any]:
    """Build what is minimised: the loss of this name, of targets that share `label_smoothing` of their weight.

    That part is spread evenly over all labels (Szegedy et al., 2016).
    """
    if not label_smoothing:
        return name

    def compute_smoothed(targets: Any, probabilities: Any) -> Any:
        import keras

        if name == "sparse_categorical_crossentropy":
            targets = keras.ops.one_hot(keras.ops.reshape(targets, (-1,)), label_count)
        return keras.losses.categorical_crossentropy(targets, probabilities, label_smoothing=label_smoothing)

    return compute_smoothed


def make_accuracy_metric(loss: str) -> "keras.Metric":
    """Make the metric of the share of images whose most probable label is the true one, whatever the loss.

    The class is named because Keras' own "accuracy" can mean the share of correct *bits*, about 0.98, with binary
    cross-entropy.
    """
    import keras

    if loss == "sparse_categorical_crossentropy":
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    return keras.metrics.CategoricalAccuracy(name="accuracy")
