"""From a sweep's best trials to the registry: confirm, open the test images once, judge, register, move an alias."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fmnist_sweep import comparison, evidence, moves, tested, versions
from fmnist_sweep import store as stores
from fmnist_sweep import study as studies
from fmnist_sweep.data import LABELS, DataConfig
from fmnist_sweep.errors import ExitCode, PromotionRefused
from fmnist_sweep.evidence import StoredTrial
from fmnist_sweep.promotion import candidates, confirming, enrolment, opening
from fmnist_sweep.promotion import champion as champions
from fmnist_sweep.promotion import configuration as configurations
from fmnist_sweep.promotion.candidates import Asked, Candidates
from fmnist_sweep.promotion.champion import Champion
from fmnist_sweep.promotion.configuration import Configuration
from fmnist_sweep.promotion.confirming import Begun, Confirmations
from fmnist_sweep.promotion.evidence import Evidence
from fmnist_sweep.promotion.gate import Confirmed, Judgement, Rule, judge
from fmnist_sweep.promotion.outcome import Outcome
from fmnist_sweep.sweep import run_sweep

if TYPE_CHECKING:
    from fmnist_sweep.config import Config
    from fmnist_sweep.interrupts import Stop
    from fmnist_sweep.store import Store
    from fmnist_sweep.terminal import View

_TEST_IMAGES = 10_000


@dataclass(frozen=True)
class Request:
    """What was typed. base: the composed config, for where trainings run and how to decide. again: open once more."""

    asked: Asked
    base: Config
    data_dir: str | None
    any_data: bool
    again: bool
    command: str


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
        settled = self._settled(before)
        if settled is not None:
            return settled
        finalists = [each for each in self._all if before is None or each.key != before.configuration.key]
        if before is not None and not finalists:
            return Outcome(ExitCode.DONE, (_still(before), "  this configuration is the champion's."), before.number)
        code = self._confirm(finalists, before)
        if code is not ExitCode.DONE and code is not ExitCode.SOME_FAILED:
            return Outcome(code)
        if self._request.base.plan:
            return Outcome(ExitCode.DONE)
        with versions.locked(self._store):
            return self._decide(finalists, before)

    def _announce(self) -> None:
        for name in self._found.passed_over:
            self._view.say(f"passed over, without a finished trial on Fashion-MNIST: {name}")
        tied, chosen = self._found.tied, len(self._found.finalists)
        if self._found.rivals > 1:
            others = "" if tied == chosen else f", of which the best {chosen} are taken (promote.finalists)"
            self._view.say(
                f"{self._found.rivals} finished trials; {tied} of their configurations cannot be told apart from the "
                f"best, it included{others}"
            )

    def _settled(self, before: Champion | None) -> Outcome | None:
        """What was decided about these finalists before, where it still stands."""
        self._refuse_rolled_back()
        points = versions.aliases(versions.registered(self._store))
        wanted = self._rules.seeds or 0
        for version in versions.every(self._store):
            number, tags = str(version.version), version.tags
            if self._request.again or tags.get(enrolment.DECISION) != self.decision:
                continue
            if wanted > int(tags.get(enrolment.SEEDS, "0")):
                continue
            if points.get(versions.CHAMPION) == number and before is not None:
                return Outcome(ExitCode.DONE, (_still(before), f"  {tags[enrolment.WHY]}"), number)
            against = None if before is None else before.number
            if points.get(versions.CHALLENGER) == number and tags.get(enrolment.AGAINST) == (against or "nobody"):
                still = f"models:/{versions.MODEL_NAME}@{versions.CHALLENGER} is still version {number}"
                return Outcome(ExitCode.NOT_BETTER, (still, f"  {tags[enrolment.WHY]}"), number)
        return None

    def _refuse_rolled_back(self) -> None:
        """PromotionRefused where somebody took this decision back and nothing was promoted since."""
        told = [move for move in moves.every(self._store) if move.alias == versions.CHAMPION and move.completed]
        if not told or told[-1].kind != "rolled back" or told[-1].previous is None or self._request.again:
            return
        left = next((each for each in versions.every(self._store) if str(each.version) == told[-1].previous), None)
        if left is not None and left.tags.get(enrolment.DECISION) == self.decision:
            raise PromotionRefused(
                f"version {left.version}, which came of these finalists, was rolled back on {told[-1].time[:16]}: "
                f"fmnist-sweep rollback --to {left.version} makes it champion again."
            )

    # Training with fresh seeds

    def _confirm(self, finalists: Sequence[Configuration], before: Champion | None) -> ExitCode:
        confirming.refuse_other_images(finalists, self._request.data_dir)
        to_train = self._to_train(finalists, before)
        seeds = self._rules.seeds or self._needed(finalists, before).seeds
        begun = confirming.begun_before(self._jobs(to_train, [seeds] * len(to_train)), self._view)
        # Seeds once planned stay: with another number after their figures were seen, luck would be looked for.
        counts = [max(each.seeds, seeds if self._rules.seeds or not each.seeds else 0) for each in begun]
        self._refuse_more(to_train, begun, counts)
        names = ", ".join(f"{each.name} ({count} seeds)" for each, count in zip(to_train, counts, strict=True))
        self._view.say(f"trained again with fresh seeds: {names}")
        self._jobs_run = self._jobs(to_train, counts)
        self._trained = to_train
        return run_sweep(self._jobs_run, self._request.command, self._view, self._stop)

    def _refuse_more(self, of: Sequence[Configuration], begun: Sequence[Begun], counts: Sequence[int]) -> None:
        """Before anything is trained, for whose test figures were seen already."""
        for configuration, each, count in zip(of, begun, counts, strict=True):
            if each.journal is not None and count > each.seeds and not self._request.again:
                opening.refuse_more(confirming.of_journal(self._store, configuration, each.journal))

    def _to_train(self, finalists: Sequence[Configuration], before: Champion | None) -> list[Configuration]:
        if before is None or before.confirmations is not None:
            return list(finalists)
        self._view.say(f"version {before.number}, the champion, was never trained with fresh seeds: it is, too")
        confirming.refuse_other_images([before.configuration], self._request.data_dir)
        return [*finalists, before.configuration]

    def _needed(self, finalists: Sequence[Configuration], before: Champion | None) -> comparison.Power:
        known = None if before is None or before.confirmations is None else len(before.confirmations.scored)
        found = comparison.seeds_needed(
            self._rules.gain,
            images=_TEST_IMAGES,
            min_gain=self._rules.min_gain,
            class_drop=self._rules.class_drop,
            power=self._rules.power,
            comparisons=len(finalists),
            level=self._rules.level,
            champion_seeds=known,
        )
        self._view.say(found.text)
        return found

    def _jobs(self, of: Sequence[Configuration], seeds: Sequence[int]) -> list[studies.Job]:
        base = _in_store(self._request.base, self._store)
        return [
            configuration.job(base, count, self._request.data_dir, self._request.command)
            for configuration, count in zip(of, seeds, strict=True)
        ]

    # Judging, with the registry held

    def _decide(self, finalists: Sequence[Configuration], before: Champion | None) -> Outcome:
        trained = confirming.gathered(self._store, self._jobs_run, self._trained, self._view)
        mine = list(trained.of[: len(finalists)])
        champion = champions.current(self._store)
        if (champion is None) != (before is None) or (champion and before and champion.number != before.number):
            raise PromotionRefused(
                "the champion was changed by another command meanwhile: type the command again; what was trained "
                "is kept."
            )
        theirs = None if champion is None else champion.confirmations or trained.of[-1]
        sound = self._sound(mine)
        if theirs is not None and len(theirs.finished) < 2:
            raise PromotionRefused(
                f"version {champion.number if champion else ''}, the champion, could not be trained "
                "again with two seeds or more, so that nothing can be compared with it."
            )
        entered = [*sound, *([theirs] if theirs is not None else [])]
        self._open(entered)
        trained = confirming.gathered(self._store, self._jobs_run, self._trained, self._view)
        again = {each.journal: each for each in trained.of}
        sound = [again[each.journal] for each in sound]
        theirs = theirs and again.get(theirs.journal, theirs)
        judgement = self._judge(sound, champion, theirs)
        found = Evidence(
            decision=self.decision,
            command=self._request.command,
            candidates=self._found,
            finalists=tuple(sound),
            champion=champion,
            champion_confirmed=theirs,
            judgement=judgement,
            openings=tuple(sorted(opening.openings(sound))),
            rules=self._rules.model_dump(),
            remarks=self._remarks(),
        )
        return enrolment.enrol(self._store, found, trained.run_id, self._data(sound), self._view.say)

    def _sound(self, confirmed: Sequence[Confirmations]) -> list[Confirmations]:
        """The finalists that trained to the end with every seed."""
        sound = []
        for each in confirmed:
            if each.failed:
                of = f"{len(each.failed)} of {len(each.runs)}"
                self._view.say(f"{each.configuration.name} is out: {of} trainings failed", "yellow")
            elif len(each.finished) < 2:
                self._view.say(f"{each.configuration.name} is out: fewer than two trainings ended", "yellow")
            else:
                sound.append(each)
        if not sound:
            raise PromotionRefused("no finalist could be trained again with every seed: nothing is promoted.")
        return sound

    def _data(self, confirmed: Sequence[Confirmations]) -> DataConfig:
        return evidence.data_config(confirmed[0].configuration.data, self._request.data_dir)

    def _open(self, entered: Sequence[Confirmations]) -> None:
        request = opening.Request(self.decision, self._request.command, self._ledger, self._request.again)
        opening.score(self._store, entered, self._data(entered), request, self._view.say)

    @property
    def _ledger(self) -> Path:
        return stores.state_folder(self._store.uri) / stores.LEDGER

    def _remarks(self) -> list[str]:
        """What a reader of the evidence should know beside."""
        lines = self._ledger.read_text(encoding="utf-8").splitlines() if self._ledger.is_file() else []
        said = [f"The test images were opened {len(lines)} times in all by what shares {self._ledger.name}."]
        known = [trial.name for trial in self._found.finalists if tested.TAG in trial.tags]
        return said + [f"The test accuracy of {name} itself was known before it was chosen." for name in known]

    def _judge(
        self, sound: Sequence[Confirmations], champion: Champion | None, theirs: Confirmations | None
    ) -> Judgement:
        scored = [_Scored(self._store, each) for each in sound]
        beside = None if theirs is None else _Scored(self._store, theirs)
        for each in (*scored[1:], *([beside] if beside else [])):
            if not scored[0].same_images(each):
                raise PromotionRefused(
                    f"{each.name} and {scored[0].name} were scored on different test images, and cannot be compared."
                )
        rule = Rule(self._rules.min_gain, self._rules.class_drop, self._rules.level)
        openings = max(1, len(opening.openings(sound)))
        before = None if beside is None or champion is None else replace(beside.confirmed, name=_called(champion))
        return judge([each.confirmed for each in scored], before, scored[0].labels, LABELS, rule, openings=openings)


class _Scored:
    """A configuration's test predictions, a row a seed."""

    def __init__(self, store: Store, confirmations: Confirmations) -> None:
        self.name = confirmations.configuration.name
        self._told = [tested.read(store, run.run_id, run.name) for run in confirmations.scored]
        self.labels = self._told[0].labels

    @cached_property
    def confirmed(self) -> Confirmed:
        return Confirmed(self.name, np.stack([told.correct for told in self._told]))

    def same_images(self, other: _Scored) -> bool:
        first = self._told[0]
        return all(
            np.array_equal(first.index, told.index) and np.array_equal(first.labels, told.labels)
            for told in (*self._told, *other._told)
        )


def _called(champion: Champion) -> str:
    return f"version {champion.number}"


def _still(champion: Champion) -> str:
    return f"models:/{versions.MODEL_NAME}@{versions.CHAMPION} is still version {champion.number}"


def _in_store(base: Config, store: Store) -> Config:
    """The base config with the store that was named; all models are kept, as each is scored."""
    where = {"uri": store.uri, "experiment": store.experiment_name, "keep_models": "all"}
    return replace(base, tracking=base.tracking.model_copy(update=where))


def typed(arguments: Sequence[str]) -> str:
    """A command of fmnist-sweep as typed, without the password of an address."""
    return studies.masked(shlex.join(["fmnist-sweep", *arguments]))
