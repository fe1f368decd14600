"""One promotion under way: the store, the request, and the finalists that the request leads to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.config.identity import hash_content
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.candidates import Candidates, PromotionTarget, find_candidates
from fmnist_sweep.promotion.configuration import TrialConfiguration, list_keys, read_trial_configuration
from fmnist_sweep.promotion.gate import Rule
from fmnist_sweep.tracking.store import LEDGER_FILE, locate_state_folder

if TYPE_CHECKING:
    from fmnist_sweep.config.schema import Config, PromoteConfig
    from fmnist_sweep.interrupts import Stop
    from fmnist_sweep.report.terminal import View
    from fmnist_sweep.tracking.store import Store


@dataclass(frozen=True)
class PromotionRequest:
    """A command as typed.

    base: a composed config, which says where trainings run and how to decide. open_again: whether the test images may
    be opened another time for the same decision.
    """

    target: PromotionTarget
    base: Config
    data_dir: str | None
    any_data: bool
    open_again: bool
    command: str


@dataclass(frozen=True)
class Promotion:
    """One promotion. configurations: those of the candidates' finalists, without duplicates, the best first."""

    store: Store
    request: PromotionRequest
    view: View
    stop: Stop
    candidates: Candidates
    configurations: Sequence[TrialConfiguration]

    @cached_property
    def decision(self) -> str:
        """Id of what is decided: the same for the same configurations, whichever version is champion."""
        return hash_content(list_keys(self.configurations))

    @cached_property
    def data_folders(self) -> dict[str, str | None]:
        """The folders that images were found in, by source, as `choose_data_dir` notes them."""
        return {}

    @property
    def rules(self) -> PromoteConfig:
        return self.request.base.promote

    @property
    def rule(self) -> Rule:
        """Thresholds of the gate."""
        return Rule(self.rules.min_gain, self.rules.class_drop, self.rules.level)

    @property
    def rule_json(self) -> str:
        """Thresholds of the gate, as a version's tag has them."""
        return json.dumps(asdict(self.rule), sort_keys=True)

    @property
    def ledger(self) -> Path:
        """File that records every opening of the test images."""
        return locate_state_folder(self.store.uri) / LEDGER_FILE


def prepare_promotion(store: Store, request: PromotionRequest, view: View, stop: Stop) -> Promotion:
    """Read the finalists of a request from the store. Errors: PromotionRefused."""
    rules = request.base.promote
    candidates = find_candidates(store, request.target, rules.finalists, request.any_data)
    configurations: dict[str, TrialConfiguration] = {}
    for trial in candidates.finalists:
        configuration = read_trial_configuration(store, trial)
        if rules.include_validation:
            # Two finalists may become the same: one that stopped early, and one that had as many epochs.
            if "best_epoch" not in trial.metrics:
                raise PromotionRefused(f"{trial.name} (run {trial.run_id}) has no best_epoch: train it again.")
            configuration = configuration.include_validation_images(int(trial.metrics["best_epoch"]))
        configurations.setdefault(configuration.key, configuration)
    return Promotion(store, request, view, stop, candidates, tuple(configurations.values()))
