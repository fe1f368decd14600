"""The test images, opened once for a set of confirmations; every opening is recorded, and a second one refused."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.data import DataConfig, open_test
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.confirming import TEST_OPENING, Confirmations
from fmnist_sweep.tracking import models as logged_model
from fmnist_sweep.tracking import test_predictions as tested
from fmnist_sweep.tracking import trials as evidence
from fmnist_sweep.tracking.trials import StoredTrial
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
    again: bool


def score(
    store: Store, pending: Sequence[StoredTrial], names: Iterable[str], data: DataConfig, purpose: Purpose, say: Say
) -> None:
    """Score confirmations on the test images; for none, no test file is opened.

    names: of the openings there were for these finalists. A saved model must first predict what was scored on its
    validation images. An opening that was cut short before a figure was written is gone on with under its name.
    Errors: PromotionRefused, DataError.
    """
    if not pending:
        return
    with tempfile.TemporaryDirectory() as folder:
        files = [_checked_file(store, run, data, Path(folder, run.run_id), say) for run in pending]
        begun = {run.tags[TEST_OPENING] for run in pending if TEST_OPENING in run.tags}
        name = min(begun) if begun else _next(purpose.decision, names)
        for run in pending:
            if TEST_OPENING not in run.tags:
                store.client.set_tag(run.run_id, TEST_OPENING, name)
        words = f"opening {name} of the test images"
        words += ", gone on with" if begun else ""
        words += ", forced" if purpose.again and not name.endswith("-1") else ""
        say(f"{words}: {len(pending)} models are scored on them, once each")
        reason = f"{words}: runs {' '.join(run.run_id for run in pending)}"
        images = open_test(data, reason=reason, ledger=purpose.ledger)
        near = tested.find_training_twins(data, images)
        for run, file in zip(pending, files, strict=True):
            loss = str(evidence.parse_parameter(run.params["train.loss"]))
            accuracy = tested.log_test_predictions(store, run.run_id, trial.load_model(file), loss, images, near)
            say(f"  {run.name}: test accuracy {accuracy:.4f}")


Say = Callable[[str], None]


def pending(confirmed: Confirmations, more: bool) -> list[StoredTrial]:
    """The trainings to score; more: also those that were added after figures of the others were seen."""
    unscored = [run for run in confirmed.finished if tested.TEST_OPENED_TAG not in run.tags]
    if not confirmed.scored or more:
        return unscored
    return [run for run in unscored if TEST_OPENING in run.tags]


def names(confirmed: Sequence[Confirmations]) -> set[str]:
    """The openings of the test images in which figures of any of these were seen."""
    return set().union(*(each.openings for each in confirmed))


def refuse_more(confirmed: Confirmations, seeds: int | None) -> None:
    """PromotionRefused for more seeds of a configuration whose test figures were seen; seeds: as typed."""
    seen = ", ".join(sorted(confirmed.openings))
    way_out = "or say --open-again, which is recorded, counted and corrected for."
    if confirmed.elsewhere and not confirmed.scored:
        raise PromotionRefused(
            f"the test images were opened for {confirmed.configuration.name} before ({seen}), with other versions of "
            f"the libraries, in another folder or another experiment: go on there, {way_out}"
        )
    if seeds is not None and confirmed.scored and seeds > len(confirmed.opened):
        raise PromotionRefused(
            f"the test images were opened for {confirmed.configuration.name} before ({seen}): more seeds after their "
            f"figures were seen are a second try. Keep to the {len(confirmed.opened)} seeds there are, {way_out}"
        )


def _next(decision: str, before: Iterable[str]) -> str:
    """The name of one more opening for a decision."""
    return f"{decision}-{1 + sum(name.startswith(f'{decision}-') for name in before)}"


def _checked_file(store: Store, run: StoredTrial, data: DataConfig, folder: Path, say: Say) -> Path:
    """A run's model file in a folder of its own, once it predicts what was scored."""
    say(f"{run.name}: checking that its saved model predicts what was scored")
    return checked(store, run, data.dir, folder)[1]


def checked(store: Store, run: StoredTrial, data_dir: str | None, folder: Path) -> tuple[str, Path]:
    """The id and the file of a run's model, in a new folder, once it predicts what was scored on its validation images.

    Errors: PromotionRefused, DataError.
    """
    validation = evidence.load_trial_splits(store, run, data_dir).validation
    told = evidence.read_predictions(store, run.run_id)
    if told is None:
        raise PromotionRefused(f"{run.name} (run {run.run_id}) has no predictions.npz any more to check its model by.")
    folder.mkdir()
    try:
        model_id, file = logged_model.download_model(store, store.client.get_run(run.run_id), folder)
        logged_model.load_verified_model(run.name, file, validation.images, told.probabilities)
    except logged_model.UnusableModel as error:
        raise PromotionRefused(str(error)) from None
    return model_id, file
