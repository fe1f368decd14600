"""Measure a model before a sweep: its parameters, and seconds of training and predicting."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep.search import space, tunable
from fmnist_sweep.training import backend, models
from fmnist_sweep.training import optimization as training

if TYPE_CHECKING:
    import keras

    from fmnist_sweep.data import Splits


# About how long the probe trains and predicts, and how many batches tell it how many more that will be.
_TRAINING_SECONDS, _PREDICTING_SECONDS, _FIRST_BATCHES = 1.0, 0.25, 3


# A larger batch costs in proportion, and one of 65536 images would be an epoch of its own.
_LARGEST_BATCH = 1024


_PREDICTED_AT_ONCE = 512  # images, as in a trial


_MOST_CORNERS = 64  # of the space, looked at for its largest model: about 10 ms each


@dataclass(frozen=True)
class Probe:
    """What training costs here, measured.

    epoch_seconds: one epoch and its validation; start_seconds: tracing, once a trial; both nan when the configuration
    that was tried cannot be trained. parameters: of the largest model of the space.
    """

    epoch_seconds: float
    parameters: int
    start_seconds: float = 0.0


def probe(settings: Mapping[str, Any], splits: Splits) -> Probe:
    """Time a little training of a study's middle configuration, and count the parameters of its largest model.

    settings: a study's, tunables included. The middle: of a range, in the scale it is drawn in; of a choice, in sorted
    order; true for a boolean. About two seconds, most of them tracing. Trials afterwards are what they would have been.
    TensorFlow computes from here on, so the number of its threads must be settled before.
    """
    import keras

    state = random.getstate()  # Keras draws its seeds from it
    try:
        parameters = _most_parameters(settings)
        start, epoch = _timed_or_unknown(_middle(settings), splits)
    finally:
        keras.backend.clear_session()  # this collects the models as well
        random.setstate(state)
    return Probe(epoch, parameters, start)


def _middle(settings: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: _middle_of(tunable.parse(spec)) for name, spec in tunable.find(settings)}
    return space.resolve(settings, values)


def _middle_of(given: tunable.Choice | tunable.Int | tunable.Float | tunable.Boolean) -> Any:
    match given:
        case tunable.Boolean():
            return True
        case tunable.Choice():
            return sorted(given.values)[len(given.values) // 2]
        case _:
            low, high = given.min_value, given.max_value
            if given.sampling == "linear":
                return (low + high) / 2
            middle = math.sqrt(low * high)
            return middle if given.sampling == "log" else low + high - middle


def _most_parameters(settings: Mapping[str, Any]) -> int:
    """Parameters of the largest model at the corners of the space, the highest values first."""
    middle = {name: _middle_of(tunable.parse(spec)) for name, spec in tunable.find(settings)}
    edges = {name: _edges(tunable.parse(spec)) for name, spec in tunable.find(settings) if _shapes(name)}
    edges = {name: values for name, values in edges.items() if values}
    corners = itertools.islice(itertools.product(*edges.values()), _MOST_CORNERS)
    return max(
        _parameters(space.resolve(settings, middle | dict(zip(edges, corner, strict=True)))) for corner in corners
    )


def _shapes(name: str) -> bool:
    return name.startswith(("model.", "regularization."))


def _edges(given: tunable.Choice | tunable.Int | tunable.Float | tunable.Boolean) -> list[Any]:
    values = sorted(given.extremes(), reverse=True)
    if isinstance(values[0], float):
        return []  # rates and penalties shape nothing
    return values if isinstance(values[0], str) else list(dict.fromkeys((values[0], values[-1])))


def _parameters(config: Mapping[str, Any]) -> int:
    """Parameters of a model, without a byte of memory for them; 0 when it cannot be built."""
    import keras

    try:
        with keras.StatelessScope(initialize_variables=False):
            return int(models.build(config["model"], config["regularization"]).count_params())
    except Exception:  # as in a trial: what a configuration does is that trial's failure, not the sweep's
        return 0


def _timed_or_unknown(config: Mapping[str, Any], splits: Splits) -> tuple[float, float]:
    try:
        return _timed(config, splits)
    except Exception:  # as in a trial: what a configuration does is that trial's failure, not the sweep's
        return math.nan, math.nan


def _timed(config: Mapping[str, Any], splits: Splits) -> tuple[float, float]:
    """Seconds of tracing, and of an epoch with its validation."""
    train = config["train"]
    batch = min(train["batch_size"], _LARGEST_BATCH)
    order = training.epoch_order(len(splits.train.labels), config["seed"], 1)
    targets = training.targets(train["loss"], splits.train.labels)
    model = _compiled(config)

    def fit(count: int) -> None:
        chosen = order[:count]
        images = training.augment(splits.train.images[chosen], seed=config["seed"], epoch=1, **train["augmentation"])
        model.fit(images, targets[chosen], batch_size=batch, shuffle=False, verbose=0)

    def predict(count: int) -> None:
        model.predict(splits.validation.images[:count], batch_size=_PREDICTED_AT_ONCE, verbose=0)

    tracing, fitting = _cost(fit, len(order), batch, _TRAINING_SECONDS)
    also_tracing, predicting = _cost(predict, len(splits.validation.labels), _PREDICTED_AT_ONCE, _PREDICTING_SECONDS)
    return tracing + also_tracing, fitting + predicting


def _compiled(config: Mapping[str, Any]) -> keras.Model:
    """The model as a trial has it."""
    import keras

    train, before = config["train"], keras.config.dtype_policy()
    keras.config.set_dtype_policy(backend.resolve_precision(train["precision"]))
    try:
        model = models.build(config["model"], config["regularization"])
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(
        optimizer=training.optimizer(config["optimizer"]),
        loss=train["loss"],
        metrics=[training.accuracy_metric(train["loss"])],
        jit_compile=False,
    )
    return model


def _cost(work: Callable[[int], None], images: int, batch: int, most: float) -> tuple[float, float]:
    """Seconds of the first call, and of all images as those cost that take about `most` seconds."""
    batch = min(batch, images)
    batches = images // batch  # whole ones only: each shape of a batch is traced anew
    first = _seconds(work, batch)
    count = min(_FIRST_BATCHES, batches)
    seconds = _seconds(work, count * batch)
    while count < batches and seconds < most / 2:  # what a call costs in itself has to become small beside its batches
        count = min(batches, max(count + 1, int(count * most / seconds)))
        seconds = _seconds(work, count * batch)
    return first, seconds * images / (count * batch)


def _seconds(work: Callable[[int], None], images: int) -> float:
    began = time.perf_counter()
    work(images)
    return time.perf_counter() - began
