"""Formats that a trained model can be exported to, through Keras' own export: what each is called, needs and leaves."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fmnist_sweep.errors import ConfigError
from fmnist_sweep.text import quote_text
from fmnist_sweep.training import backend

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class ExportFormat:
    """A format. file_name: of what is written, a folder for saved_model. keras_name: in Keras' export.

    runtime: what loads it, in words. libraries: modules that writing or loading it needs, beside TensorFlow.
    """

    name: str
    file_name: str
    keras_name: str
    runtime: str
    libraries: tuple[str, ...] = ()


FORMATS = {
    each.name: each
    for each in (
        ExportFormat("onnx", "model.onnx", "onnx", "ONNX Runtime", ("tf2onnx", "onnxruntime")),
        ExportFormat("litert", "model.tflite", "litert", "LiteRT", ("ai_edge_litert",)),
        ExportFormat("saved_model", "saved_model", "tf_saved_model", "TensorFlow"),
    )
}


def parse_formats(text: str) -> list[ExportFormat]:
    """The formats that `onnx,litert` names, each once. Raises ConfigError for another, or for one that needs more."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise ConfigError(
                f"--to {quote_text(text)}: {quote_text(name)!r} is no format; expected one of {', '.join(FORMATS)}, or "
                "several with commas between them."
            )
    formats = [FORMATS[name] for name in names]
    _check_libraries(formats)
    return formats


def _check_libraries(formats: Sequence[ExportFormat]) -> None:
    for each in formats:
        missing = [library for library in each.libraries if importlib.util.find_spec(library) is None]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise ConfigError(
                f"--to {each.name}: {' and '.join(missing)} {verb} not installed; pip install 'fmnist_sweep[export]'."
            )


def make_float32_copy(model: keras.Model) -> keras.Model:
    """The same network and weights, computing in float32 throughout; the model itself stays as it is.

    A model that was trained in bfloat16 rounds between its layers to eight bits, and neither ONNX Runtime nor LiteRT
    computes so.
    """
    import keras

    def copy_layer(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if "dtype" in config:
            config["dtype"] = "float32"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=copy_layer)
    copy.set_weights(model.get_weights())
    copy(np.zeros((1, *copy.input_shape[1:]), np.uint8))  # Keras exports no model that was never called
    return copy


class ExportFailure(Exception):
    """A model that Keras could not export; the message is the first line of the reason."""


def write_export(model: keras.Model, export_format: ExportFormat, folder: Path) -> Path:
    """Write a model in a format into a folder, and return the file. Raises ExportFailure.

    What converters write on standard error, pages of it, is kept off the terminal.
    """
    path = folder / export_format.file_name
    failure: Exception | None = None
    with backend.buffer_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.export(str(path), format=export_format.keras_name, verbose=False)
        except Exception as error:  # whatever a converter raises for a layer that it does not know
            failure = error
    if failure is not None:
        raise ExportFailure((str(failure).strip() or type(failure).__name__).splitlines()[0])
    return path


def measure_bytes(path: Path) -> int:
    """The size of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)
