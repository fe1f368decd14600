"""A process that loads an exported model in its own runtime, on one core: what it predicts, and how long it takes.

It imports neither Keras nor anything of a store. `measure_export` starts it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.process.interpreter import build_child_environment, build_python_command

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

_BATCH = 256
_WARM_UP, _TIMED = 10, 100  # single images


class RuntimeFailure(Exception):
    """A runtime that could not load or run what was exported; the message is its last line."""


@dataclass(frozen=True)
class RuntimeMeasurement:
    """What an exported model predicts in its runtime, and its milliseconds of processor time on one core.

    probabilities: (n, labels) float32. milliseconds: the median for one image at a time; batch_milliseconds: an image
    among many.
    """

    probabilities: NDArray[np.float32]
    milliseconds: float
    batch_milliseconds: float


def measure_export(format_name: str, path: Path, images: NDArray[np.uint8]) -> RuntimeMeasurement:
    """Predict with an exported model in a fresh process. Raises RuntimeFailure with the reason."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "images.npy"), Path(folder, "predicted.npz")
        np.save(source, images)
        done = subprocess.run(
            build_python_command(__name__, format_name, str(path.absolute()), str(source), str(target)),
            cwd=folder,
            env={**build_child_environment(), "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
            raise RuntimeFailure(lines[-1])
        with np.load(target, allow_pickle=False) as arrays:
            return RuntimeMeasurement(
                probabilities=arrays["probabilities"],
                milliseconds=float(arrays["milliseconds"]),
                batch_milliseconds=float(arrays["batch_milliseconds"]),
            )


def main() -> int:
    """Load the export that the arguments name, predict for the images of a file, and write what came of it."""
    format_name, path, source, target = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    predict = _LOADERS[format_name](path)
    images = np.load(source, allow_pickle=False)
    milliseconds = _time_single_images(predict, images)
    predict(images[:_BATCH])
    start = time.process_time()
    parts = [predict(images[begin : begin + _BATCH]) for begin in range(0, len(images), _BATCH)]
    seconds = time.process_time() - start
    np.savez(
        target,
        probabilities=np.concatenate(parts),
        milliseconds=milliseconds,
        batch_milliseconds=1000 * seconds / len(images),
    )
    return 0


def _time_single_images(predict: Predict, images: NDArray[np.uint8]) -> float:
    milliseconds = []
    for place in range(_WARM_UP + _TIMED):
        image = images[place % len(images)][None]
        start = time.process_time()  # whatever else this core computes for
        predict(image)
        milliseconds.append(1000 * (time.process_time() - start))
    return statistics.median(milliseconds[_WARM_UP:])


def _load_onnx(path: str) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    return lambda batch: np.asarray(session.run(None, {images.name: batch})[0], np.float32)


def _load_litert(path: str) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=path, num_threads=1)
    images, probabilities = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    shape: tuple[int, ...] | None = None

    def predict(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal shape
        if batch.shape != shape:
            interpreter.resize_tensor_input(images, batch.shape)
            interpreter.allocate_tensors()
            shape = batch.shape
        interpreter.set_tensor(images, batch)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(probabilities), np.float32)

    return predict


def _load_saved_model(path: str) -> Predict:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = tf.saved_model.load(path)  # kept alive by the function below
    return lambda batch: np.asarray(loaded.serve(tf.constant(batch)).numpy(), np.float32)


_LOADERS: dict[str, Callable[[str], Predict]] = {
    "onnx": _load_onnx,
    "litert": _load_litert,
    "saved_model": _load_saved_model,
}
