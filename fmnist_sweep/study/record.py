"""What a study's journal says: its trials and their attempts, what the oracle was asked and told, what is delivered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fmnist_sweep.search.ask_and_tell import Proposal, Wait
from fmnist_sweep.study.journal import Event


@dataclass
class Attempt:
    """One try at a trial. run_id: in the tracking store, None until it is known to exist there.

    state: running, finished, failed or killed. delivered: the store has all of it, and its run is closed. lost: why its
    worker was, where that ended it. kept: how many epochs the next attempt can go on from.
    """

    number: int
    run_id: str | None = None
    state: str = "running"
    delivered: bool = False
    lost: str | None = None
    kept: int = 0


@dataclass
class TrialHistory:
    """One trial: what the oracle proposed and what came of it.

    number: of the study's proposals, from 1. outcome: the body of the event that ended it; None while it is under way.
    same_as: the trial that had the same configuration, whose score was taken over.
    """

    proposal: Proposal
    number: int
    attempts: list[Attempt] = field(default_factory=list)
    state: str = "running"
    outcome: dict[str, Any] | None = None
    same_as: str | None = None
    model_dropped: bool = False
    # Whether the oracle knows how it ended; in a synchronous search that is later.
    told: bool = False

    @property
    def trial_id(self) -> str:
        return self.proposal.trial_id

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do for it: it ended, and the store has all of it."""
        return self.state != "running" and (self.same_as is not None or self.attempts[-1].delivered)


# What the oracle was asked and told, in order: its answers, and the trials that ended with their scores.
Exchange = Proposal | Wait | tuple[str, float | None]


@dataclass
class StudyRecord:
    """The sum of a journal's events.

    about: the first event's body (id, label, place, command, ...). seconds: spent on the study so far, in all its
    sessions. closings: how often its run was closed with its figures. exhausted: nothing is left to propose.
    """

    about: dict[str, Any]
    run_id: str | None = None
    sweep_id: str | None = None
    sweep_run_id: str | None = None
    trials: dict[str, TrialHistory] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    seconds: float = 0.0
    closings: int = 0
    doubles: int = 0  # proposals whose configuration was known
    exhausted: bool = False
    state: str = "new"  # running, interrupted or closed

    @classmethod
    def of(cls, events: Iterable[Event]) -> StudyRecord:
        first, *others = events
        record = cls(first.body)
        for event in others:
            record.apply(event)
        return record

    def apply(self, event: Event) -> None:
        """Take one more event in; KeyError for a kind that is not known."""
        _APPLY[event.kind](self, event.body)
        self.seconds = event.body.get("seconds", self.seconds)

    @property
    def begun(self) -> int:
        """How many trials were trained or are to be; without a look at each."""
        return len(self.trials) - self.doubles

    @property
    def trained(self) -> list[TrialHistory]:
        """These trials."""
        return [trial for trial in self.trials.values() if trial.same_as is None]

    @property
    def unsettled(self) -> list[TrialHistory]:
        return [trial for trial in self.trials.values() if not trial.settled]

    def count(self, state: str) -> int:
        return sum(trial.state == state for trial in self.trained)

    def _opened(self, body: dict[str, Any]) -> None:
        self.state = "running"
        self.about |= {key: body[key] for key in ("command", "planned") if key in body}
        if "executor" in body and not self.about.get("executor", {}).get("measured"):
            self.about["executor"] = body["executor"]  # what was found quickest stays, whatever was tried beside it
        if "sweep_id" in body:
            self.sweep_id, self.sweep_run_id = body["sweep_id"], body["sweep_run_id"]

    def _run(self, body: dict[str, Any]) -> None:
        self.run_id = body["run_id"]

    def _asked(self, body: dict[str, Any]) -> None:
        proposal = Proposal(**body["proposal"])
        self.trials[proposal.trial_id] = TrialHistory(proposal, len(self.trials) + 1)
        self.exchanges.append(proposal)

    def _waited(self, body: dict[str, Any]) -> None:
        self.exchanges.append(Wait())

    def _exhausted(self, body: dict[str, Any]) -> None:
        self.exhausted = True

    def _known(self, body: dict[str, Any]) -> None:
        trial = self.trials[body["trial_id"]]
        trial.same_as, trial.state, trial.outcome = body["same_as"], "finished", body
        self.doubles += 1
        self._tell(trial, body)

    def _attempt(self, body: dict[str, Any]) -> None:
        self.trials[body["trial_id"]].attempts.append(Attempt(body["attempt"]))

    def _attempt_run(self, body: dict[str, Any]) -> None:
        self._attempt_of(body).run_id = body["run_id"]

    def _finished(self, body: dict[str, Any]) -> None:
        self._ended(body, "finished", body["score"])

    def _failed(self, body: dict[str, Any]) -> None:
        self._ended(body, "failed", None)

    def _ended(self, body: dict[str, Any], state: str, score: float | None) -> None:
        trial = self.trials[body["trial_id"]]
        again = trial.outcome is not None  # trained once more because its result was lost: what is told is told
        trial.state, trial.outcome = state, {**body, "score": score}
        self._attempt_of(body).state = state
        if not again:
            self._tell(trial, body)

    def _tell(self, trial: TrialHistory, body: dict[str, Any]) -> None:
        if body.get("later"):  # a `told` follows
            return
        trial.told = True
        self.exchanges.append((trial.trial_id, (trial.outcome or {})["score"]))

    def _told(self, body: dict[str, Any]) -> None:
        self._tell(self.trials[body["trial_id"]], body)

    def _killed(self, body: dict[str, Any]) -> None:
        attempt = self._attempt_of(body)
        attempt.state, attempt.lost, attempt.kept = "killed", body.get("lost"), body.get("kept", 0)

    def _lost(self, body: dict[str, Any]) -> None:
        self.trials[body["trial_id"]].state = "running"
        self._attempt_of(body).state = "killed"

    def _delivered(self, body: dict[str, Any]) -> None:
        self._attempt_of(body).delivered = True

    def _model_dropped(self, body: dict[str, Any]) -> None:
        self.trials[body["trial_id"]].model_dropped = True

    def _interrupted(self, body: dict[str, Any]) -> None:
        self.state = "interrupted"

    def _closing(self, body: dict[str, Any]) -> None:
        self.closings += 1

    def _closed(self, body: dict[str, Any]) -> None:
        self.state = "closed"

    def _attempt_of(self, body: dict[str, Any]) -> Attempt:
        number: int = body["attempt"]
        return self.trials[body["trial_id"]].attempts[number - 1]


_APPLY = {
    "opened": StudyRecord._opened,
    "run": StudyRecord._run,
    "asked": StudyRecord._asked,
    "waited": StudyRecord._waited,
    "exhausted": StudyRecord._exhausted,
    "known": StudyRecord._known,
    "attempt": StudyRecord._attempt,
    "attempt_run": StudyRecord._attempt_run,
    "finished": StudyRecord._finished,
    "failed": StudyRecord._failed,
    "told": StudyRecord._told,
    "killed": StudyRecord._killed,
    "lost": StudyRecord._lost,
    "delivered": StudyRecord._delivered,
    "model_dropped": StudyRecord._model_dropped,
    "interrupted": StudyRecord._interrupted,
    "closing": StudyRecord._closing,
    "closed": StudyRecord._closed,
}
