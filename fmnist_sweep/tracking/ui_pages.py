"""What the MLflow UI shows of an experiment: its description, and views of its runs."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fmnist_sweep.tracking.names import KIND_TAG, NOTE_TAG

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store

_EXPERIMENT_NOTE = (
    "Sweeps of image classifiers by fmnist_sweep: each sweep holds its studies, each study its trials. The menu at the "
    "top right has the view *Best trials*. `fmnist-sweep promote` takes the best one to the registry."
)


# By default, the UI's table of runs has no columns for metrics and parameters.
_METRIC_COLUMNS = ("best_val_accuracy", "best_epoch", "parameters", "fit_seconds")


_PARAM_COLUMNS = (
    "optimizer.name",
    "optimizer.learning_rate",
    "model.conv_layers",
    "model.filters",
    "model.dense_units",
    "regularization.dropout",
    "train.batch_size",
)


_VIEWS: dict[str, tuple[str, dict[str, Any]]] = {
    "fmnist-sweeps": ("Sweeps", {}),
    "fmnist-trials": (
        "Best trials",
        {
            "searchFilter": f"tags.`{KIND_TAG}` = 'trial'",
            "orderByKey": "metrics.`best_val_accuracy`",
            "orderByAsc": False,
        },
    ),
}


_VIEW_TAG_PREFIX = "mlflow.sharedViewState."
OWN_EXPERIMENT_TAG = f"{_VIEW_TAG_PREFIX}{next(iter(_VIEWS))}"  # which every experiment has that a sweep created


def build_experiment_tags() -> dict[str, str]:
    """The tags of a new experiment: a description, its kind, and the views of its runs in the UI's menu Views."""
    columns = [*(f"metrics.`{key}`" for key in _METRIC_COLUMNS), *(f"params.`{key}`" for key in _PARAM_COLUMNS)]
    order = ["attributes.`Run Name`", "runDateAndNestInfo", *columns, "duration"]  # the grid's own names
    widths = {"attributes.`Run Name`": 340, **dict.fromkeys(columns, 150)}
    now = int(time.time() * 1000)
    tags = {"mlflow.experimentKind": "custom_model_development", NOTE_TAG: _EXPERIMENT_NOTE}
    for key, (name, search) in _VIEWS.items():
        state = {**search, "selectedColumns": columns, "columnOrder": order, "columnWidths": widths}
        view = {"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
        tags[f"{_VIEW_TAG_PREFIX}{key}"] = json.dumps(view)
    return tags


def build_runs_page_path(store: Store) -> str:
    """The path and query, after the server's address, that open the experiment's sweeps in the MLflow UI.

    They ask for model training, since the UI opens on its pages for language models, whatever the experiment's kind.
    """
    query = {"workflowType": "machine_learning"}
    view = next(iter(_VIEWS))
    if f"{_VIEW_TAG_PREFIX}{view}" in store.client.get_experiment(store.experiment_id).tags:
        query["viewStateShareKey"] = view
    return f"/#/experiments/{store.experiment_id}/runs?{urlencode(query)}"
