"""The sum of a study's journal: its trials and their attempts, the exchanges with the oracle, what was delivered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmnist_sweep.search.ask_and_tell import Exchange, Proposal, Wait
from fmnist_sweep.study.event_checks import sum_events
from fmnist_sweep.study.journal import JournalEvent
from fmnist_sweep.study.nonces import RUN, compute_nonce

FIGURES_OWED = "owed"  # in the event `delivered` of a trial whose figures are drawn later


@dataclass
class Attempt:
    """One attempt at a trial.

    nonce: marks its run; None for one begun by an older version. run_id: in the tracking store; None until the run is
    known to exist. state: running, finished, failed or killed.
    is_delivered: whether the store has everything and its run is closed. worker_loss: why its worker was lost, if that
    ended it. kept_epochs: how many epochs of it the next attempt continues from.
    """

    number: int
    nonce: str | None = None
    run_id: str | None = None
    state: str = "running"
    is_delivered: bool = False
    worker_loss: str | None = None
    kept_epochs: int = 0


@dataclass
class TrialHistory:
    """One trial: what the oracle proposed, and what came of it.

    number: its place among the study's proposals, from 1. outcome: the body of the event that ended it; None while it
    runs. duplicate_of: id of the trial with the same configuration, whose score it took over; None for a trained trial.
    """

    proposal: Proposal
    number: int
    attempts: list[Attempt] = field(default_factory=list)
    state: str = "running"
    outcome: dict[str, Any] | None = None
    duplicate_of: str | None = None
    is_model_dropped: bool = False
    # Whether the oracle knows how it ended; a synchronous search reports that later.
    is_reported: bool = False

    @property
    def trial_id(self) -> str:
        return self.proposal.trial_id

    @property
    def is_settled(self) -> bool:
        """Whether it has ended, and the store has everything of it."""
        return self.state != "running" and (self.duplicate_of is not None or self.attempts[-1].is_delivered)


@dataclass
class StudyRecord:
    """The sum of a journal's events.

    about: the first event's body (id, label, location, command, ...), brought up to date by later sessions. seconds:
    time spent on the study so far, in all its sessions. secret: what nonces are made of; None in a journal of an older
    version until it is opened. may_have_unmarked_run: whether a session of an older version may have made its run,
    which has no nonce then. closings: how often its run was closed with its figures. duplicates: how many proposals had
    the configuration of an earlier trial. promotions: how many continue another trial. undrawn_trials: the finished
    ones whose figures are still to be drawn, by id; everything else of them is in the store. refused_draws: how many
    the oracle drew again because a limit refused them, or left out of a grid. is_exhausted: whether the oracle has
    nothing left to propose. promoted_configurations: how many configurations there were when nothing was left to
    promote (ASHA). state: new, running, interrupted or closed.
    """

    about: dict[str, Any]
    run_id: str | None = None
    secret: str | None = None
    may_have_unmarked_run: bool = False
    sweep_id: str | None = None
    sweep_run_id: str | None = None
    trials: dict[str, TrialHistory] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    seconds: float = 0.0
    closings: int = 0
    duplicates: int = 0
    promotions: int = 0
    undrawn_trials: dict[str, TrialHistory] = field(default_factory=dict)
    refused_draws: int = 0
    is_exhausted: bool = False
    promoted_configurations: int = 0
    state: str = "new"

    @classmethod
    def from_events(cls, events: Iterable[JournalEvent], path: Path) -> StudyRecord:
        """The sum of the events of the journal in `path`. Raises JournalDamaged for events that no study writes."""
        return sum_events(path, "study", events, lambda first: cls(first.body, secret=first.body.get("secret")))

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event. Raises KeyError for an unknown kind."""
        _HANDLERS[event.kind](self, event.body)
        self.seconds = event.body.get("seconds", self.seconds)

    @property
    def trial_count(self) -> int:
        """How many trials are not duplicates; computed without a loop over them."""
        return len(self.trials) - self.duplicates

    @property
    def configuration_count(self) -> int:
        """How many trials are neither duplicates nor continue another one."""
        return self.trial_count - self.promotions

    @property
    def has_nothing_to_promote(self) -> bool:
        """Whether the oracle has nothing left to propose with the configurations that there are."""
        return self.is_exhausted or self.promoted_configurations >= self.configuration_count > 0

    @property
    def trained_trials(self) -> list[TrialHistory]:
        """The trials that are not duplicates."""
        return [trial for trial in self.trials.values() if trial.duplicate_of is None]

    @property
    def unsettled_trials(self) -> list[TrialHistory]:
        return [trial for trial in self.trials.values() if not trial.is_settled]

    @property
    def attempts(self) -> list[tuple[TrialHistory, Attempt]]:
        """All attempts, each with its trial."""
        return [(history, attempt) for history in self.trials.values() for attempt in history.attempts]

    @property
    def run_nonce(self) -> str | None:
        """The nonce of the study's own run."""
        return None if self.secret is None else compute_nonce(self.secret, RUN)

    def compute_attempt_nonce(self, trial_id: str, number: object) -> str | None:
        """The nonce of an attempt, whether the journal knows of it or not."""
        return None if self.secret is None else compute_nonce(self.secret, trial_id, number)

    def count_trials(self, state: str) -> int:
        return sum(trial.state == state for trial in self.trained_trials)

    def _apply_opened(self, body: dict[str, Any]) -> None:
        self.state = "running"
        self.about |= {key: body[key] for key in ("command", "planned") if key in body}
        if "executor" in body and not self.about.get("executor", {}).get("measured"):
            self.about["executor"] = body["executor"]  # a measured placement stays
        if self.secret is None:
            self.secret = body.get("secret")
        self.may_have_unmarked_run |= self.run_id is None and self.secret is None
        if "sweep_id" in body:
            self.sweep_id, self.sweep_run_id = body["sweep_id"], body["sweep_run_id"]

    def _apply_run(self, body: dict[str, Any]) -> None:
        self.run_id = body["run_id"]

    def _apply_asked(self, body: dict[str, Any]) -> None:
        proposal = Proposal(**body["proposal"])
        self.trials[proposal.trial_id] = TrialHistory(proposal, len(self.trials) + 1)
        self.exchanges.append(proposal)
        self.promotions += proposal.continues is not None
        self.refused_draws = proposal.refused

    def _apply_waited(self, body: dict[str, Any]) -> None:
        self.exchanges.append(Wait())

    def _apply_exhausted(self, body: dict[str, Any]) -> None:
        if "configurations" in body:  # of the budget, which may be raised
            self.promoted_configurations = body["configurations"]
        else:
            self.is_exhausted = True
        self.refused_draws = body.get("refused", self.refused_draws)

    def _apply_known(self, body: dict[str, Any]) -> None:
        trial = self.trials[body["trial_id"]]
        trial.duplicate_of, trial.state, trial.outcome = body["same_as"], "finished", body
        self.duplicates += 1
        self._report_score(trial, body)

    def _apply_attempt(self, body: dict[str, Any]) -> None:
        self.trials[body["trial_id"]].attempts.append(Attempt(body["attempt"], body.get("nonce")))

    def _apply_attempt_run(self, body: dict[str, Any]) -> None:
        self._find_attempt(body).run_id = body["run_id"]

    def _apply_finished(self, body: dict[str, Any]) -> None:
        self._end_trial(body, "finished", body["score"])

    def _apply_failed(self, body: dict[str, Any]) -> None:
        self._end_trial(body, "failed", None)

    def _end_trial(self, body: dict[str, Any], state: str, score: float | None) -> None:
        trial = self.trials[body["trial_id"]]
        is_repeat = trial.outcome is not None  # trained again because its result was lost: the oracle knows it
        trial.state, trial.outcome = state, {**body, "score": score}
        self._find_attempt(body).state = state
        if not is_repeat:
            self._report_score(trial, body)

    def _report_score(self, trial: TrialHistory, body: dict[str, Any]) -> None:
        if body.get("later"):  # an event `told` follows
            return
        trial.is_reported = True
        self.exchanges.append((trial.trial_id, (trial.outcome or {})["score"]))

    def _apply_told(self, body: dict[str, Any]) -> None:
        self._report_score(self.trials[body["trial_id"]], body)

    def _apply_killed(self, body: dict[str, Any]) -> None:
        attempt = self._find_attempt(body)
        attempt.state, attempt.worker_loss, attempt.kept_epochs = "killed", body.get("lost"), body.get("kept", 0)

    def _apply_lost(self, body: dict[str, Any]) -> None:
        self.trials[body["trial_id"]].state = "running"
        self._find_attempt(body).state = "killed"

    def _apply_delivered(self, body: dict[str, Any]) -> None:
        self._find_attempt(body).is_delivered = True
        if body.get("figures") == FIGURES_OWED:  # an older version drew them before
            self.undrawn_trials[body["trial_id"]] = self.trials[body["trial_id"]]

    def _apply_drawn(self, body: dict[str, Any]) -> None:
        self.undrawn_trials.pop(body["trial_id"], None)

    def _apply_model_dropped(self, body: dict[str, Any]) -> None:
        self.trials[body["trial_id"]].is_model_dropped = True

    def _apply_interrupted(self, body: dict[str, Any]) -> None:
        self.state = "interrupted"

    def _apply_closing(self, body: dict[str, Any]) -> None:
        self.closings += 1

    def _apply_closed(self, body: dict[str, Any]) -> None:
        self.state = "closed"
        if "drawn" in body:  # figures that were drawn since, after which the study is as closed as before
            self.undrawn_trials.pop(body["drawn"], None)

    def _find_attempt(self, body: dict[str, Any]) -> Attempt:
        number: int = body["attempt"]
        return self.trials[body["trial_id"]].attempts[number - 1]


_HANDLERS = {
    "opened": StudyRecord._apply_opened,
    "run": StudyRecord._apply_run,
    "asked": StudyRecord._apply_asked,
    "waited": StudyRecord._apply_waited,
    "exhausted": StudyRecord._apply_exhausted,
    "known": StudyRecord._apply_known,
    "attempt": StudyRecord._apply_attempt,
    "attempt_run": StudyRecord._apply_attempt_run,
    "finished": StudyRecord._apply_finished,
    "failed": StudyRecord._apply_failed,
    "told": StudyRecord._apply_told,
    "killed": StudyRecord._apply_killed,
    "lost": StudyRecord._apply_lost,
    "delivered": StudyRecord._apply_delivered,
    "drawn": StudyRecord._apply_drawn,
    "model_dropped": StudyRecord._apply_model_dropped,
    "interrupted": StudyRecord._apply_interrupted,
    "closing": StudyRecord._apply_closing,
    "closed": StudyRecord._apply_closed,
}
