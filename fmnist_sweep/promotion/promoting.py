"""From a sweep's best trials to the registry: confirm, open the test images once, judge, register, move an alias."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.config import identity as studies
from fmnist_sweep.config.job import Job
from fmnist_sweep.data import DataConfig
from fmnist_sweep.errors import ExitCode, Locked, PromotionRefused
from fmnist_sweep.promotion import candidates, confirming, opening
from fmnist_sweep.promotion import champion as champions
from fmnist_sweep.promotion import configuration as configurations
from fmnist_sweep.promotion import registration as enrolment
from fmnist_sweep.promotion.candidates import Asked, Candidates
from fmnist_sweep.promotion.champion import Champion
from fmnist_sweep.promotion.configuration import Configuration
from fmnist_sweep.promotion.confirming import Confirmations
from fmnist_sweep.promotion.dossier import Evidence
from fmnist_sweep.promotion.entrants import Entrant, enter
from fmnist_sweep.promotion.gate import Rule, judgement_of
from fmnist_sweep.promotion.registration import Outcome
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.text import mask_credentials
from fmnist_sweep.tracking import aliases as moves
from fmnist_sweep.tracking import registry as versions
from fmnist_sweep.tracking import store as stores
from fmnist_sweep.tracking import test_predictions as tested
from fmnist_sweep.tracking import trials as evidence
from fmnist_sweep.tracking.trials import StoredTrial

if TYPE_CHECKING:
    from fmnist_sweep.config.schema import Config
    from fmnist_sweep.interrupts import Stop
    from fmnist_sweep.report.terminal import View
    from fmnist_sweep.tracking.store import Store

# A sweep that ended so has trained what it could.
_TRAINED = (ExitCode.DONE, ExitCode.SOME_FAILED, ExitCode.ALL_FAILED)
_NAMED = re.compile(r"opening (\S+) of the test images")  # a line of the ledger (opening.py)


@dataclass(frozen=True)
class Request:
    """What was typed. base: the composed config, for where trainings run and how to decide. again: open once more."""

    asked: Asked
    base: Config
    data_dir: str | None
    any_data: bool
    again: bool
    command: str


@dataclass(frozen=True)
class _Confirmed:
    """What is put before the gate. promotion: the run of the trainings. out: finalists that are not, and why."""

    promotion: str
    finalists: tuple[Confirmations, ...]
    champion: Confirmations | None
    out: tuple[str, ...]


class Promotion:
    """One promotion, from what was asked for to the registry; each step may be taken again and then changes nothing."""

    def __init__(self, store: Store, request: Request, view: View, stop: Stop) -> None:
        self._store, self._request, self._view, self._stop = store, request, view, stop
        self._rules = request.base.promote
        self._found: Candidates = candidates.find(store, request.asked, self._rules.finalists, request.any_data)
        # Trained on all images for as long, two of them may be the same.
        distinct: dict[str, Configuration] = {}
        for trial in self._found.finalists:
            configuration = self._configuration(trial)
            distinct.setdefault(configuration.key, configuration)
        self._all = list(distinct.values())
        # What this is a decision about, whoever is champion.
        self.decision = studies.short_hash(configurations.keys_of(self._all))

    def _configuration(self, trial: StoredTrial) -> Configuration:
        found = configurations.of_trial(self._store, trial)
        return found.on_all_images(int(trial.metrics["best_epoch"])) if self._rules.include_validation else found

    def run(self) -> Outcome:
        """Train, judge and register what is left to be. Errors: PromotionRefused, and all that a sweep raises."""
        self._announce()
        before = champions.current(self._store)
        self._refuse_rolled_back()
        settled = self._settled(before)
        if settled is not None:
            return settled
        finalists = [each for each in self._all if before is None or each.key != before.configuration.key]
        if before is not None and not finalists:
            why = "  this configuration is the champion's: there is nothing to compare it with."
            return Outcome(ExitCode.DONE, (_still(before), why), before.number)
        confirming.refuse_other_images(finalists, self._request.data_dir)
        entrants = enter(self._store, finalists, before, self._rules, self._request.again, self._jobs, self._view)
        self._say_entrants(entrants)
        code = run_sweep(self._jobs(entrants), self._request.command, self._view, self._stop)
        if code not in _TRAINED or self._request.base.plan:
            return Outcome(code)
        with versions.acquire_store_lock(self._store, "the test images"):
            confirmed = self._opened(entrants, before)
        with versions.acquire_store_lock(self._store):
            return self._decide(confirmed, before)

    def _announce(self) -> None:
        for name in self._found.passed_over:
            self._view.say(f"passed over, without a finished trial on Fashion-MNIST: {name}")
        tied, chosen = self._found.tied, len(self._found.finalists)
        if self._found.rivals > 1:
            others = "" if tied == chosen else f", of which the best {chosen} are taken (promote.finalists)"
            self._view.say(
                f"{self._found.where}: {self._found.rivals} finished trials; {tied} of their configurations cannot be "
                f"told apart from the best, it included{others}"
            )

    def _say_entrants(self, entrants: Sequence[Entrant]) -> None:
        names = ", ".join(f"{entrant.configuration.name} ({entrant.seeds} seeds)" for entrant in entrants)
        self._view.say(f"trained again with fresh seeds: {names}")

    def _settled(self, before: Champion | None) -> Outcome | None:
        """What was decided about these finalists by the same rule before, where it still stands."""
        points = versions.map_aliases(versions.get_registered_model(self._store))
        wanted, against = self._rules.seeds or 0, "nobody" if before is None else before.number
        for version in versions.list_versions(self._store):
            number, tags = str(version.version), version.tags
            same = (tags.get(enrolment.DECISION), tags.get(enrolment.RULE)) == (self.decision, self._rule)
            if self._request.again or not same or wanted > int(tags.get(enrolment.SEEDS, "0")):
                continue
            if points.get(versions.CHAMPION) == number and before is not None:
                return Outcome(ExitCode.DONE, (_still(before), f"  {tags[enrolment.WHY]}"), number)
            if points.get(versions.CHALLENGER) == number and tags.get(enrolment.AGAINST) == against:
                still = f"models:/{versions.MODEL_NAME}@{versions.CHALLENGER} is still version {number}"
                return Outcome(ExitCode.NOT_BETTER, (still, f"  {tags[enrolment.WHY]}"), number)
        return None

    @property
    def _rule(self) -> str:
        """What the gate goes by, as a version's tag has it."""
        return json.dumps(self._rules.model_dump(include={"min_gain", "class_drop", "level"}), sort_keys=True)

    def _refuse_rolled_back(self) -> None:
        """PromotionRefused where somebody went back from one of these configurations, and promoted nothing since."""
        left: dict[str, str] = {}
        for move in reversed([move for move in moves.list_moves(self._store) if move.alias == versions.CHAMPION]):
            if move.kind != "rolled back":
                break
            left[str(move.previous)] = move.time[:16]
        mine = {each.key for each in self._all}
        for version in versions.list_versions(self._store) if left and not self._request.again else ():
            number = str(version.version)
            if number in left and version.tags.get(enrolment.CONFIG_HASH) in mine:
                raise PromotionRefused(
                    f"version {number}, which is of one of these configurations, was rolled back on {left[number]}: "
                    f"fmnist-sweep rollback --to {number} makes it champion again."
                )

    def _jobs(self, entrants: Sequence[Entrant]) -> list[Job]:
        base = _in_store(self._request.base, self._store)
        return [
            each.configuration.job(base, each.seeds, self._request.data_dir, self._request.command) for each in entrants
        ]

    # Opening the test images, and judging

    def _opened(self, entrants: Sequence[Entrant], before: Champion | None) -> _Confirmed:
        """The confirmations with their test predictions."""
        trained = self._gathered(entrants)
        sound, out = self._sound(entrants, trained.of)
        pending = [run for each in sound for run in opening.pending(each, self._request.again)]
        beside = next((of for of, each in zip(trained.of, entrants, strict=True) if each.is_champion), None)
        if beside is not None:
            pending += opening.pending(beside, more=True)
        if self._request.again and not pending:
            self._view.say("every training of these finalists was scored before: there is nothing to open again")
        purpose = opening.Purpose(self.decision, self._ledger, self._request.again)
        names = opening.names(sound)
        opening.score(self._store, pending, names, self._data(sound), purpose, self._view.say)
        again = {each.journal: each for each in self._gathered(entrants).of}
        theirs = again[beside.journal] if beside is not None else None
        if before is not None and beside is None:
            theirs = before.confirmations
        if before is not None and (theirs is None or len(theirs.scored) < 2):
            raise PromotionRefused(
                f"version {before.number}, the champion, could not be trained again with two seeds or more, so that "
                "nothing can be compared with it: fmnist-sweep rollback, or take the alias from it in the MLflow UI."
            )
        return _Confirmed(trained.run_id, tuple(again[each.journal] for each in sound), theirs, tuple(out))

    def _gathered(self, entrants: Sequence[Entrant]) -> confirming.Set:
        configurations_of = [entrant.configuration for entrant in entrants]
        return confirming.gathered(self._store, self._jobs(entrants), configurations_of, self._view)

    def _sound(
        self, entrants: Sequence[Entrant], trained: Sequence[Confirmations]
    ) -> tuple[list[Confirmations], list[str]]:
        """The finalists that trained to the end with every seed, and what is to be said of the others."""
        sound, out = [], []
        for entrant, each in zip(entrants, trained, strict=True):
            if entrant.is_champion:
                continue
            if len(each.runs) < entrant.seeds:
                raise PromotionRefused(
                    f"{each.configuration.name} was trained with {entrant.seeds} seeds, and the store has only "
                    f"{len(each.runs)} of these runs: restore the others (mlflow runs restore); none may be left out."
                )
            if each.failed:
                seeds = ", ".join(run.params["seed"] for run in each.failed)
                out.append(f"{each.configuration.name} is out: its training failed with seed {seeds}.")
                self._view.say(out[-1], "yellow")
            else:
                sound.append(each)
        if not sound:
            raise PromotionRefused(
                "no finalist could be trained again with every seed: nothing is promoted; fmnist-sweep ui shows why, "
                "and --run promotes another trial."
            )
        return sound, out

    def _decide(self, confirmed: _Confirmed, before: Champion | None) -> Outcome:
        """Judge and register; the caller holds the registry."""
        champion = champions.current(self._store)
        if (champion.number if champion else None) != (before.number if before else None):
            settled = self._settled(champion)  # by the same command, typed twice
            if settled is not None:
                return settled
            raise Locked(
                "the champion was changed by another command meanwhile: type the command again; what was trained "
                "and scored is kept."
            )
        rule = Rule(self._rules.min_gain, self._rules.class_drop, self._rules.level)
        judgement = judgement_of(self._store, confirmed.finalists, champion, confirmed.champion, rule)
        found = Evidence(
            decision=self.decision,
            command=self._request.command,
            candidates=self._found,
            finalists=confirmed.finalists,
            champion=champion,
            champion_confirmed=confirmed.champion,
            judgement=judgement,
            openings=tuple(sorted(opening.names(confirmed.finalists))),
            rule=self._rule,
            remarks=(*confirmed.out, *self._remarks()),
        )
        return enrolment.enrol(self._store, found, confirmed.promotion, self._request.data_dir, self._view.say)

    def _data(self, confirmed: Sequence[Confirmations]) -> DataConfig:
        return evidence.build_data_config(
            confirmed[0].configuration.data, self._request.data_dir, confirmed[0].configuration.name
        )

    @property
    def _ledger(self) -> Path:
        return stores.locate_state_folder(self._store.uri) / stores.LEDGER_FILE

    def _remarks(self) -> list[str]:
        """What a reader of the evidence should know beside."""
        lines = self._ledger.read_text(encoding="utf-8").splitlines() if self._ledger.is_file() else []
        # One that was cut short and gone on with has several lines, and is one.
        found = [(_NAMED.search(line), number) for number, line in enumerate(lines)]
        openings = {name[1] if name else number for name, number in found}
        said = [f"Openings of the test images in {self._ledger.name}, these included: {len(openings)}."]
        known = [trial.name for trial in self._found.finalists if tested.TEST_OPENED_TAG in trial.tags]
        return said + [f"The test accuracy of {name} itself was known before it was chosen." for name in known]


def _still(champion: Champion) -> str:
    return f"models:/{versions.MODEL_NAME}@{versions.CHAMPION} is still version {champion.number}"


def _in_store(base: Config, store: Store) -> Config:
    """The base config with the store that was named; all models are kept, as each is scored."""
    where = {"uri": store.uri, "experiment": store.experiment_name, "keep_models": "all"}
    return replace(base, tracking=base.tracking.model_copy(update=where))


def typed(arguments: Sequence[str]) -> str:
    """A command of fmnist-sweep as typed, without the password of an address."""
    return mask_credentials(shlex.join(["fmnist-sweep", *arguments]))
