"""The test images, opened once for a set of confirmations; every opening is recorded, and a second one refused."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep import evidence, logged_model, tested, trial
from fmnist_sweep.data import DataConfig, open_test
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.evidence import StoredTrial
from fmnist_sweep.promotion.confirming import TEST_OPENING, Confirmations

if TYPE_CHECKING:
    from fmnist_sweep.store import Store


@dataclass(frozen=True)
class Request:
    """Why the test images are to be opened. decision: its id. ledger: where openings are recorded, beside the store.

    again: whether the user asked for a second opening of the same decision.
    """

    decision: str
    command: str
    ledger: Path
    again: bool


def score(
    store: Store,
    confirmed: Sequence[Confirmations],
    data: DataConfig,
    request: Request,
    say: Callable[[str], None],
) -> None:
    """Score every confirmation that has not seen the test images; where all have, no test file is opened.

    A saved model must first predict what was scored on its validation images. An opening that was cut short is gone on
    with: nobody has seen a figure of it. Errors: PromotionRefused, DataError.
    """
    pending = [run for each in confirmed for run in each.finished if tested.TAG not in run.tags]
    if not pending:
        return
    new = [run for run in pending if TEST_OPENING not in run.tags]
    _refuse_second(confirmed, new, request.again)
    with tempfile.TemporaryDirectory() as folder:
        files = [_checked_file(store, run, data, Path(folder, run.run_id), say) for run in pending]
        opening = _named(confirmed, new, pending, request)
        for run in new:
            store.client.set_tag(run.run_id, TEST_OPENING, opening)
        words = f"opening {opening} of the test images{'' if new else ', gone on with'}"
        words += ", forced" if request.again else ""
        say(f"{words}: {len(pending)} models are scored on them, once each")
        named = " ".join(run.run_id for run in pending)
        images = open_test(data, reason=f"{words}: runs {named}", ledger=request.ledger)
        near = tested.seen(data, images)
        for run, file in zip(pending, files, strict=True):
            loss = str(evidence.parsed(run.params["train.loss"]))
            accuracy = tested.score(store, run.run_id, trial.load_model(file), loss, images, near)
            say(f"  {run.name}: test accuracy {accuracy:.4f}")


def openings(confirmed: Sequence[Confirmations]) -> set[str]:
    """The openings of the test images that any of these were scored by."""
    return set().union(*(each.openings for each in confirmed))


def refuse_more(confirmed: Confirmations) -> None:
    """PromotionRefused for more seeds of a configuration whose test figures were seen."""
    seen = confirmed.openings
    if seen:
        raise PromotionRefused(
            f"the test images were opened for {confirmed.configuration.name} before ({', '.join(sorted(seen))}): more "
            "seeds after their figures were seen are a second try. Keep to the seeds there are, or say "
            "--open-again, which is recorded, counted and corrected for."
        )


def _refuse_second(confirmed: Sequence[Confirmations], new: Sequence[StoredTrial], again: bool) -> None:
    ids = {run.run_id for run in new}
    for each in confirmed:
        if not again and any(run.run_id in ids for run in each.runs):
            refuse_more(each)


def _named(
    confirmed: Sequence[Confirmations], new: Sequence[StoredTrial], pending: Sequence[StoredTrial], request: Request
) -> str:
    if not new:
        return pending[0].tags[TEST_OPENING]
    before = {opening for opening in openings(confirmed) if opening.startswith(f"{request.decision}-")}
    return f"{request.decision}-{1 + len(before)}"


def _checked_file(store: Store, run: StoredTrial, data: DataConfig, folder: Path, say: Callable[[str], None]) -> Path:
    """A run's model file in a folder of its own, once it predicts what was scored."""
    say(f"{run.name}: checking that its saved model predicts what was scored")
    validation = evidence.splits(store, run, data.dir).validation
    told = evidence.predictions(store, run.run_id)
    if told is None:
        raise PromotionRefused(f"{run.name} (run {run.run_id}) has no predictions.npz any more: delete that run.")
    folder.mkdir()
    try:
        _, file = logged_model.fetch(store, store.client.get_run(run.run_id), folder)
        logged_model.load_checked(run.name, file, validation.images, told.probabilities)
    except logged_model.Unusable as error:
        raise PromotionRefused(str(error)) from None
    return file
