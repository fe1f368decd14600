"""The values of a version's card: gathered from its tags, its run and its predictions, and logged with its run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import yaml

from fmnist_sweep.analysis.confidence import measure_calibration
from fmnist_sweep.analysis.mistakes import find_confused_pairs, score_classes, score_without_images
from fmnist_sweep.analysis.proportions import measure_share
from fmnist_sweep.report.model_card import (
    MODEL_CARD_FILE,
    CardFigures,
    DataFacts,
    ModelCard,
    format_versions,
    render_model_card,
)
from fmnist_sweep.text import format_interval
from fmnist_sweep.tracking import names
from fmnist_sweep.tracking.run_files import log_files
from fmnist_sweep.tracking.test_predictions import read_test_predictions
from fmnist_sweep.training.evaluation import count_confusion

if TYPE_CHECKING:
    from fmnist_sweep.promotion.opening import ConfirmedModel
    from fmnist_sweep.promotion.registration import Registration
    from fmnist_sweep.tracking.prediction_files import TestPredictions
    from fmnist_sweep.tracking.registry import RegisteredVersion

_MOST_PAIRS = 5


def log_model_card(registration: Registration, version: RegisteredVersion, confirmed: ConfirmedModel) -> None:
    """Log a version's card with the run that its model comes from. A repetition writes the same."""
    run = registration.chosen_run
    test = read_test_predictions(registration.store, run.run_id, run.name)
    dossier = registration.dossier
    card = ModelCard(
        name=version.tags[names.NAME_TAG],
        address=f"models:/{version.model_name}/{version.number}",
        facts=_list_facts(registration, version),
        settings=yaml.safe_dump(dict(dossier.winner.configuration.settings), sort_keys=True, allow_unicode=True),
        data=_describe_data(registration, confirmed, test),
        figures=_measure(registration, confirmed, test),
        decision=(*dossier.judgement.reasons, *dossier.remarks, *dossier.account),
        command=version.tags[names.COMMAND_TAG],
        plugins=dossier.winner.configuration.plugins,
    )
    log_files(registration.store, run.run_id, {MODEL_CARD_FILE: render_model_card(card).encode()})


def _list_facts(registration: Registration, version: RegisteredVersion) -> dict[str, str]:
    tags = version.tags
    return {
        "version": f"models:/{version.model_name}/{version.number}",
        "what": f"a {registration.dossier.winner.configuration.settings['model']['builder']} network (Keras) that "
        "classifies images",
        "verdict": registration.dossier.judgement.verdict,
        "seed": f"{tags[names.SEED_TAG]}, the best of {tags[names.SEEDS_TAG]} fresh ones on the validation images"
        if not registration.dossier.winner.configuration.includes_validation
        else f"{tags[names.SEED_TAG]}, the first of {tags[names.SEEDS_TAG]} fresh ones",
        "parameters": f"{int(tags[names.PARAMETERS_TAG]):,}",
        "bytes of its file": f"{int(tags[names.SIZE_BYTES_TAG]):,}",
        "milliseconds for one image": tags[names.LATENCY_MS_TAG],
        "precision of the training": tags.get(names.PRECISION_TAG, "–"),
        "machine": f"{tags.get(names.MACHINE_TAG, '–')}, {tags.get(names.THREADS_TAG, '–')} threads",
        "libraries": format_versions(tags[names.VERSIONS_TAG]),
        "commit of the code": tags.get(names.GIT_TAG) or "–",
        "sha256 of its file": tags[names.SHA256_TAG],
        "run": str(version.run_id),
        "evidence": f"{registration.dossier.folder}/evidence.html of run {registration.promotion_run}",
        "licence": "that of the data and of whoever trained it; this card grants none",
    }


def _describe_data(registration: Registration, confirmed: ConfirmedModel, test: TestPredictions) -> DataFacts:
    run = registration.chosen_run
    return DataFacts(
        source=run.data,
        canonical=run.tags.get(names.CANONICAL_TAG) == "true",
        image_shape=confirmed.validation.images.shape[1:],
        labels=run.description.labels,
        train_count=confirmed.train_count,
        validation_count=len(confirmed.validation.labels),
        test_count=len(test.labels),
        twin_count=int(test.twin_mask.sum()),
        includes_validation=run.includes_validation,
        name=run.description.name,
    )


def _measure(registration: Registration, confirmed: ConfirmedModel, test: TestPredictions) -> CardFigures:
    judgement = registration.dossier.judgement
    over_seeds = judgement.standings[judgement.winner].accuracy
    calibration = measure_calibration(test.labels, test.probabilities)
    labels = registration.chosen_run.description.labels
    confusion = np.asarray(count_confusion(test.labels, test.predicted_labels, labels))
    return CardFigures(
        test=measure_share(test.correct_mask),
        without_twins=score_without_images(test.labels, test.predicted_labels, test.twin_mask),
        over_seeds=f"{over_seeds} {format_interval(over_seeds.low, over_seeds.high)}",
        validation=None
        if registration.chosen_run.includes_validation
        else measure_share(confirmed.predictions.correct_mask),
        ece=calibration.ece,
        ece_if_calibrated=calibration.ece_if_calibrated,
        ece_if_calibrated_sd=calibration.ece_if_calibrated_sd,
        overconfidence=calibration.overconfidence,
        scores=score_classes(confusion, labels),
        pairs=find_confused_pairs(confusion, test.labels, test.probabilities, labels, most=_MOST_PAIRS),
    )
