"""Trained entrants become scored finalists: the test images are opened once for all trainings that need a score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.confirmation import Confirmations, read_confirmation_set
from fmnist_sweep.promotion.entrants import Entrant, describe_failure, make_jobs
from fmnist_sweep.promotion.opening import find_pending_runs, score_confirmations
from fmnist_sweep.tracking.queries import read_run
from fmnist_sweep.tracking.trials import StoredTrial, build_trials

if TYPE_CHECKING:
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.preparation import Promotion
    from fmnist_sweep.tracking.store import Store


@dataclass(frozen=True)
class GateInput:
    """Scored confirmations of the finalists and of the champion.

    run_id: run of the promotion. exclusions: for each finalist that is missing, a sentence that says why. trainings: of
    all entrants, in their order.
    """

    run_id: str
    finalists: tuple[Confirmations, ...]
    champion: Confirmations | None
    exclusions: tuple[str, ...]
    trainings: tuple[Confirmations, ...]


def score_entrants(promotion: Promotion, entrants: Sequence[Entrant], champion: Champion | None) -> GateInput:
    """Score all trainings of the entrants that have no score yet; the caller holds the lock of the test images.

    Errors: PromotionRefused, DataError.
    """
    configurations = [entrant.configuration for entrant in entrants]
    trained = read_confirmation_set(promotion.store, make_jobs(promotion, entrants), configurations, promotion.view)
    finalists, exclusions = _select_finalists(entrants, trained.confirmations)
    for exclusion in exclusions:
        promotion.view.say(exclusion, "yellow")
    if not finalists:
        raise PromotionRefused(
            "every finalist failed with at least one seed, so nothing is promoted: fmnist-sweep ui shows why, and "
            "--run promotes another trial."
        )
    trained_champion = next(
        (trainings for trainings, entrant in zip(trained.confirmations, entrants, strict=True) if entrant.is_champion),
        None,
    )
    pending_runs = _list_pending_runs(finalists, trained_champion, promotion.request.open_again)
    if promotion.request.open_again and not pending_runs:
        promotion.view.say("every training of these finalists has its score: nothing is opened again")
    score_confirmations(promotion, finalists, pending_runs)
    scored_runs = _read_runs(promotion.store, pending_runs)
    scored_finalists = tuple(confirmations.update_runs(scored_runs) for confirmations in finalists)
    if champion is None:
        return GateInput(trained.run_id, scored_finalists, None, tuple(exclusions), trained.confirmations)
    scored_champion = champion.confirmations if trained_champion is None else trained_champion.update_runs(scored_runs)
    if scored_champion is None or len(scored_champion.scored_runs) < 2:
        raise PromotionRefused(
            f"version {champion.number} (the champion) could not be trained again with two seeds or more, so nothing "
            "can be compared with it: fmnist-sweep rollback, or take the alias from it in the MLflow UI."
        )
    return GateInput(trained.run_id, scored_finalists, scored_champion, tuple(exclusions), trained.confirmations)


def _select_finalists(
    entrants: Sequence[Entrant], trainings: Sequence[Confirmations]
) -> tuple[list[Confirmations], list[str]]:
    """The finalists whose training succeeded with every seed, and a sentence about each of the others."""
    finalists, exclusions = [], []
    for entrant, confirmations in zip(entrants, trainings, strict=True):
        if entrant.is_champion:
            continue
        if entrant.drop:
            exclusions.append(entrant.drop)
            continue
        name = confirmations.configuration.name
        if len(confirmations.runs) < entrant.seeds:
            raise PromotionRefused(
                f"{name} was trained with {entrant.seeds} seeds, but the store has only {len(confirmations.runs)} of "
                "these runs: restore the others (mlflow runs restore); none may be left out."
            )
        if confirmations.failed_runs:
            exclusions.append(describe_failure(confirmations))
        else:
            finalists.append(confirmations)
    return finalists, exclusions


def _list_pending_runs(
    finalists: Sequence[Confirmations], champion: Confirmations | None, open_again: bool
) -> list[StoredTrial]:
    """Trainings that are to be scored now: those of the finalists, then those of the champion."""
    pending_runs = [run for confirmations in finalists for run in find_pending_runs(confirmations, open_again)]
    if champion is not None:
        pending_runs += find_pending_runs(champion, include_added=True)
    return pending_runs


def _read_runs(store: Store, runs: Iterable[StoredTrial]) -> dict[str, StoredTrial]:
    """These runs as they are in the store now, by id."""
    stored_runs = [read_run(store, run.run_id) for run in runs]
    return {run.run_id: run for run in build_trials([run for run in stored_runs if run is not None])}
