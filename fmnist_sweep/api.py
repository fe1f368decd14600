"""Sweeps from Python: what the commands do, with exceptions in the place of exit codes and tables in that of lines.

`fmnist_sweep` offers these functions by shorter names (run, load, predict), so that `import fmnist_sweep` stays light.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.errors import ConfigError, ExitCode, StoreError
from fmnist_sweep.guest import be_a_guest, route_interrupts
from fmnist_sweep.report.notebook import open_fitting_view
from fmnist_sweep.tracking.names import CHAMPION_ADDRESS, DEFAULT_EXPERIMENT

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from fmnist_sweep.config.job import Job
    from fmnist_sweep.sweep.run import SweepRun
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.training.own_code import PluginSource


_FLAGS = ("-m", "--multirun", "--config-dir")  # of the command: others are questions


def run_overrides(*overrides: str, quiet: bool = False) -> Sweep:
    """Run a sweep, or continue it, as `python -m fmnist_sweep` does with the same words, and return what it came to.

        import fmnist_sweep as fs

        sweep = fs.run("optimizer=rmsprop,adam", "search.max_trials=8")
        sweep.best["best_val_accuracy"]

    overrides: as on the command line, each a text of its own; commas make several studies (there is no need of -m).
    Studies have the ids that the command gives them, so that either continues what the other began. quiet: print
    nothing.

    Interrupting it (Ctrl-C, or a notebook's stop) finishes the epoch, which is kept, and raises KeyboardInterrupt; a
    second one ends it at once. The same call continues.

    Errors: those of fmnist_sweep.errors with the command's sentences, such as ConfigError. A sweep whose trials failed
    is no error: `sweep.exit_code` and the column `failure` of `sweep.trials()` say so.
    """
    from fmnist_sweep.config.command_line import compose_jobs
    from fmnist_sweep.config.commands import build_sweep_command
    from fmnist_sweep.sweep.run import run_sweep
    from fmnist_sweep.training.own_code import list_active

    with be_a_guest():
        arguments = _list_arguments(overrides)
        jobs = compose_jobs(arguments)
        plugins = tuple(list_active())
        with open_fitting_view(quiet) as view, route_interrupts(view) as stop:
            code = run_sweep(jobs, build_sweep_command(arguments), view, stop)
    return Sweep(tuple(jobs), code, plugins)


@dataclass(frozen=True)
class Sweep:
    """A sweep that was run: its trials, its best, its report, its models, and its promotion.

    exit_code: what the command would have ended with (docs/exit-codes.md). What it offers is read from the store when
    it is asked for. plugins: own code that its models need. Errors: StoreError where the store or what is in it is
    gone.
    """

    jobs: tuple[Job, ...]
    exit_code: ExitCode
    plugins: tuple[PluginSource, ...] = ()

    def __repr__(self) -> str:
        studies = "1 study" if len(self.jobs) == 1 else f"{len(self.jobs)} studies"
        return f"<Sweep {self.id} of {studies} in {self.uri}, exit code {int(self.exit_code)}>"

    @property
    def uri(self) -> str:
        """The address of its store, without credentials."""
        return self._store.masked_uri

    @property
    def run_id(self) -> str:
        """Its run in MLflow."""
        return self._run.run_id

    @cached_property
    def id(self) -> str:
        """Its id, as the commands show it and take it."""
        from fmnist_sweep.tracking.names import SWEEP_ID_TAG
        from fmnist_sweep.tracking.queries import read_run

        run = read_run(self._store, self.run_id)
        if run is None or SWEEP_ID_TAG not in run.tags:
            raise StoreError(f"{self.uri} has no run {self.run_id} any more: run the sweep again.")
        return run.tags[SWEEP_ID_TAG]

    def trials(self) -> pd.DataFrame:
        """Its trials as a pandas DataFrame, one row a trial, with the columns of `fmnist_sweep.trials`."""
        from fmnist_sweep.analysis.table import build_table
        from fmnist_sweep.tracking.trials import read_trials_of_journals

        with be_a_guest():
            trials = read_trials_of_journals(self._store, self._run.journal_tokens)
            return build_table(trials).reset_index(drop=True)

    @property
    def best(self) -> pd.Series | None:
        """The row of the trial with the highest validation accuracy; None if no trial has one."""
        import numpy as np

        table = self.trials()
        accuracies = table["best_val_accuracy"].to_numpy(dtype=float)
        return None if np.isnan(accuracies).all() else table.iloc[int(np.nanargmax(accuracies))]

    def report(self) -> Path:
        """The path of its report, one HTML page."""
        from fmnist_sweep.report.publish import locate_report, rebuild_report

        with be_a_guest():
            path = locate_report(self._store, f"sweep-{self.id}")
            if path.is_file():
                return path
            rebuilt, _ = rebuild_report(
                self._store, study_id=None, sweep_id=self.id, data_dir=self._job.config.data.dir, out=None
            )
            return rebuilt

    def model(self, name: str = "best") -> keras.Model:
        """The saved model of a trial: of the best, or of one by its `run_id`. It takes raw pixels, 0..255.

        Errors: ConfigError for a name of no trial of this sweep, StoreError for a model that was not kept.
        """
        from fmnist_sweep.tracking.models import UnusableModel, download_model, load_keras_file
        from fmnist_sweep.training.own_code import ensure_active

        with be_a_guest():
            ensure_active(self.plugins)
            run_id = self._find_run_id(name)
            with tempfile.TemporaryDirectory() as folder:
                try:
                    return load_keras_file(download_model(self._store, run_id, Path(folder))[1])
                except UnusableModel as error:
                    raise StoreError(str(error)) from None

    def _find_run_id(self, name: str) -> str:
        if name == "best":
            best = self.best
            if best is None:
                raise StoreError(f"no trial of sweep {self.id} has finished, so it has no best model.")
            return str(best["run_id"])
        if name not in set(self.trials()["run_id"]):
            raise ConfigError(
                f"{name!r} names no trial of sweep {self.id}: expected best, or a run_id of its trials()."
            )
        return name

    def promote(
        self,
        *overrides: str,
        seeds: int | None = None,
        any_data: bool = False,
        open_again: bool = False,
        quiet: bool = False,
    ) -> Promoted:
        """Make its best configuration the champion, if the evidence allows it, as `fmnist-sweep promote --sweep` does.

        seeds: how many fresh ones; None: as many as the command would take. overrides, any_data, open_again: as the
        command has them. The same call continues one that was interrupted.

        Errors: PromotionRefused for what is never promoted, such as a model of drawn images, and those of `run`.
        """
        from fmnist_sweep.cli.promote import refuse_other_overrides
        from fmnist_sweep.config.commands import build_verb_command
        from fmnist_sweep.config.compose import compose_job
        from fmnist_sweep.promotion.candidates import PromotionTarget
        from fmnist_sweep.promotion.pipeline import run_promotion
        from fmnist_sweep.promotion.preparation import PromotionRequest
        from fmnist_sweep.training.own_code import ensure_active

        with be_a_guest():
            ensure_active(self.plugins)
            words = [*overrides, *([] if seeds is None else [f"promote.seeds={seeds}"])]
            refuse_other_overrides(tuple(words))
            tracking = self._job.config.tracking
            base = compose_job(["search=grid", *words]).config
            data_dir = self._job.config.data.dir or os.environ.get("FMNIST_DATA_DIR") or None
            flags = ["--uri", self.uri, "--experiment", tracking.experiment, "--sweep", self.id]
            flags += [word for plugin in self.plugins if plugin.is_file for word in ("--plugins", plugin.location)]
            command = build_verb_command(["promote", *words, *flags])
            target = PromotionTarget(sweep_id=self.id)
            request = PromotionRequest(target, base, data_dir, any_data, open_again, command)
            with open_fitting_view(quiet) as view, route_interrupts(view) as stop:
                outcome = run_promotion(self._store, request, view, stop)
                for line in outcome.lines:
                    view.say(line)
        return Promoted(outcome.code, outcome.version, outcome.lines)

    @property
    def _job(self) -> Job:
        return self.jobs[0]

    @cached_property
    def _store(self) -> Store:
        from fmnist_sweep.tracking.store import open_existing_store

        with be_a_guest():
            return open_existing_store(self._job.config.tracking.uri, self._job.config.tracking.experiment)

    @cached_property
    def _run(self) -> SweepRun:
        from fmnist_sweep.sweep.run import find_sweep_run
        from fmnist_sweep.training.own_code import ensure_active

        # Planned again, fresh=true would find yet another folder: what it began is what its studies lead to now.
        jobs = [replace(job, config=replace(job.config, fresh=False)) for job in self.jobs]
        with be_a_guest():
            ensure_active(self.plugins)
            return find_sweep_run(jobs, lambda *_: None)


@dataclass(frozen=True)
class Promoted:
    """How a promotion ended.

    exit_code: 0 it is champion, 9 it is challenger, 8 it is worse and nothing was registered. version: the number of
    the registered version, None if there is none. lines: what the command prints at the end.
    """

    exit_code: ExitCode
    version: str | None
    lines: tuple[str, ...]

    @property
    def is_champion(self) -> bool:
        """Whether the champion has this configuration now."""
        return self.exit_code is ExitCode.DONE and self.version is not None


def load_registered_model(
    version: str = CHAMPION_ADDRESS,
    uri: str | None = None,
    experiment: str = DEFAULT_EXPERIMENT,
    plugins: Sequence[str] = (),
) -> keras.Model:
    """A registered version's Keras model, checked by its checksum: raw pixels, 0..255, in, probabilities out.

    version: an alias, a number, or an address such as models:/fashion-mnist@champion. uri: of the store; default:
    mlruns/mlflow.db below the working directory. plugins: files of own code that the model needs. Errors: StoreError,
    PromotionRefused.
    """
    from fmnist_sweep.tracking.registry import open_version
    from fmnist_sweep.tracking.version_files import load_version

    with be_a_guest():
        _activate(plugins)
        return load_version(*open_version(uri, experiment, version))


def label_pictures(
    images: Sequence[str | os.PathLike[str]],
    version: str = CHAMPION_ADDRESS,
    uri: str | None = None,
    experiment: str = DEFAULT_EXPERIMENT,
    plugins: Sequence[str] = (),
) -> pd.DataFrame:
    """Label picture files with a registered version, as `fmnist-sweep predict` does: a pandas DataFrame, a row a file.

    images: paths of PNG, JPEG, BMP, GIF or WEBP files of any size. version, uri, experiment, plugins: as of
    `load`.

    Columns: `file`, `label`, `probability` (of that label), one for each label with its probability, and lists of
    sentences: `assumptions` (what was done to the picture) and `warnings` (what of it was a guess). Errors: DataError
    for a file that cannot be read, and those of `load`.
    """
    import pandas as pd

    from fmnist_sweep.cli.predict import build_values, predict_probabilities, read_picture_for
    from fmnist_sweep.tracking.registry import open_version
    from fmnist_sweep.tracking.version_files import load_version

    if isinstance(images, str | os.PathLike) or not images:
        raise ConfigError("fs.predict takes a list of at least one picture's path, as in fs.predict(['bag.png']).")
    with be_a_guest():
        _activate(plugins)
        store, registered = open_version(uri, experiment, version)
        photos = [read_picture_for(Path(image), registered) for image in images]
        probabilities = predict_probabilities(load_version(store, registered), photos, len(registered.data.labels))
        values = build_values(registered, photos, probabilities, 1)["images"]
    rows = [
        {
            "file": value["file"],
            "label": value["label"],
            "probability": value["probabilities"][value["label"]],
            **value["probabilities"],
            "assumptions": value["assumptions"],
            "warnings": value["warnings"],
        }
        for value in values
    ]
    return pd.DataFrame(rows)


def _activate(plugins: Sequence[str]) -> None:
    """Let models have own code: of these files; where none is given, what is active stays so."""
    from fmnist_sweep.training.own_code import activate_typed, list_active

    if plugins or not list_active():
        activate_typed(plugins)


def _list_arguments(overrides: Sequence[str]) -> list[str]:
    """The words of the command: with -m where an override is for several studies."""
    from fmnist_sweep.config.text_values import parse_override

    for override in overrides:
        if not isinstance(override, str):
            raise ConfigError(f"{override!r}: fs.run takes overrides, each a text such as 'optimizer=rmsprop,adam'.")
    for flag in (word for word in overrides if word.startswith("-")):
        if flag.partition("=")[0] not in _FLAGS:
            raise ConfigError(f"{flag}: fs.run takes overrides and {', '.join(_FLAGS)}; type the rest in a terminal.")
    words = [word for word in overrides if not word.startswith("-")]
    parsed = [parse_override(word) for word in words]
    is_multirun = any(each is not None and each.is_sweep_override() for each in parsed)
    has_flag = any(word in ("-m", "--multirun") for word in overrides)
    return [*(["-m"] if is_multirun and not has_flag else []), *overrides]
