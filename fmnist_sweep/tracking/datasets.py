"""The dataset inputs of a run: its train and validation splits."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.tracking.foreign import parse_image_count, parse_location

if TYPE_CHECKING:
    from mlflow.entities import Dataset, Run

    from fmnist_sweep.data import Split, Splits
    from fmnist_sweep.tracking.store import Store


_MAX_TRIES = 8


def log_datasets(store: Store, run_id: str, splits: Splits) -> None:
    """Log the train and validation splits as inputs of a run. Logging them again changes nothing."""
    from mlflow.entities import InputTag

    inputs = [
        _build_input(splits, part, context, InputTag)
        for context, part in (("train", splits.train), ("validation", splits.validation))
    ]
    _log_inputs(store, run_id, inputs)


def find_validation_dataset(run: Run) -> Dataset | None:
    """The dataset that a run was validated on; None if its inputs do not say."""
    for dataset_input in run.inputs.dataset_inputs if run.inputs else ():
        if any(tag.value == "validation" for tag in dataset_input.tags):
            return dataset_input.dataset
    return None


def read_data_location(store: Store, run_id: str) -> str | None:
    """Where the images of a run were read from: a path, as the run says; None if it says none, or is not there."""
    from mlflow.exceptions import MlflowException

    if not run_id:
        return None
    try:
        dataset = find_validation_dataset(store.client.get_run(run_id))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
    return None if dataset is None else parse_location(dataset.source)


def count_validation_images(run: Run) -> int | None:
    """How many images a run was validated on; None if its inputs do not say."""
    dataset = find_validation_dataset(run)
    return None if dataset is None else parse_image_count(dataset.profile)


def _log_inputs(store: Store, run_id: str, inputs: list[Any]) -> None:
    """Log inputs of a run while other commands may be logging the same ones.

    MLflow looks for a dataset and then inserts it. Of two commands that are the first in an experiment, one violates
    the table's unique key and writes nothing; when it tries again, it finds the other's dataset.
    """
    from mlflow.exceptions import MlflowException

    for tries_left in reversed(range(_MAX_TRIES)):
        try:
            store.client.log_inputs(run_id, datasets=inputs)
            return
        except MlflowException as error:
            if not tries_left or not any(words in str(error) for words in ("UniqueViolation", "UNIQUE constraint")):
                raise
            time.sleep(0.1)


def _build_input(splits: Splits, part: Split, context: str, input_tag: Any) -> Any:
    from mlflow.entities import Dataset, DatasetInput

    origin = splits.origin
    dataset = Dataset(
        name=f"{origin.source} {context}",
        digest=splits.sha256[:12],  # as in the tag fmnist.data; a longer one fills the UI's columns
        source_type="fmnist_sweep",
        source=json.dumps(
            {"location": mask_credentials(origin.location), "canonical": origin.canonical, "sha256": splits.sha256}
        ),
        schema=_build_schema(splits.description.image_shape),
        profile=json.dumps({"images": len(part.labels), "shape": list(part.images.shape)}),
    )
    return DatasetInput(dataset, tags=[input_tag("mlflow.data.context", context)])


def _build_schema(image_shape: tuple[int, int, int]) -> str:
    from mlflow.data.schema import TensorDatasetSchema
    from mlflow.types import Schema, TensorSpec

    features = Schema([TensorSpec(np.dtype("uint8"), (-1, *image_shape), "pixels")])
    targets = Schema([TensorSpec(np.dtype("int64"), (-1,), "label")])
    return json.dumps({"mlflow_tensorspec": TensorDatasetSchema(features, targets).to_dict()})
