"""What a checkpoint after every epoch costs, as a share of training.

Both ways of training take turns in one process, on the same drawn images and the network of the default config; the
first fit, which warms the caches, is left out. Since two fits differ by more than a checkpoint costs, the seconds spent
on packing and on bringing the bytes to the disk are also measured by themselves, epoch by epoch.

    python benchmarks/checkpoint.py [--rounds 3] [--images 60000] [--filters 48]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import Splits, load_splits
from fmnist_sweep.study.checkpoints import Checkpoints
from fmnist_sweep.training import backend, trial
from fmnist_sweep.training.events import EpochEnd, TrialSpec

EPOCHS = 3


@dataclass
class Fit:
    """Seconds of one fit: in all, of its epochs, and of packing and saving after each of them."""

    seconds: float
    epochs: list[float]
    packing: list[float]
    saving: list[float]
    size: int  # bytes of the last checkpoint


def train(spec: TrialSpec, splits: Splits, folder: Path) -> Fit:
    """Train all epochs, saving what checkpoints there are as the supervisor would."""
    kept = Checkpoints(folder, print)
    fit = Fit(0.0, [], [], [], 0)
    running = trial.run_trial(spec, splits)
    begun = asked = time.perf_counter()
    for event in running:
        arrived = time.perf_counter()
        if not isinstance(event, EpochEnd):
            break
        if event.epoch == 1:
            asked = begun = arrived  # building and the first trace are no part of an epoch's cost
        else:
            fit.epochs.append(event.metrics["epoch_seconds"])
            fit.packing.append(arrived - asked - event.metrics["epoch_seconds"])
        if event.checkpoint is not None:
            kept.save(spec.trial_id, event.epoch, event.checkpoint)
            fit.size = len(event.checkpoint)
        asked = time.perf_counter()
        if event.epoch > 1:
            fit.saving.append(asked - arrived)
            fit.seconds = asked - begun
    return fit


def spread(values: Sequence[float], unit: str = " s") -> str:
    scale = 100 if unit == "%" else 1
    low, middle, high = (scale * value for value in (min(values), statistics.median(values), max(values)))
    return f"median {middle:.3g}{unit} (min {low:.3g}, max {high:.3g}, n={len(values)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=60000, help="drawn images; a tenth of them validates")
    parser.add_argument("--filters", type=int, default=48)
    arguments = parser.parse_args()
    backend.import_tensorflow()
    overrides = [
        *("data=drawn", f"data.images={arguments.images}", f"model.filters={arguments.filters}"),
        *("model.conv_layers=2", "regularization.dropout=0.2", "optimizer.learning_rate=0.003"),
        f"train.epochs={EPOCHS}",
    ]
    job = compose_job(overrides)
    config = {**job.config.settings, "train": dict(job.config.settings["train"])}
    config["train"]["precision"] = backend.resolve_precision(config["train"]["precision"])
    without = TrialSpec("0", config, "val_accuracy", job.config.data)
    with_checkpoints = replace(without, checkpoint_seconds=0.0)
    splits = load_splits(job.config.data)
    fits: dict[str, list[Fit]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        train(replace(without, config={**config, "train": {**config["train"], "epochs": 1}}), splits, Path(folder))
        for number in range(1, arguments.rounds + 1):
            turns = [("without", without), ("with", with_checkpoints)]
            for name, spec in turns if number % 2 else reversed(turns):
                fits[name].append(train(spec, splits, Path(folder)))
            seconds = {name: fits[name][-1].seconds for name in fits}
            print(
                f"round {number}: {seconds['without']:.2f} s without, {seconds['with']:.2f} s with checkpoints, "
                f"ratio {seconds['with'] / seconds['without']:.3f}",
                flush=True,
            )
    print(
        f"{len(splits.train.labels)} images, {arguments.filters} filters, {config['train']['precision']}, checkpoints "
        f"of {fits['with'][-1].size / 1e6:.1f} MB; {EPOCHS - 1} epochs a fit, the first one left out"
    )
    for name, of in fits.items():
        print(f"{name} checkpoints: {spread([fit.seconds for fit in of])}")
    pairs = zip(fits["with"], fits["without"], strict=True)
    print(f"ratio with/without: {spread([one.seconds / other.seconds for one, other in pairs], '')}")
    measured = fits["with"]
    epochs = [seconds for fit in measured for seconds in fit.epochs]
    packing = [seconds for fit in measured for seconds in fit.packing]
    saving = [seconds for fit in measured for seconds in fit.saving]
    shares = [(pack + save) / epoch for pack, save, epoch in zip(packing, saving, epochs, strict=True)]
    print(f"an epoch: {spread(epochs)}")
    print(f"packing a checkpoint: {spread(packing)}")
    print(f"saving it durably: {spread(saving)}")
    print(f"both, as a share of the epoch: {spread(shares, '%')}")


if __name__ == "__main__":
    main()
