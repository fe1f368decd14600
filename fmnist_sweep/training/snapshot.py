"""A trial's state after an epoch as checked bytes, and a model brought back into it: it trains on bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.files import DamagedContent, pack_arrays, unpack_arrays

if TYPE_CHECKING:
    import keras

_KIND = "checkpoint of a trial"


class CheckpointMismatch(ValueError):
    """A checkpoint that is whole, but of another model, optimizer or fit."""


@dataclass(frozen=True)
class Snapshot:
    """All that the remaining epochs depend on, besides the trial's config and its data.

    history: the metrics of each epoch so far. state: path and value of every variable of the model and its optimizer,
    random states and iterations included. best_weights: of the best epoch, None where that is the last one and `state`
    has them already. best_probabilities: (n, 10) float32, what the best epoch predicted on the validation images.
    """

    history: list[dict[str, float]]
    state: list[tuple[str, NDArray[Any]]]
    best_weights: list[NDArray[Any]] | None
    best_probabilities: NDArray[np.float32]


def pack_snapshot(snapshot: Snapshot) -> bytes:
    """A snapshot as bytes that begin with their own checksum."""
    best_weights = snapshot.best_weights
    values = {
        "kind": _KIND,
        "history": snapshot.history,
        "paths": [path for path, _ in snapshot.state],
        "best_weights": None if best_weights is None else len(best_weights),
    }
    arrays = {f"state.{number}": array for number, (_, array) in enumerate(snapshot.state)}
    arrays |= {f"best.{number}": array for number, array in enumerate(best_weights or ())}
    return pack_arrays(values, {**arrays, "probabilities": snapshot.best_probabilities})


def unpack_snapshot(content: bytes) -> Snapshot:
    """The snapshot of packed bytes; raises DamagedContent if they are torn, altered or something else."""
    values, arrays = unpack_arrays(content)
    if values.get("kind") != _KIND:
        raise DamagedContent("it is no checkpoint of a trial")
    weight_count = values["best_weights"]
    return Snapshot(
        history=values["history"],
        state=[(path, arrays[f"state.{number}"]) for number, path in enumerate(values["paths"])],
        best_weights=None if weight_count is None else [arrays[f"best.{number}"] for number in range(weight_count)],
        best_probabilities=arrays["probabilities"],
    )


def copy_state(model: keras.Model) -> list[tuple[str, NDArray[Any]]]:
    """Path and value (a copy) of every variable of a compiled model and its built optimizer."""
    return [(variable.path, variable.numpy()) for variable in _list_variables(model)]


def restore_state(model: keras.Model, state: Sequence[tuple[str, NDArray[Any]]]) -> None:
    """Give a compiled model and its built optimizer the values of `state`.

    Raises CheckpointMismatch if its variables are not those of the model and the optimizer.
    """
    variables = _list_variables(model)
    saved_variables = [_describe_variable(path, array.shape, array.dtype) for path, array in state]
    model_variables = [_describe_variable(variable.path, variable.shape, variable.dtype) for variable in variables]
    for saved_variable, model_variable in zip_longest(saved_variables, model_variables, fillvalue="nothing"):
        if saved_variable != model_variable:  # all are compared before any is changed
            raise CheckpointMismatch(
                f"the checkpoint is of another model or optimizer: it has {saved_variable} where this trial has "
                f"{model_variable}"
            )
    for variable, (_, array) in zip(variables, state, strict=True):
        variable.assign(array)


def _list_variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _describe_variable(path: str, shape: Sequence[int], dtype: object) -> str:
    return f"{path} {tuple(shape)} {dtype}"
