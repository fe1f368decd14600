"""Options that the verbs of fmnist-sweep share."""

from __future__ import annotations

import click

EXPERIMENT_NAME = "fashion-mnist"
URI = click.option("--uri", default=None, help="The store; default: mlruns/mlflow.db below the working directory.")
EXPERIMENT = click.option("--experiment", default=EXPERIMENT_NAME, show_default=True, help="Experiment in the store.")
