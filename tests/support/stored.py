"""Trials as a store gives them back, simulated: settings that matter, hard images, wrong labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.tracking.prediction_files import Predictions
from fmnist_sweep.tracking.trials import StoredTrial

# How often the labels are taken for one another: the upper body and the shoes, as in Fashion-MNIST.
_ALIKE = ((0, 2, 3, 4, 6), (5, 7, 9))


def trial(number: int, accuracy: float | None = None, state: str | None = None, **given: Any) -> StoredTrial:
    """A finished trial, or a failed one when it has no accuracy; given: its parameters, __ for a dot."""
    state = state or ("failed" if accuracy is None else "finished")
    params = {key.replace("__", "."): str(value) for key, value in given.items()}
    metrics = {"cpu_seconds": 10.0, "best_epoch": 3.0, "parameters": 12345.0}
    if accuracy is not None:
        metrics["best_val_accuracy"] = accuracy
    tags = {"fmnist.study_id": "study", "fmnist.trial_id": f"{number:04d}", "fmnist.data": "fashion_mnist:0ce7efdbf3a4"}
    if state == "failed":
        tags["fmnist.failure"] = f"Diverged: loss is nan after epoch {number}"
    name = " · ".join([f"trial {number}", *(f"{key.split('.')[-1]} {value}" for key, value in params.items())])
    return StoredTrial(f"run{number:04d}", name, state, params, metrics, tags, 1000 * number, 1000 * number + 900)


@dataclass
class Simulation:
    """Trials with predictions and curves, and how often each was read."""

    trials: list[StoredTrial]
    predicted: dict[str, Predictions]
    read: list[str] = field(default_factory=list)
    curves_read: list[str] = field(default_factory=list)

    def predictions_of(self, run_id: str) -> Predictions | None:
        self.read.append(run_id)
        return self.predicted.get(run_id)

    def curves_of(self, run_id: str) -> list[dict[str, float]]:
        self.curves_read.append(run_id)
        accuracy = next(t.accuracy for t in self.trials if t.run_id == run_id) or 0.0
        steps = np.arange(1, 11)
        reached = accuracy - 0.25 * np.exp(-steps / 2.0)
        return [
            {"accuracy": a + 0.004 * step, "val_accuracy": a, "loss": 1.2 - a - 0.01 * step, "val_loss": 1.25 - a}
            for step, a in zip(steps.tolist(), reached.tolist(), strict=True)
        ]


def simulation(trials: int = 24, images: int = 600, seed: int = 0, failures: int = 1) -> Simulation:
    """A study of several settings, some of which matter; the last trials fail."""
    generator = np.random.default_rng(seed)
    world = _World(images, generator)
    found = Simulation([], {})
    for number in range(trials):
        given = _settings(generator)
        if number >= trials - failures:
            found.trials.append(trial(number, None, **given))
            continue
        predictions = world.predictions(_talent(given, generator), generator)
        made = trial(number, float(predictions.correct_mask.mean()), **given)
        made.metrics["cpu_seconds"] = float(generator.uniform(20, 90))  # type: ignore[index]
        found.trials.append(made)
        found.predicted[made.run_id] = predictions
    return found


def _settings(generator: np.random.Generator) -> dict[str, Any]:
    optimizer = str(generator.choice(["rmsprop", "adam", "sgd"]))
    given: dict[str, Any] = {
        "model__conv_layers": int(generator.integers(1, 4)),
        "model__filters": int(generator.choice([32, 48, 64])),
        "optimizer__name": optimizer,
        "optimizer__learning_rate": float(10 ** generator.uniform(-4, -1.5)),
        "regularization__dropout": round(float(generator.integers(0, 6)) / 10, 1),
        "regularization__batch_normalization": bool(generator.integers(0, 2)),
        "seed": 1,
    }
    return given | ({"optimizer__momentum": float(generator.choice([0.0, 0.9]))} if optimizer == "sgd" else {})


def _talent(given: dict[str, Any], generator: np.random.Generator) -> float:
    """How sure a configuration is of the right label; most hangs on the learning rate."""
    rate = np.log10(given["optimizer__learning_rate"])
    talent = 2.6 - 0.5 * (rate + 3) ** 2 + 0.25 * given["model__conv_layers"] + 0.1 * given["model__filters"] / 32
    return float(max(0.2, talent - 0.8 * abs(given["regularization__dropout"] - 0.3) + generator.normal(0, 0.09)))


class _World:
    """Validation images: each with a label, a difficulty of its own, and a hundredth of them labelled wrongly."""

    def __init__(self, images: int, generator: np.random.Generator) -> None:
        self.labels = np.arange(images, dtype=np.int64) % 10
        self.index = np.arange(images, dtype=np.int64) * 7
        self._seen = self.labels.copy()
        wrong = generator.choice(images, max(1, images // 100), replace=False)
        self._seen[wrong] = [_likeliest(label, generator) for label in self.labels[wrong].tolist()]
        self._difficulty = generator.gamma(1.2, 1.0, images)
        self._likely = np.array([_likeliest(label, generator) for label in self._seen.tolist()])

    def predictions(self, talent: float, generator: np.random.Generator) -> Predictions:
        logits = generator.normal(0, 0.7, (len(self.labels), 10)).astype(np.float32)
        rows = np.arange(len(self.labels))
        logits[rows, self._seen] += 1.6 * talent - self._difficulty * np.where(self._seen == 6, 1.4, 0.8)
        logits[rows, self._likely] += self._difficulty
        odds = np.exp(1.4 * logits)
        return Predictions(self.index, self.labels, (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32))


def _likeliest(label: int, generator: np.random.Generator) -> int:
    alike = next((group for group in _ALIKE if label in group), tuple(range(10)))
    return int(generator.choice([other for other in alike if other != label]))


def pictures(images: int = 600) -> NDArray[np.uint8]:
    """Something to show for each image; the last equals the first."""
    made = np.random.default_rng(1).integers(0, 255, (images, 28, 28, 1)).astype(np.uint8)
    made[-1] = made[0]
    return made
