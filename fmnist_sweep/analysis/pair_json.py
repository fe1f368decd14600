"""A comparison of two trials as plain values for JSON."""

from __future__ import annotations

from typing import Any

from fmnist_sweep.analysis.comparison import Difference
from fmnist_sweep.analysis.pair import Side, TrialComparison, Verdicts
from fmnist_sweep.tracking.foreign import parse_parameter
from fmnist_sweep.tracking.names import DATA_TAG


def serialize_comparison(pair: TrialComparison) -> dict[str, Any]:
    """A comparison as plain values for JSON; what is not known is None."""
    return {
        **{name: _serialize_side(side) for name, side in (("a", pair.a), ("b", pair.b))},
        "same_configuration": pair.same_configuration,
        "settings": {setting.key: {"a": setting.a, "b": setting.b} for setting in pair.settings},
        "why_not_image_by_image": pair.no_comparison_reason,
        "verdicts": None if pair.verdicts is None else _serialize_verdicts(pair.verdicts),
        "labels": [
            {
                "label": label.a.label,
                "a": vars(label.a),
                "b": vars(label.b),
                "recall": _serialize_difference(label.difference),
            }
            for label in pair.labels
        ],
        "images": None
        if pair.disagreement is None
        else {
            name: [vars(example) for example in value] if isinstance(value, tuple) else value
            for name, value in vars(pair.disagreement).items()
        },
    }


def _serialize_side(side: Side) -> dict[str, Any]:
    trial = side.trial
    return {
        "run_id": trial.run_id,
        "name": trial.name,
        "study_id": trial.study_id,
        "trial_id": trial.trial_id,
        "state": trial.state,
        "failure": trial.failure,
        "data": trial.tags.get(DATA_TAG),
        "params": {key: parse_parameter(text) for key, text in trial.params.items()},
        "best_val_accuracy": trial.accuracy,
        **{name: value if value == value else None for name, value in (("low", side.low), ("high", side.high))},
        "images": trial.images,
        "best_epoch": side.best_epoch,
        "gap": side.gap,
        "parameters": trial.metrics.get("parameters"),
        "fit_seconds": trial.metrics.get("fit_seconds"),
        "cpu_seconds": trial.metrics.get("cpu_seconds"),
        "curve": list(side.curve),
        "seeds": None if side.seeds is None else vars(side.seeds),
    }


def _serialize_verdicts(verdicts: Verdicts) -> dict[str, Any]:
    return {
        "models": _serialize_difference(verdicts.models),
        "configurations": _serialize_difference(verdicts.configurations),
        "seed_sd": verdicts.seed_spread.sd,
        "seed_freedom": verdicts.seed_spread.freedom,
        "over_seeds": _serialize_difference(verdicts.seeds),
    }


def _serialize_difference(difference: Difference | None) -> dict[str, Any] | None:
    return None if difference is None else {**vars(difference), "verdict": difference.verdict}
