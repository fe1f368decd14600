"""The figures of finished trials: drawn where no trial needs the core, while a slot is idle or at the end of a study.

The journal says whose figures are owed. What they show is in the store, so that any later process can draw them.
"""

from __future__ import annotations

from functools import partial

from fmnist_sweep.report.artifacts import draw_trial_figures
from fmnist_sweep.report.leaderboard import format_trial_name
from fmnist_sweep.study.record import TrialHistory
from fmnist_sweep.sweep.context import StudyContext
from fmnist_sweep.text import format_epoch_count
from fmnist_sweep.tracking.deleted import check_experiment
from fmnist_sweep.tracking.prediction_files import read_intact_predictions
from fmnist_sweep.tracking.queries import is_run_active
from fmnist_sweep.tracking.run_files import log_files
from fmnist_sweep.tracking.trials import read_curves

_MAX_SILENT_TRIALS = 20  # of more it is said that they are drawn: some seconds


def draw_next_figures(study: StudyContext) -> bool:
    """Draw the figures of one trial that owes them; return False where none does, or the store is away."""
    history = next(iter(study.record.undrawn_trials.values()), None)
    if history is None or not study.delivery.try_call(partial(log_figures, study, history)):
        return False
    _note_drawn(study, history)
    return True


def draw_owed_figures(study: StudyContext) -> None:
    """Draw all figures that a study's trials owe, while no trial trains.

    KeyboardInterrupt when the user asks for an end: the same command draws the others.
    """
    histories = list(study.record.undrawn_trials.values())
    if len(histories) > _MAX_SILENT_TRIALS:
        study.sweep.view.say(f"drawing the figures of {len(histories)} trials ...")
    for history in histories:
        if study.sweep.stop.is_requested:
            raise KeyboardInterrupt
        draw_figures(study, history)


def draw_figures(study: StudyContext, history: TrialHistory) -> None:
    """Draw the figures of one trial that owes them."""
    study.delivery.call_with_retries(partial(log_figures, study, history))
    _note_drawn(study, history)


def log_figures(study: StudyContext, history: TrialHistory) -> None:
    """Draw a delivered trial's figures and log them to its run, unless it was deleted. Repeating it changes nothing."""
    store, run_id = study.store, str(history.attempts[-1].run_id)
    if not is_run_active(store, run_id):
        check_experiment(store)  # with which all its runs are deleted: they get their figures once it is restored
        return
    name, best_epoch = format_trial_name(history, study.record.about), (history.outcome or {}).get("best_epoch") or 0
    predictions, curves = read_intact_predictions(store, run_id), read_curves(store, run_id)
    expected_shape = (len(study.validation.labels), len(study.description.labels))
    if predictions is None or predictions.probabilities.shape != expected_shape:
        _report_missing(study, name, run_id, "its predictions.npz is gone or damaged")
    elif not curves or best_epoch > len(curves):
        _report_missing(study, name, run_id, f"it has the metrics of {format_epoch_count(len(curves))}")
    else:
        figures = draw_trial_figures(
            name, curves, best_epoch, predictions.probabilities, study.validation, study.description
        )
        log_files(store, run_id, figures)


def _report_missing(study: StudyContext, name: str, run_id: str, reason: str) -> None:
    study.sweep.view.say(f"  the figures of {name} (run {run_id}) cannot be drawn: {reason}", "yellow")


def _note_drawn(study: StudyContext, history: TrialHistory) -> None:
    if study.record.state == "closed":  # then the journal's last event goes on saying that nothing is left open
        study.opened.append_event("closed", drawn=history.trial_id)
    else:
        study.opened.append_event("drawn", trial_id=history.trial_id)
