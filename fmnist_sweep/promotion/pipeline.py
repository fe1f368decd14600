"""From a sweep's best trials to the registry: confirm, open the test images once, judge, register, move an alias."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.config.identity import hash_content
from fmnist_sweep.config.job import Job
from fmnist_sweep.data import DataConfig
from fmnist_sweep.errors import ExitCode, Locked, PromotionRefused
from fmnist_sweep.promotion import candidates, confirmation, opening
from fmnist_sweep.promotion.candidates import Candidates, PromotionTarget
from fmnist_sweep.promotion.champion import Champion, read_champion
from fmnist_sweep.promotion.configuration import TrialConfiguration, list_keys, read_trial_configuration
from fmnist_sweep.promotion.confirmation import Confirmations
from fmnist_sweep.promotion.dossier import Dossier
from fmnist_sweep.promotion.entrants import Entrant, plan_entrants
from fmnist_sweep.promotion.gate import Rule
from fmnist_sweep.promotion.judgement import judge_confirmations
from fmnist_sweep.promotion.registration import Outcome, register_winner
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.text import mask_credentials
from fmnist_sweep.tracking.aliases import list_moves
from fmnist_sweep.tracking.names import (
    AGAINST_TAG,
    CONFIG_HASH_TAG,
    DECISION_TAG,
    MODEL_NAME,
    RULE_TAG,
    SEEDS_TAG,
    TEST_OPENED_TAG,
    WHY_TAG,
)
from fmnist_sweep.tracking.registry import CHALLENGER, CHAMPION, get_registered_model, list_versions, map_aliases
from fmnist_sweep.tracking.store import LEDGER_FILE, locate_state_folder
from fmnist_sweep.tracking.store_lock import lock_registry, lock_test_images
from fmnist_sweep.tracking.trial_data import build_data_config
from fmnist_sweep.tracking.trials import StoredTrial

if TYPE_CHECKING:
    from fmnist_sweep.config.schema import Config
    from fmnist_sweep.interrupts import Stop
    from fmnist_sweep.report.terminal import View
    from fmnist_sweep.tracking.store import Store

# A sweep that ended so has trained what it could.
_TRAINED_CODES = (ExitCode.DONE, ExitCode.SOME_FAILED, ExitCode.ALL_FAILED)
_OPENING_NAME = re.compile(r"opening (\S+) of the test images")  # a line of the ledger (opening.py)


@dataclass(frozen=True)
class PromotionRequest:
    """What was typed. base: the composed config, for where trainings run and how to decide. again: open once more."""

    target: PromotionTarget
    base: Config
    data_dir: str | None
    any_data: bool
    open_again: bool
    command: str


@dataclass(frozen=True)
class _GateInput:
    """What is put before the gate. promotion: the run of the trainings. out: finalists that are not, and why."""

    run_id: str
    finalists: tuple[Confirmations, ...]
    champion: Confirmations | None
    exclusions: tuple[str, ...]


class Promotion:
    """One promotion, from what was asked for to the registry; each step may be taken again and then changes nothing."""

    def __init__(self, store: Store, request: PromotionRequest, view: View, stop: Stop) -> None:
        self._store, self._request, self._view, self._stop = store, request, view, stop
        self._rules = request.base.promote
        self._candidates: Candidates = candidates.find_candidates(
            store, request.target, self._rules.finalists, request.any_data
        )
        # Trained on all images for as long, two of them may be the same.
        distinct_configurations: dict[str, TrialConfiguration] = {}
        for trial in self._candidates.finalists:
            configuration = self._read_configuration(trial)
            distinct_configurations.setdefault(configuration.key, configuration)
        self._configurations = list(distinct_configurations.values())
        # What this is a decision about, whoever is champion.
        self.decision = hash_content(list_keys(self._configurations))

    def _read_configuration(self, trial: StoredTrial) -> TrialConfiguration:
        configuration = read_trial_configuration(self._store, trial)
        return (
            configuration.include_validation_images(int(trial.metrics["best_epoch"]))
            if self._rules.include_validation
            else configuration
        )

    def run(self) -> Outcome:
        """Train, judge and register what is left to be. Errors: PromotionRefused, and all that a sweep raises."""
        self._announce()
        champion = read_champion(self._store)
        self._refuse_rolled_back()
        outcome = self._find_earlier_outcome(champion)
        if outcome is not None:
            return outcome
        finalists = [
            configuration
            for configuration in self._configurations
            if champion is None or configuration.key != champion.configuration.key
        ]
        if champion is not None and not finalists:
            reason = "  this configuration is the champion's: there is nothing to compare it with."
            return Outcome(ExitCode.DONE, (_describe_unchanged(champion), reason), champion.number)
        confirmation.refuse_other_images(finalists, self._request.data_dir)
        entrants = plan_entrants(
            self._store, finalists, champion, self._rules, self._request.open_again, self._make_jobs, self._view
        )
        self._say_entrants(entrants)
        code = run_sweep(self._make_jobs(entrants), self._request.command, self._view, self._stop)
        if code not in _TRAINED_CODES or self._request.base.plan:
            return Outcome(code)
        with lock_test_images(self._store):
            gate_input = self._score_entrants(entrants, champion)
        with lock_registry(self._store):
            return self._decide(gate_input, champion)

    def _announce(self) -> None:
        for name in self._candidates.skipped_sweeps:
            self._view.say(f"passed over, without a finished trial on Fashion-MNIST: {name}")
        tie_count, finalist_count = self._candidates.tie_count, len(self._candidates.finalists)
        if self._candidates.rival_count > 1:
            suffix = (
                ""
                if tie_count == finalist_count
                else f", of which the best {finalist_count} are taken (promote.finalists)"
            )
            self._view.say(
                f"{self._candidates.scope}: {self._candidates.rival_count} finished trials; {tie_count} of their configurations cannot be "
                f"told apart from the best, it included{suffix}"
            )

    def _say_entrants(self, entrants: Sequence[Entrant]) -> None:
        names = ", ".join(f"{entrant.configuration.name} ({entrant.seeds} seeds)" for entrant in entrants)
        self._view.say(f"trained again with fresh seeds: {names}")

    def _find_earlier_outcome(self, champion: Champion | None) -> Outcome | None:
        """What was decided about these finalists by the same rule before, where it still stands."""
        alias_versions = map_aliases(get_registered_model(self._store))
        min_seeds, champion_number = self._rules.seeds or 0, "nobody" if champion is None else champion.number
        for version in list_versions(self._store):
            number, tags = str(version.version), version.tags
            is_same = (tags.get(DECISION_TAG), tags.get(RULE_TAG)) == (self.decision, self._rule_json)
            if self._request.open_again or not is_same or min_seeds > int(tags.get(SEEDS_TAG, "0")):
                continue
            if alias_versions.get(CHAMPION) == number and champion is not None:
                return Outcome(ExitCode.DONE, (_describe_unchanged(champion), f"  {tags[WHY_TAG]}"), number)
            if alias_versions.get(CHALLENGER) == number and tags.get(AGAINST_TAG) == champion_number:
                sentence = f"models:/{MODEL_NAME}@{CHALLENGER} is still version {number}"
                return Outcome(ExitCode.NOT_BETTER, (sentence, f"  {tags[WHY_TAG]}"), number)
        return None

    @property
    def _rule_json(self) -> str:
        """What the gate goes by, as a version's tag has it."""
        return json.dumps(self._rules.model_dump(include={"min_gain", "class_drop", "level"}), sort_keys=True)

    def _refuse_rolled_back(self) -> None:
        """PromotionRefused where somebody went back from one of these configurations, and promoted nothing since."""
        rollback_times: dict[str, str] = {}
        for move in reversed([move for move in list_moves(self._store) if move.alias == CHAMPION]):
            if move.kind != "rolled back":
                break
            rollback_times[str(move.previous)] = move.time[:16]
        keys = {configuration.key for configuration in self._configurations}
        for version in list_versions(self._store) if rollback_times and not self._request.open_again else ():
            number = str(version.version)
            if number in rollback_times and version.tags.get(CONFIG_HASH_TAG) in keys:
                raise PromotionRefused(
                    f"version {number}, which is of one of these configurations, was rolled back on {rollback_times[number]}: "
                    f"fmnist-sweep rollback --to {number} makes it champion again."
                )

    def _make_jobs(self, entrants: Sequence[Entrant]) -> list[Job]:
        base = _set_store(self._request.base, self._store)
        return [
            entrant.configuration.make_job(base, entrant.seeds, self._request.data_dir, self._request.command)
            for entrant in entrants
        ]

    # Opening the test images, and judging

    def _score_entrants(self, entrants: Sequence[Entrant], champion: Champion | None) -> _GateInput:
        """The confirmations with their test predictions."""
        confirmation_set = self._read_confirmation_set(entrants)
        finalists, exclusions = self._exclude_failed(entrants, confirmation_set.confirmations)
        pending_runs = [run for each in finalists for run in opening.find_pending_runs(each, self._request.open_again)]
        champion_training = next(
            (
                confirmations
                for confirmations, each in zip(confirmation_set.confirmations, entrants, strict=True)
                if each.is_champion
            ),
            None,
        )
        if champion_training is not None:
            pending_runs += opening.find_pending_runs(champion_training, include_added=True)
        if self._request.open_again and not pending_runs:
            self._view.say("every training of these finalists was scored before: there is nothing to open again")
        purpose = opening.Purpose(self.decision, self._ledger, self._request.open_again)
        opening_names = opening.collect_opening_names(finalists)
        opening.score_confirmations(
            self._store, pending_runs, opening_names, self._make_data_config(finalists), purpose, self._view.say
        )
        confirmations_by_journal = {each.journal: each for each in self._read_confirmation_set(entrants).confirmations}
        champion_confirmations = (
            confirmations_by_journal[champion_training.journal] if champion_training is not None else None
        )
        if champion is not None and champion_training is None:
            champion_confirmations = champion.confirmations
        if champion is not None and (champion_confirmations is None or len(champion_confirmations.scored_runs) < 2):
            raise PromotionRefused(
                f"version {champion.number}, the champion, could not be trained again with two seeds or more, so that "
                "nothing can be compared with it: fmnist-sweep rollback, or take the alias from it in the MLflow UI."
            )
        return _GateInput(
            confirmation_set.run_id,
            tuple(confirmations_by_journal[each.journal] for each in finalists),
            champion_confirmations,
            tuple(exclusions),
        )

    def _read_confirmation_set(self, entrants: Sequence[Entrant]) -> confirmation.ConfirmationSet:
        entrant_configurations = [entrant.configuration for entrant in entrants]
        return confirmation.read_confirmation_set(
            self._store, self._make_jobs(entrants), entrant_configurations, self._view
        )

    def _exclude_failed(
        self, entrants: Sequence[Entrant], trainings: Sequence[Confirmations]
    ) -> tuple[list[Confirmations], list[str]]:
        """The finalists that trained to the end with every seed, and what is to be said of the others."""
        finalists, exclusions = [], []
        for entrant, confirmations in zip(entrants, trainings, strict=True):
            if entrant.is_champion:
                continue
            if len(confirmations.runs) < entrant.seeds:
                raise PromotionRefused(
                    f"{confirmations.configuration.name} was trained with {entrant.seeds} seeds, and the store has only "
                    f"{len(confirmations.runs)} of these runs: restore the others (mlflow runs restore); none may be left out."
                )
            if confirmations.failed_runs:
                seeds = ", ".join(run.params["seed"] for run in confirmations.failed_runs)
                exclusions.append(f"{confirmations.configuration.name} is out: its training failed with seed {seeds}.")
                self._view.say(exclusions[-1], "yellow")
            else:
                finalists.append(confirmations)
        if not finalists:
            raise PromotionRefused(
                "no finalist could be trained again with every seed: nothing is promoted; fmnist-sweep ui shows why, "
                "and --run promotes another trial."
            )
        return finalists, exclusions

    def _decide(self, gate_input: _GateInput, previous_champion: Champion | None) -> Outcome:
        """Judge and register; the caller holds the registry."""
        champion = read_champion(self._store)
        if (champion.number if champion else None) != (previous_champion.number if previous_champion else None):
            outcome = self._find_earlier_outcome(champion)  # by the same command, typed twice
            if outcome is not None:
                return outcome
            raise Locked(
                "the champion was changed by another command meanwhile: type the command again; what was trained "
                "and scored is kept."
            )
        rule = Rule(self._rules.min_gain, self._rules.class_drop, self._rules.level)
        champion_name = "" if champion is None else f"version {champion.number}"
        judgement = judge_confirmations(self._store, gate_input.finalists, gate_input.champion, champion_name, rule)
        dossier = Dossier(
            decision=self.decision,
            command=self._request.command,
            candidates=self._candidates,
            finalists=gate_input.finalists,
            champion=champion,
            champion_confirmations=gate_input.champion,
            judgement=judgement,
            openings=tuple(sorted(opening.collect_opening_names(gate_input.finalists))),
            rule=self._rule_json,
            remarks=(*gate_input.exclusions, *self._list_remarks()),
        )
        return register_winner(self._store, dossier, gate_input.run_id, self._request.data_dir, self._view.say)

    def _make_data_config(self, finalists: Sequence[Confirmations]) -> DataConfig:
        return build_data_config(
            finalists[0].configuration.data, self._request.data_dir, finalists[0].configuration.name
        )

    @property
    def _ledger(self) -> Path:
        return locate_state_folder(self._store.uri) / LEDGER_FILE

    def _list_remarks(self) -> list[str]:
        """What a reader of the evidence should know beside."""
        lines = self._ledger.read_text(encoding="utf-8").splitlines() if self._ledger.is_file() else []
        # One that was cut short and gone on with has several lines, and is one.
        matches = [(_OPENING_NAME.search(line), number) for number, line in enumerate(lines)]
        openings = {name[1] if name else number for name, number in matches}
        remarks = [f"Openings of the test images in {self._ledger.name}, these included: {len(openings)}."]
        known_names = [trial.name for trial in self._candidates.finalists if TEST_OPENED_TAG in trial.tags]
        return remarks + [f"The test accuracy of {name} itself was known before it was chosen." for name in known_names]


def _describe_unchanged(champion: Champion) -> str:
    return f"models:/{MODEL_NAME}@{CHAMPION} is still version {champion.number}"


def _set_store(base: Config, store: Store) -> Config:
    """The base config with the store that was named; all models are kept, as each is scored."""
    tracking_settings = {"uri": store.uri, "experiment": store.experiment_name, "keep_models": "all"}
    return replace(base, tracking=base.tracking.model_copy(update=tracking_settings))


def format_command(arguments: Sequence[str]) -> str:
    """A command of fmnist-sweep as typed, without the password of an address."""
    return mask_credentials(shlex.join(["fmnist-sweep", *arguments]))
