"""A trial under way: its config, what it continues from, the spec for its executor, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fmnist_sweep.config.changed_defaults import drop_neutral_settings
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.config.regularized import drop_unused_regularization
from fmnist_sweep.search import space
from fmnist_sweep.search.ask_and_tell import Proposal
from fmnist_sweep.study.record import TrialHistory
from fmnist_sweep.sweep.context import StudyContext
from fmnist_sweep.sweep.delivery import Parcel
from fmnist_sweep.training.evaluation import Evaluation, compute_wilson_interval
from fmnist_sweep.training.events import Epoch, TrialResult, TrialSpec


@dataclass(eq=False)
class LiveTrial:
    """A trial under way.

    key: what its executor calls it, unlike any other trial of the sweep: trials of two studies may have the same id.
    epochs: those that have ended, in a list that its parcel shares. kept_epochs: how many of them a checkpoint has.
    earlier_seconds: trained in earlier attempts. start_time: since when a worker has had the trial, None while it waits
    for one. is_stopped: the trial trains no further, because the sweep stops.
    """

    key: str
    history: TrialHistory
    parcel: Parcel
    epochs: list[Epoch]
    kept_epochs: int
    earlier_seconds: float
    start_time: float | None
    is_stopped: bool = False

    def is_overdue(self, minutes: float, now: float) -> bool:
        """Whether the trial has been trained for this many minutes, kept epochs of earlier attempts included."""
        if self.start_time is None or self.is_stopped:
            return False
        return self.earlier_seconds + now - self.start_time >= 60 * minutes


def resolve_trial_config(settings: Mapping[str, Any], proposal: Proposal) -> dict[str, Any]:
    """Resolve a trial's config: without tunables, and with as many epochs as ASHA or Hyperband allots."""
    config = drop_unused_regularization(drop_neutral_settings(space.resolve_tunables(settings, proposal.values)))
    if proposal.epochs is not None:
        schedule = config["train"]["schedule"]
        if proposal.may_go_on and "over_epochs" in schedule and schedule["over_epochs"] is None:
            # A promoted trial continues the schedule that the rung below began.
            schedule["over_epochs"] = config["train"]["epochs"]
        config["train"]["epochs"] = proposal.epochs
    return config


def list_trial_params(proposal: Proposal, config: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a trial's run: its config by dotted key, and all that was drawn.

    A config leaves out what has its neutral value, but whoever compares the trials of a search looks for it.
    """
    return {**proposal.values, **flatten_config(config)}


def find_checkpoint(study: StudyContext, history: TrialHistory, *, is_from_scratch: bool) -> bytes | None:
    """Find what a trial continues from: its own last checkpoint, or for a promoted trial that of the rung below.

    is_from_scratch: the trial cannot use the checkpoint of the rung below.
    """
    checkpoints = study.opened.checkpoints
    own_checkpoint = checkpoints.load_newest(history.trial_id)
    rung_below = history.proposal.continues
    if own_checkpoint is not None or rung_below is None or is_from_scratch or history.proposal.restarts:
        return own_checkpoint
    return checkpoints.load_newest(study.record.trials[rung_below].duplicate_of or rung_below)


def build_spec(study: StudyContext, live: LiveTrial, config: dict[str, Any], checkpoint: bytes | None) -> TrialSpec:
    """Build the executor's spec of a trial's latest attempt. checkpoint: what the attempt continues from."""
    return TrialSpec(
        trial_id=live.key,
        config=config,
        objective=study.config.search.objective,
        data=study.config.data,
        resume=checkpoint,
        checkpoint_seconds=study.config.checkpoint.every_seconds,
        keep_final=live.history.proposal.may_go_on,
        plugins=study.study.job.code,
    )


def describe_result(study: StudyContext, result: TrialResult, evaluation: Evaluation) -> dict[str, Any]:
    """Describe a finished trial for the journal: its score, its accuracy with a 95 % interval, and its costs."""
    image_count = len(study.validation.labels)
    return {
        "score": result.history[result.best_epoch - 1][study.config.search.objective],
        "best_val_accuracy": evaluation.accuracy,
        "interval": list(compute_wilson_interval(round(evaluation.accuracy * image_count), image_count)),
        "best_epoch": result.best_epoch,
        "parameters": result.parameters,
        "fit_seconds": result.fit_seconds,
    }
