"""The test images, opened once for a set of confirmations: each opening is recorded, and a second one is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.data import DataConfig
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.confirmation import Confirmations
from fmnist_sweep.tracking import scoring
from fmnist_sweep.tracking.models import UnusableModel
from fmnist_sweep.tracking.names import TEST_OPENED_TAG, TEST_OPENING_TAG
from fmnist_sweep.tracking.predictions import read_predictions
from fmnist_sweep.tracking.runs import set_tags
from fmnist_sweep.tracking.trial_data import load_trial_splits
from fmnist_sweep.tracking.trials import StoredTrial

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store


@dataclass(frozen=True)
class Purpose:
    """The decision that the test images are opened for.

    decision: its id. ledger: file that records openings. open_again: whether the user asked for a second opening for
    the same decision.
    """

    decision: str
    ledger: Path
    open_again: bool


def score_confirmations(
    store: Store,
    pending_runs: Sequence[StoredTrial],
    opening_names: Iterable[str],
    data: DataConfig,
    purpose: Purpose,
    say: Say,
) -> None:
    """Score confirmations on the test images; for none, no test file is opened.

    names: of the openings there were for these finalists. A saved model must first predict what was scored on its
    validation images. An opening that was cut short before a figure was written is gone on with under its name.
    Errors: PromotionRefused, DataError.
    """
    if not pending_runs:
        return
    with tempfile.TemporaryDirectory() as folder:
        models = []
        for run in pending_runs:
            say(f"{run.name}: checking that its saved model predicts what was scored")
            models.append(fetch_checked_model(store, run, data.dir, Path(folder, run.run_id)))
        unfinished_openings = {run.tags[TEST_OPENING_TAG] for run in pending_runs if TEST_OPENING_TAG in run.tags}
        name = min(unfinished_openings) if unfinished_openings else _make_opening_name(purpose.decision, opening_names)
        for run in pending_runs:
            if TEST_OPENING_TAG not in run.tags:
                set_tags(store, run.run_id, {TEST_OPENING_TAG: name})
        sentence = f"opening {name} of the test images"
        sentence += ", gone on with" if unfinished_openings else ""
        sentence += ", forced" if purpose.open_again and not name.endswith("-1") else ""
        say(f"{sentence}: {len(pending_runs)} models are scored on them, once each")
        reason = f"{sentence}: runs {' '.join(run.run_id for run in pending_runs)}"
        scoring.score_on_test_images(
            store, models, data, reason=reason, ledger=purpose.ledger, say=lambda line: say(f"  {line}")
        )


Say = Callable[[str], None]


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


def _make_opening_name(decision: str, opening_names: Iterable[str]) -> str:
    """Name of the next opening for a decision: the decision's id and a number."""
    return f"{decision}-{1 + sum(name.startswith(f'{decision}-') for name in opening_names)}"


def fetch_checked_model(store: Store, run: StoredTrial, data_dir: str | None, folder: Path) -> scoring.CheckedModel:
    """Download a run's model into a new folder, and check that it predicts what was scored on its validation images.

    Raises PromotionRefused, DataError.
    """
    validation = load_trial_splits(store, run, data_dir).validation
    predictions = read_predictions(store, run.run_id)
    if predictions is None:
        raise PromotionRefused(f"{run.name} (run {run.run_id}) has no predictions.npz any more to check its model by.")
    try:
        return scoring.fetch_checked_model(store, run, run.name, validation, predictions, folder)
    except UnusableModel as error:
        raise PromotionRefused(str(error)) from None
