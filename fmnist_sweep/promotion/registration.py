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
from fmnist_sweep.promotion.champion import CONFIGURATION, FINALIST
from fmnist_sweep.tracking import aliases as moves
from fmnist_sweep.tracking import models as logged_model
from fmnist_sweep.tracking import registry as versions
from fmnist_sweep.tracking import runs as tracking
from fmnist_sweep.tracking import test_predictions as tested
from fmnist_sweep.tracking import trials as evidences
from fmnist_sweep.tracking.trials import StoredTrial

if TYPE_CHECKING:
    import keras
    from mlflow.entities.model_registry import ModelVersion

    from fmnist_sweep.promotion.confirming import Confirmations
    from fmnist_sweep.promotion.dossier import Evidence
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.tracking.trials import Predictions
from dataclasses import dataclass

# Tags of a version.
DECISION, AGAINST, SEEDS, WHY, SEED = "fmnist.decision", "fmnist.against", "fmnist.seeds", "fmnist.why", "fmnist.seed"
WEIGHTS, PREDICTIONS = "fmnist.weights_sha256", "fmnist.predictions_sha256"
ACCURACY, SPREAD, THREADS = "fmnist.val_accuracy", "fmnist.val_accuracy_sd", "fmnist.threads"
MACHINE, VERSIONS = "fmnist.machine", "fmnist.versions"
VERDICT, RULE, CONFIG_HASH = "fmnist.verdict", "fmnist.rule", f"fmnist.{configurations.CONFIG_HASH}"
_OF_RUN = ("git", "precision", "threads", "machine", "executor", "data", "canonical")
_LATENCY_ROUNDS = 30


def enrol(store: Store, found: Evidence, promotion: str, data_dir: str | None, say: Callable[[str], None]) -> Outcome:
    """Do what the judgement says; the caller holds the registry. Done again, it changes nothing.

    promotion: the run that the evidence is kept with. Errors: PromotionRefused where the model is not what was scored.
    """
    verdict = found.judgement.verdict
    for reason in (*found.judgement.reasons, *found.remarks):
        say(reason)
    if verdict == "worse":
        _keep(store, found, promotion, None)
        return Outcome(ExitCode.REFUSED, (f"nothing is registered. {found.why}", _where(found, promotion)))
    chosen = _chosen(found.winner)
    version = _champion_once(store, found, chosen) or _checked_version(store, found, chosen, promotion, data_dir)
    _keep(store, found, promotion, version.tags)
    alias = versions.CHAMPION if found.judgement.promotes else versions.CHALLENGER
    kind: moves.MoveKind = "promoted" if found.judgement.promotes else "challenger"
    number = str(version.version)
    points = versions.map_aliases(versions.get_registered_model(store))
    if (points.get(versions.CHAMPION) or "nobody") != found.against:  # on a server others may decide, too
        raise Locked(
            "the champion was changed by another command meanwhile: type the command again; what was scored is kept."
        )
    moves.move_alias(store, alias, number, kind=kind, why=found.why, command=found.command)
    before = f"version {points[alias]}" if alias in points else "nothing"
    address = f"models:/{versions.MODEL_NAME}@{alias}"
    still = points.get(alias) == number
    said = f"{address} is still version {number}" if still else f"{address} is now version {number} (before: {before})"
    code = ExitCode.DONE if found.judgement.promotes else ExitCode.NOT_BETTER
    lines = (said, *_about(found, chosen, version.tags), _where(found, promotion))
    return Outcome(code, lines, number)


def _about(found: Evidence, chosen: StoredTrial, tags: Mapping[str, str]) -> list[str]:
    accuracy = found.judgement.standings[found.judgement.winner].accuracy
    return [
        f"  {found.winner.configuration.name}, seed {tags[SEED]}, run {chosen.run_id}",
        f"  test accuracy {accuracy} over fresh seeds; this model's own {float(tags['fmnist.test_accuracy']):.4f}",
        f"  {int(tags['fmnist.size_bytes']) / 1e6:.1f} MB, {float(tags['fmnist.latency_ms']):.1f} ms an image",
        f"  rebuilt by: {tags['fmnist.command']}",
    ]


def _where(found: Evidence, promotion: str) -> str:
    return f"  evidence: {found.folder}/evidence.html of run {promotion}"


def _chosen(confirmed: Confirmations) -> StoredTrial:
    """Of a configuration's trainings the best on the validation images; where these were trained on, the first."""
    if confirmed.configuration.on_all:
        return confirmed.scored[0]
    return max(confirmed.scored, key=lambda run: run.metrics["best_val_accuracy"])


def _champion_once(store: Store, found: Evidence, chosen: StoredTrial) -> ModelVersion | None:
    """The version of this model that was promoted by an earlier decision: what was said of it then stays."""
    mine = [version for version in versions.list_versions(store) if version.run_id == chosen.run_id]
    once = next((version for version in mine if version.tags.get(VERDICT) in ("first", "better")), None)
    if once is None or found.judgement.promotes:
        return None
    versions.load_version(store, once)
    return once


