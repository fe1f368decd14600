"""What somebody who may write to a shared store can leave there, by a seed: runs, files, logged models, versions."""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag
from mlflow.exceptions import MlflowException

from fmnist_sweep.config.identity import identify_study
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.report.documented.recipe_runs import compose_recipe
from fmnist_sweep.tracking.names import MODEL_NAME
from fmnist_sweep.tracking.store import Store, point_mlflow_at

TEXTS = (
    *("", " ", "None", "nan", "NaN", "Infinity", "1e999", "-1", "0", "9" * 400, "true", "[]", "{}", "null"),
    *("[" * 6000, '{"a":' * 1200, "[" * 500 + "]" * 500, '"\\ud800"', '{"a": NaN}', '["x", 1, null]', "x" * 6000),
    *("\\", "a\\", "'", '"', "'\"`", "%", "`", "x' OR '1' = '1", "../../x", "/etc/passwd", "a/b", "a b c", ";--"),
    *(
        "=1+1",
        "+1",
        "-1+2",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "\x1b[2J",
        "\u202e",
        "ü",
        "日本",
        "</script><script>alert(1)</script>",
    ),
    *("[bold]x[/bold]", "[/]", "{0}", "%s", "${x}", "0000", "0001", "9999", "٣"),
)
NUMBERS = (math.nan, math.inf, -math.inf, -1.0, 0.0, 0.5, 1.0, 1.5, 7.0, 1e-320, 1e18, 1e308, -1e308)
TIMES = (0, 1, -1, 1_700_000_000_000, 253_402_300_800_000, 2**53, 2**62)
KINDS = ("trial", "trial", "trial", "study", "sweep", "confirmation", "promotion", "finalist", "", "x")
STATES = ("FINISHED", "FINISHED", "FINISHED", "FAILED", "KILLED", "RUNNING", "SCHEDULED")
TAGS = (
    *("fmnist.journal", "fmnist.journals", "fmnist.studies", "fmnist.sweep_id", "fmnist.study_id", "fmnist.trial_id"),
    *("fmnist.attempt", "fmnist.followed_by", "fmnist.follows", "fmnist.continues", "fmnist.failure", "fmnist.data"),
    "fmnist.promoted_from",
    *("fmnist.canonical", "fmnist.precision", "fmnist.nonce", "fmnist.config_hash", "fmnist.test_opened"),
    *("fmnist.best_run", "fmnist.model", "mlflow.parentRunId", "mlflow.source.name", "mlflow.note.content"),
)
COLUMNS = (
    *("run_id", "name", "kind", "sweep_id", "study_id", "trial_id", "attempt", "state", "data", "precision", "images"),
    *("best_val_accuracy", "low", "high", "best_epoch", "parameters", "fit_seconds", "cpu_seconds", "began", "ended"),
    *("failure", "n", "mean", "sd", "seeds", "run_ids", "val_f1.Shirt", "rank", "tied_with_best", "index", "level_0"),
)
PARAMS = (*COLUMNS, "model.filters", "model.builder", "optimizer.learning_rate", "train.epochs", "seed", "a b/c:d-e")
METRICS = (
    *("best_val_accuracy", "best_epoch", "parameters", "size_bytes", "ms_per_image", "fit_seconds", "cpu_seconds"),
    *("val_f1.Shirt", "val_f1.x"),
    *("accuracy", "val_accuracy", "loss", "val_loss", "test_accuracy", "run_id"),
)
VERSION_TAGS = (
    *("fmnist.sha256", "fmnist.configuration", "fmnist.seed", "fmnist.seeds", "fmnist.threads", "fmnist.versions"),
    *("fmnist.val_accuracy", "fmnist.val_accuracy_sd", "fmnist.test_accuracy", "fmnist.finalist", "fmnist.decision"),
    *("fmnist.data", "fmnist.name", "fmnist.verdict", "fmnist.weights_sha256", "fmnist.predictions_sha256"),
)
RECIPES = ("simple", "double_conv")  # of the write-up 004
RECIPE_TAGS = (
    *("fmnist.data", "fmnist.canonical", "fmnist.test_opened", "fmnist.executor", "fmnist.git", "fmnist.study_id"),
    "mlflow.parentRunId",
)
MOVE: dict[str, Any] = {
    "time": "2026-01-01T00:00:00",
    "alias": "champion",
    "version": "1",
    "previous": None,
    "kind": "promoted",
}
MOVE |= {"why": "", "command": "", "user": "x", "completed": True}


