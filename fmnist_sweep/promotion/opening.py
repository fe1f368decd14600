"""The test images, opened once for a set of confirmations: each opening is recorded, and a second one is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.account import enter_ledger
from fmnist_sweep.promotion.confirmation import Confirmations
from fmnist_sweep.promotion.image_sources import choose_data_dir
from fmnist_sweep.tracking import scoring
from fmnist_sweep.tracking.models import UnusableModel
from fmnist_sweep.tracking.names import TEST_OPENED_TAG, TEST_OPENING_TAG
from fmnist_sweep.tracking.prediction_files import read_intact_predictions
from fmnist_sweep.tracking.runs import set_tags
from fmnist_sweep.tracking.scoring import CheckedModel, score_on_test_images
from fmnist_sweep.tracking.trial_data import build_data_config, load_trial_splits
from fmnist_sweep.tracking.trials import StoredTrial

if TYPE_CHECKING:
    from fmnist_sweep.data import Split
    from fmnist_sweep.promotion.preparation import Promotion
    from fmnist_sweep.tracking.prediction_files import Predictions
    from fmnist_sweep.tracking.store import Store


def score_confirmations(
    promotion: Promotion, finalists: Sequence[Confirmations], pending_runs: Sequence[StoredTrial]
) -> None:
    """Score these runs on the test images. Without runs, no test file is opened.

    finalists: all finalists of the promotion, whose earlier openings count. Before the opening, each saved model must
    predict what was scored on its validation images. An opening that was interrupted before any score was written is
    continued under its name. Errors: PromotionRefused, DataError.
    """
    if not pending_runs:
        return
    store, say = promotion.store, promotion.view.say
    configuration = finalists[0].configuration
    data_dir = choose_data_dir(promotion, configuration.data_source)
    data = build_data_config(configuration.data, data_dir, configuration.name)
    with tempfile.TemporaryDirectory() as folder:
        models = []
        for run in pending_runs:
            say(f"{run.name}: checking that its saved model predicts what was scored")
            data_dir = choose_data_dir(promotion, run.data_source)
            models.append(fetch_confirmed_model(store, run, data_dir, Path(folder, run.run_id)).checked)
        opening = _describe_opening(promotion, finalists, pending_runs)
        for run in pending_runs:
            if TEST_OPENING_TAG not in run.tags:
                set_tags(store, run.run_id, {TEST_OPENING_TAG: opening.name})
        subject = (
            "1 model is scored on them, once"
            if len(models) == 1
            else f"{len(models)} models are scored on them, once each"
        )
        say(f"{opening.sentence}: {subject}")
        reason = f"{opening.sentence}: runs {' '.join(run.run_id for run in pending_runs)}"
        score_on_test_images(
            store,
            models,
            data,
            reason=reason,
            ledger=promotion.ledger,
            say=lambda line: say(f"  {line}"),
            on_opened=lambda: enter_ledger(store, promotion.ledger),
        )


@dataclass(frozen=True)
class _Opening:
    """An opening of the test images. sentence: its name in the ledger and on the terminal, in words."""

    name: str
    sentence: str


def _describe_opening(
    promotion: Promotion, finalists: Sequence[Confirmations], pending_runs: Sequence[StoredTrial]
) -> _Opening:
    """The opening to score these runs in: an interrupted one, or the next of the decision."""
    interrupted_names = {run.tags[TEST_OPENING_TAG] for run in pending_runs if TEST_OPENING_TAG in run.tags}
    decision = promotion.decision
    number = 1 + sum(name.startswith(f"{decision}-") for name in collect_opening_names(finalists))
    name = min(interrupted_names) if interrupted_names else f"{decision}-{number}"
    sentence = f"opening {name} of the test images"  # as account.OPENING_NAME expects it
    sentence += ", continued" if interrupted_names else ""
    sentence += ", forced" if promotion.request.open_again and not name.endswith("-1") else ""
    return _Opening(name, sentence)


def find_pending_runs(confirmations: Confirmations, include_added: bool) -> list[StoredTrial]:
    """Trainings that need a score. include_added: also those that were added after scores of others were seen."""
    unscored_runs = [run for run in confirmations.finished_runs if TEST_OPENED_TAG not in run.tags]
    if not confirmations.scored_runs or include_added:
        return unscored_runs
    return [run for run in unscored_runs if TEST_OPENING_TAG in run.tags]


def collect_opening_names(finalists: Sequence[Confirmations]) -> set[str]:
    """Names of the openings of the test images in which any of these finalists was scored."""
    return set().union(*(confirmations.openings for confirmations in finalists))


def refuse_more_seeds(confirmations: Confirmations, seeds: int | None) -> None:
    """Raise PromotionRefused for more seeds of a configuration whose test scores were seen. seeds: as typed."""
    opening_names = ", ".join(sorted(confirmations.openings))
    sentence = f"the test images were opened for {confirmations.configuration.name} before ({opening_names})"
    advice = "or say --open-again, which is recorded, counted and corrected for."
    if confirmations.other_runs and not confirmations.scored_runs:
        raise PromotionRefused(
            f"{sentence}, with other versions of the libraries, in another folder or another experiment: continue "
            f"there, {advice}"
        )
    if seeds is not None and confirmations.scored_runs and seeds > len(confirmations.opened_runs):
        raise PromotionRefused(
            f"{sentence}: more seeds after their scores were seen are a second try. Keep to the "
            f"{len(confirmations.opened_runs)} seeds there are, {advice}"
        )


@dataclass(frozen=True)
class ConfirmedModel:
    """A run's saved model, and the validation images and predictions that it was checked by.

    train_count: how many images it was trained on.
    """

    checked: CheckedModel
    validation: Split
    predictions: Predictions
    train_count: int


def fetch_confirmed_model(store: Store, run: StoredTrial, data_dir: str | None, folder: Path) -> ConfirmedModel:
    """Download a run's model into a new folder, and check that it predicts what was scored on its validation images.

    Raises PromotionRefused, DataError.
    """
    splits = load_trial_splits(store, run, data_dir)
    validation = splits.validation
    predictions = read_intact_predictions(store, run.run_id)
    if predictions is None:
        raise PromotionRefused(
            f"{run.name} (run {run.run_id}) has no readable predictions.npz any more to check its model by."
        )
    try:
        checked = scoring.fetch_checked_model(store, run, run.name, validation, predictions, folder)
    except UnusableModel as error:
        raise PromotionRefused(str(error)) from None
    return ConfirmedModel(checked, validation, predictions, len(splits.train.labels))