def _checked_version(
    store: Store, found: Evidence, chosen: StoredTrial, promotion: str, data_dir: str | None
) -> ModelVersion:
    """The version of the chosen model, loaded from the registry and found to predict what was scored."""
    with tempfile.TemporaryDirectory() as folder:
        model_id, file = opening.checked(store, chosen, data_dir, Path(folder, chosen.run_id))
        validation = evidences.load_trial_splits(store, chosen, data_dir).validation
        told = evidences.read_predictions(store, chosen.run_id)
        assert told is not None, "checked"
        tags = _tags(store, found, chosen, promotion, told)
        tags |= {logged_model.SHA256_TAG: logged_model.hash_file(file), "fmnist.size_bytes": str(file.stat().st_size)}
    description = found.description(tags)
    version = versions.register_version(store, chosen.run_id, model_id, tags=tags, description=description)
    model = versions.load_version(store, version)
    try:
        logged_model.refuse_other_predictions(chosen.name, model, validation.images, told.probabilities)
    except logged_model.UnusableModel as error:
        raise PromotionRefused(str(error)) from None
    if "fmnist.latency_ms" not in version.tags:
        tags |= {"fmnist.latency_ms": f"{_latency(model, validation.images[:1]):.3f}"}
    tags |= {WEIGHTS: logged_model.hash_weights(model)}
    return versions.register_version(store, chosen.run_id, model_id, tags=tags, description=description)


def _tags(store: Store, found: Evidence, chosen: StoredTrial, promotion: str, told: Predictions) -> dict[str, str]:
    """What a version says of itself, for whoever has the registry alone."""
    configuration, accuracy = found.winner.configuration, found.judgement.standings[found.judgement.winner].accuracy
    source = _source(found)
    identity = tracking.read_artifact(store, chosen.tags["mlflow.parentRunId"], "identity.json")
    command = tracking.read_artifact(store, chosen.run_id, "overrides.txt")
    kept = {f"fmnist.{key}": chosen.tags[f"fmnist.{key}"] for key in _OF_RUN if f"fmnist.{key}" in chosen.tags}
    spread = [run.metrics["best_val_accuracy"] for run in found.winner.scored]
    return {
        **kept,
        "fmnist.name": configuration.name,
        VERDICT: found.judgement.verdict,
        RULE: found.rule,
        DECISION: found.decision,
        AGAINST: found.against,
        WHY: found.why,
        "fmnist.promotion": promotion,
        "fmnist.trial_run": source.run_id,
        "fmnist.sweep_id": source.tags.get("fmnist.sweep_id", ""),
        "fmnist.study_id": source.study_id,
        "fmnist.trial_id": source.trial_id,
        FINALIST: found.winner.journal,
        CONFIGURATION: configurations.described(configuration),
        CONFIG_HASH: configuration.key,
        SEED: chosen.params["seed"],
        SEEDS: str(len(found.winner.scored)),
        VERSIONS: json.dumps(json.loads(identity or b"{}").get("versions", {}), sort_keys=True),
        "fmnist.command": (command or b"").decode().strip(),
        ACCURACY: repr(chosen.metrics["best_val_accuracy"]),
        SPREAD: repr(statistics.stdev(spread)),
        PREDICTIONS: logged_model.hash_predictions(told.probabilities),
        "fmnist.parameters": f"{chosen.metrics['parameters']:.0f}",
        "fmnist.test_accuracy": repr(chosen.metrics["test_accuracy"]),
        "fmnist.test_accuracy_mean": repr(accuracy.mean),
        "fmnist.test_accuracy_sd": repr(accuracy.sd),
        tested.TEST_OPENED_TAG: chosen.tags[tested.TEST_OPENED_TAG],
        "fmnist.test_openings": str(len(found.openings)),
    }


def _source(found: Evidence) -> StoredTrial:
    """The trial of the search that the winner's configuration comes from."""
    run_id = found.winner.configuration.trial_run
    return next(trial for trial in found.candidates.finalists if trial.run_id == run_id)


def _keep(store: Store, found: Evidence, promotion: str, registered: Mapping[str, Any] | None) -> None:
    """The evidence, with the promotion's run."""
    tracking.log_files(store, promotion, found.files(registered))
    store.client.set_tag(promotion, VERDICT, found.judgement.verdict)
    note = "\n".join(
        ["**Promotion**: " + found.judgement.verdict, "", *(f"- {line}" for line in found.judgement.reasons)]
    )
    store.client.set_tag(promotion, "mlflow.note.content", note)


def _latency(model: keras.Model, image: NDArray[np.uint8]) -> float:
    """Milliseconds until one image is labelled: the median of several, in a compiled graph, on this machine."""
    import tensorflow as tf

    label = tf.function(lambda pixels: model(pixels, training=False))
    pixels = tf.constant(image)
    label(pixels)
    taken = []
    for _ in range(_LATENCY_ROUNDS):
        begun = time.perf_counter()
        label(pixels).numpy()
        taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(taken)


@dataclass(frozen=True)
class Outcome:
    """code: to end with. said: lines to print. version: registered now or before; None where there is none."""

    code: ExitCode
    said: tuple[str, ...] = ()
    version: str | None = None
