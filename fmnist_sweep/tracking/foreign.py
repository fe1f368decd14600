"""What others may have written to a store, checked in one place for type, shape, range and size.

Whoever may read a shared store may mostly write to it too. What no sweep or promotion writes is left out and named on
standard error, in one line for each look-up, so that it never hides what is honest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.description import MAX_LABELS, parse_description
from fmnist_sweep.reading import parse_json
from fmnist_sweep.text import echo, quote_text
from fmnist_sweep.tracking.names import (
    ATTEMPT_TAG,
    CONTINUES_TAG,
    DATA_TAG,
    DESCRIPTION_TAG,
    FOLLOWED_BY_TAG,
    FOLLOWS_TAG,
    JOURNAL_TAG,
    JOURNALS_TAG,
    KIND_TAG,
    MIRRORED_ACCURACY,
    PARENT_RUN_TAG,
    PROMOTED_FROM_TAG,
    SOURCE_NAME_TAG,
    STUDY_ID_TAG,
    SWEEP_ID_TAG,
    TRIAL_ID_TAG,
)

if TYPE_CHECKING:
    from fmnist_sweep.tracking.queries import StoredRun
    from fmnist_sweep.tracking.registry import RegisteredVersion
    from fmnist_sweep.tracking.store import Store

_MAX_NAMED = 3  # in one line
_MAX_TIME = 7_258_118_400_000  # in ms since 1970: the year 2200, before the last year that a table can hold
_MAX_ENTRIES, _MAX_LENGTH, _MAX_NAME_LENGTH = 2_000, 100_000, 5_000
_MAX_IMAGES, _MAX_PROFILE_LENGTH = 100_000_000, 10_000
_MAX_PATH_LENGTH = 4096
_MAX_DEPTH, _MAX_INTEGER = 20, 2**63  # of a parameter's value
_SUM_TOLERANCE = 0.05  # of a row of probabilities, which may have been computed in bfloat16

_STATUSES = frozenset(("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"))
_ID_TAGS = (
    *(JOURNAL_TAG, SWEEP_ID_TAG, STUDY_ID_TAG, TRIAL_ID_TAG, CONTINUES_TAG, PROMOTED_FROM_TAG),
    *(FOLLOWED_BY_TAG, FOLLOWS_TAG, PARENT_RUN_TAG),
)
_NEEDED_TAGS: Mapping[str, tuple[str, ...]] = {
    "sweep": (SWEEP_ID_TAG, JOURNAL_TAG, JOURNALS_TAG, DATA_TAG, SOURCE_NAME_TAG),
    "promotion": (SWEEP_ID_TAG, JOURNAL_TAG, JOURNALS_TAG, DATA_TAG, SOURCE_NAME_TAG),
    "finalist": (STUDY_ID_TAG, JOURNAL_TAG, DATA_TAG, SOURCE_NAME_TAG),
    "study": (STUDY_ID_TAG, JOURNAL_TAG, DATA_TAG, SOURCE_NAME_TAG),
    "trial": (STUDY_ID_TAG, TRIAL_ID_TAG),
    "confirmation": (STUDY_ID_TAG, TRIAL_ID_TAG),
}
_ID = re.compile(r"[0-9A-Za-z]{1,64}")
_ATTEMPT = re.compile(r"[1-9][0-9]{0,5}")
_VERSION_NUMBER = re.compile(r"[1-9][0-9]{0,8}")

_SHARE, _COUNT, _DURATION = (0.0, 1.0), (0.0, 1e15), (0.0, 1e12)
_METRIC_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("best_val_accuracy", "test_accuracy", MIRRORED_ACCURACY), _SHARE),
    **dict.fromkeys(("best_epoch", "parameters", "size_bytes"), _COUNT),
    **dict.fromkeys(("fit_seconds", "cpu_seconds", "ms_per_image"), _DURATION),
}

_Entry = TypeVar("_Entry")


class Misfit(ValueError):
    """Something that no sweep or promotion writes; its text says what, to follow a name and a colon."""


def select_fitting(
    store: Store,
    noun: str,
    entries: Iterable[_Entry],
    check: Callable[[_Entry], None],
    name: Callable[[_Entry], str],
) -> list[_Entry]:
    """The entries that pass a check, which raises Misfit for the others; these are named, once for each open store.

    noun: what one of them is called.
    """
    fitting: list[_Entry] = []
    misfits: list[tuple[str, str]] = []
    for entry in entries:
        try:
            check(entry)
            fitting.append(entry)
        except Misfit as error:
            misfits.append((name(entry), str(error)))
    name_left_out(store, noun, "not what fmnist-sweep writes", misfits)
    return fitting


def name_left_out(store: Store, noun: str, reason: str, misfits: Sequence[tuple[str, str]]) -> None:
    """Say in one line what is left out, and why; nothing of what was said before of this open store.

    misfits: the name of each, and what is wrong with it.
    """
    new = [misfit for misfit in misfits if (noun, *misfit) not in store.left_out]
    if not new:
        return
    store.left_out.update((noun, *misfit) for misfit in new)
    examples = "; ".join(f"{quote_text(name)}: {quote_text(wrong, 100)}" for name, wrong in new[:_MAX_NAMED])
    remainder = f"; and {len(new) - _MAX_NAMED} more" if len(new) > _MAX_NAMED else ""
    plural = "" if len(new) == 1 else "s"
    echo(f"left out {len(new)} {noun}{plural}, {reason}: {examples}{remainder}", err=True)


# Runs


def check_run(run: StoredRun) -> None:
    """Raise Misfit for a run that no sweep or promotion leaves."""
    _check_text("its id", run.run_id, _ID)
    if run.status not in _STATUSES or len(run.name) > _MAX_NAME_LENGTH:
        raise Misfit(f"its status is {quote_text(run.status)}, its name has {len(run.name)} characters")
    _check_time("its beginning", run.start_time)
    if run.end_time is not None:
        _check_time("its end", run.end_time)
    for entries in (run.tags, run.params):
        _check_texts(entries)
    if len(run.metrics) > _MAX_ENTRIES:
        raise Misfit(f"it has {len(run.metrics):,} metrics")
    _check_tags(run.tags)
    is_finished_trial = run.status == "FINISHED" and run.tags.get(KIND_TAG) in ("trial", "confirmation")
    if is_finished_trial and "best_val_accuracy" not in run.metrics:
        raise Misfit("it is finished and has no best_val_accuracy")
    for key, value in run.metrics.items():
        bounds = _SHARE if key.startswith("val_f1.") else _METRIC_RANGES.get(key)
        if bounds is not None:
            _check_number(key, value, bounds, is_whole=bounds is _COUNT)


def _check_tags(tags: Mapping[str, str]) -> None:
    for key in _NEEDED_TAGS.get(tags.get(KIND_TAG, ""), ()):
        if not tags.get(key):
            raise Misfit(f"it has no tag {key}")
    for key in _ID_TAGS:
        if key in tags:
            _check_text(key, tags[key], _ID)
    for journal in tags.get(JOURNALS_TAG, "").split():
        _check_text(JOURNALS_TAG, journal, _ID)
    if ATTEMPT_TAG in tags:
        _check_text(ATTEMPT_TAG, tags[ATTEMPT_TAG], _ATTEMPT)
    if DESCRIPTION_TAG in tags:
        try:
            parse_description(tags[DESCRIPTION_TAG])
        except ValueError as error:
            raise Misfit(f"{DESCRIPTION_TAG} is {quote_text(tags[DESCRIPTION_TAG])}: {error}") from None


def _check_texts(entries: Mapping[str, str]) -> None:
    if len(entries) > _MAX_ENTRIES:
        raise Misfit(f"it has {len(entries):,} tags or parameters")
    for key, text in entries.items():
        if type(text) is not str or len(text) > _MAX_LENGTH or len(key) > _MAX_LENGTH:
            raise Misfit(f"{quote_text(key)} is {quote_text(text)}")


def _check_text(name: str, text: object, pattern: re.Pattern[str]) -> None:
    if type(text) is not str or not pattern.fullmatch(text):
        raise Misfit(f"{name} is {quote_text(text)!r}")


def _check_time(name: str, time: object) -> None:
    if type(time) is not int or not 0 <= time <= _MAX_TIME:
        raise Misfit(f"{name} is {quote_text(time)} ms after 1970")


def _check_number(name: str, value: object, bounds: tuple[float, float], *, is_whole: bool = False) -> None:
    low, high = bounds
    # Written so that NaN does not pass.
    if not isinstance(value, int | float) or not low <= value <= high or (is_whole and value != int(value)):
        raise Misfit(f"{name} is {quote_text(value)}")


def is_curve_point(step: int, values: Mapping[str, float]) -> bool:
    """Whether the figures of an epoch are some that a training can have. step: the epoch, from 1."""
    return 1 <= step <= 10**9 and all(
        0 <= value <= 1 if key.endswith("accuracy") else math.isfinite(value) for key, value in values.items()
    )


def parse_image_count(profile: str | None) -> int | None:
    """How many images a logged dataset has, by its profile; None if that does not say."""
    if profile is None or len(profile) > _MAX_PROFILE_LENGTH:
        return None
    try:
        images = parse_json(profile).get("images")
    except (ValueError, AttributeError):
        return None
    return images if type(images) is int and 0 < images <= _MAX_IMAGES else None


def parse_location(source: str | None) -> str | None:
    """The path that a logged dataset was read from, by its source; None if that names none."""
    if source is None or len(source) > _MAX_PROFILE_LENGTH:
        return None
    try:
        location = parse_json(source).get("location")
    except (ValueError, AttributeError):
        return None
    is_path = isinstance(location, str) and location.isprintable() and location.startswith("/")
    return location if is_path and len(location) <= _MAX_PATH_LENGTH else None


def parse_parameter(text: str | None) -> Any:
    """The value that a parameter's text stands for: a number, a bool, None, a list, or the text itself."""
    if text is None or text == "None":
        return None
    if text in ("True", "False"):
        return text == "True"
    try:
        value = parse_json(text)
    except ValueError:
        return text
    return value if _is_plain(value, _MAX_DEPTH) else text


