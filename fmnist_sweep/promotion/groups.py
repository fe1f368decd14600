"""Finalists trained in groups of seeds: after each group a look at the validation images, which only ever stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fmnist_sweep.errors import ExitCode, PromotionRefused
from fmnist_sweep.promotion.confirmation import Confirmations, read_confirmation_set
from fmnist_sweep.promotion.entrants import Entrant, EntrantPlan, describe_failure, make_jobs
from fmnist_sweep.promotion.look_journal import LookJournal, RecordedLook, hold_look_journal
from fmnist_sweep.promotion.look_text import describe_drop, describe_look
from fmnist_sweep.promotion.looks import Look, LookRule, take_look
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.store import locate_state_folder

if TYPE_CHECKING:
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.preparation import Promotion

# Exit codes of a sweep that trained everything it could.
_TRAINED_CODES = (ExitCode.DONE, ExitCode.SOME_FAILED, ExitCode.ALL_FAILED)


@dataclass(frozen=True)
class Training:
    """How the training of a promotion ended.

    code: of the last sweep. is_complete: whether everything is trained that is to be. entrants: with the seeds that
    they have now. looks: those that were taken. rule: of the looks; None for the fixed design.
    """

    code: ExitCode
    is_complete: bool
    entrants: tuple[Entrant, ...]
    looks: tuple[RecordedLook, ...] = ()
    rule: LookRule | None = None

    @property
    def most_seeds(self) -> int | None:
        """Seeds of a finalist that no look stops; None for the fixed design."""
        return None if self.rule is None else self.rule.most

    @property
    def has_finalists(self) -> bool:
        """Whether a finalist is left to be scored."""
        return any(not entrant.is_champion and not entrant.drop for entrant in self.entrants)


def train_entrants(promotion: Promotion, plan: EntrantPlan, champion: Champion | None) -> Training:
    """Train the entrants by their plan, or say what that would be. Errors: everything that a sweep raises."""
    if plan.groups is None or promotion.request.base.plan:
        code = _run_sweep(promotion, plan.entrants)
        is_complete = code in _TRAINED_CODES and not promotion.request.base.plan
        return Training(code, is_complete, tuple(plan.entrants))
    state, groups = locate_state_folder(promotion.store.uri), plan.groups
    with hold_look_journal(state, groups.key, groups.rule, groups.studies) as journal:
        return _train_in_groups(promotion, plan.entrants, champion, journal)


def _run_sweep(promotion: Promotion, entrants: Sequence[Entrant]) -> ExitCode:
    return run_sweep(make_jobs(promotion, entrants), promotion.request.command, promotion.view, promotion.stop)


def _train_in_groups(
    promotion: Promotion, entrants: Sequence[Entrant], champion: Champion | None, journal: LookJournal
) -> Training:
    """Train group after group. A look that was taken before is not taken again."""
    rule, looks = journal.record.rule, journal.record.looks
    code = ExitCode.DONE
    for seeds in (*rule.looks, rule.most):
        # All of them stay in the sweep, so that it stays the same one: those that were dropped have nothing to train.
        entrants = [
            entrant if entrant.drop else replace(entrant, seeds=max(seeds, entrant.least_seeds)) for entrant in entrants
        ]
        if seeds not in looks:
            code = _run_sweep(promotion, entrants)
            if code not in _TRAINED_CODES:
                return Training(code, False, tuple(entrants), tuple(looks.values()), rule)
        if seeds == rule.most:
            break
        if seeds not in looks:
            journal.record_look(_take_look(promotion, entrants, champion, journal, seeds))
        recorded = looks[seeds]
        for line in describe_look(recorded):
            promotion.view.say(line)
        entrants = _drop(entrants, recorded)
        if recorded.look.ends_training:
            break
    return Training(code, True, tuple(entrants), tuple(looks.values()), rule)


def _take_look(
    promotion: Promotion, entrants: Sequence[Entrant], champion: Champion | None, journal: LookJournal, seeds: int
) -> RecordedLook:
    configurations = [entrant.configuration for entrant in entrants]
    trained = read_confirmation_set(promotion.store, make_jobs(promotion, entrants), configurations, promotion.view)
    of_champion: Sequence[float] = ()
    if champion is not None and champion.confirmations is not None:
        of_champion = _list_accuracies(champion.confirmations)
    looked: list[tuple[Entrant, list[float]]] = []
    failed: dict[str, str] = {}
    for entrant, confirmations in zip(entrants, trained.confirmations, strict=True):
        accuracies = _list_accuracies(confirmations)
        if entrant.is_champion:
            of_champion = accuracies[: entrant.seeds]
        elif entrant.drop:
            continue
        elif confirmations.failed_runs:
            failed[entrant.configuration.key] = describe_failure(confirmations)
        elif len(accuracies) < seeds:
            raise PromotionRefused(
                f"{entrant.configuration.name} was trained with {seeds} seeds, but the store has only "
                f"{len(accuracies)} of these runs: restore the others (mlflow runs restore); none may be left out."
            )
        else:
            looked.append((entrant, accuracies[:seeds]))
    if len(of_champion) < 2:
        raise PromotionRefused(
            "the champion could not be trained again with two seeds or more, so nothing can be compared with it: "
            "fmnist-sweep rollback, or take the alias from it in the MLflow UI."
        )
    look = Look(seeds, (), False)
    if looked:
        look = take_look(journal.record.rule, [accuracies for _, accuracies in looked], of_champion)
    return RecordedLook(
        look,
        tuple(entrant.configuration.name for entrant, _ in looked),
        tuple(entrant.configuration.key for entrant, _ in looked),
        failed,
    )


def _list_accuracies(confirmations: Confirmations) -> list[float]:
    """Validation accuracies of finished trainings, in the order of their seeds."""
    return [run.metrics["best_val_accuracy"] for run in confirmations.finished_runs]


def _drop(entrants: Sequence[Entrant], recorded: RecordedLook) -> list[Entrant]:
    """The entrants, of which a look dropped some."""
    drops = {
        key: describe_drop(name, outlook, recorded.look.seeds)
        for name, key, outlook in zip(recorded.names, recorded.keys, recorded.look.outlooks, strict=True)
        if outlook.fate != "goes on"
    }
    drops |= recorded.failed
    return [
        entrant
        if entrant.is_champion or entrant.drop
        else replace(entrant, drop=drops.get(entrant.configuration.key, ""))
        for entrant in entrants
    ]
