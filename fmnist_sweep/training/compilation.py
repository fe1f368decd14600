"""A model as a trial trains it: built and compiled from a config, the same for the trial and for its measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.search.space import read_replicas
from fmnist_sweep.training import backend, models
from fmnist_sweep.training.growth import compute_batch_size
from fmnist_sweep.training.optimization import build_loss, build_optimizer, make_accuracy_metric

if TYPE_CHECKING:
    import keras

    from fmnist_sweep.data import DataDescription

PREDICTION_BATCH = 512  # images predicted at once, at most: a matter of speed and memory alone


# Batches that TensorFlow trains on between two returns to Python, which cost a dense network a sixth of its time. Any
# number gives the same bits.
_STEPS_PER_CALL = 32


@dataclass
class CompiledModel:
    """A model and what trains it.

    plain: of plain Keras layers; it predicts, and is what is scored and saved. trainer: the compiled model that is
    fitted; the same one, or a twin that shares all its layers' weights. replicas: of it, on parts of a batch.
    members: the networks of an ensemble, of which each learns by its own loss; 1 for a single one.
    """

    plain: keras.Model
    trainer: keras.Model
    replicas: int
    members: int = 1
    _traced: tuple[int, ...] | None = field(default=None, init=False)  # shape of the batches of the last pass

    def fit(self, images: NDArray[np.uint8], targets: NDArray[Any], batch_size: int) -> dict[str, float]:
        """Train on each image once, in their order; returns the loss and metrics of this pass.

        Those of an ensemble are the means of its members'. A last batch of fewer images than there are replicas is
        left out.
        """
        from fmnist_sweep.training.batches import batch_arrays

        trainer, shape = self.trainer, (batch_size, *images.shape[1:])
        if shape != self._traced:
            # Else TensorFlow would make of two shapes a graph for any, which may round otherwise. A training that is
            # continued knows the second shape only, and must give the same bits.
            trainer.train_function, self._traced = None, shape
        trainer.steps_per_execution = _STEPS_PER_CALL
        rest = len(images) % batch_size
        count = len(images) - (rest if rest < self.replicas else 0)
        batches = batch_arrays(images[:count], targets[:count], batch_size=batch_size)
        if self.members > 1:
            batches = batches.map(lambda pixels, labels: (pixels, (labels,) * self.members))
        history = trainer.fit(batches, shuffle=False, verbose=0).history
        trainer.steps_per_execution = 1  # predicting would unroll as many batches into one graph
        metrics = {name: float(values[-1]) for name, values in history.items()}
        return metrics if self.members == 1 else _average_metrics(metrics, self.members)

    def predict(self, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float32]:
        """Probabilities (n, labels) of images."""
        from fmnist_sweep.training.batches import predict_images

        return predict_images(self.plain, images, batch_size)


def _average_metrics(metrics: Mapping[str, float], members: int) -> dict[str, float]:
    """The means over the members of an ensemble, of whose losses Keras gives the sum, and of accuracies each one."""
    accuracies = [value for name, value in metrics.items() if name.endswith("_accuracy")]
    return {"accuracy": sum(accuracies) / members, "loss": metrics["loss"] / members}


def compile_model(config: Mapping[str, Any], description: DataDescription) -> CompiledModel:
    """Build and compile the model of a trial's config for data; its precision is resolved, never `auto`."""
    import keras

    train, previous_policy = config["train"], keras.config.dtype_policy()
    replicas, members = read_replicas(config), models.count_members(config["model"])
    backend.split_threads(replicas)
    keras.config.set_dtype_policy(train["precision"])
    try:
        model = models.build_model(
            config["model"], config["regularization"], description.image_shape, len(description.labels)
        )
        trainer = _build_trainer(model, train, replicas, members)
    finally:
        keras.config.set_dtype_policy(previous_policy)
    trainer.compile(
        optimizer=build_optimizer(config["optimizer"], train.get("averaging", 0.0)),
        loss=[build_loss(train["loss"], len(description.labels), train.get("label_smoothing", 0.0))] * members,
        metrics=[[make_accuracy_metric(train["loss"])] for _ in range(members)],
        jit_compile=False,  # XLA takes two to three times longer on a CPU
    )
    return CompiledModel(model, trainer, replicas, members)


def _build_trainer(model: keras.Model, train: Mapping[str, Any], replicas: int, members: int) -> keras.Model:
    """Build what trains a model: its twin, or replicas of that on parts of a batch."""
    from fmnist_sweep.training.members import separate_members
    from fmnist_sweep.training.replicas import replicate_model

    twin = _build_twin(separate_members(model) if members > 1 else model, train)
    return twin if replicas == 1 else replicate_model(twin, replicas)


def _build_twin(model: keras.Model, train: Mapping[str, Any]) -> keras.Model:
    """Build a twin of a model where some of its layers have a faster one, else the model itself.

    Where images grow, the twin takes those of any size.
    """
    import keras

    from fmnist_sweep.training.fused_normalization import fuse_normalization
    from fmnist_sweep.training.quick_dropout import quicken_dropout

    largest_batch = compute_batch_size(train, train["epochs"])

    def find_trainer(layer: keras.layers.Layer) -> keras.layers.Layer:
        layer = quicken_dropout(layer, largest_batch)
        return fuse_normalization(layer) if train.get("normalization") == "fused" else layer

    trainers = {layer: find_trainer(layer) for layer in model.layers}
    if train.get("resolution") is not None:
        pixels = keras.Input((None, None, model.input_shape[-1]), dtype="uint8")
        return keras.models.clone_model(model, input_tensors=pixels, clone_function=trainers.__getitem__)
    if all(layer is trainer for layer, trainer in trainers.items()):
        return model
    return keras.models.clone_model(model, clone_function=trainers.__getitem__)
