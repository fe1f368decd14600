"""What each ingredient of the speed run is worth: the recipe beside itself without one of them, or with one more.

Each training is a process of its own on as many CPU-seconds as all others: an ingredient that makes epochs dearer has
fewer of them. A variant's number of epochs follows from a short measurement before its first training, whose time does
not count. Variants take turns, each with every seed; what is scored are the validation images after the last epoch,
and the test images stay closed. A second figure is of predictions averaged over each image and its mirror image, by the
model of the best epoch. Each finished training is a line of the results' file, so the command goes on where it
stopped.

    python benchmarks/speedrun.py [--minutes 10] [--threads 2] [--jobs 1] [--seeds 5]
        [--ingredients whitening,averaging] [--results FILE] [OVERRIDE ...]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from against_optuna import read_results

from fmnist_sweep.text import format_estimate, format_mean
from fmnist_sweep.training.environment import describe_machine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fmnist_sweep.data import Splits

ROOT = Path(__file__).resolve().parents[1]
RECIPE = "recipe"
# What makes the recipe one without the ingredient; of those that it lacks, one with it.
INGREDIENTS: Mapping[str, Sequence[str]] = {
    "fused normalization": ["train.normalization=keras"],
    "two replicas": ["train.replicas=1"],
    "residual blocks": ["model.residual=false", "model.growth=2.0"],  # with cheaper epochs, so more of them
    "members": ["model.members=2", "model.filters=16", "model.growth=2.0", "model.dense_units=40"],  # about as dear
    "flattening": ["model.head=global_average"],
    "averaging": ["train.averaging=0.0"],
    "label smoothing": ["train.label_smoothing=0.0"],
    "dropout": ["regularization.dropout=0.0"],
    "one cycle": ["train.schedule={name: constant}"],
    "alternating": ["train.augmentation={name: mirror_and_shift, flip: true, shift: 1}"],
    "erasing": ["train.augmentation.erase=0"],
    "growing images": ["model.head=global_average", "train.resolution={start: 20, step: 4, every: 3}"],
    "growing batches": ["train.batch_growth={factor: 2, every: 5}"],
    "whitening": ["model.whitening=true"],
    "muon": ["optimizer=adamw", "optimizer.learning_rate=0.006", "optimizer.weight_decay=0.03"],
}
ADDED = ("members", "growing images", "growing batches", "whitening")
BASES = {"growing images": "flattening"}  # what is compared with another variant than the recipe
_MEASURED_IMAGES = 4096  # of an epoch, for the estimate of what all of them take
_CONFIDENCE = 0.95

Result = dict[str, Any]


def describe_variant(ingredient: str) -> str:
    """The recipe, without an ingredient or with one."""
    if ingredient == RECIPE:
        return "the recipe"
    return f"{'with' if ingredient in ADDED else 'without'} {ingredient}"


def compose_variant(ingredient: str, overrides: Sequence[str], seed: int) -> tuple[dict[str, Any], Any]:
    """The config of a trial, and that of its data. Raises ConfigError."""
    from fmnist_sweep.config.compose import compose_job
    from fmnist_sweep.errors import ConfigError
    from fmnist_sweep.search.parameters import find_tunables
    from fmnist_sweep.sweep.plan import settle_precision

    words = ["experiment=speedrun", *INGREDIENTS.get(ingredient, []), *overrides, f"seed={seed}"]
    config = compose_job(words).config
    tuned = [name for name, _ in find_tunables(config.settings)]
    if tuned:
        raise ConfigError(f"{', '.join(tuned)}: expected values, found tunables; each variant is one configuration.")
    return settle_precision(config.settings), config.data


def train_variant(given: Mapping[str, Any]) -> Result:
    """Train a variant in this process. given: ingredient, overrides, seed, threads, seconds, and epochs if known."""
    from fmnist_sweep.data import load_splits
    from fmnist_sweep.training import backend
    from fmnist_sweep.training.events import EpochEnd, TrialResult, TrialSpec

    backend.set_threads(given["threads"])
    from fmnist_sweep.training.trial import run_trial

    config, data = compose_variant(given["ingredient"], given["overrides"], given["seed"])
    splits = load_splits(data)
    epochs = given["epochs"] or count_epochs(given["seconds"], *measure_costs(config, splits))
    config = {**config, "train": {**config["train"], "epochs": epochs}}
    accuracies, begun = list[float](), time.process_time()
    for event in run_trial(TrialSpec("0", config, "val_accuracy", data), splits):
        match event:
            case EpochEnd():
                accuracies.append(event.metrics["val_accuracy"])
            case TrialResult():
                parameters, mirrored = event.parameters, score_mirrored(event.model, event.probabilities, splits)
            case _:
                raise SystemExit(f"{describe_variant(given['ingredient'])}, seed {given['seed']}: {event}")
    return {
        "ingredient": given["ingredient"],
        "seed": given["seed"],
        "epochs": epochs,
        "accuracy": round(accuracies[-1], 6),
        "best": round(max(accuracies), 6),
        "mirrored": round(mirrored, 6),
        "cpu_seconds": round(time.process_time() - begun, 1),
        "parameters": parameters,
        "images": [len(splits.train.labels), len(splits.validation.labels)],
    }


def score_mirrored(model: bytes, probabilities: NDArray[np.float32], splits: Splits) -> float:
    """Accuracy on the validation images, each predicted as it is (probabilities) and mirrored, by a .keras file."""
    from fmnist_sweep.tracking.models import load_keras_file
    from fmnist_sweep.training.batches import predict_images
    from fmnist_sweep.training.compilation import PREDICTION_BATCH

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        path.write_bytes(model)
        loaded = load_keras_file(path)
    mirrored = predict_images(loaded, splits.validation.images[:, :, ::-1], PREDICTION_BATCH)
    return float(((probabilities + mirrored).argmax(axis=1) == splits.validation.labels).mean())


def measure_costs(config: Mapping[str, Any], splits: Splits) -> tuple[float, Iterator[tuple[float, float]]]:
    """CPU-seconds to validate, and for each epoch from the first on those to trace it and those to train it.

    Epochs that have images and batches of one size are measured once, on a part of the images.
    """
    from fmnist_sweep.training import backend
    from fmnist_sweep.training.augmentation import augment_images
    from fmnist_sweep.training.compilation import PREDICTION_BATCH, compile_model
    from fmnist_sweep.training.growth import compute_batch_size, compute_side, shrink_images
    from fmnist_sweep.training.optimization import encode_targets

    train, images = config["train"], splits.train.images
    targets = encode_targets(train["loss"], splits.train.labels, len(splits.description.labels))
    backend.clear_session()
    compiled = compile_model(config, splits.description)

    def fit(side: int, batch: int, count: int) -> float:
        begun = time.process_time()
        changed = augment_images(train["augmentation"], images[:count], seed=config["seed"], epoch=1)
        compiled.fit(shrink_images(changed, side), targets[:count], batch)
        return time.process_time() - begun

    def validate(count: int) -> float:
        begun = time.process_time()
        compiled.plain.predict(splits.validation.images[:count], batch_size=PREDICTION_BATCH, verbose=0)
        return time.process_time() - begun

    def list_costs() -> Iterator[tuple[float, float]]:
        known = dict[tuple[int, int], float]()
        epoch = 1
        while True:
            stage = compute_side(train, epoch, min(images.shape[1:3])), compute_batch_size(train, epoch)
            tracing = 0.0
            if stage not in known:
                count = min(len(images), max(stage[1], _MEASURED_IMAGES // stage[1] * stage[1]))
                first = fit(*stage, count)
                # The least of three: what else the machine does only adds to it.
                known[stage] = min(fit(*stage, count) for _ in range(3)) * len(images) / count
                tracing = max(0.0, first - known[stage] * count / len(images))
            yield tracing, known[stage]
            epoch += 1

    count = len(splits.validation.labels)
    validate(count)
    return validate(count), list_costs()


def count_epochs(seconds: float, validation: float, costs: Iterator[tuple[float, float]]) -> int:
    """How many epochs so many CPU-seconds suffice for, at least one; see `measure_costs`."""
    epochs, spent = 0, 0.0
    for tracing, training in costs:
        spent += tracing + training + validation
        if spent > seconds and epochs:
            return epochs
        epochs += 1
    return epochs


def run_variant(ingredient: str, seed: int, epochs: int | None, given: argparse.Namespace) -> Result:
    """Train a variant in a process of its own."""
    seconds = 60 * given.minutes * given.threads
    task = {"ingredient": ingredient, "seed": seed, "epochs": epochs, "seconds": seconds, "threads": given.threads}
    child = [sys.executable, __file__, "--child", json.dumps({**task, "overrides": given.overrides})]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(child, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{describe_variant(ingredient)}, seed {seed}: {done.stderr.strip()[-3000:]}")
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def describe_conditions(given: argparse.Namespace) -> Mapping[str, Any]:
    """What all trainings of a results' file share."""
    config, _ = compose_variant(RECIPE, given.overrides, 0)
    shared = {key: getattr(given, key) for key in ("minutes", "threads", "overrides")}
    return {**shared, "recipe": config, "machine": describe_machine()}


