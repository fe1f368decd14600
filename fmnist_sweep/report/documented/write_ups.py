"""The write-ups this project started from: what each states, the runs that reproduce it, their test accuracy."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.folders import find_experiments_folder
from fmnist_sweep.config.identity import identify_study
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.config.overrides import parse_override_key
from fmnist_sweep.data import DataConfig, Split, load_matching_splits
from fmnist_sweep.errors import ConfigError, StoreError
from fmnist_sweep.tracking.models import UnusableModel
from fmnist_sweep.tracking.names import CANONICAL_TAG, DATA_TAG, IDENTITY_FILE, PARENT_RUN_TAG, TEST_OPENED_TAG
from fmnist_sweep.tracking.predictions import Predictions, TestPredictions, read_predictions
from fmnist_sweep.tracking.run_files import read_artifact
from fmnist_sweep.tracking.scoring import CheckedModel, fetch_checked_model, score_on_test_images
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.tracking.test_predictions import read_test_predictions
from fmnist_sweep.tracking.trials import StoredTrial, read_curves, read_trials

if TYPE_CHECKING:
    from fmnist_sweep.config.job import Job

SEEDS = "1,2,3"


@dataclass(frozen=True)
class StatedFigure:
    """A figure as a write-up states it: its digits, after a > where it says "above"."""

    text: str

    @property
    def is_lower_bound(self) -> bool:
        return self.text.startswith(">")

    @property
    def value(self) -> float:
        return float(self.text.lstrip("> "))

    @property
    def half_unit(self) -> float:
        """Half a unit of its last digit: by so much it may have been rounded."""
        return float(0.5 * 10.0 ** -len(self.text.partition(".")[2]))


@dataclass(frozen=True)
class Omission:
    """What a write-up does not say; keys: the settings that fill it. why: these and no others."""

    what: str
    keys: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class WriteUp:
    """One write-up. name: its file's. stated: the figures of each recipe, by what they are, in order.

    A figure is of the last epoch (loss, accuracy, val_loss, val_accuracy, epochs) or `unlabelled`: an accuracy of which
    the write-up does not say on which images. conclusions: each with a `claim`, the `check` that judges it (see
    verdicts.py) and that check's arguments.
    """

    name: str
    title: str
    about: str
    figures: Mapping[str, Mapping[str, StatedFigure]]
    conclusions: Sequence[Mapping[str, Any]]
    omissions: Sequence[Omission]
    remarks: Sequence[str]

    @property
    def number(self) -> str:
        return self.name.partition("_")[0]


def read_write_ups(names: Sequence[str] = ()) -> list[WriteUp]:
    """Those with these names or numbers, in order; all where none is named. Errors: ConfigError."""
    paths = {path.stem: path for path in sorted((find_experiments_folder() / "documented").glob("*.yaml"))}
    for name in names:
        if not any(name in (stem, stem.partition("_")[0]) for stem in paths):
            raise ConfigError(f"{name}: no such write-up; allowed: {', '.join(paths)}, or their numbers.")
    stems = [stem for stem in paths if not names or stem in names or stem.partition("_")[0] in names]
    return [_read_write_up(paths[stem]) for stem in stems]


def _read_write_up(path: Path) -> WriteUp:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    figures_by_recipe = {
        recipe: {kind: StatedFigure(text) for kind, text in figures.items()}
        for recipe, figures in content["recipes"].items()
    }
    omissions = [Omission(entry["what"], tuple(entry["keys"]), entry["why"]) for entry in content["left_open"]]
    return WriteUp(
        path.stem,
        content["title"],
        content["about"],
        figures_by_recipe,
        content["conclusions"],
        omissions,
        content["remarks"],
    )


def split_words(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Command-line words as names of write-ups and overrides. Errors: ConfigError where an option says it here."""
    overrides = [word for word in arguments if "=" in word]
    options = {
        "seed": "--seeds",
        "tracking.uri": "--uri",
        "tracking.experiment": "--experiment",
        "experiment": "NUMBER",
    }
    for override in overrides:
        key = parse_override_key(override)
        if key in options:
            raise ConfigError(f"{override}: say it with {options[key]} here.")
    return [word for word in arguments if "=" not in word], overrides


def parse_seeds(text: str) -> list[int]:
    """The seeds of an option such as 1,2,3. Errors: ConfigError."""
    seeds = [int(word) for word in text.split(",") if word.strip().isdecimal()]
    if len(seeds) != len(text.split(",")) or len(set(seeds)) != len(seeds):
        raise ConfigError(
            f"--seeds={text}: expected different whole numbers with commas between them, such as {SEEDS}."
        )
    return seeds


def compose_recipe(recipe: str, overrides: Sequence[str]) -> Job:
    """A recipe with overrides. Errors: ConfigError, also where it is more than a single trial."""
    job = compose_job([f"experiment={recipe}", *overrides])
    tuned_keys = identify_study(job, "", job.config.settings, "").tuned_keys
    if tuned_keys:
        raise ConfigError(f"{', '.join(tuned_keys)}: a documented model is a single trial; give each a fixed value.")
    return job


