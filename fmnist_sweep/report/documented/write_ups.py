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

from fmnist_sweep.config import identity as studies
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.folders import experiments_folder
from fmnist_sweep.config.job import flat
from fmnist_sweep.data import DataConfig, Split, load, open_test
from fmnist_sweep.errors import ConfigError, DataError, StoreError
from fmnist_sweep.tracking import models as logged_model
from fmnist_sweep.tracking import runs as tracking
from fmnist_sweep.tracking import test_predictions as tested
from fmnist_sweep.tracking import trials as evidence
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.tracking.test_predictions import TestPredictions
from fmnist_sweep.tracking.trials import Predictions, StoredTrial

if TYPE_CHECKING:
    import keras

    from fmnist_sweep.config.job import Job

SEEDS = "1,2,3"


@dataclass(frozen=True)
class Figure:
    """A figure as a write-up states it: its digits, after a > where it says "above"."""

    text: str

    @property
    def above(self) -> bool:
        return self.text.startswith(">")

    @property
    def value(self) -> float:
        return float(self.text.lstrip("> "))

    @property
    def half_unit(self) -> float:
        """Half a unit of its last digit: by so much it may have been rounded."""
        return float(0.5 * 10.0 ** -len(self.text.partition(".")[2]))


@dataclass(frozen=True)
class LeftOpen:
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
    stated: Mapping[str, Mapping[str, Figure]]
    conclusions: Sequence[Mapping[str, Any]]
    left_open: Sequence[LeftOpen]
    remarks: Sequence[str]

    @property
    def number(self) -> str:
        return self.name.partition("_")[0]


def write_ups(names: Sequence[str] = ()) -> list[WriteUp]:
    """Those with these names or numbers, in order; all where none is named. Errors: ConfigError."""
    known = {path.stem: path for path in sorted((experiments_folder() / "documented").glob("*.yaml"))}
    for name in names:
        if not any(name in (stem, stem.partition("_")[0]) for stem in known):
            raise ConfigError(f"{name}: no such write-up; allowed: {', '.join(known)}, or their numbers.")
    chosen = [stem for stem in known if not names or stem in names or stem.partition("_")[0] in names]
    return [_read(known[stem]) for stem in chosen]


def _read(path: Path) -> WriteUp:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    stated = {
        recipe: {kind: Figure(text) for kind, text in figures.items()} for recipe, figures in content["recipes"].items()
    }
    left_open = [LeftOpen(entry["what"], tuple(entry["keys"]), entry["why"]) for entry in content["left_open"]]
    return WriteUp(
        path.stem, content["title"], content["about"], stated, content["conclusions"], left_open, content["remarks"]
    )


