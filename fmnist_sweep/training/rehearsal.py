"""A rehearsal of own code before a sweep spends minutes: one configuration of each model, in all that a trial does."""

from __future__ import annotations

import random
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search import space
from fmnist_sweep.text import quote_text
from fmnist_sweep.training import backend, trial
from fmnist_sweep.training.augmentation import augment_images
from fmnist_sweep.training.compilation import compile_model
from fmnist_sweep.training.optimization import compute_learning_rate, encode_targets
from fmnist_sweep.training.own_code import PluginSource
from fmnist_sweep.training.own_metrics import compute_metrics, list_metrics
from fmnist_sweep.training.probe import resolve_middle

if TYPE_CHECKING:
    from fmnist_sweep.data import Splits

_MAX_IMAGES = 32
_TOLERANCE = 2e-2  # as of a saved model that is checked before it is promoted


def rehearse_study(settings: Mapping[str, Any], splits: Splits, plugins: Sequence[PluginSource]) -> None:
    """Build, train on one batch, save, load and predict with one configuration of each model of a study.

    settings: a study's, tunables included. plugins: its own code, which is active. Raises ConfigError, in one sentence,
    for what cannot be done. It changes nothing in the trials that follow.
    """
    state = random.getstate()  # Keras draws its seeds from it
    try:
        for config in _list_configurations(settings):
            _Rehearsal(config, splits, plugins).run()
    finally:
        backend.clear_session()
        random.setstate(state)


def _list_configurations(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """As many configurations as it takes to have each option of each group that is searched."""
    groups = space.find_option_groups(settings)
    for number in range(max(map(len, groups.values()), default=1)):
        options = {group: names[number % len(names)] for group, names in groups.items()}
        yield resolve_middle(settings, options)


class _Rehearsal:
    """The rehearsal of one configuration. Each step that fails names itself and the line of the plugin."""

    def __init__(self, config: Mapping[str, Any], splits: Splits, plugins: Sequence[PluginSource]) -> None:
        self._config, self._plugins = config, plugins
        self._images = splits.train.images[: min(_MAX_IMAGES, config["train"]["batch_size"])]
        self._labels = splits.train.labels[: len(self._images)]
        self._splits = splits

    def run(self) -> None:
        train = self._config["train"]
        with self._step("be built"):
            compiled = compile_model(self._config, self._splits.description)
        with self._step("change its training images"):
            images = augment_images(train["augmentation"], self._images, seed=self._config["seed"], epoch=1)
            _refuse_other_images(images, self._images)
        with self._step("compute a learning rate"):
            compute_learning_rate(train["schedule"], 1.0, train["epochs"], [])
        with self._step("train on one batch"):
            compiled.fit(
                images, encode_targets(train["loss"], self._labels, len(self._splits.description.labels)), len(images)
            )
        with self._step("predict"):
            expected = compiled.plain.predict(self._images, verbose=0)
        with self._step("compute its metrics"):
            compute_metrics(list_metrics(self._plugins), self._labels, expected)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            with self._step("be saved"):
                compiled.plain.optimizer, compiled.plain.compiled = None, False
                compiled.plain.save(path)
            with self._step("be loaded once it is saved"):
                loaded = trial.load_model(path)
                if not np.allclose(loaded.predict(self._images, verbose=0), expected, atol=_TOLERANCE):
                    raise ValueError(
                        "loaded, it predicts something else: get_config must return all that __init__ takes"
                    )

    @contextmanager
    def _step(self, action: str) -> Iterator[None]:
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:
            reason = quote_text(f"{type(error).__name__}: {error}".strip().splitlines()[0], 300)
            builder = self._config["model"]["builder"]
            raise ConfigError(
                f"model.builder={builder}: it cannot {action} ({reason}){self._locate(error)}; "
                "mend the plugin, and type the command again."
            ) from error

    def _locate(self, error: Exception) -> str:
        """Where in a plugin an error arose, or nothing."""
        places = {plugin.location for plugin in self._plugins}
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if any(frame.filename == place or frame.filename.startswith(f"{place}/") for place in places if place):
                return f" at {Path(frame.filename).name}, line {frame.lineno}"
        return ""


def _refuse_other_images(images: Any, originals: Any) -> None:
    if not isinstance(images, np.ndarray) or images.shape != originals.shape or images.dtype != originals.dtype:
        found = f"{images.shape} {images.dtype}" if isinstance(images, np.ndarray) else type(images).__name__
        raise ValueError(f"the augmentation returned {found}; expected {originals.shape} {originals.dtype}")
