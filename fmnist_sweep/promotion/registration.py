"""The winner's model becomes a version of the registered model; an alias moves once all of it is checked."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.errors import ExitCode, Locked, PromotionRefused
from fmnist_sweep.promotion import configuration as configurations
from fmnist_sweep.promotion import opening
from fmnist_sweep.tracking import names
from fmnist_sweep.tracking.aliases import MoveKind, move_alias
from fmnist_sweep.tracking.models import (
    UnusableModel,
    hash_file,
    hash_predictions,
    hash_weights,
    refuse_other_predictions,
)
from fmnist_sweep.tracking.names import MODEL_NAME
from fmnist_sweep.tracking.predictions import read_predictions
from fmnist_sweep.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    get_registered_model,
    list_versions,
    load_version,
    map_aliases,
    register_version,
)
from fmnist_sweep.tracking.run_files import log_files, read_artifact
from fmnist_sweep.tracking.runs import set_tags
from fmnist_sweep.tracking.trial_data import load_trial_splits
from fmnist_sweep.tracking.trials import StoredTrial

if TYPE_CHECKING:
    import keras

    from fmnist_sweep.promotion.confirmation import Confirmations
    from fmnist_sweep.promotion.dossier import Dossier
    from fmnist_sweep.tracking.predictions import Predictions
    from fmnist_sweep.tracking.registry import ModelVersion
    from fmnist_sweep.tracking.store import Store
from dataclasses import dataclass

# Tags that a version takes over from its run.
_RUN_TAGS = (
    names.GIT_TAG,
    names.PRECISION_TAG,
    names.THREADS_TAG,
    names.MACHINE_TAG,
    names.EXECUTOR_TAG,
    names.DATA_TAG,
    names.CANONICAL_TAG,
)
_LATENCY_ROUNDS = 30


def register_winner(
    store: Store, dossier: Dossier, promotion_run: str, data_dir: str | None, say: Callable[[str], None]
) -> Outcome:
    """Do what the judgement says; the caller holds the registry. Done again, it changes nothing.

    promotion: the run that the evidence is kept with. Errors: PromotionRefused where the model is not what was scored.
    """
    verdict = dossier.judgement.verdict
    for reason in (*dossier.judgement.reasons, *dossier.remarks):
        say(reason)
    if verdict == "worse":
        _log_dossier(store, dossier, promotion_run, None)
        return Outcome(
            ExitCode.REFUSED, (f"nothing is registered. {dossier.reason}", _locate_dossier(dossier, promotion_run))
        )
    chosen_run = _choose_run(dossier.winner)
    version = _find_former_champion(store, dossier, chosen_run) or _register_checked_version(
        store, dossier, chosen_run, promotion_run, data_dir
    )
    _log_dossier(store, dossier, promotion_run, version.tags)
    alias = CHAMPION if dossier.judgement.promotes else CHALLENGER
    kind: MoveKind = "promoted" if dossier.judgement.promotes else "challenger"
    number = str(version.version)
    alias_versions = map_aliases(get_registered_model(store))
    if (alias_versions.get(CHAMPION) or "nobody") != dossier.champion_number:  # on a server others may decide, too
        raise Locked(
            "the champion was changed by another command meanwhile: type the command again; what was scored is kept."
        )
    move_alias(store, alias, number, kind=kind, why=dossier.reason, command=dossier.command)
    previous_version = f"version {alias_versions[alias]}" if alias in alias_versions else "nothing"
    address = f"models:/{MODEL_NAME}@{alias}"
    is_unchanged = alias_versions.get(alias) == number
    sentence = (
        f"{address} is still version {number}"
        if is_unchanged
        else f"{address} is now version {number} (before: {previous_version})"
    )
    code = ExitCode.DONE if dossier.judgement.promotes else ExitCode.NOT_BETTER
    lines = (sentence, *_describe_version(dossier, chosen_run, version.tags), _locate_dossier(dossier, promotion_run))
    return Outcome(code, lines, number)


def _describe_version(dossier: Dossier, chosen_run: StoredTrial, tags: Mapping[str, str]) -> list[str]:
    accuracy = dossier.judgement.standings[dossier.judgement.winner].accuracy
    return [
        f"  {dossier.winner.configuration.name}, seed {tags[names.SEED_TAG]}, run {chosen_run.run_id}",
        f"  test accuracy {accuracy} over fresh seeds; this model's own {float(tags[names.TEST_ACCURACY_TAG]):.4f}",
        f"  {int(tags[names.SIZE_BYTES_TAG]) / 1e6:.1f} MB, {float(tags[names.LATENCY_MS_TAG]):.1f} ms an image",
        f"  rebuilt by: {tags[names.COMMAND_TAG]}",
    ]


def _locate_dossier(dossier: Dossier, promotion_run: str) -> str:
    return f"  evidence: {dossier.folder}/evidence.html of run {promotion_run}"


def _choose_run(confirmations: Confirmations) -> StoredTrial:
    """Of a configuration's trainings the best on the validation images; where these were trained on, the first."""
    if confirmations.configuration.has_validation_images:
        return confirmations.scored_runs[0]
    return max(confirmations.scored_runs, key=lambda run: run.metrics["best_val_accuracy"])