def words(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Command-line words as names of write-ups and overrides. Errors: ConfigError where an option says it here."""
    overrides = [word for word in arguments if "=" in word]
    instead = {
        "seed": "--seeds",
        "tracking.uri": "--uri",
        "tracking.experiment": "--experiment",
        "experiment": "NUMBER",
    }
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0]
        if key in instead:
            raise ConfigError(f"{override}: say it with {instead[key]} here.")
    return [word for word in arguments if "=" not in word], overrides


def seeds_of(text: str) -> list[int]:
    """The seeds of an option such as 1,2,3. Errors: ConfigError."""
    found = [int(word) for word in text.split(",") if word.strip().isdecimal()]
    if len(found) != len(text.split(",")) or len(set(found)) != len(found):
        raise ConfigError(
            f"--seeds={text}: expected different whole numbers with commas between them, such as {SEEDS}."
        )
    return found


def composed(recipe: str, overrides: Sequence[str]) -> Job:
    """A recipe with overrides. Errors: ConfigError, also where it is more than a single trial."""
    job = compose_job([f"experiment={recipe}", *overrides])
    tuned = studies.name_by_content(job, "", job.config.settings, "").tuned
    if tuned:
        raise ConfigError(f"{', '.join(tuned)}: a documented model is a single trial; give each a fixed value.")
    return job


@dataclass(frozen=True)
class Run:
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
        return self.trial.tags["fmnist.data"].startswith("drawn:")

    @property
    def title(self) -> str:
        return f"{self.recipe} seed {self.seed} (run {self.trial.run_id})"

    @cached_property
    def history(self) -> list[dict[str, float]]:
        return evidence.curves(self.store, self.trial.run_id)

    @cached_property
    def validation(self) -> Predictions:
        """Of its best epoch. Errors: StoreError."""
        found = evidence.predictions(self.store, self.trial.run_id)
        if found is None:
            raise StoreError(f"{self.title} has no predictions.npz any more: delete that run and train it again.")
        return found

    @cached_property
    def test(self) -> TestPredictions | None:
        """Of its saved model, which is its best epoch's; None while the test images were not opened for it."""
        if tested.TAG not in self.trial.tags:
            return None
        return tested.read(self.store, self.trial.run_id, self.title)


@dataclass(frozen=True)
class Found:
    """The runs of a write-up's recipes, each recipe's by seed.

    jobs: the recipes as composed. left_out: runs that are not counted and why, in words.
    """

    runs: Mapping[str, list[Run]]
    jobs: Mapping[str, Job]
    left_out: Sequence[str]

    @property
    def all(self) -> list[Run]:
        return [run for runs in self.runs.values() for run in runs]


def find(store: Store, trials: Sequence[StoredTrial], write_up: WriteUp, overrides: Sequence[str]) -> Found:
    """The finished trials that are a write-up's recipes by content, whatever command trained them.

    One of each seed, the first begun, so that nobody can train again and keep the better one; all of one precision. The
    versions of libraries may differ: a page names them. Errors: ConfigError.
    """
    jobs = {recipe: composed(recipe, overrides) for recipe in write_up.stated}
    candidates = [run for recipe, job in jobs.items() for run in _of_recipe(store, trials, recipe, job)]
    unknown = [run for run in candidates if not run.is_drawn and run.trial.tags.get("fmnist.canonical") != "true"]
    known = [run for run in candidates if run not in unknown]
    precisions = [run.precision for run in known]
    precision = max(sorted(set(precisions)), key=precisions.count, default="")
    first: dict[tuple[str, int], Run] = {}
    for run in known:
        if run.precision == precision:
            first.setdefault((run.recipe, run.seed), run)
    runs = {recipe: sorted(_with(first, recipe), key=lambda run: run.seed) for recipe in jobs}
    others = [run for run in known if run.precision != precision]
    reasons = {
        "of images that by checksum are not the canonical ones": unknown,
        f"of another precision than {precision}": others,
        "of a seed that was trained before": [run for run in known if run not in others and run not in first.values()],
    }
    left_out = [f"{len(found)} {why}" for why, found in reasons.items() if found]
    return Found(runs, jobs, left_out)


def _with(first: Mapping[tuple[str, int], Run], recipe: str) -> list[Run]:
    return [run for (name, _), run in first.items() if name == recipe]


def finished(store: Store) -> list[StoredTrial]:
    """Every finished trial of a store's experiment, the first begun first."""
    return evidence.read(store, {"attributes.status": "FINISHED"})


def _of_recipe(store: Store, trials: Sequence[StoredTrial], recipe: str, job: Job) -> Iterator[Run]:
    data = {f"data.{key}": value for key, value in job.config.data.content().items()}
    expected = {**flat(job.config.settings), **data}
    free = {"seed", *(("train.precision",) if job.config.settings["train"]["precision"] == "auto" else ())}
    for trial in trials:
        # Cheaper than to read what decided it, which is asked next.
        if any(trial.value(key) != value for key, value in expected.items() if key not in free):
            continue
        content = tracking.artifact(store, trial.tags["mlflow.parentRunId"], "identity.json")
        identity = None if content is None else json.loads(content)
        if identity is not None and _decides_the_same(job, identity):
            yield Run(store, recipe, trial, identity)


def _decides_the_same(job: Job, identity: Mapping[str, Any]) -> bool:
    """Whether a study with this identity is this job, but for its seed, the precision `auto` came to, and versions."""
    settings, train = job.config.settings, job.config.settings["train"]
    precision = identity["settings"]["train"]["precision"] if train["precision"] == "auto" else train["precision"]
    meant = {**settings, "seed": identity["settings"]["seed"], "train": {**train, "precision": precision}}
    same = studies.name_by_content(job, "", meant, identity["data"]).identity
    return bool({**json.loads(json.dumps(same)), "versions": identity["versions"]} == identity)


def test(
    store: Store, found: Sequence[Found], data_dir: str | None, ledger: Path, say: Callable[[str], None]
) -> list[Run]:
    """Open the test images for the runs that have not seen them, and write what they score to these runs.

    Each of these studies is a single trial, so that nothing is chosen by a test accuracy. The saved models must predict
    what was scored on the validation images before the test images are opened: once for all runs, with a line in the
    ledger. Runs on drawn images are passed over. Returns the runs tested.
    Errors: DataError, StoreError.
    """
    runs = {run.trial.run_id: run for one in found for run in one.all}
    pending = [run for run in runs.values() if not run.is_drawn and tested.TAG not in run.trial.tags]
    if not pending:
        return []
    data = next(iter(found[0].jobs.values())).config.data
    data = data.model_copy(update={"dir": data_dir or data.dir, "fallback": None})
    validation = _validation(data, pending)
    models = []
    for run in pending:
        say(f"{run.title}: checking that its saved model predicts what was scored")
        models.append(_checked_model(store, run, validation))
    reason = f"fmnist-sweep documented test: {', '.join(run.title for run in pending)}"
    images = open_test(data, reason=reason, ledger=ledger)
    seen = tested.seen(data, images)
    for run, model in zip(pending, models, strict=True):
        loss = run.identity["settings"]["train"]["loss"]
        accuracy = tested.score(store, run.trial.run_id, model, loss, images, seen)
        say(f"{run.title}: test accuracy {accuracy:.4f}")
    return pending


def _validation(data: DataConfig, runs: Sequence[Run]) -> Split:
    splits = load(data)
    for run in runs:
        expected = run.trial.tags["fmnist.data"]
        if splits.tag != expected:
            raise DataError(
                f"{splits.origin.location} is {splits.tag}, but {run.title} was scored on {expected}: name the folder "
                "of that data with --data-dir."
            )
    return splits.validation


def _checked_model(store: Store, run: Run, validation: Split) -> keras.Model:
    """The saved model of a run, which predicts what was scored. Errors: StoreError."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _, file = logged_model.fetch(store, store.client.get_run(run.trial.run_id), Path(folder))
            return logged_model.load_checked(run.title, file, validation.images, run.validation.probabilities)
        except logged_model.Unusable as error:
            raise StoreError(str(error)) from None
