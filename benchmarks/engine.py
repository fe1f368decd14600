"""How near training is to the machine's limit, and to plain Keras: each documented model and the default family.

For each model, in turn in one process and on the same threads: multiplying matrices (the limit), an epoch as a trial
trains it, and plain Keras `fit` on the same arrays, each in float32 and bfloat16. Of every fit the CPU seconds an image
count; its fastest round gives the GFLOP/s. Ratios are of pairs of the same round.

    python benchmarks/engine.py [--models two_conv,cnn] [--rounds 5] [--seconds 1] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import FASHION_MNIST
from fmnist_sweep.report.documented.write_ups import read_write_ups
from fmnist_sweep.training import backend
from fmnist_sweep.training.compilation import compile_model
from fmnist_sweep.training.models import build_model
from fmnist_sweep.training.optimization import build_optimizer, encode_targets, make_accuracy_metric

if TYPE_CHECKING:
    import keras
    import numpy as np

FAMILY = "cnn"  # the default family, at its middle
FAMILY_OVERRIDES = (
    *("model.conv_layers=2", "model.filters=48", "regularization.dropout=0.2"),
    "optimizer.learning_rate=0.003",
)
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
MATRIX_SIDE = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    recipes = sorted(recipe for write_up in read_write_ups() for recipe in write_up.figures)
    parser.add_argument("--models", default=",".join([*recipes, FAMILY]))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long each fit takes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure_model(arguments.child, arguments.rounds, arguments.seconds, arguments.threads)))
        return
    print(f"{arguments.threads} threads, {arguments.rounds} rounds; a trial by default: {resolve_default()}")
    print("| model | MFLOP an image | " + " | ".join(HEADS))
    print("| --- | --- |" + " --- |" * len(HEADS))
    for model in arguments.models.split(","):
        command = [sys.executable, __file__, "--child", model]
        command += [f"--{name}={getattr(arguments, name)}" for name in ("rounds", "seconds", "threads")]
        done = subprocess.run(command, env={**os.environ}, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        print(format_row(model, json.loads(done.stdout.splitlines()[-1])), flush=True)


HEADS = (
    "GFLOP/s float32 (of the limit)",
    "GFLOP/s bfloat16 (of the limit)",
    "µs CPU an image, float32",
    "bfloat16",
    "plain ÷ ours, float32",
    "plain ÷ ours, bfloat16",
    "plain float32 ÷ ours bfloat16 |",
)


def resolve_default() -> str:
    return backend.resolve_precision("auto")


def format_row(model: str, measured: Mapping[str, Any]) -> str:
    flops, seconds = measured["flops"], measured["seconds"]
    cells = [f"{flops / 1e6:.1f}"]
    for precision in PRECISIONS:
        speed, limit = flops / min(seconds[f"ours {precision}"]) / 1e9, 1e-9 / min(seconds[f"limit {precision}"])
        cells.append(f"{speed:.0f} of {limit:.0f} ({speed / limit:.0%})")
    cells += [f"{1e6 * statistics.median(seconds[f'ours {precision}']):.0f}" for precision in PRECISIONS]
    pairs = [(f"plain {precision}", f"ours {precision}") for precision in PRECISIONS]
    for slow, fast in [*pairs, ("plain float32", "ours bfloat16")]:
        ratios = [one / other for one, other in zip(seconds[slow], seconds[fast], strict=True)]
        cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return f"| {model} | {' | '.join(cells)} |"


def measure_model(model: str, rounds: int, seconds: float, threads: int) -> dict[str, Any]:
    """FLOPs an image, and CPU seconds an image (of the limit: a FLOP) of each way of computing, by round."""
    backend.set_threads(threads)
    config = compose_job(FAMILY_OVERRIDES if model == FAMILY else [f"experiment={model}"]).config.settings
    calls: dict[str, Callable[[], float]] = {}
    for precision, policy in PRECISIONS.items():
        calls[f"limit {precision}"] = make_multiplication(precision)
        trained = {**config, "train": {**config["train"], "precision": policy}}
        calls[f"ours {precision}"] = make_fit(compile_model(trained, FASHION_MNIST).fit, config, seconds)
        calls[f"plain {precision}"] = make_fit(build_plain(trained), config, seconds)
    measured: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        # Whoever comes first finds other caches than who comes last, so the order turns.
        for name in [*calls][number % len(calls) :] + [*calls][: number % len(calls)]:
            measured[name].append(calls[name]())
    return {"flops": count_training_flops(build_model(config["model"], config["regularization"])), "seconds": measured}


def count_training_flops(model: keras.Model) -> int:
    """Floating-point operations of convolutions and dense layers for one image, forward and backward.

    The gradients of weights and of inputs cost as much as the layer each; nobody asks for those of the pixels.
    """
    import keras

    def count_layer_flops(layer: keras.layers.Layer) -> int:
        positions = layer.output.shape[1] * layer.output.shape[2] if isinstance(layer, keras.layers.Conv2D) else 1
        return 2 * positions * int(layer.kernel.shape.num_elements())

    counts = [count_layer_flops(layer) for layer in model.layers if hasattr(layer, "kernel")]
    return 3 * sum(counts) - counts[0]


def make_multiplication(precision: str) -> Callable[[], float]:
    """CPU seconds a FLOP of the machine's matrix multiplication."""
    import tensorflow as tf

    matrix = tf.cast(tf.random.stateless_uniform((MATRIX_SIDE, MATRIX_SIDE), (0, 0)), precision)
    multiply = tf.function(lambda: tf.linalg.matmul(matrix, matrix), jit_compile=False)
    multiply()

    def measure() -> float:
        start = time.process_time()
        for _ in range(3):
            multiply().numpy()
        return (time.process_time() - start) / (3 * 2 * MATRIX_SIDE**3)

    return measure


def build_plain(config: Mapping[str, Any]) -> Callable[..., object]:
    """What a script with plain Keras fits. Without XLA, which Keras would take by itself: it is slower on a CPU."""
    import keras

    train = config["train"]
    keras.config.set_dtype_policy(train["precision"])
    model = build_model(config["model"], config["regularization"])
    keras.config.set_dtype_policy("float32")
    model.compile(
        optimizer=build_optimizer(config["optimizer"]),
        loss=train["loss"],
        metrics=[make_accuracy_metric(train["loss"])],
        jit_compile=False,
    )
    return lambda images, targets, batch: model.fit(images, targets, batch_size=batch, shuffle=False, verbose=0)


def make_fit(fit: Callable[..., object], config: Mapping[str, Any], seconds: float) -> Callable[[], float]:
    """CPU seconds an image of a fit on so many images that it takes about `seconds`."""
    batch = config["train"]["batch_size"]

    def measure(count: int) -> float:
        images, targets = draw_images(count, config["train"]["loss"])
        start = time.process_time()
        fit(images, targets, batch)
        return (time.process_time() - start) / count

    measure(batch)  # traced
    measure(2 * batch)
    count = batch * max(2, min(400, round(seconds / (batch * measure(4 * batch)))))
    return lambda: measure(count)


def draw_images(count: int, loss: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    import numpy as np

    generator = np.random.default_rng(count)
    images = generator.integers(0, 256, (count, 28, 28, 1)).astype(np.uint8)
    return images, encode_targets(loss, generator.integers(0, 10, count), 10)


if __name__ == "__main__":
    main()
