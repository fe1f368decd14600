"""The winner's model becomes a version of the registered model; an alias moves once everything is checked."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.errors import ExitCode, PromotionRefused
from fmnist_sweep.promotion.champion import get_aliased_champion_number
from fmnist_sweep.promotion.image_sources import choose_data_dir
from fmnist_sweep.promotion.model_card import log_model_card
from fmnist_sweep.promotion.opening import fetch_confirmed_model
from fmnist_sweep.promotion.outcome import Outcome, describe_alias, refuse_changed_champion
from fmnist_sweep.promotion.version_tags import make_version_tags
from fmnist_sweep.tracking.aliases import MoveKind, move_alias
from fmnist_sweep.tracking.models import UnusableModel, hash_file, hash_weights, refuse_other_predictions
from fmnist_sweep.tracking.names import (
    COMMAND_TAG,
    LATENCY_MS_TAG,
    NOTE_TAG,
    SEED_TAG,
    SHA256_TAG,
    SIZE_BYTES_TAG,
    TEST_ACCURACY_TAG,
    VERDICT_TAG,
    WEIGHTS_SHA256_TAG,
)
from fmnist_sweep.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    list_versions,
    read_aliases,
    register_version,
)
from fmnist_sweep.tracking.run_files import log_files
from fmnist_sweep.tracking.runs import set_tags
from fmnist_sweep.tracking.trials import StoredTrial
from fmnist_sweep.tracking.version_files import load_version

if TYPE_CHECKING:
    import keras

    from fmnist_sweep.promotion.dossier import Dossier
    from fmnist_sweep.promotion.preparation import Promotion
    from fmnist_sweep.tracking.registry import RegisteredVersion
    from fmnist_sweep.tracking.store import Store

_LATENCY_ROUNDS = 30


@dataclass(frozen=True)
class Registration:
    """A judgement to carry out in the registry.

    promotion_run: id of the run that keeps the evidence. choose_folder: takes a source of images, gives the folder to
    read them from.
    """

    store: Store
    dossier: Dossier
    promotion_run: str
    choose_folder: Callable[[str], str | None]

    @cached_property
    def chosen_run(self) -> StoredTrial:
        """The winner's training to register: the best on the validation images, or the first if trained on these."""
        winner = self.dossier.winner
        if winner.configuration.includes_validation:
            return winner.scored_runs[0]
        return max(winner.scored_runs, key=lambda run: run.metrics["best_val_accuracy"])


def register_winner(promotion: Promotion, dossier: Dossier, promotion_run: str) -> Outcome:
    """Carry out a judgement; the caller holds the lock of the registry. A repetition changes nothing.

    promotion_run: id of the run that keeps the evidence. Errors: PromotionRefused if the model is not what was scored,
    Locked if another command changed the champion.
    """
    registration = Registration(promotion.store, dossier, promotion_run, partial(choose_data_dir, promotion))
    correction = () if dossier.corrected is None else (dossier.corrected.text,)
    for line in (*dossier.judgement.reasons, *correction, *dossier.remarks, *dossier.account):
        promotion.view.say(line)
    if dossier.judgement.verdict == "worse":
        _log_dossier(registration, None)
        line = f"nothing is registered. {dossier.reason}"
        return Outcome(ExitCode.REFUSED, (line, _locate_evidence(registration)))
    version = _find_former_champion(registration) or _register_checked_version(registration)
    _log_dossier(registration, version.tags)
    line = _move_alias(registration, version.number)
    code = ExitCode.DONE if dossier.judgement.promotes else ExitCode.NOT_BETTER
    lines = (line, *_describe_version(registration, version.tags), _locate_evidence(registration))
    return Outcome(code, lines, version.number)


