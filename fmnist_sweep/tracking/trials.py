"""What trials left in the store, read back: settings, figures, curves, predictions."""

from __future__ import annotations

import gc
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import DataConfig, Splits, load_matching_splits
from fmnist_sweep.errors import DataError
from fmnist_sweep.text import make_printable
from fmnist_sweep.tracking.names import (
    CANONICAL_TAG,
    CONFIG_FILE,
    CONTINUES_TAG,
    DATA_TAG,
    FAILURE_TAG,
    FOLLOWED_BY_TAG,
    JOURNAL_TAG,
    KIND_TAG,
    PREDICTIONS_FILE,
    STUDY_ID_TAG,
    TRIAL_ID_TAG,
)
from fmnist_sweep.tracking.runs import filter_runs, read_artifact, search_runs

if TYPE_CHECKING:
    from mlflow.entities import Run

    from fmnist_sweep.tracking.store import Store
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from mlflow.entities import Run
    from numpy.typing import NDArray

    from fmnist_sweep.data import Splits
    from fmnist_sweep.tracking.store import Store

_MAX_DRAWN_IMAGES = (
    1_000_000  # images: more than a sweep would hold, so that a foreign config.yaml cannot fill the memory
)
CURVE_METRICS = ("accuracy", "val_accuracy", "loss", "val_loss")


@dataclass(frozen=True)
class Predictions:
    """What a trial said of the validation images.

    index: (n,) their places in the training file. labels: (n,), 0..9. probabilities: (n, 10) float32.
    """

    index: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @cached_property
    def predicted_labels(self) -> NDArray[np.int64]:
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def correct_mask(self) -> NDArray[np.bool_]:
        return np.asarray(self.predicted_labels == self.labels)


@dataclass(frozen=True)
class StoredTrial:
    """One trial's run, the latest of its attempts.

    state: finished, failed, running or killed. params: as logged, all of them text. began, ended: ms since 1970.
    images: how many it was validated on; None where its run does not say.
    """

    run_id: str
    name: str
    state: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    began: int
    ended: int | None
    images: int | None = None

    @property
    def study_id(self) -> str:
        return self.tags.get(STUDY_ID_TAG, "")

    @property
    def trial_id(self) -> str:
        return self.tags.get(TRIAL_ID_TAG, "")

    @property
    def accuracy(self) -> float | None:
        """Of the best epoch on the validation images; None while there is none."""
        return self.metrics.get("best_val_accuracy") if self.state == "finished" else None

    @property
    def failure(self) -> str | None:
        reason = self.tags.get(FAILURE_TAG)
        return None if reason is None else make_printable(reason)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of its fit; where only the clock was read, that."""
        return self.metrics.get("cpu_seconds", self.metrics.get("fit_seconds", 0.0))

    @property
    def continued_trial_id(self) -> str | None:
        """The trial of the rung below whose training this one went on with, and whose time is part of its own."""
        return self.tags.get(CONTINUES_TAG)

    def parse_value(self, key: str) -> Any:
        """A parameter as what it was before it became text; None where the trial has no such parameter."""
        return parse_parameter(self.params.get(key))


def parse_parameter(text: str | None) -> Any:
    """What a parameter's text says: a number, a truth value, None, a list, or the text itself."""
    if text is None or text == "None":
        return None
    if text in ("True", "False"):
        return text == "True"
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_trials(store: Store, tags: Mapping[str, str], kinds: Sequence[str] = ("trial",)) -> list[StoredTrial]:
    """The trials with these tags (see tracking.search), the first begun first; superseded attempts are left out.

    kinds: of runs, as their tag fmnist.kind says.
    """
    with _pause_garbage_collection():
        return build_trials([run for kind in kinds for run in search_runs(store, {KIND_TAG: kind, **tags})])


def filter_trials(store: Store, conditions: Sequence[str]) -> list[StoredTrial]:
    """The trials that meet conditions in MLflow's own language, the first begun first."""
    with _pause_garbage_collection():
        return build_trials(filter_runs(store, " and ".join([f"tags.`{KIND_TAG}` = 'trial'", *conditions])))


@contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    # The database layer makes 70 objects a trial and no cycles; looking for these, the garbage collector goes over all
    # of them again and again, which takes two thirds of the time (benchmarks/store.py).
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_trials_of_journals(store: Store, journals: Iterable[str], kind: str = "trial") -> list[StoredTrial]:
    """The trials of these studies, each named by the tag fmnist.journal of its runs; kind: of these runs."""
    return [trial for journal in journals for trial in read_trials(store, {JOURNAL_TAG: journal}, [kind])]


def build_trials(runs: Sequence[Run]) -> list[StoredTrial]:
    """Runs as trials, the first begun first, without attempts that a later one followed."""
    latest_runs = [run for run in runs if FOLLOWED_BY_TAG not in run.data.tags]
    return sorted(map(_build_trial, latest_runs), key=lambda trial: (trial.began, trial.trial_id))


def _build_trial(run: Run) -> StoredTrial:
    return StoredTrial(
        run_id=str(run.info.run_id),
        name=make_printable(str(run.info.run_name)),
        state=str(run.info.status).lower(),
        params=run.data.params,
        metrics=run.data.metrics,
        tags=run.data.tags,
        began=run.info.start_time,
        ended=run.info.end_time,
        images=_read_image_count(run),
    )


