"""The model to beat: its version, its configuration, and its trainings with fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.configuration import TrialConfiguration, parse_configuration, read_trial_configuration
from fmnist_sweep.promotion.confirmation import Confirmations, read_confirmations
from fmnist_sweep.tracking.deleted import describe_deleted_runs
from fmnist_sweep.tracking.names import CONFIGURATION_TAG, FINALIST_TAG, KIND_TAG, NO_CHAMPION
from fmnist_sweep.tracking.queries import find_run
from fmnist_sweep.tracking.registry import CHAMPION, find_aliased_version
from fmnist_sweep.tracking.trials import build_trials

if TYPE_CHECKING:
    from fmnist_sweep.tracking.registry import RegisteredVersion
    from fmnist_sweep.tracking.store import Store

_NEXT_STEP = "take the alias champion from it in the MLflow UI, or fmnist-sweep rollback to an earlier one."


@dataclass(frozen=True)
class Champion:
    """The champion. confirmations: None if it has to be trained again before anything can be compared with it."""

    version: RegisteredVersion
    configuration: TrialConfiguration
    confirmations: Confirmations | None

    @property
    def number(self) -> str:
        return self.version.number

    @property
    def seeds(self) -> int:
        """Number of its trainings that were scored on the test images."""
        return 0 if self.confirmations is None else len(self.confirmations.scored_runs)


def get_champion_number(champion: Champion | None) -> str:
    """Number of the champion's version, or `nobody`."""
    return NO_CHAMPION if champion is None else champion.number


def get_aliased_champion_number(aliases: Mapping[str, str]) -> str:
    """Number of the version that is champion by these aliases (`read_aliases`), or `nobody`."""
    return aliases.get(CHAMPION, NO_CHAMPION)


def read_champion(store: Store) -> Champion | None:
    """The champion of a store, or None. Errors: PromotionRefused if its configuration is unknown."""
    version = find_aliased_version(store, CHAMPION)
    if version is None:
        return None
    configuration = _read_champion_configuration(store, version)
    journal = version.tags.get(FINALIST_TAG)
    confirmations = None if journal is None else read_confirmations(store, configuration, journal)
    if confirmations is not None and len(confirmations.scored_runs) < 2:
        confirmations = None
    return Champion(version, configuration, confirmations)


def _read_champion_configuration(store: Store, version: RegisteredVersion) -> TrialConfiguration:
    text = version.tags.get(CONFIGURATION_TAG)
    if text is not None:
        try:
            return parse_configuration(text)
        except ValueError as error:
            raise PromotionRefused(
                f"the tag {CONFIGURATION_TAG} of version {version.number} (the champion) cannot be read ({error}): "
                f"{_NEXT_STEP}"
            ) from None
    run = find_run(store, str(version.run_id))
    if run is None or run.tags.get(KIND_TAG) != "trial":
        raise PromotionRefused(
            f"version {version.number} (the champion) comes from no trial of this store, so nothing can be compared "
            f"with it: {_NEXT_STEP}"
        )
    if not run.is_active:
        raise PromotionRefused(
            f"version {version.number} (the champion) comes from a deleted run: {describe_deleted_runs(store, [run])}."
        )
    return read_trial_configuration(store, build_trials([run])[0])
