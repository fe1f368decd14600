"""A registered version trained again from what the registry says of it, and held against what was registered."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_sweep.config import identity as studies
from fmnist_sweep.data import DataConfig, Splits, load
from fmnist_sweep.errors import DataError, StoreError
from fmnist_sweep.promotion import configuration as configurations
from fmnist_sweep.promotion import registration as enrolment
from fmnist_sweep.promotion.champion import CONFIGURATION
from fmnist_sweep.tracking import models as logged_model
from fmnist_sweep.training import backend, trial
from fmnist_sweep.training import environment as machine
from fmnist_sweep.training.environment import source_commit
from fmnist_sweep.training.events import EpochEnd, TrialFailure, TrialResult, TrialSpec

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from fmnist_sweep.config.schema import Config


@dataclass(frozen=True)
class Recorded:
    """What a version says of its training. spread: sd of its configuration's validation accuracy over `seeds` seeds."""

    configuration: configurations.Configuration
    seed: int
    threads: int
    data_tag: str
    accuracy: float
    spread: float
    seeds: int
    weights: str
    predictions: str
    machine: str
    versions: Mapping[str, str]
    git: str

    @property
    def noise(self) -> float:
        """By how much two trainings with different seeds differ at most, in 95 % of the cases (Student's t)."""
        from scipy.special import stdtrit

        return float(stdtrit(self.seeds - 1, 0.975)) * math.sqrt(2) * self.spread


@dataclass(frozen=True)
class Reproduction:
    """accuracy: on the validation images. same_weights, same_predictions: bit for bit. differs: what is not as it was.

    model: the content of its .keras file.
    """

    recorded: Recorded
    accuracy: float
    same_weights: bool
    same_predictions: bool
    differs: tuple[str, ...]
    model: bytes

    @property
    def exact(self) -> bool:
        return self.same_weights and self.same_predictions

    @property
    def agrees(self) -> bool:
        """Whether it is the same model, or as good a one as another seed would have given."""
        return self.exact or abs(self.accuracy - self.recorded.accuracy) <= self.recorded.noise


def recorded(version: ModelVersion) -> Recorded:
    """What a version's tags say. Errors: StoreError where they do not say enough."""
    tags = version.tags
    try:
        told = Recorded(
            configuration=configurations.from_description(tags[CONFIGURATION]),
            seed=int(tags[enrolment.SEED]),
            threads=int(tags[enrolment.THREADS]),
            data_tag=tags["fmnist.data"],
            accuracy=float(tags[enrolment.ACCURACY]),
            spread=float(tags[enrolment.SPREAD]),
            seeds=int(tags[enrolment.SEEDS]),
            weights=tags[enrolment.WEIGHTS],
            predictions=tags[enrolment.PREDICTIONS],
            machine=tags.get(enrolment.MACHINE, "a machine that is not known"),
            versions={**json.loads(tags[enrolment.VERSIONS])},
            git=tags.get("fmnist.git", ""),
        )
        if told.threads < 1 or told.seeds < 2:
            raise ValueError(f"{told.threads} threads, {told.seeds} seeds")
        return told
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"version {version.version} does not say how it was trained ({type(error).__name__}: {error}): only "
            "versions that fmnist-sweep promote registered can be trained again."
        ) from None


def reproduce(told: Recorded, base: Config, data_dir: str | None, say: Callable[[str], None]) -> Reproduction:
    """Train it again, with as many threads, in this process. Errors: DataError, StoreError, ConfigError.

    base: a composed config, of which nothing counts but that it is whole.
    """
    config = told.configuration.job(base, 2, data_dir, "").config
    splits = _splits(config.data, told)
    backend.import_tensorflow()
    threads = min(told.threads, backend.usable_cores())
    backend.set_threads(threads)
    settings = {**config.settings, "seed": told.seed}
    spec = TrialSpec("reproduce", told.configuration.key, 1, settings, told.configuration.objective, config.data)
    result = _trained(spec, splits, say)
    right = result.probabilities.argmax(axis=1) == splits.validation.labels
    return Reproduction(
        recorded=told,
        accuracy=float(right.mean()),
        same_weights=_weights(result.model) == told.weights,
        same_predictions=logged_model.hash_predictions(result.probabilities) == told.predictions,
        differs=tuple(_differences(told, threads)),
        model=result.model,
    )


def _splits(data: DataConfig, told: Recorded) -> Splits:
    found = load(data)
    if found.tag != told.data_tag:
        raise DataError(
            f"{found.origin.location} is {found.tag}, but the version was trained on {told.data_tag}: name the folder "
            "of that data with --data-dir."
        )
    return found


def _trained(spec: TrialSpec, splits: Splits, say: Callable[[str], None]) -> TrialResult:
    for event in trial.run(spec, splits):
        match event:
            case EpochEnd():
                figures = ", ".join(f"{key} {event.metrics[key]:.4f}" for key in ("accuracy", "val_accuracy"))
                say(f"epoch {event.epoch} of {spec.config['train']['epochs']}: {figures}")
            case TrialFailure():
                raise StoreError(f"the training failed this time: {event.reason}")
            case TrialResult():
                return event
    raise RuntimeError("the training ended without a result")


def _weights(model: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.keras")
        file.write_bytes(model)
        return logged_model.hash_weights(trial.load_model(file))


def _differences(told: Recorded, threads: int) -> Iterator[str]:
    """What is not as it was, of all that can change the last bits."""
    if told.machine != machine.described():
        yield f"machine: {told.machine}; here {machine.described()}"
    if told.threads != threads:
        yield f"threads: {told.threads}; here {threads}"
    here: dict[str, Any] = studies.versions()
    for name in sorted({*told.versions, *here}):
        if told.versions.get(name) != here.get(name):
            yield f"{name}: {told.versions.get(name, 'none')}; here {here.get(name, 'none')}"
    if told.git != source_commit():
        yield f"fmnist_sweep: {told.git or 'unknown'}; here {source_commit() or 'unknown'}"
