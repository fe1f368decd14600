"""The content of a write-up's page: the runs that reproduce it and their results, read from the store."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fmnist_sweep.report.documented.recipe_results import (
    RecipeResults,
    read_results,
)
from fmnist_sweep.report.documented.recipe_runs import WriteUpRuns
from fmnist_sweep.report.documented.write_ups import WriteUp
from fmnist_sweep.tracking.names import (
    KIND_TAG,
    SWEEP_ID_TAG,
)
from fmnist_sweep.tracking.queries import search_runs
from fmnist_sweep.tracking.store import Store


@dataclass(frozen=True)
class WriteUpPage:
    """All that a page shows. results: by recipe. sweep_tags: of the sweeps that trained the runs."""

    write_up: WriteUp
    recipe_runs: WriteUpRuns
    results: Mapping[str, RecipeResults]
    sweep_tags: Sequence[Mapping[str, str]]
    overrides: Sequence[str]

    def format_command(self, verb: str, *options: str) -> str:
        return shlex.join(["fmnist-sweep", "documented", verb, self.write_up.number, *options, *self.overrides])


def read_page(store: Store, write_up: WriteUp, recipe_runs: WriteUpRuns, overrides: Sequence[str]) -> WriteUpPage:
    """Read from the store all that a page shows. Errors: StoreError."""
    sweep_ids = sorted({run.trial.tags.get(SWEEP_ID_TAG, "") for run in recipe_runs.all_runs})
    sweeps = [run for sweep_id in sweep_ids for run in search_runs(store, {KIND_TAG: "sweep", SWEEP_ID_TAG: sweep_id})]
    results = read_results(store, recipe_runs)
    return WriteUpPage(write_up, recipe_runs, results, [sweep.tags for sweep in sweeps], overrides)