def _find_former_champion(store: Store, dossier: Dossier, chosen_run: StoredTrial) -> ModelVersion | None:
    """The version of this model that was promoted by an earlier decision: what was said of it then stays."""
    run_versions = [version for version in list_versions(store) if version.run_id == chosen_run.run_id]
    champion_version = next(
        (version for version in run_versions if version.tags.get(names.VERDICT_TAG) in ("first", "better")), None
    )
    if champion_version is None or dossier.judgement.promotes:
        return None
    load_version(store, champion_version)
    return champion_version


def _register_checked_version(
    store: Store, dossier: Dossier, chosen_run: StoredTrial, promotion_run: str, data_dir: str | None
) -> ModelVersion:
    """The version of the chosen model, loaded from the registry and found to predict what was scored."""
    with tempfile.TemporaryDirectory() as folder:
        checked = opening.fetch_checked_model(store, chosen_run, data_dir, Path(folder, chosen_run.run_id))
        validation = load_trial_splits(store, chosen_run, data_dir).validation
        predictions = read_predictions(store, chosen_run.run_id)
        assert predictions is not None, "checked"
        tags = _make_tags(store, dossier, chosen_run, promotion_run, predictions)
        tags |= {names.SHA256_TAG: hash_file(checked.file), names.SIZE_BYTES_TAG: str(checked.file.stat().st_size)}
    description = dossier.format_description(tags)
    version = register_version(store, chosen_run.run_id, checked.model_id, tags=tags, description=description)
    model = load_version(store, version)
    try:
        refuse_other_predictions(chosen_run.name, model, validation.images, predictions.probabilities)
    except UnusableModel as error:
        raise PromotionRefused(str(error)) from None
    if names.LATENCY_MS_TAG not in version.tags:
        tags |= {names.LATENCY_MS_TAG: f"{_measure_latency(model, validation.images[:1]):.3f}"}
    tags |= {names.WEIGHTS_SHA256_TAG: hash_weights(model)}
    return register_version(store, chosen_run.run_id, checked.model_id, tags=tags, description=description)


