"""Seconds an epoch takes on all cores: one network on whole batches, and replicas of it on parts of them, in turn.

One process at a time trains the default network's middle size, with batches of 64, on as many threads as replicas.

    python benchmarks/replicas.py [--rounds 5] [--images 12000] [--replicas 2] [OVERRIDE ...]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import load_splits
from fmnist_sweep.sweep.plan import settle_precision
from fmnist_sweep.training import backend

NETWORK = ("model.filters=32", "model.conv_layers=3", "optimizer.learning_rate=0.003", "regularization.dropout=0.1")
_EPOCHS = 2  # that count, after one that traces the graph


def train(images: int, threads: int, overrides: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of the quickest epoch."""
    backend.set_threads(threads)
    from fmnist_sweep.training.compilation import compile_model
    from fmnist_sweep.training.optimization import encode_targets

    config = compose_job([*NETWORK, *overrides]).config
    settings, splits = settle_precision(config.settings), load_splits(config.data)
    compiled = compile_model(settings, splits.description)
    targets = encode_targets(settings["train"]["loss"], splits.train.labels, len(splits.description.labels))
    epochs = list[tuple[float, float]]()
    for _ in range(1 + _EPOCHS):
        wall, cpu = time.perf_counter(), time.process_time()
        compiled.fit(splits.train.images[:images], targets[:images], settings["train"]["batch_size"])
        epochs.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(epochs[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="of the product's config")
    given = parser.parse_args()
    if given.child:
        print(json.dumps(train(given.images, given.replicas, given.overrides)))
        return
    data = "data=fashion_mnist" if os.environ.get("FMNIST_DATA_DIR") else "data=drawn"
    command = [sys.executable, __file__, "--child", f"--images={given.images}", f"--replicas={given.replicas}", data]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    ratios = list[float]()
    for number in range(1, given.rounds + 1):
        seconds = dict[int, float]()
        for replicas in (1, given.replicas):
            done = subprocess.run(
                [*command, *given.overrides, f"train.replicas={replicas}"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(done.stderr)
            seconds[replicas], cpu = json.loads(done.stdout.splitlines()[-1])
            print(f"round {number}: {replicas} replicas: {seconds[replicas]:.2f} s, {cpu:.2f} CPU s", flush=True)
        ratios.append(seconds[1] / seconds[given.replicas])
    told = f"median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), n={len(ratios)}"
    print(f"one network / {given.replicas} replicas: {told}")


if __name__ == "__main__":
    main()