@dataclass
class Planted:
    """What was left. run_ids, versions: of it. by_seed: what each seed chose, for a message."""

    run_ids: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    moves: list[str] = field(default_factory=list)
    by_seed: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Intruder:
    """Somebody who read all tags of a store's honest runs. honest_tags, honest_params: of one run of each kind."""

    store: Store
    honest_tags: Mapping[str, Mapping[str, str]]
    honest_params: Mapping[str, str]

    def plant(self, seed: int, planted: Planted) -> None:
        """Leave one thing in the store. What MLflow itself refuses is not left."""
        draw = random.Random(seed)
        make: Callable[[random.Random, Planted], str] = draw.choice(
            [
                *([self._make_run] * 6 + [self._make_recipe_run] * 2),
                *(self._make_logged_model, self._make_version, self._make_version, self._make_move),
            ]
            + [self._make_recipe_run] * 2
            + [self._make_logged_model, self._make_version, self._make_version, self._make_move]
        )
        try:
            planted.by_seed[seed] = make(draw, planted)
        except MlflowException as error:
            planted.by_seed[seed] = f"refused by MLflow: {str(error)[:60]}"

    def clear(self, planted: Planted) -> None:
        """Take it away again."""
        for run_id in planted.run_ids:
            self.store.client.delete_run(run_id)
        for version in planted.versions:
            self.store.client.delete_model_version(MODEL_NAME, version)
        for key in planted.moves:
            self.store.client.delete_registered_model_tag(MODEL_NAME, key)

    def _make_run(self, draw: random.Random, planted: Planted) -> str:
        kind = draw.choice(KINDS)
        tags = dict(self.honest_tags.get(kind, self.honest_tags["trial"])) if draw.random() < 0.8 else {}
        tags["fmnist.kind"] = kind
        for key in draw.sample(TAGS, draw.randint(0, 4)):
            if draw.random() < 0.3:
                tags.pop(key, None)
            else:
                tags[key] = draw.choice(TEXTS)
        begin = draw.choice(TIMES) if draw.random() < 0.4 else None
        run_id = self._create(tags, begin, draw.choice((*TEXTS, "a name")))
        planted.run_ids.append(run_id)
        self._log(run_id, draw)
        state, end = draw.choice(STATES), draw.choice(TIMES) if draw.random() < 0.3 else None
        self.store.client.set_terminated(run_id, state, end)
        return f"a {kind} {state}, {run_id}"

    def _make_recipe_run(self, draw: random.Random, planted: Planted) -> str:
        """A finished trial with the settings of a write-up's recipe, and mostly with an odd record of its study."""
        params, identity = _describe_recipe(draw.choice(RECIPES))
        for _ in range(draw.randint(0, 3)):
            _alter(identity, draw)
        parent = self._create({"fmnist.kind": draw.choice(("study", "x"))}, None, "a study")
        trial = self._create({**self.honest_tags["trial"], "mlflow.parentRunId": parent}, None, "a trial")
        planted.run_ids += [parent, trial]
        for tag in draw.sample(RECIPE_TAGS, draw.randint(0, 2)):
            _try(partial(self.store.client.set_tag, trial, tag, draw.choice(TEXTS)))
        for key, text in params.items():
            _try(partial(self.store.client.log_param, trial, key, text))
        self._log(trial, draw)
        _try(lambda: self.store.client.log_metric(trial, "best_val_accuracy", 0.9))
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "identity.json").write_text(json.dumps(identity))
            self.store.client.log_artifacts(parent, folder)
        self.store.client.set_terminated(trial, "FINISHED")
        return f"a recipe's run {trial} of study {parent}"

    def _create(self, tags: Mapping[str, str], begin: int | None, name: str) -> str:
        run = self.store.client.create_run(self.store.experiment_id, begin, {}, name or None)
        for key, value in tags.items():
            _try(partial(self.store.client.set_tag, run.info.run_id, key, value))
        return str(run.info.run_id)

    def _log(self, run_id: str, draw: random.Random) -> None:
        client = self.store.client
        params = dict(self.honest_params) if draw.random() < 0.6 else {}
        params |= {key: draw.choice(TEXTS) for key in draw.sample(PARAMS, draw.randint(0, 6))}
        for key, text in params.items():
            _try(partial(client.log_param, run_id, key, text))
        metrics = {"best_val_accuracy": 0.99, "best_epoch": 1.0, "parameters": 10.0} if draw.random() < 0.7 else {}
        metrics |= {key: draw.choice(NUMBERS) for key in draw.sample(METRICS, draw.randint(0, 5))}
        steps = draw.choice(((0,), (1, 2, 3), (-5, 10**15), (1,) * 3))
        entries = [Metric(key, value, draw.choice(TIMES[:4]), step) for key, value in metrics.items() for step in steps]
        _try(lambda: client.log_batch(run_id, metrics=entries, tags=[RunTag("x", draw.choice(TEXTS))]))
        if draw.random() < 0.5:
            profile = draw.choice((*TEXTS, '{"images": 1e9}', '{"images": 99999999999999999999}', '{"images": -4}'))
            source = Dataset("x", "y", "z", "w", profile=profile)
            inputs = [DatasetInput(source, [InputTag("mlflow.data.context", "validation")])]
            _try(lambda: client.log_inputs(run_id, datasets=inputs))
        if draw.random() < 0.6:
            self._log_files(run_id, draw)

    def _log_files(self, run_id: str, draw: random.Random) -> None:
        files = {
            "predictions.npz": pack_odd_arrays(draw),
            "config.yaml": draw.choice(TEXTS).encode(),
            "overrides.txt": draw.choice(TEXTS).encode(),
            "identity.json": draw.choice(TEXTS).encode(),
        }
        with tempfile.TemporaryDirectory() as folder:
            for name in draw.sample(sorted(files), draw.randint(1, 4)):
                Path(folder, name).write_bytes(files[name])
            self.store.client.log_artifacts(run_id, folder)

    def _make_logged_model(self, draw: random.Random, planted: Planted) -> str:
        honest = draw.choice(sorted(tags["run_id"] for tags in self.honest_tags.values()))
        texts = {"fmnist.sha256": draw.choice(TEXTS), "x": draw.choice(TEXTS)}
        model = self.store.client.create_logged_model(
            self.store.experiment_id, name="model", source_run_id=honest, tags=texts, params={"run_id": "x"}
        )
        if draw.random() < 0.5:
            self.store.client.finalize_logged_model(model.model_id, draw.choice(("READY", "FAILED")))
        return f"a model of {honest}"

    def _make_version(self, draw: random.Random, planted: Planted) -> str:
        tags = {key: draw.choice(TEXTS) for key in draw.sample(VERSION_TAGS, draw.randint(0, len(VERSION_TAGS)))}
        honest = draw.choice(sorted(tags["run_id"] for tags in self.honest_tags.values()))
        run_id = draw.choice((None, honest, "0" * 32))
        models = sorted(each.model_id for each in self.store.client.search_logged_models([self.store.experiment_id]))
        with point_mlflow_at(self.store):
            source = draw.choice((f"runs:/{honest}/model", f"models:/{draw.choice(models)}"))
            version = self.store.client.create_model_version(MODEL_NAME, source, run_id, tags)
        planted.versions.append(str(version.version))
        if draw.random() < 0.7:
            alias = draw.choice(("champion", "challenger", "x", "latest-one"))
            self.store.client.set_registered_model_alias(MODEL_NAME, alias, version.version)
        return f"version {version.version}"

    def _make_move(self, draw: random.Random, planted: Planted) -> str:
        key = f"fmnist.move.{draw.choice(('0001', '0002', '9' * 9, '9' * 40, 'x', '-1', '٣'))}"
        changes: dict[str, Any] = {
            name: draw.choice((*TEXTS[:40], 7, None, [], True)) for name in draw.sample(sorted(MOVE), 3)
        }
        text = draw.choice((*TEXTS, json.dumps({**MOVE, **changes}), json.dumps({**MOVE, **changes})))
        self.store.client.set_registered_model_tag(MODEL_NAME, key, text)
        if key not in planted.moves:
            planted.moves.append(key)
        return f"{key} = {text[:60]}"


