"""How far exports are from what was scored: the largest difference of a probability, and how many labels change.

Networks of several kinds are trained briefly on Fashion-MNIST (FMNIST_DATA_DIR) or drawn images, in either precision;
what each predicted for its validation images is compared with its export in each format.

    python benchmarks/exports.py [--images 20000] [--epochs 3]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import load_splits
from fmnist_sweep.training import backend, trial
from fmnist_sweep.training.events import TrialResult, TrialSpec
from fmnist_sweep.training.export_formats import FORMATS, make_float32_copy, measure_bytes, write_export
from fmnist_sweep.training.export_runtime import measure_export

NETWORKS = {
    "1 convolution, plain": (
        *("model.conv_layers=1", "model.filters=32", "model.dense_units=64", "model.growth=1"),
        *("model.pooling=after_activation", "regularization.batch_normalization=false", "regularization.dropout=0"),
    ),
    "2, normalised, dropout": ("model.conv_layers=2", "model.filters=32", "regularization.dropout=0.2"),
    "3, residual, global average": (
        *("model.conv_layers=3", "model.filters=32", "model.residual=true", "model.head=global_average"),
        "regularization.dropout=0.2",
    ),
}


def train(network: tuple[str, ...], precision: str, images: int, epochs: int) -> TrialResult:
    """The result of one short training."""
    data = "data=fashion_mnist" if os.environ.get("FMNIST_DATA_DIR") else "data=drawn"
    training = (f"train.epochs={epochs}", f"train.precision={precision}", "optimizer.learning_rate=0.002")
    job = compose_job([data, f"data.limit={images}", *network, *training])
    spec = TrialSpec("0", job.config.settings, "val_accuracy", job.config.data)
    *_, result = trial.run_trial(spec, load_splits(job.config.data))
    assert isinstance(result, TrialResult), result
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    backend.import_tensorflow()
    data = "data=fashion_mnist" if os.environ.get("FMNIST_DATA_DIR") else "data=drawn"
    validation = load_splits(compose_job([data, f"data.limit={arguments.images}"]).config.data).validation
    for name, network in NETWORKS.items():
        for precision in ("float32", "mixed_bfloat16"):
            result = train(network, precision, arguments.images, arguments.epochs)
            predicted = result.probabilities.argmax(axis=1)
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "model.keras")
                file.write_bytes(result.model)
                copy = make_float32_copy(trial.load_model(file))
                for each in FORMATS.values():
                    path = write_export(copy, each, Path(folder))
                    measured = measure_export(each.name, path, validation.images)
                    labels = measured.probabilities.argmax(axis=1)
                    print(
                        f"{name}; {precision}; {each.name}: largest difference "
                        f"{np.abs(measured.probabilities - result.probabilities).max():.2e}, "
                        f"{int((labels != predicted).sum())} of {len(labels)} labels changed, accuracy "
                        f"{(predicted == validation.labels).mean():.4f} -> {(labels == validation.labels).mean():.4f}, "
                        f"{measure_bytes(path):,} bytes, {measured.milliseconds:.3f} ms for one image, "
                        f"{measured.batch_milliseconds:.3f} ms for one of many",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