def _is_plain(value: object, depth: int) -> bool:
    """Whether a value can be counted with, shown and written to every kind of file."""
    if isinstance(value, dict | list):
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        return depth > 0 and all(_is_plain(part, depth - 1) for part in parts)
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or -_MAX_INTEGER <= value < _MAX_INTEGER


# Studies


def check_identity(identity: Any) -> None:
    """Raise Misfit for a value that does not identify a study as its run records it (IDENTITY_FILE)."""
    settings = identity.get("settings") if isinstance(identity, dict) else None
    train = settings.get("train") if isinstance(settings, dict) else None
    if not isinstance(settings, dict) or not isinstance(train, dict):
        raise Misfit("its study records no settings")
    seed, data, versions = settings.get("seed"), identity.get("data"), identity.get("versions")
    if type(seed) is not int or not 0 <= seed < _MAX_INTEGER:
        raise Misfit(f"its study has the seed {quote_text(seed)}")
    for name, text in (("precision", train.get("precision")), ("data", data)):
        if type(text) is not str or len(text) > _MAX_NAME_LENGTH:
            raise Misfit(f"its study has the {name} {quote_text(text)}")
    if not isinstance(versions, dict) or not all(type(text) is str for text in versions.values()):
        raise Misfit(f"its study has the versions {quote_text(versions)}")
    _check_texts(versions)