@cache
def _describe_recipe_text(recipe: str) -> tuple[Mapping[str, str], str]:
    job = compose_recipe(recipe, ())
    settings = {**job.config.settings, "train": {**job.config.settings["train"], "precision": "float32"}}
    identity = identify_study(job, "", settings, "0" * 64).identity
    params = flatten_config({**settings, "data": job.config.data.describe_content()})
    texts = {key: json.dumps(value) if isinstance(value, dict | list) else str(value) for key, value in params.items()}
    return texts, json.dumps(identity)


def _describe_recipe(recipe: str) -> tuple[Mapping[str, str], dict[str, Any]]:
    """The parameters of a recipe's trial, and what identifies its study."""
    params, text = _describe_recipe_text(recipe)
    return params, json.loads(text)


def _alter(content: dict[str, Any], draw: random.Random) -> None:
    """Put something else in the place of one of the values in nested mappings, or take it away."""
    key = draw.choice(sorted(content, key=str))
    if isinstance(content[key], dict) and content[key] and draw.random() < 0.7:
        _alter(content[key], draw)
    elif draw.random() < 0.2:
        del content[key]
    else:
        content[key] = draw.choice((*TEXTS[:40], *NUMBERS[3:9], None, [], [1], {}, {"x": []}, True, 10**30))


def _try(call: Callable[[], Any]) -> None:
    with contextlib.suppress(MlflowException):  # what MLflow refuses itself
        call()


def pack_odd_arrays(draw: random.Random) -> bytes:
    """The content of a predictions.npz whose names are right, and mostly nothing else."""
    n = draw.choice((0, 1, 40))
    generator = np.random.default_rng(draw.getrandbits(32))
    arrays: dict[str, Any] = {
        "index": draw.choice((np.arange(n), np.arange(n + 1), -np.arange(n), np.array(3), np.array(["x"] * n))),
        "labels": draw.choice((np.arange(n) % 10, np.arange(n) + 5, np.zeros((n, 2)), np.full(n, np.nan))),
        "probabilities": draw.choice(
            (
                *(generator.dirichlet(np.ones(10), n), generator.dirichlet(np.ones(9), n), np.full((n, 10), np.nan)),
                *(np.zeros((n, 10)), np.full((n, 10), 2.0), np.ones(n), np.ones((n, 10), np.complex64)),
            )
        ),
    }
    if draw.random() < 0.2:
        del arrays[draw.choice(sorted(arrays))]
    file = io.BytesIO()
    np.savez(file, **arrays)
    content = file.getvalue()
    return content if draw.random() < 0.8 else content[: draw.randint(0, len(content))]
