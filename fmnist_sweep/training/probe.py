"""Measure a model before a sweep: its parameters, and seconds of training and predicting."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fmnist_sweep.search import space, tunable
from fmnist_sweep.search.parameters import find_tunables, list_parameters
from fmnist_sweep.training import backend
from fmnist_sweep.training.augmentation import augment_images, draw_epoch_order
from fmnist_sweep.training.compilation import PREDICTION_BATCH, compile_model
from fmnist_sweep.training.model_size import count_parameters
from fmnist_sweep.training.optimization import encode_targets

if TYPE_CHECKING:
    from fmnist_sweep.data import DataDescription, Splits


# About how long training and predicting are timed, and with how many batches their speed is estimated first.
_TRAINING_SECONDS, _PREDICTING_SECONDS, _FIRST_BATCHES = 1.0, 0.25, 3
# A larger batch costs in proportion, and one of 65536 images would be an epoch of its own.
_LARGEST_BATCH = 1024
_MAX_CORNERS = 64  # of the space, looked at for its largest model: about 10 ms each


@dataclass(frozen=True)
class TrainingCost:
    """The measured cost of training on this machine.

    epoch_seconds: of one epoch and its validation; start_seconds: of tracing, once a trial; both NaN if the
    configuration that was tried cannot be trained. parameters: of the largest model of the space.
    """

    epoch_seconds: float
    parameters: int
    start_seconds: float = 0.0


def measure_training_cost(settings: Mapping[str, Any], splits: Splits) -> TrainingCost:
    """Time a little training of a study's middle configuration, and count the parameters of its largest model.

    settings: a study's, tunables included. The middle of a range is taken in the scale it is drawn in, that of a choice
    in sorted order, and a boolean is true. This takes about two seconds, most of them tracing, and changes nothing in
    the trials that follow. TensorFlow computes from here on, so the number of its threads must be settled before.
    """

    state = random.getstate()  # Keras draws its seeds from it
    try:
        parameters = _count_max_parameters(settings, splits.description)
        start_seconds, epoch_seconds = _try_epoch_timing(resolve_middle(settings), splits)
    finally:
        backend.clear_session()
        random.setstate(state)
    return TrainingCost(epoch_seconds, parameters, start_seconds)


def resolve_middle(settings: Mapping[str, Any], options: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """The middle configuration of a study, with these options of the groups that are searched."""
    values = {name: _compute_middle(tunable.parse_tunable(spec)) for name, spec in find_tunables(settings)}
    return space.resolve_tunables(settings, {**values, **options})


def _compute_middle(parameter: tunable.Choice | tunable.Int | tunable.Float | tunable.Boolean) -> Any:
    match parameter:
        case tunable.Boolean():
            return True
        case tunable.Choice():
            return sorted(parameter.values)[len(parameter.values) // 2]
        case _:
            low, high = parameter.min_value, parameter.max_value
            if parameter.sampling == "linear":
                return (low + high) / 2
            middle = math.sqrt(low * high)
            return middle if parameter.sampling == "log" else low + high - middle


def _count_max_parameters(settings: Mapping[str, Any], description: DataDescription) -> int:
    """Parameters of the largest model at the corners of the space, the highest values first."""
    corners = (space.resolve_tunables(settings, corner) for corner in _list_corners(settings))
    return max(count_parameters(corner, description) or 0 for corner in corners)


def _list_corners(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Values of all tunables at the corners of the space, as many for each of the options that shape a model."""
    parameters = list_parameters(settings)
    middle = {each.name: _compute_middle(tunable.parse_tunable(each.spec)) for each in parameters}
    groups = {group: names for group, names in space.find_option_groups(settings).items() if _is_shape_setting(group)}
    choices = [dict(zip(groups, names, strict=True)) for names in itertools.product(*groups.values())]
    for options in choices:
        extremes = {
            each.name: values
            for each in parameters
            if _is_shape_setting(each.name)
            and each.name not in groups
            and (each.option is None or options[each.option[0]] == each.option[1])
            and (values := _list_extremes(tunable.parse_tunable(each.spec)))
        }
        corners = itertools.product(*extremes.values())
        for corner in itertools.islice(corners, max(1, _MAX_CORNERS // len(choices))):
            yield middle | options | dict(zip(extremes, corner, strict=True))


def _is_shape_setting(name: str) -> bool:
    return name.partition(".")[0] in ("model", "regularization")


def _list_extremes(parameter: tunable.Choice | tunable.Int | tunable.Float | tunable.Boolean) -> list[Any]:
    values = sorted(parameter.list_extremes(), reverse=True)
    if isinstance(values[0], float):
        return []  # rates and penalties shape nothing
    return values if isinstance(values[0], str) else list(dict.fromkeys((values[0], values[-1])))


def _try_epoch_timing(config: Mapping[str, Any], splits: Splits) -> tuple[float, float]:
    try:
        return _time_epoch(config, splits)
    except Exception:  # whatever a configuration raises is its trial's failure, not the sweep's
        return math.nan, math.nan


def _time_epoch(config: Mapping[str, Any], splits: Splits) -> tuple[float, float]:
    """Seconds of tracing, and of an epoch with its validation."""
    train = config["train"]
    batch = min(train["batch_size"], _LARGEST_BATCH)
    order = draw_epoch_order(len(splits.train.labels), config["seed"], 1)
    targets = encode_targets(train["loss"], splits.train.labels, len(splits.description.labels))
    model = compile_model(config, splits.description)

    def fit(count: int) -> None:
        indices = order[:count]
        images = augment_images(train["augmentation"], splits.train.images[indices], seed=config["seed"], epoch=1)
        model.fit(images, targets[indices], batch)

    def predict(count: int) -> None:
        model.predict(splits.validation.images[:count], PREDICTION_BATCH)

    fit_tracing, fit_seconds = _time_calls(fit, len(order), batch, _TRAINING_SECONDS)
    predict_tracing, predict_seconds = _time_calls(
        predict, len(splits.validation.labels), PREDICTION_BATCH, _PREDICTING_SECONDS
    )
    return fit_tracing + predict_tracing, fit_seconds + predict_seconds


def _time_calls(call: Callable[[int], None], images: int, batch: int, budget: float) -> tuple[float, float]:
    """Seconds of the first call, and of a full pass, extrapolated from about `budget` seconds of work."""
    batch = min(batch, images)
    batches = images // batch  # whole ones only: each shape of a batch is traced anew
    first_seconds = _time_call(call, batch)
    count = min(_FIRST_BATCHES, batches)
    seconds = _time_call(call, count * batch)
    # The cost of the call itself has to become small beside that of its batches.
    while count < batches and seconds < budget / 2:
        count = min(batches, max(count + 1, int(count * budget / seconds)))
        seconds = _time_call(call, count * batch)
    return first_seconds, seconds * images / (count * batch)


def _time_call(call: Callable[[int], None], images: int) -> float:
    start = time.perf_counter()
    call(images)
    return time.perf_counter() - start
