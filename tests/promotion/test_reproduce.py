"""A registered version trained again: the same bits, or what differs and by how much."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_sweep.errors import StoreError
from fmnist_sweep.promotion.reproduction import read_version_record
from fmnist_sweep.tracking.names import (
    MACHINE_TAG,
    MODEL_NAME,
    SEED_TAG,
    SEEDS_TAG,
    THREADS_TAG,
    VAL_ACCURACY_SD_TAG,
    VAL_ACCURACY_TAG,
    VERSIONS_TAG,
    WEIGHTS_SHA256_TAG,
)
from fmnist_sweep.tracking.registry import list_versions, resolve_version
from fmnist_sweep.tracking.store import build_default_uri, open_existing_store
from fmnist_sweep.tracking.version_files import load_version
from fmnist_sweep.training import backend
from tests.conftest import LIMIT_SECONDS, Command, needs_fashion_mnist
from tests.support.in_process import run_verb
from tests.support.small import PLAIN

HERE = ("executor=in_process",)
SWEEP = (
    *(
        *PLAIN,
        "data.limit=400",
        "model.filters=4",
        "model.conv_layers=1",
        "model.dense_units=16",
        "regularization=none",
    ),
    *("train.epochs=1", "train.precision=float32", "search=grid", *HERE),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_sweep: Command, warm_verb: Command) -> Path:
    """A folder with a champion, as promote registers it."""
    folder = tmp_path_factory.mktemp("reproduce")
    plain = {"FAULTS_PLAIN": "1"}  # stand-ins for figures
    done = warm_sweep(*SWEEP, cwd=folder, environment=plain)
    assert done.returncode == 0, done.stdout + done.stderr
    done = warm_verb("promote", "promote.seeds=2", *HERE, cwd=folder, environment=plain)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _version(folder: Path) -> Any:
    store = open_existing_store(build_default_uri(folder), "fashion-mnist")
    return resolve_version(store, "champion")


@contextmanager
def _saying(folder: Path, tags: Mapping[str, str | None]) -> Iterator[None]:
    """The version with other tags, None for one that is gone; put right again afterwards."""
    client = open_existing_store(build_default_uri(folder), "fashion-mnist").client
    before = _version(folder).tags
    try:
        for key, value in tags.items():
            if value is None:
                client.delete_model_version_tag(MODEL_NAME, "1", key)
            else:
                client.set_model_version_tag(MODEL_NAME, "1", key, value)
        yield
    finally:
        for key in tags:
            client.set_model_version_tag(MODEL_NAME, "1", key, before[key])


@pytest.mark.slow
@needs_fashion_mnist
def test_the_same_model_comes_of_it_and_is_written_where_it_is_asked_for(
    folder: Path, warm_verb: Command, tmp_path: Path
) -> None:
    from fmnist_sweep.training import trial

    new = tmp_path / "again.keras"
    runs = open_existing_store(build_default_uri(folder), "fashion-mnist")
    before = len(runs.client.search_runs([runs.experiment_id]))
    done = warm_verb("reproduce", "models:/fashion-mnist/1", "--out", str(new), cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical bit for bit: every weight and every predicted probability" in done.stdout
    assert done.stderr == ""
    registered, rebuilt = load_version(runs, _version(folder)), trial.load_model(new)
    for one, other in zip(registered.get_weights(), rebuilt.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(runs.client.search_runs([runs.experiment_id])) == before
    assert len(list_versions(runs)) == 1


@pytest.mark.slow
@needs_fashion_mnist
@pytest.mark.skipif(backend.count_usable_cores() < 2, reason="needs two cores, to be given one of them")
def test_on_another_machine_what_differs_is_named_and_the_accuracy_agrees_within_the_noise(folder: Path) -> None:
    threads = _version(folder).tags[THREADS_TAG]
    kept = json.loads(_version(folder).tags[VERSIONS_TAG])
    elsewhere = {
        MACHINE_TAG: "Another processor, Linux x86_64",
        VERSIONS_TAG: json.dumps({**kept, "tensorflow": "2.0.0"}),
        WEIGHTS_SHA256_TAG: "0" * 64,
    }
    core = min(os.sched_getaffinity(0))
    with _saying(folder, elsewhere):
        done = subprocess.run(
            [sys.executable, "-m", "fmnist_sweep.cli.main", "reproduce"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = [line for line in done.stdout.splitlines() if line.startswith("the rebuilt model is not identical")]
    assert "machine: Another processor, Linux x86_64; here " in told
    assert f"threads: {threads}; here 1" in told
    assert f"tensorflow: 2.0.0; here {kept['tensorflow']}" in told
    assert "keras:" not in told
    assert "within the" in done.stdout


@pytest.mark.slow
@needs_fashion_mnist
def test_an_accuracy_beyond_the_noise_of_training_seeds_is_no_reproduction(folder: Path, warm_verb: Command) -> None:
    other = {WEIGHTS_SHA256_TAG: "0" * 64, VAL_ACCURACY_TAG: "0.999", VAL_ACCURACY_SD_TAG: "0.0001"}
    with _saying(folder, other):
        done = warm_verb("reproduce", cwd=folder)
    assert done.returncode == 10, done.stdout + done.stderr
    assert "registered 0.999000" in done.stdout
    assert "MORE THAN" in done.stdout
    assert "differences between the trainings: none is known" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@needs_fashion_mnist
@pytest.mark.parametrize("missing", [SEED_TAG, "fmnist.configuration"])
def test_a_version_that_does_not_say_how_it_was_trained_is_refused_in_one_sentence(folder: Path, missing: str) -> None:
    with _saying(folder, {missing: None}):
        done = run_verb("reproduce", cwd=folder)
    assert done.returncode == 4
    assert "version 1 does not say how it was trained" in done.stderr
    assert missing in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@needs_fashion_mnist
@pytest.mark.parametrize(
    ("key", "value"),
    [
        (SEED_TAG, "one"),
        (THREADS_TAG, "two"),
        (THREADS_TAG, "0"),
        (SEEDS_TAG, "1"),
        (VERSIONS_TAG, "[]"),
        (VERSIONS_TAG, "no JSON"),
        ("fmnist.configuration", "[]"),
        ("fmnist.configuration", "{}"),
        ("fmnist.configuration", "SETTINGS"),
    ],
)
def test_tags_that_were_altered_by_hand_are_refused_in_one_sentence(folder: Path, key: str, value: str) -> None:
    version = _version(folder)
    if value == "SETTINGS":
        value = json.dumps({**json.loads(version.tags[key]), "settings": 3})
    version.tags[key] = value
    with pytest.raises(StoreError, match="version 1 does not say how it was trained"):
        read_version_record(version)


@pytest.mark.slow
@needs_fashion_mnist
def test_other_data_and_a_file_that_is_there_are_refused_before_anything_is_trained(
    folder: Path, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    header = np.array([0x803, 400, 28, 28], ">i4").tobytes()
    pixels = generator.integers(0, 256, (400, 28, 28)).astype(np.uint8).tobytes()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(header + pixels)
    labels = (np.arange(400) % 10).astype(np.uint8).tobytes()
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(np.array([0x801, 400], ">i4").tobytes() + labels)
    refused = run_verb("reproduce", "--data-dir", str(tmp_path), cwd=folder)
    assert refused.returncode == 3
    assert "--data-dir" in refused.stderr
    there = run_verb("reproduce", "--out", str(tmp_path / "train-labels-idx1-ubyte"), cwd=folder)
    assert there.returncode == 2
    assert "there is a file already" in there.stderr
    for done in (refused, there):
        assert done.stderr.count("\n") == 1
        assert "epoch" not in done.stdout
