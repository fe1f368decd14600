"""The test images, opened once for a set of confirmations; every opening is recorded, and a second one refused."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.data import DataConfig, open_test
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.confirmation import Confirmations
from fmnist_sweep.tracking.models import UnusableModel, download_model, load_verified_model
from fmnist_sweep.tracking.names import TEST_OPENED_TAG, TEST_OPENING_TAG
from fmnist_sweep.tracking.runs import set_tags
from fmnist_sweep.tracking.test_predictions import find_training_twins, log_test_predictions
from fmnist_sweep.tracking.trials import StoredTrial, load_trial_splits, parse_parameter, read_predictions
from fmnist_sweep.training import trial

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store


@dataclass(frozen=True)
class Purpose:
    """What the test images are opened for. decision: its id. ledger: where openings are recorded.

    again: whether the user asked for a second opening of the same decision.
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
        files = [_fetch_checked_file(store, run, data, Path(folder, run.run_id), say) for run in pending_runs]
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
        images = open_test(data, reason=reason, ledger=purpose.ledger)
        twins = find_training_twins(data, images)
        for run, file in zip(pending_runs, files, strict=True):
            loss = str(parse_parameter(run.params["train.loss"]))
            accuracy = log_test_predictions(store, run.run_id, trial.load_model(file), loss, images, twins)
            say(f"  {run.name}: test accuracy {accuracy:.4f}")


Say = Callable[[str], None]


def find_pending_runs(confirmations: Confirmations, include_added: bool) -> list[StoredTrial]:
    """The trainings to score; more: also those that were added after figures of the others were seen."""
    unscored_runs = [run for run in confirmations.finished_runs if TEST_OPENED_TAG not in run.tags]
    if not confirmations.scored_runs or include_added:
        return unscored_runs
    return [run for run in unscored_runs if TEST_OPENING_TAG in run.tags]


def collect_opening_names(finalists: Sequence[Confirmations]) -> set[str]:
    """The openings of the test images in which figures of any of these were seen."""
    return set().union(*(confirmations.openings for confirmations in finalists))


def refuse_more_seeds(confirmations: Confirmations, seeds: int | None) -> None:
    """PromotionRefused for more seeds of a configuration whose test figures were seen; seeds: as typed."""
    opening_names = ", ".join(sorted(confirmations.openings))
    advice = "or say --open-again, which is recorded, counted and corrected for."
    if confirmations.other_runs and not confirmations.scored_runs:
        raise PromotionRefused(
            f"the test images were opened for {confirmations.configuration.name} before ({opening_names}), with other versions of "
            f"the libraries, in another folder or another experiment: go on there, {advice}"
        )
    if seeds is not None and confirmations.scored_runs and seeds > len(confirmations.opened_runs):
        raise PromotionRefused(
            f"the test images were opened for {confirmations.configuration.name} before ({opening_names}): more seeds after their "
            f"figures were seen are a second try. Keep to the {len(confirmations.opened_runs)} seeds there are, {advice}"
        )


def _make_opening_name(decision: str, opening_names: Iterable[str]) -> str:
    """The name of one more opening for a decision."""
    return f"{decision}-{1 + sum(name.startswith(f'{decision}-') for name in opening_names)}"


def _fetch_checked_file(store: Store, run: StoredTrial, data: DataConfig, folder: Path, say: Say) -> Path:
    """A run's model file in a folder of its own, once it predicts what was scored."""
    say(f"{run.name}: checking that its saved model predicts what was scored")
    return fetch_checked_model(store, run, data.dir, folder)[1]


def fetch_checked_model(store: Store, run: StoredTrial, data_dir: str | None, folder: Path) -> tuple[str, Path]:
    """The id and the file of a run's model, in a new folder, once it predicts what was scored on its validation images.

    Errors: PromotionRefused, DataError.
    """
    validation = load_trial_splits(store, run, data_dir).validation
    predictions = read_predictions(store, run.run_id)
    if predictions is None:
        raise PromotionRefused(f"{run.name} (run {run.run_id}) has no predictions.npz any more to check its model by.")
    folder.mkdir()
    try:
        model_id, file = download_model(store, run.run_id, folder)
        load_verified_model(run.name, file, validation.images, predictions.probabilities)
    except UnusableModel as error:
        raise PromotionRefused(str(error)) from None
    return model_id, file
