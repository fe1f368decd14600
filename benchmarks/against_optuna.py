"""A sweep beside the script that a user would write instead (optuna_script.py): the same minutes, in turn, as pairs.

Both are whole commands with everything they log; the clock starts with the process, and what ends after the given
minutes does not count. Both search the default space on the same images, and judge by the same validation images; the
test images stay closed. Each finished search is a line of the results' file, so the command goes on where it stopped.

    python benchmarks/against_optuna.py [--minutes 10] [--pairs 5] [--search "search=tpe"] [--precision float32]
        [--results FILE] [--picture FILE] [OVERRIDE ...]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmnist_sweep.text import format_estimate, format_mean
from fmnist_sweep.training.environment import describe_machine

ROOT = Path(__file__).resolve().parents[1]
OURS, THEIRS = "fmnist_sweep", "Optuna's script"
STORES = {OURS: "mlruns/mlflow.db", THEIRS: "mlflow.db"}  # by default
_GRACE_SECONDS = 600  # for what is under way when the minutes are over
_CONFIDENCE = 0.95

Result = dict[str, Any]


def list_command(side: str, seed: int, given: argparse.Namespace) -> list[str]:
    """The whole command of one side."""
    common = [*given.overrides]
    if side == THEIRS:
        script = [str(ROOT / "benchmarks" / "optuna_script.py"), "--minutes", str(given.minutes), "--seed", str(seed)]
        return [sys.executable, *script, "--epochs", str(given.epochs), "--precision", given.precision, *common]
    own = [*given.search.split(), "search.max_trials=null", f"search.max_minutes={given.minutes}", f"seed={seed}"]
    return [sys.executable, "-m", "fmnist_sweep", *common, *own, f"train.epochs={given.epochs}"]


def run_side(side: str, seed: int, given: argparse.Namespace) -> Result:
    """Run one side in a folder of its own; what it came to, by the clock."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = {**inherited, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output.txt")
        begun = time.time()
        with output.open("w") as written:
            process = subprocess.Popen(
                list_command(side, seed, given), cwd=folder, env=environment, stdout=written, stderr=written
            )
            code = wait_for(process, 60 * given.minutes + _GRACE_SECONDS)
        if code:
            raise SystemExit(f"{side} ended with exit code {code}:\n{output.read_text()[-3000:]}")
        runs = list(read_accuracies(f"sqlite:///{folder}/{STORES[side]}"))
    within = [
        [(ended - begun, accuracy) for ended, accuracy in epochs if ended - begun <= 60 * given.minutes]
        for epochs in runs
    ]
    return {
        "side": side,
        "seed": seed,
        "conditions": describe_conditions(given),
        "runs": sum(bool(epochs) for epochs in within),
        "epochs": sum(map(len, within)),
        "best": list_improvements([epoch for epochs in within for epoch in epochs]),
    }


