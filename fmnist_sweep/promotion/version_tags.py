"""Tags of a registered version: what a reader who has only the registry needs to know about it."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING

from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.configuration import serialize_configuration
from fmnist_sweep.reading import parse_json
from fmnist_sweep.tracking import names
from fmnist_sweep.tracking.models import hash_predictions
from fmnist_sweep.tracking.run_files import read_artifact

if TYPE_CHECKING:
    from fmnist_sweep.promotion.dossier import Dossier
    from fmnist_sweep.promotion.registration import Registration
    from fmnist_sweep.tracking.prediction_files import Predictions
    from fmnist_sweep.tracking.trials import StoredTrial

# Tags that a version takes over from its run.
_RUN_TAGS = (
    names.GIT_TAG,
    names.PRECISION_TAG,
    names.THREADS_TAG,
    names.MACHINE_TAG,
    names.EXECUTOR_TAG,
    names.DATA_TAG,
    names.DESCRIPTION_TAG,
    names.CANONICAL_TAG,
)


def make_version_tags(registration: Registration, predictions: Predictions) -> dict[str, str]:
    """Tags of the chosen run's version, without those that its file and its loaded model are needed for.

    predictions: the chosen run's predictions of the validation images.
    """
    run = registration.chosen_run
    return {
        **{tag: run.tags[tag] for tag in _RUN_TAGS if tag in run.tags},
        **_make_decision_tags(registration),
        **_make_source_tags(registration.dossier),
        **_make_training_tags(registration),
        **_make_validation_tags(registration, predictions),
        **_make_test_tags(registration),
    }


def _make_decision_tags(registration: Registration) -> dict[str, str]:
    dossier = registration.dossier
    return {
        names.NAME_TAG: dossier.winner.configuration.name,
        names.VERDICT_TAG: dossier.judgement.verdict,
        names.RULE_TAG: dossier.rule,
        names.DECISION_TAG: dossier.decision,
        names.AGAINST_TAG: dossier.champion_number,
        names.WHY_TAG: dossier.reason,
        names.PROMOTION_TAG: registration.promotion_run,
    }


def _make_source_tags(dossier: Dossier) -> dict[str, str]:
    """Tags that name the trial of a search that the winner's configuration comes from."""
    trial = _find_source_trial(dossier)
    return {
        names.TRIAL_RUN_TAG: trial.run_id,
        names.SWEEP_ID_TAG: trial.tags.get(names.SWEEP_ID_TAG, ""),
        names.STUDY_ID_TAG: trial.study_id,
        names.TRIAL_ID_TAG: trial.trial_id,
    }


def _find_source_trial(dossier: Dossier) -> StoredTrial:
    run_id = dossier.winner.configuration.trial_run
    return next(trial for trial in dossier.candidates.finalists if trial.run_id == run_id)


def _make_training_tags(registration: Registration) -> dict[str, str]:
    """Tags from which the model can be trained again."""
    store, winner, run = registration.store, registration.dossier.winner, registration.chosen_run
    plugins = winner.configuration.plugins
    try:
        identity = read_artifact(store, run.tags[names.PARENT_RUN_TAG], names.IDENTITY_FILE)
        command = read_artifact(store, run.run_id, names.OVERRIDES_FILE)
        versions = parse_json(identity or b"{}").get("versions", {})
    except (ValueError, AttributeError) as error:
        raise PromotionRefused(
            f"{run.name} (run {run.run_id}) does not say how it was trained ({error}): train it again."
        ) from None
    return {
        names.FINALIST_TAG: winner.journal,
        names.CONFIGURATION_TAG: serialize_configuration(winner.configuration),
        names.CONFIG_HASH_TAG: winner.configuration.key,
        names.SEED_TAG: run.params["seed"],
        names.SEEDS_TAG: str(len(winner.scored_runs)),
        names.VERSIONS_TAG: json.dumps(versions, sort_keys=True),
        names.COMMAND_TAG: (command or b"").decode().strip(),
        **({names.PLUGINS_TAG: json.dumps(dict(plugins), sort_keys=True)} if plugins else {}),
    }


def _make_validation_tags(registration: Registration, predictions: Predictions) -> dict[str, str]:
    """Figures from training, which a model that is trained again is compared with."""
    metrics = registration.chosen_run.metrics
    accuracies = [run.metrics["best_val_accuracy"] for run in registration.dossier.winner.scored_runs]
    return {
        names.VAL_ACCURACY_TAG: repr(metrics["best_val_accuracy"]),
        names.VAL_ACCURACY_SD_TAG: repr(statistics.stdev(accuracies)),
        names.PREDICTIONS_SHA256_TAG: hash_predictions(predictions.probabilities),
        names.PARAMETERS_TAG: f"{metrics['parameters']:.0f}",
    }


def _make_test_tags(registration: Registration) -> dict[str, str]:
    dossier, run = registration.dossier, registration.chosen_run
    accuracy = dossier.judgement.standings[dossier.judgement.winner].accuracy
    return {
        names.TEST_ACCURACY_TAG: repr(run.metrics["test_accuracy"]),
        names.TEST_ACCURACY_MEAN_TAG: repr(accuracy.mean),
        names.TEST_ACCURACY_SD_TAG: repr(accuracy.sd),
        names.TEST_OPENED_TAG: run.tags[names.TEST_OPENED_TAG],
        names.TEST_OPENINGS_TAG: str(len(dossier.openings)),
    }
