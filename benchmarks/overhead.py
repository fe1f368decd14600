"""What a trial costs beyond its fit: ours against the obvious script, in turn.

Both train the same network on the same drawn images. The time from the start of a trial's run to the start of the next
one, less the seconds of its fit, is what building, scoring, drawing, logging, saving and proposing took. Each round is
a process of its own with a store of its own; its first trial (imports, first traces) is left out.

    python benchmarks/overhead.py [--rounds 3] [--trials 6]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES, EPOCHS, FILTERS = 2000, 2, [8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 72]

OBVIOUS = """
import sys, time
import keras, keras_tuner, mlflow, numpy as np
import matplotlib; matplotlib.use("Agg")
import matplotlib.pyplot as plt
from sklearn.metrics import ConfusionMatrixDisplay
from fmnist_sweep.data import DataConfig, load_splits

splits = load_splits(DataConfig(source="drawn", dir=None, download=False, limit=None, validation=0.1, split_seed=0,
                         fallback=None, include_validation=False, images={images},
                         drawn_seed=0))
train, val = splits.train, splits.validation

def build(hp):
    model = keras.Sequential([
        keras.Input((28, 28, 1)), keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(hp.Choice("filters", {filters}), 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(), keras.layers.Flatten(), keras.layers.Dense(32, activation="relu"),
        keras.layers.Dropout(0.2), keras.layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

class Tuner(keras_tuner.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):  # the stock one imports tensorboard, which is not there
        with mlflow.start_run():
            mlflow.log_params(trial.hyperparameters.values)
            model = self.hypermodel.build(trial.hyperparameters)
            began = time.perf_counter()
            history = model.fit(train.images, train.labels, validation_data=(val.images, val.labels),
                                epochs={epochs}, batch_size=128, verbose=0).history
            mlflow.log_metric("fit_seconds", time.perf_counter() - began)
            for epoch in range({epochs}):
                for name, values in history.items():
                    mlflow.log_metric(name, values[epoch], step=epoch)
            predicted = model.predict(val.images, verbose=0).argmax(1)
            figure, axes = plt.subplots(figsize=(8, 8))
            ConfusionMatrixDisplay.from_predictions(val.labels, predicted, ax=axes)
            mlflow.log_figure(figure, "confusion_matrix.png")
            plt.close(figure)
            mlflow.keras.log_model(model, name="model")
            return {{"val_accuracy": max(history["val_accuracy"])}}

mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("obvious")
tuner = Tuner(build, objective=keras_tuner.Objective("val_accuracy", "max"), max_trials={trials}, seed=1,
              directory="tuner", project_name="obvious")
tuner.search()
"""

SECONDS = """
import sys, mlflow
client = mlflow.MlflowClient(sys.argv[1])
runs = client.search_runs([e.experiment_id for e in client.search_experiments()],
                          filter_string="metrics.fit_seconds > 0", order_by=["attributes.start_time ASC"])
for run, following in zip(runs[1:], runs[2:]):
    print((following.info.start_time - run.info.start_time) / 1000 - run.data.metrics["fit_seconds"])
"""


def ours(folder: Path, trials: int) -> Path:
    """The project's own sweep of the same space; the address of its store."""
    overrides = [
        *("data=drawn", f"data.images={IMAGES}", "optimizer=adam", "regularization=none", "model.conv_layers=1"),
        *(f"model.filters.values={FILTERS}".replace(" ", ""), "model.dense_units=32", "regularization.dropout=0.2"),
        *(f"train.epochs={EPOCHS}", "train.precision=float32", "search=random", f"search.max_trials={trials}"),
    ]
    _run([sys.executable, "-m", "fmnist_sweep", *overrides], folder)
    return folder / "mlruns" / "mlflow.db"


def obvious(folder: Path, trials: int) -> Path:
    """KerasTuner's RandomSearch with MLflow's defaults, as a user would first write it; the address of its store."""
    code = OBVIOUS.format(images=IMAGES, epochs=EPOCHS, filters=FILTERS, trials=trials)
    _run([sys.executable, "-c", code], folder)
    return folder / "mlflow.db"


def _run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def seconds_beyond_fit(store: Path) -> list[float]:
    """Each trial's seconds beyond its fit, without the first and the last trial."""
    printed = _run([sys.executable, "-c", SECONDS, f"sqlite:///{store}"], store.parent)
    return [float(line) for line in printed.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=6)
    arguments = parser.parse_args()
    ratios, all_ours, all_obvious = [], [], []
    for number in range(1, arguments.rounds + 1):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            mine = seconds_beyond_fit(ours(Path(one), arguments.trials))
            theirs = seconds_beyond_fit(obvious(Path(other), arguments.trials))
        ratios.append(statistics.median(theirs) / statistics.median(mine))
        all_ours += mine
        all_obvious += theirs
        print(
            f"round {number}: ours {statistics.median(mine):.2f} s, obvious {statistics.median(theirs):.2f} s a trial, "
            f"ratio {ratios[-1]:.1f}",
            flush=True,
        )
    for name, values in (("ours", all_ours), ("obvious script", all_obvious)):
        print(
            f"{name}: median {statistics.median(values):.2f} s beyond fit "
            f"(min {min(values):.2f}, max {max(values):.2f}, n={len(values)})"
        )
    print(
        f"ratio obvious/ours: median {statistics.median(ratios):.1f} "
        f"(min {min(ratios):.1f}, max {max(ratios):.1f}, rounds={len(ratios)})"
    )


if __name__ == "__main__":
    main()