def wait_for(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Wait until a command ends by itself, or interrupt it after so many seconds; it ends with this process, too."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait(_GRACE_SECONDS)
        return 0
    finally:
        process.kill()
        process.wait()


def read_accuracies(uri: str) -> Iterator[list[tuple[float, float]]]:
    """Of each run of a store, when its epochs ended (seconds since 1970) and their validation accuracies."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    token = ""
    while token is not None:
        page = client.search_runs(experiments, max_results=1000, page_token=token or None)
        for run in page:
            yield [
                (metric.timestamp / 1000, metric.value)
                for metric in client.get_metric_history(run.info.run_id, "val_accuracy")
            ]
        token = page.token


def list_improvements(epochs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """When the best so far rose, and to what."""
    best = list[tuple[float, float]]()
    for seconds, accuracy in sorted(epochs):
        if not best or accuracy > best[-1][1]:
            best.append((round(seconds, 1), round(accuracy, 6)))
    return best


def find_best(result: Result, seconds: float) -> float:
    """The best after so many seconds; NaN before the first epoch has ended."""
    return max((accuracy for ended, accuracy in result["best"] if ended <= seconds), default=float("nan"))


def describe_conditions(given: argparse.Namespace) -> Mapping[str, Any]:
    """What all pairs of a results' file share."""
    keys = ("minutes", "search", "epochs", "precision", "overrides")
    return {**{key: getattr(given, key) for key in keys}, "machine": describe_machine()}


def read_results(path: Path, conditions: Mapping[str, Any]) -> list[Result]:
    """The searches that an earlier session finished; a torn last line is cut off."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    results = [json.loads(line) for line in lines]
    if any(result["conditions"] != conditions for result in results):
        raise SystemExit(f"{path} is of other conditions than these ({conditions}): give another --results.")
    return results


def compare_at(results: Sequence[Result], seconds: float) -> str:
    """Both sides after so many seconds, and the mean of the differences of the pairs with its interval."""
    from scipy import stats

    by_side = {
        side: {each["seed"]: find_best(each, seconds) for each in results if each["side"] == side} for side in STORES
    }
    seeds = sorted(set(by_side[OURS]) & set(by_side[THEIRS]))
    pairs = [(by_side[OURS][seed], by_side[THEIRS][seed]) for seed in seeds]
    pairs = [pair for pair in pairs if not np.isnan(pair).any()]
    if len(pairs) < 2:
        return f"| {seconds / 60:.1f} | – | – | fewer than two pairs have a result by then |"
    differences = [ours - theirs for ours, theirs in pairs]
    interval = stats.ttest_1samp(differences, 0).confidence_interval(_CONFIDENCE)
    columns = [
        format_mean(statistics.mean(side), statistics.stdev(side), len(side)) for side in zip(*pairs, strict=True)
    ]
    difference = format_estimate(statistics.mean(differences), *interval, signed=True)
    return f"| {seconds / 60:.1f} | {' | '.join(columns)} | {difference} |"


def draw(path: Path, results: Sequence[Result], minutes: float) -> None:
    """The mean of the best so far of each side by the clock, with its 95 % interval."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from scipy import stats

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    points = np.linspace(0, 60 * minutes, 300)
    levels = list[float]()
    for side in STORES:
        best = np.array([[find_best(each, point) for point in points] for each in results if each["side"] == side])
        count = len(best)
        mean = best.mean(axis=0)  # from where all have a result
        levels += [mean[len(mean) // 2], mean[-1]]
        (line,) = axes.plot(points / 60, mean, label=f"{side} (n={count})")
        if count > 1:
            half = stats.t.ppf(0.5 + _CONFIDENCE / 2, count - 1) * best.std(axis=0, ddof=1) / np.sqrt(count)
            axes.fill_between(points / 60, mean - half, mean + half, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel="minutes by the clock", ylabel="best validation accuracy so far", title="Means, and 95 % intervals")
    if not np.isnan(levels).all():  # the first epochs lie far below, and would make all else one line
        axes.set_ylim(np.nanmin(levels) - 0.02, np.nanmax(levels) + 0.01)
    axes.legend(loc="lower right")
    axes.grid(alpha=0.25)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of each search")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--search", default="search=tpe", help="overrides of the product's search")
    parser.add_argument("--epochs", type=int, default=9, help="of the longest training, on both sides")
    parser.add_argument("--precision", default="float32", help="of the script's training; Keras' default is float32")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    parser.add_argument("--picture", type=Path, help="default: beside the results")
    parser.add_argument("overrides", nargs="*", help="for both sides, such as data.limit=2000")
    given = parser.parse_args()
    results = read_results(given.results, json.loads(json.dumps(describe_conditions(given))))
    for seed in range(1, given.pairs + 1):
        for side in (OURS, THEIRS) if seed % 2 else (THEIRS, OURS):
            if any((result["side"], result["seed"]) == (side, seed) for result in results):
                continue
            result = json.loads(json.dumps(run_side(side, seed, given)))
            with given.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            results.append(result)
            best = result["best"][-1][1] if result["best"] else float("nan")
            counts = f"{result['runs']} trainings, {result['epochs']} epochs, load {os.getloadavg()[0]:.1f}"
            print(f"pair {seed}, {side}: {best:.4f} after {given.minutes:g} min; {counts}", flush=True)
    print(f"| minutes | {OURS} | {THEIRS} | difference of the pairs |\n| --- | --- | --- | --- |")
    for part in (0.25, 0.5, 0.75, 1.0):
        print(compare_at(results, 60 * part * given.minutes))
    draw(given.picture or given.results.with_suffix(".svg"), results, given.minutes)


if __name__ == "__main__":
    main()
