"""How many of 100 test images a model labels rightly after each kind of disturbance, and for how many it is warned.

Fashion-MNIST's test images (FMNIST_DATA_DIR) are disturbed (tests/support/photographed.py), saved, read by
`fmnist_sweep.data.photographs` and labelled by a registered model, as `fmnist-sweep predict` does, each on white with a
dark garment and on black with a bright one. Images and disturbances have a seed. The table is Markdown. The opening of
the test images is recorded in mlruns/test_openings.jsonl.

    python benchmarks/photographs.py [--model models:/fashion-mnist@champion] [--uri URI] [--images 100] [--seed 0]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fmnist_sweep.cli.predict import predict_probabilities
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import Split, load_splits, open_test
from fmnist_sweep.data.photographs import Photograph, read_photograph
from fmnist_sweep.errors import DataError
from fmnist_sweep.tracking.names import MODEL_NAME
from fmnist_sweep.tracking.registry import resolve_version
from fmnist_sweep.tracking.store import open_existing_store
from fmnist_sweep.tracking.version_files import load_version
from tests.support.photographed import DISTURBANCES, Disturbance


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=f"models:/{MODEL_NAME}@champion")
    parser.add_argument("--uri", default=None)
    parser.add_argument("--experiment", default="fashion-mnist")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of the disturbances' names")
    arguments = parser.parse_args()
    store = open_existing_store(arguments.uri, arguments.experiment)
    model = load_version(store, resolve_version(store, arguments.model))
    test = _choose_images(arguments.images, arguments.seed)
    print(f"| of {len(test.images)} | on white: right | warned | on black: right | warned |")
    print("| --- | --- | --- | --- | --- |")
    for place, disturbance in enumerate(DISTURBANCES):
        if arguments.only not in disturbance.name:
            continue
        cells = []
        for dark in (True, False):
            if dark not in disturbance.grounds:
                cells += ["", ""]
                continue
            photographs, places = _take(disturbance, dark, test, [arguments.seed, place, dark])
            labels = predict_probabilities(model, photographs).argmax(axis=1)
            # A picture that is refused is not labelled, but the user knows.
            right = int((labels == test.labels[places]).sum())
            warned = sum(bool(each.warnings) for each in photographs) + len(test.images) - len(places)
            cells += [str(right), str(warned)]
        print(f"| {' | '.join([disturbance.name, *cells])} |", flush=True)


def _choose_images(count: int, seed: int) -> Split:
    data = compose_job(["data=fashion_mnist", "data.fallback=null"]).config.data
    load_splits(data)
    test = open_test(data, reason="benchmarks/photographs.py", ledger=Path("mlruns/test_openings.jsonl"))
    chosen = np.random.default_rng(seed).choice(len(test.images), count, replace=False)
    return Split(test.images[chosen], test.labels[chosen], test.index[chosen])


def _take(disturbance: Disturbance, dark: bool, test: Split, seed: list[int]) -> tuple[list[Photograph], list[int]]:
    """The disturbed images as they are read, and the places of those that were not refused."""
    photographs, places = [], []
    with tempfile.TemporaryDirectory() as folder:
        for place, image in enumerate(test.images):
            random = np.random.default_rng([*seed, place])
            path = disturbance.make(image[:, :, 0], dark, random).save(Path(folder), str(place))
            try:
                photographs.append(read_photograph(path))
            except DataError:
                continue
            places.append(place)
    return photographs, places


if __name__ == "__main__":
    main()
