"""Seconds an epoch takes in float32 and in mixed_bfloat16, in turn, and what each scores.

The default network's middle size on Fashion-MNIST (FMNIST_DATA_DIR) or drawn images; each run is a process of its own.

    python benchmarks/precision.py [--rounds 3] [--images 20000]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

from fmnist_sweep.training.backend import resolve_precision

PRECISIONS = ("float32", "mixed_bfloat16")

ONE_RUN = """
import json, os, sys
from fmnist_sweep.training import backend, trial
from fmnist_sweep.training.events import TrialSpec
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import load_splits
backend.import_tensorflow()
job = compose_job([
    "data=fashion_mnist" if os.environ.get("FMNIST_DATA_DIR") else "data=drawn", "data.limit=" + sys.argv[2],
    "model.conv_layers=2", "model.filters=48", "regularization.dropout=0.2", "optimizer.learning_rate=0.003",
    "train.epochs=3",
    "train.precision=" + sys.argv[1]])
spec = TrialSpec("0", job.config.settings, "val_accuracy", job.config.data)
*epochs, result = trial.run_trial(spec, load_splits(job.config.data))
print(json.dumps([[epoch.metrics["epoch_seconds"] for epoch in epochs[1:]], epochs[-1].metrics["val_accuracy"]]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=20000)
    arguments = parser.parse_args()
    ratios = []
    for number in range(1, arguments.rounds + 1):
        seconds = {}
        for precision in PRECISIONS:
            command = [sys.executable, "-c", ONE_RUN, precision, str(arguments.images)]
            done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            epochs, accuracy = json.loads(done.stdout.splitlines()[-1])
            seconds[precision] = statistics.median(epochs)
            print(
                f"round {number}: {precision}: {seconds[precision]:.2f} s an epoch, val_accuracy {accuracy:.4f}",
                flush=True,
            )
        ratios.append(seconds["float32"] / seconds["mixed_bfloat16"])
    print(
        f"ratio float32/mixed_bfloat16: median {statistics.median(ratios):.2f} (min {min(ratios):.2f}, "
        f"max {max(ratios):.2f}, rounds={len(ratios)}); train.precision=auto chooses {resolve_precision('auto')} here"
    )


if __name__ == "__main__":
    main()
