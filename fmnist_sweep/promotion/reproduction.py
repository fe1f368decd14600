"""A registered version trained again from its tags alone, and compared with what was registered."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_sweep.config.identity import read_library_versions
from fmnist_sweep.data import Splits
from fmnist_sweep.errors import StoreError
from fmnist_sweep.promotion.configuration import TrialConfiguration, parse_configuration
from fmnist_sweep.reading import parse_json
from fmnist_sweep.tracking.data_places import find_data_dir
from fmnist_sweep.tracking.models import hash_predictions, hash_weights
from fmnist_sweep.tracking.names import (
    CONFIGURATION_TAG,
    DATA_TAG,
    GIT_TAG,
    MACHINE_TAG,
    PREDICTIONS_SHA256_TAG,
    SEED_TAG,
    SEEDS_TAG,
    THREADS_TAG,
    VAL_ACCURACY_SD_TAG,
    VAL_ACCURACY_TAG,
    VERSIONS_TAG,
    WEIGHTS_SHA256_TAG,
)
from fmnist_sweep.tracking.trial_data import build_data_config, load_matching_splits
from fmnist_sweep.training import backend, trial
from fmnist_sweep.training.environment import describe_machine, read_source_commit
from fmnist_sweep.training.events import EpochEnd, TrialFailure, TrialResult, TrialSpec
from fmnist_sweep.training.own_code import refuse_other_plugins

if TYPE_CHECKING:
    from fmnist_sweep.config.schema import Config
    from fmnist_sweep.tracking.registry import RegisteredVersion
    from fmnist_sweep.tracking.store import Store

_MAX_COUNT = 1_000_000  # of threads or seeds


@dataclass(frozen=True)
class VersionRecord:
    """A version's training, read from its tags.

    accuracy: on the validation images. accuracy_sd: sd of the configuration's validation accuracy over `seeds` seeds.
    """

    configuration: TrialConfiguration
    seed: int
    threads: int
    data_tag: str
    accuracy: float
    accuracy_sd: float
    seeds: int
    weights_sha256: str
    predictions_sha256: str
    machine: str
    versions: Mapping[str, str]
    git: str

    @property
    def noise(self) -> float:
        """The largest difference in accuracy between two training seeds, in 95% of cases (Student's t)."""
        from scipy.special import stdtrit

        return float(stdtrit(self.seeds - 1, 0.975)) * math.sqrt(2) * self.accuracy_sd


@dataclass(frozen=True)
class Reproduction:
    """A version trained again.

    accuracy: on the validation images. same_weights, same_predictions: whether they are the registered ones bit for
    bit. differences: between the two trainings' machines, threads and versions, a sentence each. model: content of the
    .keras file.
    """

    record: VersionRecord
    accuracy: float
    same_weights: bool
    same_predictions: bool
    differences: tuple[str, ...]
    model: bytes

    @property
    def is_exact(self) -> bool:
        return self.same_weights and self.same_predictions

    @property
    def is_equivalent(self) -> bool:
        """Whether it is the same model, or its accuracy is one that another seed could have given."""
        return self.is_exact or abs(self.accuracy - self.record.accuracy) <= self.record.noise


def read_version_record(version: RegisteredVersion) -> VersionRecord:
    """Read how a version was trained from its tags. Errors: StoreError if they are incomplete or invalid."""
    tags = version.tags
    try:
        record = VersionRecord(
            configuration=parse_configuration(tags[CONFIGURATION_TAG]),
            seed=int(tags[SEED_TAG]),
            threads=int(tags[THREADS_TAG]),
            data_tag=tags[DATA_TAG],
            accuracy=float(tags[VAL_ACCURACY_TAG]),
            accuracy_sd=float(tags[VAL_ACCURACY_SD_TAG]),
            seeds=int(tags[SEEDS_TAG]),
            weights_sha256=tags[WEIGHTS_SHA256_TAG],
            predictions_sha256=tags[PREDICTIONS_SHA256_TAG],
            machine=tags.get(MACHINE_TAG, "an unknown machine"),
            versions={**parse_json(tags[VERSIONS_TAG])},
            git=tags.get(GIT_TAG, ""),
        )
        if not (0 < record.threads <= _MAX_COUNT and 1 < record.seeds <= _MAX_COUNT and 0 <= record.seed < 2**32):
            raise ValueError(f"{record.threads} threads, {record.seeds} seeds, seed {record.seed}")
        if not (0 <= record.accuracy <= 1 and 0 <= record.accuracy_sd <= 1):  # so that NaN does not pass
            raise ValueError(f"validation accuracy {record.accuracy} ± {record.accuracy_sd}")
        return record
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"version {version.number} does not say how it was trained ({type(error).__name__}: {error}): only "
            "versions that fmnist-sweep promote registered can be trained again."
        ) from None