# Predictions


def check_predictions(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise Misfit for arrays that are not the predictions of images.

    index: (n,) not negative. labels: (n,), from 0. probabilities: (n, number of labels), rows of sum 1. Those of test
    images also have seen: (n,) bool, and image_hashes: (n,), unsigned.
    """
    images = arrays["labels"].shape[0] if arrays["labels"].ndim else 0
    label_count = arrays["probabilities"].shape[-1] if arrays["probabilities"].ndim else 0
    if not 2 <= label_count <= MAX_LABELS:
        raise Misfit(f"probabilities has the shape {arrays['probabilities'].shape}")
    shapes = {name: (images, label_count) if name == "probabilities" else (images,) for name in arrays}
    kinds = {"index": "iu", "labels": "iu", "probabilities": "f", "seen": "b", "image_hashes": "u"}
    for name, array in arrays.items():
        if array.shape != shapes[name] or array.dtype.kind not in kinds[name] or not images:
            raise Misfit(f"{name} has the shape {array.shape} and the type {array.dtype}")
    if arrays["index"].min() < 0 or arrays["labels"].min() < 0 or arrays["labels"].max() >= label_count:
        raise Misfit("its positions or labels are out of range")
    rows = np.asarray(arrays["probabilities"], np.float64)
    if not (rows.min() >= 0 and np.abs(rows.sum(axis=1) - 1).max() <= _SUM_TOLERANCE):  # so that NaN does not pass
        raise Misfit("its probabilities are none")


# Registered versions


def check_version(version: RegisteredVersion) -> None:
    """Raise Misfit for a registered version that MLflow cannot have made of a model."""
    _check_text("its number", version.number, _VERSION_NUMBER)
    if version.run_id is not None:
        _check_text("its run", version.run_id, _ID)
    _check_time("its creation", version.created)
    _check_texts(version.tags)