def _make_tags(
    store: Store, dossier: Dossier, chosen_run: StoredTrial, promotion_run: str, predictions: Predictions
) -> dict[str, str]:
    """What a version says of itself, for whoever has the registry alone."""
    configuration, accuracy = (
        dossier.winner.configuration,
        dossier.judgement.standings[dossier.judgement.winner].accuracy,
    )
    source = _find_source_trial(dossier)
    identity = read_artifact(store, chosen_run.tags[names.PARENT_RUN_TAG], names.IDENTITY_FILE)
    command = read_artifact(store, chosen_run.run_id, names.OVERRIDES_FILE)
    run_tags = {tag: chosen_run.tags[tag] for tag in _RUN_TAGS if tag in chosen_run.tags}
    accuracies = [run.metrics["best_val_accuracy"] for run in dossier.winner.scored_runs]
    return {
        **run_tags,
        names.NAME_TAG: configuration.name,
        names.VERDICT_TAG: dossier.judgement.verdict,
        names.RULE_TAG: dossier.rule,
        names.DECISION_TAG: dossier.decision,
        names.AGAINST_TAG: dossier.champion_number,
        names.WHY_TAG: dossier.reason,
        names.PROMOTION_TAG: promotion_run,
        names.TRIAL_RUN_TAG: source.run_id,
        names.SWEEP_ID_TAG: source.tags.get(names.SWEEP_ID_TAG, ""),
        names.STUDY_ID_TAG: source.study_id,
        names.TRIAL_ID_TAG: source.trial_id,
        names.FINALIST_TAG: dossier.winner.journal,
        names.CONFIGURATION_TAG: configurations.serialize_configuration(configuration),
        names.CONFIG_HASH_TAG: configuration.key,
        names.SEED_TAG: chosen_run.params["seed"],
        names.SEEDS_TAG: str(len(dossier.winner.scored_runs)),
        names.VERSIONS_TAG: json.dumps(json.loads(identity or b"{}").get("versions", {}), sort_keys=True),
        names.COMMAND_TAG: (command or b"").decode().strip(),
        names.VAL_ACCURACY_TAG: repr(chosen_run.metrics["best_val_accuracy"]),
        names.VAL_ACCURACY_SD_TAG: repr(statistics.stdev(accuracies)),
        names.PREDICTIONS_SHA256_TAG: hash_predictions(predictions.probabilities),
        names.PARAMETERS_TAG: f"{chosen_run.metrics['parameters']:.0f}",
        names.TEST_ACCURACY_TAG: repr(chosen_run.metrics["test_accuracy"]),
        names.TEST_ACCURACY_MEAN_TAG: repr(accuracy.mean),
        names.TEST_ACCURACY_SD_TAG: repr(accuracy.sd),
        names.TEST_OPENED_TAG: chosen_run.tags[names.TEST_OPENED_TAG],
        names.TEST_OPENINGS_TAG: str(len(dossier.openings)),
    }


def _find_source_trial(dossier: Dossier) -> StoredTrial:
    """The trial of the search that the winner's configuration comes from."""
    run_id = dossier.winner.configuration.trial_run
    return next(trial for trial in dossier.candidates.finalists if trial.run_id == run_id)


def _log_dossier(store: Store, dossier: Dossier, promotion_run: str, version_tags: Mapping[str, Any] | None) -> None:
    """The evidence, with the promotion's run."""
    log_files(store, promotion_run, dossier.render_files(version_tags))
    note = "\n".join(
        ["**Promotion**: " + dossier.judgement.verdict, "", *(f"- {line}" for line in dossier.judgement.reasons)]
    )
    set_tags(store, promotion_run, {names.VERDICT_TAG: dossier.judgement.verdict, names.NOTE_TAG: note})


def _measure_latency(model: keras.Model, image: NDArray[np.uint8]) -> float:
    """Milliseconds until one image is labelled: the median of several, in a compiled graph, on this machine."""
    import tensorflow as tf

    predict = tf.function(lambda pixels: model(pixels, training=False))
    pixels = tf.constant(image)
    predict(pixels)
    milliseconds = []
    for _ in range(_LATENCY_ROUNDS):
        start = time.perf_counter()
        predict(pixels).numpy()
        milliseconds.append(1000 * (time.perf_counter() - start))
    return statistics.median(milliseconds)


@dataclass(frozen=True)
class Outcome:
    """code: to end with. said: lines to print. version: registered now or before; None where there is none."""

    code: ExitCode
    lines: tuple[str, ...] = ()
    version: str | None = None