def compare_variant(ingredient: str, results: Sequence[Result]) -> str:
    """A row of the table: epochs, both accuracies, CPU-seconds, and the difference of the first from its base's."""
    by_seed = {each["seed"]: each for each in results if each["ingredient"] == ingredient}
    trained = {each["ingredient"] for each in results}
    base = BASES[ingredient] if BASES.get(ingredient) in trained else RECIPE
    other = {each["seed"]: each for each in results if each["ingredient"] == base}
    pairs = [(by_seed[seed]["accuracy"], other[seed]["accuracy"]) for seed in sorted(set(by_seed) & set(other))]
    columns = [describe_variant(ingredient), ", ".join(map(str, sorted({each["epochs"] for each in by_seed.values()})))]
    for key, decimals in (("accuracy", 4), ("mirrored", 4), ("cpu_seconds", 0)):
        values = [each[key] for each in by_seed.values()]
        spread = statistics.stdev(values) if len(values) > 1 else None
        columns.append(format_mean(statistics.mean(values), spread, len(values), decimals))
    difference = "" if ingredient == RECIPE else describe_difference([mine - its for mine, its in pairs])
    columns.append(difference if base == RECIPE else f"{difference}, {describe_variant(base)}")
    return f"| {' | '.join(columns)} |"


def describe_difference(differences: Sequence[float]) -> str:
    """The mean of the differences of pairs of one seed, with its interval by Student's t."""
    from scipy import stats

    if not differences:
        return "no pair"
    mean = statistics.mean(differences)
    if len(differences) < 2 or len(set(differences)) == 1:
        return format_estimate(mean, None, None, signed=True)
    interval = stats.ttest_1samp(differences, 0).confidence_interval(_CONFIDENCE)
    spread = f"sd {statistics.stdev(differences):.4f}, n={len(differences)}"
    return f"{format_estimate(mean, *interval, signed=True)} ({spread})"


