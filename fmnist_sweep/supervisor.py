"""The loop of one study: one owner of oracle and store, plain workers.

The supervisor asks the oracle, hands trials to the executor, decides each trial's fate and is the only one that writes.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from fmnist_sweep import report, search, space, tracking
from fmnist_sweep import study as studies
from fmnist_sweep.data import LABELS, Splits, fallback_banner
from fmnist_sweep.evaluate import evaluate, wilson
from fmnist_sweep.executors import Executor
from fmnist_sweep.report import TrialRecord
from fmnist_sweep.store import Store
from fmnist_sweep.study import Job, Study
from fmnist_sweep.terminal import View
from fmnist_sweep.trial import EpochEnd, TrialFailure, TrialResult, TrialSpec


@dataclass
class Planned:
    """A study that is ready to run: its data read, its trials counted.

    trials: as many as the oracle and the budget allow; math.inf when only time limits them.
    """

    study: Study
    splits: Splits
    trials: float

    @property
    def banner(self) -> str | None:
        """The warning that the images are drawn and not Fashion-MNIST, or None."""
        return fallback_banner(self.splits.origin) if self.splits.origin.source == "drawn" else None

    @property
    def mark(self) -> str:
        """What stands before every run name when the images are not Fashion-MNIST."""
        return "DRAWN · " if self.splits.origin.source == "drawn" else ""


@dataclass
class Sweep:
    """What the studies of one command share."""

    id: str
    command: str
    run_id: str
    store: Store
    executor: Executor
    view: View
    records: list[TrialRecord] = field(default_factory=list)
    open_runs: list[str] = field(default_factory=list)  # to be closed whatever happens


class Supervisor:
    """The trials of one study, from the first proposal to the last result."""

    def __init__(self, sweep: Sweep, planned: Planned, run_id: str) -> None:
        self._sweep, self._planned, self._run_id = sweep, planned, run_id
        self._study = planned.study
        config = self._study.job.config
        self._config = config.search
        self._search = search.Search(config.search.name, config.oracle, self._study.settings, config.search.objective)
        self._running: dict[str, TrialRecord] = {}
        self._known: dict[str, TrialRecord] = {}
        self._begun = time.monotonic()
        self._stopped = False  # by search.fail_fast
        self.records: list[TrialRecord] = []

    def run(self) -> None:
        while self._fill_slots() or self._running:
            event = self._sweep.executor.next_event()
            match event:
                case EpochEnd():
                    record = self._running[event.trial_id]
                    tracking.log_epoch(self._sweep.store, record.run_id, event.epoch, event.metrics)
                    self._sweep.view.epoch(event.epoch, event.metrics)
                case TrialResult():
                    self._finish(self._running.pop(event.trial_id), event)
                case TrialFailure():
                    self._fail(self._running.pop(event.trial_id), event)

    def _fill_slots(self) -> bool:
        """Begin trials while there are slots, budget and proposals; whether any began."""
        began = False
        while len(self._running) < self._sweep.executor.slots and self._budget_left():
            proposal = self._search.ask()
            if proposal is None or isinstance(proposal, search.Wait):
                break
            if not self._already_known(proposal):
                self._begin(proposal)
                began = True
        return began

    def _budget_left(self) -> bool:
        if self._stopped:
            return False
        most, minutes = self._config.max_trials, self._config.max_minutes
        if most is not None and len(self.records) >= most:
            return False
        return minutes is None or time.monotonic() - self._begun < 60 * minutes

    def _already_known(self, proposal: search.Proposal) -> bool:
        """Whether this exact trial has ended before: then the oracle is told its score, and nothing is trained."""
        known = self._known.get(_key(proposal))
        if known is None:
            return False
        self._search.tell(proposal.trial_id, known.score)
        return True

    def _begin(self, proposal: search.Proposal) -> None:
        study, sweep = self._study, self._sweep
        config = space.resolve(study.settings, proposal.values)
        if proposal.epochs is not None:
            config["train"]["epochs"] = proposal.epochs
        name = f"{self._planned.mark}{studies.trial_name(study.label, proposal.values, proposal.epochs)}"[:250]
        info = tracking.RunInfo(
            kind="trial",
            name=name,
            tags={
                "sweep_id": sweep.id,
                "study_id": study.id,
                "trial_id": proposal.trial_id,
                "attempt": "1",
                "data": self._planned.splits.tag,
                "canonical": str(self._planned.splits.origin.canonical).lower(),
                "precision": config["train"]["precision"],
                "git": source_commit(),
            },
            command=self._command(config),
            parent=self._run_id,
        )
        params = studies.flat({**config, "data": _data_settings(study.job)})
        run_id = tracking.start_run(sweep.store, info, params, sweep.open_runs)
        tracking.log_data(sweep.store, run_id, self._planned.splits)
        # At once, because whoever looks at a failed or killed trial wants to repeat it.
        files = self._files(config)
        tracking.log_files(sweep.store, run_id, files)
        record = TrialRecord(proposal.trial_id, study.id, name, proposal.values, config, run_id, artifacts=files)
        self.records.append(record)
        self._running[proposal.trial_id] = record
        self._known[_key(proposal)] = record
        sweep.view.trial(record, len(self.records), config["train"]["epochs"])
        sweep.executor.submit(
            TrialSpec(
                study_id=study.id,
                trial_id=proposal.trial_id,
                attempt=1,
                config=config,
                objective=self._config.objective,
                data=study.job.config.data,
            )
        )

    def _command(self, config: Mapping[str, Any]) -> str:
        return studies.command(self._study, config, self._planned.splits.origin.fallback_reason)

    def _files(self, config: Mapping[str, Any]) -> dict[str, bytes]:
        written = yaml.safe_dump({**config, "data": _data_settings(self._study.job)}, sort_keys=False)
        return {"config.yaml": written.encode(), "overrides.txt": f"{self._command(config)}\n".encode()}

    def _finish(self, record: TrialRecord, result: TrialResult) -> None:
        validation = self._planned.splits.validation
        evaluation = evaluate(validation.labels, result.probabilities, LABELS)
        right = round(evaluation.accuracy * len(validation.labels))
        figures = tracking.trial_artifacts(record.name, result, evaluation, validation)
        tracking.finish_trial(self._sweep.store, record.run_id, result, evaluation, figures, validation)
        record.artifacts = {**figures, **record.artifacts}
        self._sweep.open_runs.remove(record.run_id)
        record.state = "finished"
        record.score = result.history[result.best_epoch - 1][self._config.objective]
        record.best_val_accuracy = evaluation.accuracy
        record.interval = wilson(right, len(validation.labels))
        record.best_epoch = result.best_epoch
        record.parameters = result.parameters
        record.fit_seconds = result.fit_seconds
        self._search.tell(record.trial_id, record.score)
        self._keep_figures_of_the_best()
        self._sweep.view.ended(record, len(self.records))

    def _keep_figures_of_the_best(self) -> None:
        # Only the best trial's figures go to its parents; keeping all would grow with the sweep.
        everything = [*self._sweep.records, *self.records]
        winners = (report.best(everything), report.best(self.records))
        for record in everything:
            if record.state == "finished" and all(record is not winner for winner in winners):
                record.artifacts = {}

    def _fail(self, record: TrialRecord, failure: TrialFailure) -> None:
        tracking.fail_trial(self._sweep.store, record.run_id, failure)
        self._sweep.open_runs.remove(record.run_id)
        record.state, record.failure = "failed", failure.reason
        self._search.tell(record.trial_id, None)
        self._sweep.view.ended(record, len(self.records))
        if self._config.fail_fast:
            self._sweep.view.say("search.fail_fast=true: the study stops here.", "red")
            self._stopped = True


def _data_settings(job: Job) -> dict[str, Any]:
    """What of the data section says what the images are, not where they come from."""
    return job.config.data.model_dump(exclude={"dir", "download", "fallback"})


def _key(proposal: search.Proposal) -> str:
    return json.dumps([proposal.values, proposal.epochs], sort_keys=True)


@cache
def source_commit() -> str:
    """The commit of the checkout this code runs from, with + when it was changed; "none" where there is none."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return "none"
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):  # no git here, or one that hangs
        return "none"
    return answer.stdout.strip() or "none"