def _move_alias(registration: Registration, number: str) -> str:
    """Point the alias that the judgement gives at a version, and return a sentence about it.

    Errors: Locked if another command changed the champion.
    """
    store, dossier = registration.store, registration.dossier
    promotes = dossier.judgement.promotes
    alias = CHAMPION if promotes else CHALLENGER
    kind: MoveKind = "promoted" if promotes else "challenger"
    # The lock keeps out other processes on this machine, but not others that use the same server: what is checked is
    # read last, once.
    aliases = read_aliases(store)
    refuse_changed_champion(dossier.champion_number, get_aliased_champion_number(aliases))
    move_alias(store, alias, number, kind=kind, why=dossier.reason, command=dossier.command)
    return describe_alias(store.model_name, alias, number, aliases.get(alias))


def _describe_version(registration: Registration, tags: Mapping[str, str]) -> list[str]:
    dossier, run_id = registration.dossier, registration.chosen_run.run_id
    accuracy = dossier.judgement.standings[dossier.judgement.winner].accuracy
    return [
        f"  {dossier.winner.configuration.name}, seed {tags[SEED_TAG]}, run {run_id}",
        f"  test accuracy {accuracy} over fresh seeds; {float(tags[TEST_ACCURACY_TAG]):.4f} for this model",
        f"  {int(tags[SIZE_BYTES_TAG]) / 1e6:.1f} MB, {float(tags[LATENCY_MS_TAG]):.1f} ms per image",
        f"  rebuild it with: {tags[COMMAND_TAG]}",
    ]


def _locate_evidence(registration: Registration) -> str:
    return f"  evidence: {registration.dossier.folder}/evidence.html of run {registration.promotion_run}"


def _find_former_champion(registration: Registration) -> RegisteredVersion | None:
    """The version of the chosen run that an earlier decision promoted, checked to load; None if there is none.

    A challenger keeps the tags of that earlier decision. A winner that this decision promotes gets new ones, so None.
    """
    run_id = registration.chosen_run.run_id
    for version in list_versions(registration.store):
        if version.run_id == run_id and version.tags.get(VERDICT_TAG) in ("first", "better"):
            if registration.dossier.judgement.promotes:
                return None
            load_version(registration.store, version)
            return version
    return None


def _register_checked_version(registration: Registration) -> RegisteredVersion:
    """Register the chosen run's model; loaded from the registry it must predict what was scored."""
    store, run = registration.store, registration.chosen_run
    with tempfile.TemporaryDirectory() as folder:
        data_dir = registration.choose_folder(run.data_source)
        confirmed = fetch_confirmed_model(store, run, data_dir, Path(folder, run.run_id))
        checked, images, predictions = confirmed.checked, confirmed.validation.images, confirmed.predictions
        tags = make_version_tags(registration, predictions)
        tags |= {SHA256_TAG: hash_file(checked.file), SIZE_BYTES_TAG: str(checked.file.stat().st_size)}
    description = registration.dossier.format_description(tags)
    version = register_version(store, run.run_id, checked.model_id, tags=tags, description=description)
    model = load_version(store, version)
    try:
        refuse_other_predictions(run.name, model, images, predictions.probabilities)
    except UnusableModel as error:
        raise PromotionRefused(str(error)) from None
    if LATENCY_MS_TAG not in version.tags:
        tags |= {LATENCY_MS_TAG: f"{_measure_latency(model, images[:1]):.3f}"}
    tags |= {WEIGHTS_SHA256_TAG: hash_weights(model)}
    version = register_version(store, run.run_id, checked.model_id, tags=tags, description=description)
    log_model_card(registration, version, confirmed)
    return version


def _log_dossier(registration: Registration, version_tags: Mapping[str, Any] | None) -> None:
    """Write the evidence to the promotion's run. version_tags: tags of the version, None if none is registered."""
    store, dossier, run_id = registration.store, registration.dossier, registration.promotion_run
    log_files(store, run_id, dossier.render_files(version_tags))
    verdict = dossier.judgement.verdict
    note = "\n".join([f"**Promotion**: {verdict}", "", *(f"- {reason}" for reason in dossier.judgement.reasons)])
    set_tags(store, run_id, {VERDICT_TAG: verdict, NOTE_TAG: note})


def _measure_latency(model: keras.Model, image: NDArray[np.uint8]) -> float:
    """Median milliseconds from one image to its label, in a compiled graph on this machine."""
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
