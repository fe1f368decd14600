"""The model that is to be beaten: its version, its configuration, and its trainings with fresh seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion import configuration as configurations
from fmnist_sweep.promotion.configuration import Configuration
from fmnist_sweep.promotion.confirming import Confirmations, of_journal
from fmnist_sweep.tracking import registry as versions
from fmnist_sweep.tracking import trials as evidence

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from fmnist_sweep.tracking.store import Store

# Tags of a version.
CONFIGURATION, FINALIST = "fmnist.configuration", "fmnist.finalist"


@dataclass(frozen=True)
class Champion:
    """confirmations: None where it has to be trained again to be compared with."""

    version: ModelVersion
    configuration: Configuration
    confirmations: Confirmations | None

    @property
    def number(self) -> str:
        return str(self.version.version)


def current(store: Store) -> Champion | None:
    """The champion of a store; None where the alias points nowhere. Errors: PromotionRefused where it is unknown."""
    version = versions.find_aliased_version(store, versions.CHAMPION)
    if version is None:
        return None
    configuration = _configuration(store, version)
    journal = version.tags.get(FINALIST)
    found = None if journal is None else of_journal(store, configuration, journal)
    return Champion(version, configuration, found if found is not None and len(found.scored) > 1 else None)


def _configuration(store: Store, version: ModelVersion) -> Configuration:
    from mlflow.exceptions import MlflowException

    text = version.tags.get(CONFIGURATION)
    if text is not None:
        try:
            return configurations.from_description(text)
        except ValueError as error:
            raise PromotionRefused(f"version {version.version}, the champion, says {error}: {_WHAT_NEXT}") from None
    try:
        run = store.client.get_run(str(version.run_id))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        run = None
    if run is None or run.data.tags.get("fmnist.kind") != "trial":
        raise PromotionRefused(
            f"version {version.version}, the champion, is of no trial of this store, so that nothing can be compared "
            f"with it: {_WHAT_NEXT}"
        )
    return configurations.of_trial(store, evidence.build_trials([run])[0])


_WHAT_NEXT = "take the alias champion from it in the MLflow UI, or fmnist-sweep rollback to an earlier one."