def find_version_data_dir(
    store: Store, version: RegisteredVersion, record: VersionRecord, say: Callable[[str], None]
) -> str | None:
    """The folder to read a version's images from if nobody names one: see `find_data_dir`. Errors: DataError."""
    refuse_other_plugins(record.configuration.plugins, version.full_name)  # one of them may read the images
    build = partial(build_data_config, record.configuration.data, owner_name=version.full_name)
    return find_data_dir(store, version.run_id or "", build, record.data_tag, version.full_name, say)


def reproduce_version(
    record: VersionRecord, base: Config, data_dir: str | None, say: Callable[[str], None]
) -> Reproduction:
    """Train a version again in this process, with as many threads. Errors: DataError, StoreError, ConfigError.

    base: any complete composed config; everything that matters is taken from the record.
    """
    job = record.configuration.make_job(base, 2, data_dir, "")
    config = job.config
    splits = load_matching_splits(config.data, record.data_tag, "the version", "trained")
    backend.import_tensorflow()
    threads = min(record.threads, backend.count_usable_cores())
    backend.set_threads(threads)
    settings = {**config.settings, "seed": record.seed}
    spec = TrialSpec(
        record.configuration.key, settings, record.configuration.objective, config.data, plugins=job.plugins
    )
    result = _train_version(spec, splits, say)
    correct = result.probabilities.argmax(axis=1) == splits.validation.labels
    return Reproduction(
        record=record,
        accuracy=float(correct.mean()),
        same_weights=_hash_weights(result.model) == record.weights_sha256,
        same_predictions=hash_predictions(result.probabilities) == record.predictions_sha256,
        differences=tuple(_list_differences(record, threads)),
        model=result.model,
    )


def _train_version(spec: TrialSpec, splits: Splits, say: Callable[[str], None]) -> TrialResult:
    for event in trial.run_trial(spec, splits):
        match event:
            case EpochEnd():
                figures = ", ".join(f"{key} {event.metrics[key]:.4f}" for key in ("accuracy", "val_accuracy"))
                say(f"epoch {event.epoch} of {spec.config['train']['epochs']}: {figures}")
            case TrialFailure():
                raise StoreError(f"this training failed: {event.reason}")
            case TrialResult():
                return event
    raise RuntimeError("the training ended without a result")


def _hash_weights(model: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.keras")
        file.write_bytes(model)
        return hash_weights(trial.load_model(file))


def _list_differences(record: VersionRecord, threads: int) -> Iterator[str]:
    """Differences between the two trainings in everything that can change the last bits."""
    if record.machine != describe_machine():
        yield f"machine: {record.machine}; here {describe_machine()}"
    if record.threads != threads:
        yield f"threads: {record.threads}; here {threads}"
    current_versions: dict[str, Any] = read_library_versions()
    for name in sorted({*record.versions, *current_versions}):
        if record.versions.get(name) != current_versions.get(name):
            yield f"{name}: {record.versions.get(name, 'none')}; here {current_versions.get(name, 'none')}"
    if record.git != read_source_commit():
        yield f"fmnist_sweep: {record.git or 'unknown'}; here {read_source_commit() or 'unknown'}"
