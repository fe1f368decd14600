"""Promotions as tests type them: the sweeps before them, and what is in a folder before and after."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmnist_sweep.data import load_splits
from fmnist_sweep.tracking import registry as versions
from fmnist_sweep.tracking.models import KERAS_FILE
from fmnist_sweep.tracking.names import MODEL_NAME, SHA256_TAG
from fmnist_sweep.tracking.registry import CHAMPION
from fmnist_sweep.tracking.store import Store, build_default_uri, open_existing_store, point_mlflow_at
from tests.conftest import Command, data_config
from tests.support.small import PLAIN
from tests.support.zygote import VERB, Zygote

HERE = ("executor=in_process",)
SMALL = (
    *(*PLAIN, "model.conv_layers=1", "model.dense_units=16", "regularization=none", "train.precision=float32"),
    *("search=grid", *HERE),
)
SWEEP = ("data.limit=2000", "model.filters.values=[4,8]", "train.epochs=2", *SMALL)
TWO = ("promote.seeds=2", *HERE)
LEDGER = Path("mlruns", "test_openings.jsonl")


@dataclass(frozen=True)
class State:
    """All that a promotion may change. runs: by id. versions: by number. ledger: openings of the test images."""

    runs: dict[str, Any]
    versions: dict[str, Any]
    aliases: dict[str, str]
    ledger: list[dict[str, Any]]

    def kind(self, kind: str) -> list[Any]:
        """The runs of this kind, the first begun first."""
        found = [run for run in self.runs.values() if run.data.tags["fmnist.kind"] == kind]
        return sorted(found, key=lambda run: (run.info.start_time, run.data.tags.get("fmnist.trial_id", "")))

    def confirmations(self, name: str) -> list[Any]:
        """The trainings of a configuration with fresh seeds, the first seed first; of several attempts the last."""
        last = [run for run in self.kind("confirmation") if "fmnist.followed_by" not in run.data.tags]
        found = [run for run in last if run.info.run_name.startswith(f"{name} · seed")]
        return sorted(found, key=lambda run: int(run.data.params["seed"]))


@dataclass(frozen=True)
class Step:
    """One command: how it ended, and what there was before and after it."""

    code: int
    out: str
    error: str
    before: State
    after: State

    @property
    def told(self) -> str:
        """The sentence of a refusal."""
        assert self.error.count("\n") == 1, self.error
        assert "Traceback" not in self.error
        return self.error


def opened(folder: Path, experiment: str = "fashion-mnist") -> Store:
    return open_existing_store(build_default_uri(folder), experiment)


def look(folder: Path, experiment: str = "fashion-mnist") -> State:
    """What is in a folder's store, registry and ledger."""
    store = opened(folder, experiment)
    runs = store.client.search_runs([store.experiment_id], max_results=1000)
    ledger = folder / LEDGER
    return State(
        runs={run.info.run_id: run for run in runs},
        versions={version.number: version for version in versions.list_versions(store)},
        aliases=versions.read_aliases(store),
        ledger=[json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else [],
    )


def step(
    folder: Path, command: Callable[..., subprocess.CompletedProcess[str]], *arguments: str, cwd: Path | None = None
) -> Step:
    """Type a command in a folder."""
    before = look(folder)
    done = command(*arguments, cwd=cwd or folder)
    return Step(done.returncode, done.stdout, done.stderr, before, look(folder))


def swept(folder: Path, sweep: Command, *overrides: str) -> Path:
    """The folder, once this sweep ended well in it."""
    done = sweep(*overrides, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def artifact(folder: Path, run_id: str, path: str) -> bytes:
    return Path(opened(folder).client.download_artifacts(run_id, path)).read_bytes()


def model_id(run: Any) -> str:
    (output,) = run.outputs.model_outputs
    return str(output.model_id)


def model_file(folder: Path, run: Any) -> Path:
    location = opened(folder).client.get_logged_model(model_id(run)).artifact_location
    return Path(location.removeprefix("file://")) / KERAS_FILE


def best_trial(state: State) -> Any:
    return max(state.kind("trial"), key=lambda run: run.data.metrics["best_val_accuracy"])


def worst_trial(state: State) -> Any:
    return min(state.kind("trial"), key=lambda run: run.data.metrics["best_val_accuracy"])


def nothing_changed(step: Step) -> bool:
    """Whether neither a run, nor the registry, nor the ledger is other than before."""
    first, last = step.before, step.after
    return (
        {run_id: (run.info.status, run.info.end_time) for run_id, run in first.runs.items()}
        == {run_id: (run.info.status, run.info.end_time) for run_id, run in last.runs.items()}
        and first.versions.keys() == last.versions.keys()
        and first.aliases == last.aliases
        and first.ledger == last.ledger
    )


def idx_files(folder: Path, train: int, test: int) -> Path:
    """A folder of other images than Fashion-MNIST's, in files of the same kind."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for name, count in (("train", train), ("t10k", test)):
        pixels = generator.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        header = np.array([0x803, count, 28, 28], ">i4").tobytes()
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = (np.arange(count) % 10).astype(np.uint8)
        header = np.array([0x801, count], ">i4").tobytes()
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return folder


def epochs(out: str) -> list[str]:
    """The epochs that a command trained."""
    return re.findall(r"epoch \d+/\d+", out)


@contextmanager
def another_model_file(folder: Path, run: Any, content: bytes, told: str | None = None) -> Iterator[None]:
    """Another model file for a run, put right again afterwards. told: what is faked to be its checksum."""
    client, file, model = opened(folder).client, model_file(folder, run), model_id(run)
    kept, checksum = file.read_bytes(), client.get_logged_model(model).tags[SHA256_TAG]
    try:
        file.write_bytes(content)
        client.set_logged_model_tags(model, {SHA256_TAG: told or checksum})
        yield
    finally:
        file.write_bytes(kept)
        client.set_logged_model_tags(model, {SHA256_TAG: checksum})


def interrupt(folder: Path, zygote: Zygote, *arguments: str) -> Step:
    """Type a verb in a folder, with Ctrl-C in its second training."""
    before = look(folder)
    with zygote.start(*arguments, cwd=folder, entry=VERB) as running:
        running.wait_for("trial 2")
        running.send_signal(signal.SIGINT)
        ended = running.end()
    return Step(ended.returncode, ended.stdout, ended.stderr, before, look(folder))


def model_with_code(folder: Path) -> tuple[bytes, Path]:
    """A model file whose code makes another file when it runs, and the path of that one."""
    import keras

    code = str(folder / "ran")
    touch = keras.layers.Lambda(lambda x: (__import__("pathlib").Path(code).touch(), x)[1], output_shape=(28, 28, 1))
    evil = keras.Sequential([keras.Input((28, 28, 1)), touch, keras.layers.Flatten(), keras.layers.Dense(10)])
    evil.save(folder / "evil.keras")
    Path(code).unlink(missing_ok=True)
    return (folder / "evil.keras").read_bytes(), Path(code)


def predict_registered(folder: Path, images: Any) -> Any:
    """What the registered champion predicts, as MLflow loads it."""
    import mlflow

    with point_mlflow_at(opened(folder)):
        return mlflow.pyfunc.load_model(f"models:/{MODEL_NAME}@{CHAMPION}").predict(images)


def training_pixels(count: int) -> Any:
    """The first of the images that SWEEP trains on."""
    return load_splits(data_config(dir=os.environ["FMNIST_DATA_DIR"], limit=2000, validation=0.1)).train.images[:count]
