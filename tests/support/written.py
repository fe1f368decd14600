"""Runs of recipes written into a store with figures of a test's choice, and the tables of their page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mlflow.entities import Metric, Param
from numpy.typing import NDArray

from fmnist_sweep.config.identity import identify_study
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.report.documented.page_content import read_page
from fmnist_sweep.report.documented.recipe_runs import (
    compose_recipe,
    find_write_up_runs,
    read_finished_trials,
)
from fmnist_sweep.report.documented.write_up_page import render_write_up_page
from fmnist_sweep.report.documented.write_ups import read_write_ups
from fmnist_sweep.tracking import store
from fmnist_sweep.tracking.run_files import log_files

IMAGES = 2000


def connected(folder: Path, experiment: str = "fashion-mnist") -> store.Store:
    return store.open_store(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}", experiment)


def told(right: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels and probabilities: that share is right, spread over the labels; what is wrong is the next label."""
    labels = np.arange(IMAGES, dtype=np.int64) % 10
    wrong = np.random.default_rng(seed).permutation(IMAGES)[: round(IMAGES * (1 - right))]
    said = labels.copy()
    said[wrong] = (labels[wrong] + 1) % 10
    return labels, np.eye(10, dtype=np.float32)[said] * 0.9 + 0.01


class Written:
    """An experiment into which runs of recipes are written as the supervisor logs them."""

    def __init__(self, shared: Path, folder: Path) -> None:
        self.folder = folder
        self.store = connected(shared, folder.name)

    def run(
        self,
        recipe: str,
        seed: int,
        *,
        right: float = 0.9,
        overrides: Sequence[str] = (),
        precision: str = "float32",
        tags: Mapping[str, str] | None = None,
        objective: str = "val_accuracy",
        epochs: int = 2,
    ) -> str:
        job = compose_recipe(recipe, [*overrides, f"seed={seed}", f"search.objective={objective}"])
        settings = {**job.config.settings, "train": {**job.config.settings["train"], "precision": precision}}
        made = identify_study(job, "", settings, "0" * 64)
        client, experiment = self.store.client, self.store.experiment_id
        parent = client.create_run(experiment, tags={"fmnist.kind": "study"}).info.run_id
        log_files(self.store, parent, {"identity.json": json.dumps(made.identity).encode()})
        marks = {
            "fmnist.kind": "trial",
            "fmnist.study_id": made.id,
            "fmnist.trial_id": "0000",
            "fmnist.sweep_id": "s",
            "fmnist.data": "fashion_mnist:0",
            "fmnist.canonical": "true",
            "fmnist.git": "abc",
            "mlflow.parentRunId": parent,
            **(tags or {}),
        }
        run_id = str(client.create_run(experiment, tags=marks).info.run_id)
        data = job.config.data.model_dump(exclude={"dir", "download", "fallback"})
        params = flatten_config({**settings, "data": data})
        final = {"best_val_accuracy": right, "best_epoch": epochs, "parameters": 7, "fit_seconds": 3}
        client.log_batch(
            run_id,
            metrics=[
                *(
                    Metric(key, right - 0.01 * (epochs - step), 0, step)
                    for step in range(1, epochs + 1)
                    for key in ("accuracy", "val_accuracy", "loss", "val_loss")
                ),
                *(Metric(key, value, 0, 0) for key, value in final.items()),
            ],
            params=[
                Param(key, json.dumps(value) if isinstance(value, dict | list) else str(value))
                for key, value in params.items()
            ],
        )
        labels, probabilities = told(right, seed)
        file = self.folder / "predictions.npz"
        np.savez(file, index=np.arange(IMAGES), labels=labels, probabilities=probabilities)
        client.log_artifact(run_id, str(file))
        client.set_terminated(run_id, "FINISHED")
        return run_id

    def page(self, number: str, overrides: Sequence[str] = ()) -> str:
        (write_up,) = read_write_ups([number])
        found = find_write_up_runs(self.store, read_finished_trials(self.store), write_up, overrides)
        return render_write_up_page(read_page(self.store, write_up, found, overrides))


def cells(page: str, *begins: str) -> list[str]:
    """The cells of the one table row that begins with these."""
    (row,) = [
        found
        for line in page.splitlines()
        if line.startswith("| ") and (found := line.strip("| ").split(" | "))[: len(begins)] == list(begins)
    ]
    return [cell.strip(" |") for cell in row]


def replace(written: Written, run_id: str, labels: NDArray[np.int64], said: NDArray[np.int64]) -> None:
    file = written.folder / "predictions.npz"
    probabilities = np.eye(10, dtype=np.float32)[said]
    np.savez(file, index=np.arange(IMAGES), labels=labels, probabilities=probabilities)
    written.store.client.log_artifact(run_id, str(file))
