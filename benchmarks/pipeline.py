"""What a pipeline that tunes itself costs: an epoch and its validation on arrays, as Keras takes them, and as a trial.

Both train the same model on the same images in turn, in one process of one thread; the weights come out the same.

    python benchmarks/pipeline.py [--rounds 10] [--images 20000] [OVERRIDE ...]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import load_splits
from fmnist_sweep.sweep.plan import settle_precision
from fmnist_sweep.training import backend

NETWORK = ("model.filters=24", "model.conv_layers=3", "optimizer.learning_rate=0.003", "regularization.dropout=0.0")
_STEPS_PER_CALL = 32  # as a trial has
_PREDICTED = 512
Seconds = tuple[float, float]  # of wall time, and of the processor


def time_call(call: Callable[[], object]) -> Seconds:
    """Seconds that a call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def build_passes(images: int, overrides: list[str]) -> Mapping[str, Callable[[], object]]:
    """One epoch with its validation, by name: on arrays, and as a trial has it."""
    backend.set_threads(1)
    from fmnist_sweep.training.compilation import compile_model
    from fmnist_sweep.training.optimization import encode_targets

    data = "data=fashion_mnist" if os.environ.get("FMNIST_DATA_DIR") else "data=drawn"
    config = compose_job([data, *NETWORK, *overrides]).config
    settings, splits = settle_precision(config.settings), load_splits(config.data)
    batch_size = settings["train"]["batch_size"]
    train, validation = splits.train.images[:images], splits.validation.images
    targets = encode_targets(settings["train"]["loss"], splits.train.labels[:images], len(splits.description.labels))
    plain, ours = (compile_model(settings, splits.description) for _ in range(2))

    def pass_arrays() -> None:
        plain.trainer.steps_per_execution = _STEPS_PER_CALL
        plain.trainer.fit(train, targets, batch_size=batch_size, shuffle=False, verbose=0)
        plain.trainer.steps_per_execution = 1
        plain.plain.predict(validation, batch_size=_PREDICTED, verbose=0)

    def pass_batches() -> None:
        ours.fit(train, targets, batch_size)
        ours.predict(validation, _PREDICTED)

    return {"arrays": pass_arrays, "batches": pass_batches}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("overrides", nargs="*", help="of the product's config")
    given = parser.parse_args()
    passes = build_passes(given.images, given.overrides)
    for call in passes.values():  # it traces its graph
        call()
    rounds = list[Mapping[str, Seconds]]()
    for number in range(1, given.rounds + 1):
        rounds.append({name: time_call(call) for name, call in passes.items()})
        told = ", ".join(f"{name} {wall:.2f} s, {cpu:.2f} CPU s" for name, (wall, cpu) in rounds[-1].items())
        print(f"round {number}: {told}", flush=True)
    for index, what in enumerate(("wall time", "CPU time")):
        ratios = [each["arrays"][index] / each["batches"][index] for each in rounds]
        spread = f"median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
        print(f"arrays / batches, {what}: mean {statistics.mean(ratios):.2f} ({spread}), n={len(ratios)}")


if __name__ == "__main__":
    main()
