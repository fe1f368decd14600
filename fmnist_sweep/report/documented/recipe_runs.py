"""The runs of a store that reproduce the recipes of a write-up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.identity import identify_study
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.reading import parse_json
from fmnist_sweep.report.documented.write_ups import WriteUp
from fmnist_sweep.tracking.foreign import Misfit, check_identity, name_left_out
from fmnist_sweep.tracking.names import CANONICAL_TAG, IDENTITY_FILE, PARENT_RUN_TAG
from fmnist_sweep.tracking.run_files import UnreadableArtifact, read_artifact
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.tracking.trials import StoredTrial, read_curves, read_trials

if TYPE_CHECKING:
    from fmnist_sweep.config.job import Job


def compose_recipe(recipe: str, overrides: Sequence[str]) -> Job:
    """Compose the job of a recipe with overrides. Errors: ConfigError, also where it is more than a single trial."""
    job = compose_job([f"experiment={recipe}", *overrides])
    tuned_keys = identify_study(job, "", job.config.settings, "").tuned_keys
    if tuned_keys:
        raise ConfigError(f"{', '.join(tuned_keys)}: a documented model is a single trial; give each a fixed value.")
    return job


@dataclass(frozen=True)
class RecipeRun:
    """One training of a recipe. identity: all that decided its result, as its study recorded it."""

    recipe: str
    trial: StoredTrial
    identity: Mapping[str, Any]

    @property
    def seed(self) -> int:
        return int(self.identity["settings"]["seed"])

    @property
    def precision(self) -> str:
        return str(self.identity["settings"]["train"]["precision"])

    @property
    def is_drawn(self) -> bool:
        return self.trial.data_source == "drawn"

    @property
    def title(self) -> str:
        return f"{self.recipe} seed {self.seed} (run {self.trial.run_id})"


@dataclass(frozen=True)
class WriteUpRuns:
    """The runs of a write-up's recipes, each recipe's by seed.

    jobs: the recipes as composed. exclusions: how many runs are not counted and why, in words.
    """

    runs: Mapping[str, list[RecipeRun]]
    jobs: Mapping[str, Job]
    exclusions: Sequence[str]

    @property
    def all_runs(self) -> list[RecipeRun]:
        return [run for runs in self.runs.values() for run in runs]


def find_write_up_runs(
    store: Store, trials: Sequence[StoredTrial], write_up: WriteUp, overrides: Sequence[str]
) -> WriteUpRuns:
    """Find the finished trials that are a write-up's recipes by content, whatever command trained them.

    Of each seed the first that began counts, so that nobody can train again and keep the better one. All are of one
    precision. The versions of libraries may differ: a page names them. Errors: ConfigError.
    """
    jobs = {recipe: compose_recipe(recipe, overrides) for recipe in write_up.figures}
    candidates = [run for recipe, job in jobs.items() for run in _find_recipe_runs(store, trials, recipe, job)]
    noncanonical_runs = [run for run in candidates if not run.is_drawn and run.trial.tags.get(CANONICAL_TAG) != "true"]
    canonical_runs = [run for run in candidates if run not in noncanonical_runs]
    precisions = [run.precision for run in canonical_runs]
    precision = max(sorted(set(precisions)), key=precisions.count, default="")
    first_runs: dict[tuple[str, int], RecipeRun] = {}
    for run in canonical_runs:
        if run.precision == precision:
            first_runs.setdefault((run.recipe, run.seed), run)
    runs = {recipe: sorted(_select_recipe_runs(first_runs, recipe), key=lambda run: run.seed) for recipe in jobs}
    other_runs = [run for run in canonical_runs if run.precision != precision]
    reasons = {
        "of images that by checksum are not the canonical ones": noncanonical_runs,
        f"of another precision than {precision}": other_runs,
        "of a seed that was trained before": [
            run for run in canonical_runs if run not in other_runs and run not in first_runs.values()
        ],
    }
    exclusions = [f"{len(group)} {reason}" for reason, group in reasons.items() if group]
    return WriteUpRuns(runs, jobs, exclusions)


def _select_recipe_runs(first_runs: Mapping[tuple[str, int], RecipeRun], recipe: str) -> list[RecipeRun]:
    return [run for (name, _), run in first_runs.items() if name == recipe]


def read_finished_trials(store: Store) -> list[StoredTrial]:
    """Read every finished trial of a store's experiment, in the order in which they began."""
    return read_trials(store, {"attributes.status": "FINISHED"})


def _find_recipe_runs(store: Store, trials: Sequence[StoredTrial], recipe: str, job: Job) -> Iterator[RecipeRun]:
    """The runs of a recipe among trials. What claims to be one and is not what a sweep leaves is named and left out."""
    data = {f"data.{key}": value for key, value in job.config.data.describe_content().items()}
    expected = {**flatten_config(job.config.settings), **data}
    free_keys = {"seed", *(("train.precision",) if job.config.settings["train"]["precision"] == "auto" else ())}
    for trial in trials:
        # Cheaper than reading the identity, which is compared next.
        if any(trial.parse_value(key) != value for key, value in expected.items() if key not in free_keys):
            continue
        try:
            identity = _read_identity(store, trial)
            if identity is not None and _has_same_identity(job, identity):
                if not read_curves(store, trial.run_id):
                    raise Misfit("it is finished and has no curve")
                yield RecipeRun(recipe, trial, identity)
        except Misfit as error:
            name_left_out(store, "run", "with the settings of a write-up", [(trial.run_id, str(error))])


def _read_identity(store: Store, trial: StoredTrial) -> dict[str, Any] | None:
    """What decided a trial's result, as its study recorded it; None if it did not. Raises Misfit."""
    parent = trial.tags.get(PARENT_RUN_TAG)
    try:
        content = None if parent is None else read_artifact(store, parent, IDENTITY_FILE)
        identity: dict[str, Any] | None = None if content is None else parse_json(content)
    except (UnreadableArtifact, ValueError) as error:
        raise Misfit(f"what its study records cannot be read ({error})") from None
    if identity is not None:
        check_identity(identity)
    return identity


def _has_same_identity(job: Job, identity: Mapping[str, Any]) -> bool:
    """Whether a study with this identity is this job, but for its seed, the precision `auto` came to, and versions."""
    settings, train = job.config.settings, job.config.settings["train"]
    precision = identity["settings"]["train"]["precision"] if train["precision"] == "auto" else train["precision"]
    expected = {**settings, "seed": identity["settings"]["seed"], "train": {**train, "precision": precision}}
    expected_identity = identify_study(job, "", expected, identity["data"]).identity
    return bool({**json.loads(json.dumps(expected_identity)), "versions": identity["versions"]} == identity)