def list_ingredients(text: str) -> list[str]:
    """The ingredients of a list with commas; raises ArgumentTypeError for one that there is not."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in INGREDIENTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: unknown; allowed: {', '.join(INGREDIENTS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of all threads, for each training")
    parser.add_argument("--threads", type=int, default=2, help="of each training")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, on cores of their own")
    parser.add_argument("--seeds", type=int, default=5, help="of each variant: 1, 2, ...")
    parser.add_argument(
        "--ingredients", type=list_ingredients, default=list(INGREDIENTS), help=f"default: {','.join(INGREDIENTS)}"
    )
    parser.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="of the product's config, such as data.limit=2000")
    given = parser.parse_args()
    for name in ("minutes", "threads", "jobs", "seeds"):
        if not 0 < getattr(given, name) < math.inf:
            parser.error(f"--{name}={getattr(given, name)}: expected a number above 0")
    if given.child:
        print(json.dumps(train_variant(given.child)))
        return
    results = run_all(given)
    print("| what | epochs | validation accuracy | with mirror images | CPU-seconds | difference of the pairs |")
    print("|" + " --- |" * 6)
    for ingredient in (RECIPE, *given.ingredients):
        print(compare_variant(ingredient, results))


def run_all(given: argparse.Namespace) -> list[Result]:
    """Train what is missing, seed by seed, the variants in turn; all results, the earlier ones included."""
    from fmnist_sweep.errors import UserError

    try:
        conditions = json.loads(json.dumps(describe_conditions(given)))
    except UserError as error:
        raise SystemExit(str(error)) from None
    results = read_results(given.results, conditions)
    for seed in range(1, given.seeds + 1):
        ended = {each["ingredient"] for each in results if each["seed"] == seed}
        epochs = {each["ingredient"]: each["epochs"] for each in results}
        tasks = [
            (ingredient, seed, epochs.get(ingredient), given)
            for ingredient in (RECIPE, *given.ingredients)
            if ingredient not in ended
        ]
        with ThreadPoolExecutor(given.jobs) as pool:
            for result in pool.map(lambda task: run_variant(*task), tasks):
                results.append({**result, "conditions": conditions})
                with given.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(results[-1]) + "\n")
                print(describe_result(result), flush=True)
    return results


def describe_result(result: Result) -> str:
    """A line about a training that has ended."""
    costs = f"{result['epochs']} epochs, {result['cpu_seconds']:.0f} CPU s, {result['parameters']:,} parameters"
    said = f"seed {result['seed']}, {describe_variant(result['ingredient'])}: {result['accuracy']:.4f}"
    return f"{said}, {costs}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