@dataclass(frozen=True)
class RecipeRun:
    """One training of a recipe. identity: all that decided its result, as its study has it."""

    store: Store = field(repr=False)
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

    @cached_property
    def history(self) -> list[dict[str, float]]:
        return read_curves(self.store, self.trial.run_id)

    @cached_property
    def validation(self) -> Predictions:
        """Of its best epoch. Errors: StoreError."""
        predictions = read_predictions(self.store, self.trial.run_id)
        if predictions is None:
            raise StoreError(f"{self.title} has no predictions.npz any more: delete that run and train it again.")
        return predictions

    @cached_property
    def test(self) -> TestPredictions | None:
        """Of its saved model, which is its best epoch's; None while the test images were not opened for it."""
        if TEST_OPENED_TAG not in self.trial.tags:
            return None
        return read_test_predictions(self.store, self.trial.run_id, self.title)


@dataclass(frozen=True)
class WriteUpRuns:
    """The runs of a write-up's recipes, each recipe's by seed.

    jobs: the recipes as composed. left_out: runs that are not counted and why, in words.
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
    """The finished trials that are a write-up's recipes by content, whatever command trained them.

    One of each seed, the first begun, so that nobody can train again and keep the better one; all of one precision. The
    versions of libraries may differ: a page names them. Errors: ConfigError.
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
    """Every finished trial of a store's experiment, the first begun first."""
    return read_trials(store, {"attributes.status": "FINISHED"})


def _find_recipe_runs(store: Store, trials: Sequence[StoredTrial], recipe: str, job: Job) -> Iterator[RecipeRun]:
    data = {f"data.{key}": value for key, value in job.config.data.describe_content().items()}
    expected = {**flatten_config(job.config.settings), **data}
    free_keys = {"seed", *(("train.precision",) if job.config.settings["train"]["precision"] == "auto" else ())}
    for trial in trials:
        # Cheaper than to read what decided it, which is asked next.
        if any(trial.parse_value(key) != value for key, value in expected.items() if key not in free_keys):
            continue
        content = read_artifact(store, trial.tags[PARENT_RUN_TAG], IDENTITY_FILE)
        identity = None if content is None else json.loads(content)
        if identity is not None and _has_same_identity(job, identity):
            yield RecipeRun(store, recipe, trial, identity)


def _has_same_identity(job: Job, identity: Mapping[str, Any]) -> bool:
    """Whether a study with this identity is this job, but for its seed, the precision `auto` came to, and versions."""
    settings, train = job.config.settings, job.config.settings["train"]
    precision = identity["settings"]["train"]["precision"] if train["precision"] == "auto" else train["precision"]
    expected = {**settings, "seed": identity["settings"]["seed"], "train": {**train, "precision": precision}}
    expected_identity = identify_study(job, "", expected, identity["data"]).identity
    return bool({**json.loads(json.dumps(expected_identity)), "versions": identity["versions"]} == identity)


def score_write_ups(
    store: Store,
    runs_by_write_up: Sequence[WriteUpRuns],
    data_dir: str | None,
    ledger: Path,
    say: Callable[[str], None],
) -> list[RecipeRun]:
    """Open the test images for the runs that have not seen them, and write what they score to these runs.

    Each of these studies is a single trial, so that nothing is chosen by a test accuracy. The saved models must predict
    what was scored on the validation images before the test images are opened: once for all runs, with a line in the
    ledger. Runs on drawn images are passed over. Returns the runs tested.
    Errors: DataError, StoreError.
    """
    runs = {run.trial.run_id: run for write_up_runs in runs_by_write_up for run in write_up_runs.all_runs}
    pending_runs = [run for run in runs.values() if not run.is_drawn and TEST_OPENED_TAG not in run.trial.tags]
    if not pending_runs:
        return []
    data = next(iter(runs_by_write_up[0].jobs.values())).config.data
    data = data.model_copy(update={"dir": data_dir or data.dir, "fallback": None})
    validation = _load_validation_split(data, pending_runs)
    with tempfile.TemporaryDirectory() as folder:
        models = []
        for run in pending_runs:
            say(f"{run.title}: checking that its saved model predicts what was scored")
            models.append(_fetch_checked_model(store, run, validation, Path(folder, run.trial.run_id)))
        reason = f"fmnist-sweep documented test: {', '.join(run.title for run in pending_runs)}"
        score_on_test_images(store, models, data, reason=reason, ledger=ledger, say=say)
    return pending_runs


def _load_validation_split(data: DataConfig, runs: Sequence[RecipeRun]) -> Split:
    splits = [load_matching_splits(data, run.trial.tags[DATA_TAG], run.title) for run in runs]
    return splits[0].validation


def _fetch_checked_model(store: Store, run: RecipeRun, validation: Split, folder: Path) -> CheckedModel:
    try:
        return fetch_checked_model(store, run.trial, run.title, validation, run.validation, folder)
    except UnusableModel as error:
        raise StoreError(str(error)) from None
