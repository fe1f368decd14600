"""What bfloat16 does to accuracy: a documented model trained in float32 and in mixed_bfloat16 from each of many seeds.

Both trainings of a seed begin with the same weights and see the same images in the same order, so their accuracies on
the same validation images are compared in pairs. The test images stay closed. Needs FMNIST_DATA_DIR.

    python benchmarks/accuracy.py [--model two_conv] [--seeds 10] [--epochs 4] [--images 20000] [--validation 12000]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import load_splits
from fmnist_sweep.text import format_estimate, format_mean
from fmnist_sweep.training import backend
from fmnist_sweep.training.events import EpochEnd, TrialResult, TrialSpec
from fmnist_sweep.training.trial import run_trial

PRECISIONS = ("float32", "mixed_bfloat16")
CONFIDENCE = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="two_conv", help="a recipe of experiments/")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=20000, help="training images")
    parser.add_argument("--validation", type=int, default=12000, help="validation images")
    arguments = parser.parse_args()
    backend.set_threads(1)
    overrides = [
        f"experiment={arguments.model}",
        f"train.epochs={arguments.epochs}",
        f"data.limit={arguments.images + arguments.validation}",
        f"data.validation={arguments.validation / (arguments.images + arguments.validation)}",
    ]
    last: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    best: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for seed in range(1, arguments.seeds + 1):
        for precision in PRECISIONS:
            start = time.process_time()
            accuracies = train([*overrides, f"seed={seed}", f"train.precision={precision}"])
            last[precision].append(accuracies[-1])
            best[precision].append(max(accuracies))
            print(
                f"seed {seed}, {precision}: {accuracies[-1]:.4f} after the last epoch, {max(accuracies):.4f} after the "
                f"best; {time.process_time() - start:.0f} CPU s",
                flush=True,
            )
    print(f"validation accuracy, {arguments.model}, {arguments.seeds} seeds:")
    for name, values in (("last epoch", last), ("best epoch", best)):
        print(format_comparison(name, *(values[precision] for precision in PRECISIONS)))


def train(overrides: Sequence[str]) -> list[float]:
    """The validation accuracy of each epoch of a trial with these overrides."""
    job = compose_job(overrides)
    spec = TrialSpec("0", job.config.settings, "val_accuracy", job.config.data)
    *events, result = run_trial(spec, load_splits(job.config.data))
    if not isinstance(result, TrialResult):
        raise SystemExit(f"{' '.join(overrides)}: {result}")
    return [event.metrics["val_accuracy"] for event in events if isinstance(event, EpochEnd)]


def format_comparison(name: str, exact: Sequence[float], rounded: Sequence[float]) -> str:
    """Mean and sd of each precision, and the mean of the paired differences with its interval by Student's t."""
    from scipy import stats

    differences = [other - one for one, other in zip(exact, rounded, strict=True)]
    interval = stats.ttest_1samp(differences, 0).confidence_interval(CONFIDENCE)
    means = [
        f"{precision} {format_mean(statistics.mean(values), statistics.stdev(values), len(values))}"
        for precision, values in zip(PRECISIONS, (exact, rounded), strict=True)
    ]
    difference = format_estimate(statistics.mean(differences), *interval, signed=True)
    return f"{name}: {', '.join(means)}; difference {difference}, its sd {statistics.stdev(differences):.4f}"


if __name__ == "__main__":
    main()
