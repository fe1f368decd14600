"""What a user would write instead of a sweep: Optuna proposes and prunes, Keras trains, MLflow logs by itself.

The space, the images and their split are those of the product's default study, and so is the recipe: a cycle of the
rate over all epochs, and mirrored images. All else is as Optuna, Keras and MLflow have it by default, unless an option
says otherwise. `against_optuna.py` runs it.

    python benchmarks/optuna_script.py --minutes 10 --seed 1 [--epochs 9] [--precision float32] [OVERRIDE ...]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

import keras
import mlflow.keras
import optuna
import tensorflow as tf

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import Splits, load_splits
from fmnist_sweep.search import space
from fmnist_sweep.search.parameters import find_tunables
from fmnist_sweep.training.models import build_model
from fmnist_sweep.training.optimization import build_optimizer


class PruningCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports the accuracy of each epoch, and stops the training where the pruner says so.

    As optuna-integration's, but for how it stops: an exception within `fit` would take MLflow's last metrics with it.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        super().__init__()
        self._trial = trial
        self.is_pruned = False

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._trial.report((logs or {})["val_accuracy"], epoch)
        self.is_pruned = self._trial.should_prune()
        self.model.stop_training = self.model.stop_training or self.is_pruned


def suggest(trial: optuna.Trial, name: str, spec: Mapping[str, Any]) -> Any:
    """A value of one of the product's tunables."""
    match spec:
        case {"tune": "choice"}:
            return trial.suggest_categorical(name, spec["values"])
        case {"tune": "boolean"}:
            return trial.suggest_categorical(name, [False, True])
        case {"tune": "int"}:
            return trial.suggest_int(name, spec["min_value"], spec["max_value"], step=spec.get("step") or 1)
        case {"tune": "float"}:
            is_log = spec.get("sampling") == "log"
            return trial.suggest_float(name, spec["min_value"], spec["max_value"], step=spec.get("step"), log=is_log)
    raise ValueError(f"{name}: no such tunable here ({spec})")


def make_batches(splits: Splits, batch_size: int, flip: bool) -> tf.data.Dataset:
    """The training images, shuffled anew in each epoch."""
    batches = tf.data.Dataset.from_tensor_slices((splits.train.images, splits.train.labels))
    batches = batches.shuffle(len(splits.train.labels)).batch(batch_size)
    if flip:
        batches = batches.map(lambda images, labels: (tf.image.random_flip_left_right(images), labels))
    return batches.prefetch(tf.data.AUTOTUNE)


def make_rate(base: float, schedule: Mapping[str, Any], steps: int) -> Any:
    """One cycle over so many steps, by Keras' own warm-up and cosine; or the constant rate."""
    if schedule["name"] != "one_cycle":
        return base
    warmup = round(schedule["warmup"] * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.1 * base, steps - warmup, alpha=1e-3, warmup_target=base, warmup_steps=warmup
    )


def train(trial: optuna.Trial, settings: Mapping[str, Any], splits: Splits) -> float:
    """Train what Optuna suggests; its best validation accuracy."""
    values = {name: suggest(trial, name, spec) for name, spec in find_tunables(settings)}
    config = space.resolve_tunables(settings, values)
    section = config["train"]
    keras.utils.clear_session()
    model = build_model(config["model"], config["regularization"])
    steps = section["epochs"] * -(-len(splits.train.labels) // section["batch_size"])
    optimizer = build_optimizer(config["optimizer"])
    optimizer.learning_rate = make_rate(config["optimizer"]["learning_rate"], section["schedule"], steps)
    model.compile(optimizer=optimizer, loss=section["loss"], metrics=["accuracy"])
    pruning = PruningCallback(trial)
    history = model.fit(
        make_batches(splits, section["batch_size"], section["augmentation"]["flip"]),
        epochs=section["epochs"],
        validation_data=(splits.validation.images, splits.validation.labels),
        callbacks=[pruning],
        verbose=0,
    ).history
    if pruning.is_pruned:
        raise optuna.TrialPruned
    return float(max(history["val_accuracy"]))


def main() -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="no new trial begins after so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--precision", default="float32", help="or mixed_bfloat16; Keras' default is float32")
    parser.add_argument("overrides", nargs="*", help="of the product's config, for its space and images")
    given = parser.parse_args()
    job = compose_job([*given.overrides, f"train.epochs={given.epochs}"])
    keras.utils.set_random_seed(given.seed)
    keras.config.set_dtype_policy(given.precision)
    mlflow.keras.autolog()  # mlflow.autolog() logs by TensorBoard, which TensorFlow no longer installs
    splits = load_splits(job.config.data)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=given.seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=given.epochs, reduction_factor=3),
    )
    left = 60 * given.minutes - (time.monotonic() - begun)
    study.optimize(lambda trial: train(trial, job.config.settings, splits), timeout=max(1.0, left))


if __name__ == "__main__":
    main()