def _read_image_count(run: Run) -> int | None:
    """How many images a run was validated on, from its dataset inputs."""
    for dataset_input in run.inputs.dataset_inputs if run.inputs else ():
        if any(tag.value == "validation" for tag in dataset_input.tags):
            return _parse_image_count(dataset_input.dataset.profile or "{}")
    return None


def _parse_image_count(profile: str) -> int | None:
    try:
        images = json.loads(profile).get("images")
    except (ValueError, AttributeError, RecursionError):  # whoever may write to the store can write another one
        return None
    return images if type(images) is int and images > 0 else None


def read_curves(store: Store, run_id: str) -> list[dict[str, float]]:
    """A trial's figures by epoch: a mapping an epoch with the keys of CURVES."""
    by_key = {
        key: {entry.step: entry.value for entry in store.client.get_metric_history(run_id, key)}
        for key in CURVE_METRICS
    }
    steps = sorted(set.intersection(*(set(values) for values in by_key.values())))
    return [{key: by_key[key][step] for key in CURVE_METRICS} for step in steps]


def read_predictions(store: Store, run_id: str) -> Predictions | None:
    """A finished trial's predictions of the validation images; None where the store has none, ValueError of others."""
    content = read_artifact(store, run_id, PREDICTIONS_FILE)
    return None if content is None else unpack_predictions(content)


def has_same_validation_images(
    a: StoredTrial, predictions_a: Predictions, b: StoredTrial, predictions_b: Predictions
) -> bool:
    """Whether two trials were scored on the same validation images in the same order."""
    # Places and labels alone would not tell images from others that are labelled alike.
    canonical = all(trial.tags.get(CANONICAL_TAG) == "true" for trial in (a, b))
    return (
        (canonical or a.tags.get(DATA_TAG) == b.tags.get(DATA_TAG))
        and np.array_equal(predictions_a.index, predictions_b.index)
        and np.array_equal(predictions_a.labels, predictions_b.labels)
    )


def load_trial_splits(store: Store, trial: StoredTrial, data_dir: str | None) -> Splits:
    """The splits a trial was trained and scored on, read again from the data.

    data_dir: the folder of the data files, where that is not the one a sweep finds by itself. Errors: DataError where
    the data is not at hand, or other data is.
    """
    owner_name = f"{trial.name} (run {trial.run_id})"
    content = read_artifact(store, trial.run_id, CONFIG_FILE)
    if content is None:
        raise DataError(f"{owner_name} has no config.yaml any more, which says what its data was.")
    expected = trial.tags.get(DATA_TAG)
    if expected is None:
        raise DataError(f"{owner_name} has no tag fmnist.data any more, which says what its data was.")
    data = build_data_config(_parse_data_section(content, owner_name), data_dir, owner_name)
    return load_matching_splits(data, expected, trial.name)


def _parse_data_section(content: bytes, owner_name: str) -> Mapping[str, Any]:
    """The data section of a trial's config.yaml; whose: for a message."""
    import yaml

    try:
        section = yaml.safe_load(content)["data"]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _build_altered_config_error(owner_name, f"found none ({type(error).__name__})") from None
    if not isinstance(section, Mapping):
        raise _build_altered_config_error(owner_name, f"found a {type(section).__name__}")
    return section


def build_data_config(section: Mapping[str, Any], data_dir: str | None, owner_name: str = "a trial") -> DataConfig:
    """The data section of a trial's config.yaml, with where its images are to be found here.

    whose: for a message. DataError where it is not as a sweep wrote it: others may have written to the store.
    """
    from pydantic import ValidationError

    location: dict[str, Any] = {"dir": data_dir, "download": True, "fallback": None}
    for key in location:
        if key in section:
            raise _build_altered_config_error(owner_name, f"found the key {key}, which a trial does not keep")
    try:
        config = DataConfig.model_validate({"include_validation": False, **section, **location})
    except ValidationError as error:
        mistake = error.errors()[0]
        field = ".".join(map(str, mistake["loc"]))
        raise _build_altered_config_error(owner_name, f"found that of {field[:80]}: {mistake['msg']}") from None
    if config.source == "drawn" and config.images > _MAX_DRAWN_IMAGES:
        raise _build_altered_config_error(owner_name, f"found more than {_MAX_DRAWN_IMAGES:,} images to draw")
    return config


def _build_altered_config_error(owner_name: str, finding: str) -> DataError:
    return DataError(
        f"the config.yaml of {owner_name} is damaged or was altered: expected the data section that a sweep writes, "
        f"{finding}; take another trial, or train it again."
    )


def unpack_predictions(content: bytes) -> Predictions:
    """The content of a predictions.npz; ValueError where it is something else."""
    # No pickle: whoever can write to a store could else run code here.
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return Predictions(
                np.asarray(file["index"], np.int64),
                np.asarray(file["labels"], np.int64),
                np.asarray(file["probabilities"], np.float32),
            )
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError) as error:
        raise ValueError(f"not the content of a predictions.npz ({type(error).__name__}: {error})") from None


def read_intact_predictions(store: Store, run_id: str) -> Predictions | None:
    """A trial's predictions; None where the store has none, or a damaged file."""
    # Read outside of the try: a store that is away may say so in a ValueError, too (requests' JSONDecodeError).
    content = read_artifact(store, run_id, PREDICTIONS_FILE)
    try:
        return None if content is None else unpack_predictions(content)
    except ValueError:  # a damaged file says as much as none, and must not keep a study from being closed
        return None
