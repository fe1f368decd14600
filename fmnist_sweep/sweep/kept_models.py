"""The models that one study keeps in the tracking store: those of its best trials, as many as it is told to keep."""

from __future__ import annotations

from functools import partial

from fmnist_sweep.study.record import TrialHistory
from fmnist_sweep.sweep.context import StudyContext
from fmnist_sweep.tracking.models import delete_model


class KeptModels:
    """The finished trials whose models stay (tracking.keep_models), and those whose models are to be deleted."""

    def __init__(self, study: StudyContext) -> None:
        self._study, self._limit = study, study.config.tracking.keep_models
        self._kept_trials: list[TrialHistory] = []
        self._surplus_trials: list[TrialHistory] = []

    def restore(self) -> None:
        """Count in the models that earlier sessions kept."""
        for history in self._study.record.trained_trials:
            if history.state == "finished" and not history.is_model_dropped:
                self.admit(history)

    def admit(self, history: TrialHistory) -> None:
        """Count in a finished trial's model. Beyond the limit, the worst model becomes one to delete."""
        if self._limit == "all":
            return
        if history not in self._kept_trials:
            self._kept_trials.append(history)
        if len(self._kept_trials) > self._limit:
            worst = min(reversed(self._kept_trials), key=_read_accuracy)
            self._kept_trials.remove(worst)
            self._surplus_trials.append(worst)

    def keeps(self, history: TrialHistory) -> bool:
        """Whether the model of an admitted trial is among the best."""
        return self._limit == "all" or history in self._kept_trials

    def delete_surplus(self, *, wait: bool) -> None:
        """Delete the models that are no longer among the best. wait: for a store that is away; else try again later."""
        study = self._study
        for history in [
            history for history in self._surplus_trials if history.is_settled and not history.is_model_dropped
        ]:
            delete = partial(delete_model, study.store, str(history.attempts[-1].run_id))
            if wait:
                study.delivery.call_with_retries(delete)
            elif not study.delivery.try_call(delete):
                return
            study.opened.append_event("model_dropped", trial_id=history.trial_id)
        self._surplus_trials = [history for history in self._surplus_trials if not history.is_model_dropped]


def _read_accuracy(history: TrialHistory) -> float:
    return float((history.outcome or {})["best_val_accuracy"])
