"""How many of 100 test images a model labels rightly after each kind of disturbance, and for how many it is warned.

Fashion-MNIST's test images (FMNIST_DATA_DIR) are disturbed (tests/support/photographed), saved, read by
`fmnist_sweep.data.pictures.photographs` and labelled by a registered model, as `fmnist-sweep predict` does, each on
white with a dark garment and on black with a bright one. Images and disturbances have a seed. The table is Markdown;
"unseen" are wrong labels without a warning. The opening of the test images is recorded in mlruns/test_openings.jsonl.

    python benchmarks/photographs.py [--model models:/fashion-mnist@champion] [--images 100] [--seed 0] [--all]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import Split, load_splits, open_test
from fmnist_sweep.data.pictures.photographs import Photograph, read_photograph
from fmnist_sweep.errors import DataError
from fmnist_sweep.tracking.names import MODEL_NAME, TEST_ACCURACY_TAG
from fmnist_sweep.tracking.registry import resolve_version
from fmnist_sweep.tracking.store import open_existing_store
from fmnist_sweep.tracking.version_files import load_version
from tests.support.photographed import DISTURBANCES, SHOWN


class _Work(NamedTuple):
    """The images (n, 28, 28) that are disturbed in one way, on one ground; place: of the disturbance among all."""

    place: int
    dark: bool
    images: NDArray[np.uint8]
    seed: int


def main() -> None:
    arguments = _parse_arguments()
    from fmnist_sweep.cli.predict import predict_probabilities

    store = open_existing_store(arguments.uri, arguments.experiment)
    version = resolve_version(store, arguments.model)
    model = load_version(store, version)
    test = _choose_images(arguments.images, arguments.seed)
    kinds = DISTURBANCES if arguments.all else SHOWN
    chosen = [place for place, each in enumerate(kinds) if arguments.only in each.name]
    print(f"| of {len(test.images)} | on white: right | warned | unseen | on black: right | warned | unseen |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    began = time.perf_counter()
    cells: dict[int, dict[bool, list[str]]] = {place: {} for place in chosen}
    for work, photographs in _read_all(chosen, test, arguments):
        read = [place for place, photograph in enumerate(photographs) if photograph is not None]
        kept = [photograph for photograph in photographs if photograph is not None]
        right = np.zeros(len(photographs), bool)
        if kept:
            right[read] = predict_probabilities(model, kept).argmax(axis=1) == test.labels[read]
        # A picture that is refused is not labelled, but the user knows.
        warned = np.array([photograph is None or bool(photograph.warnings) for photograph in photographs])
        counts = (right.sum(), warned.sum(), (~right & ~warned).sum())
        cells[work.place][work.dark] = [str(int(count)) for count in counts]
        disturbance = DISTURBANCES[work.place]
        if len(cells[work.place]) == len(disturbance.grounds):
            row = [each for dark in (True, False) for each in cells[work.place].get(dark, ["", "", ""])]
            print(f"| {' | '.join([disturbance.name, *row])} |", flush=True)
    print(
        f"\nn={len(test.images)}, seed {arguments.seed}; models:/{MODEL_NAME}/{version.number}, test accuracy "
        f"{version.tags.get(TEST_ACCURACY_TAG)}; {len(chosen)} kinds in {time.perf_counter() - began:.0f} s"
    )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=f"models:/{MODEL_NAME}@champion")
    parser.add_argument("--uri", default=None)
    parser.add_argument("--experiment", default="fashion-mnist")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="the kinds that the docs do not show, too")
    parser.add_argument("--only", default="", help="a part of the disturbances' names")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that read pictures")
    return parser.parse_args()


def _choose_images(count: int, seed: int) -> Split:
    data = compose_job(["data=fashion_mnist", "data.fallback=null"]).config.data
    load_splits(data)
    test = open_test(data, reason="benchmarks/photographs.py", ledger=Path("mlruns/test_openings.jsonl"))
    chosen = np.random.default_rng(seed).choice(len(test.images), count, replace=False)
    return Split(test.images[chosen], test.labels[chosen], test.index[chosen])


def _read_all(
    chosen: list[int], test: Split, arguments: argparse.Namespace
) -> Iterator[tuple[_Work, list[Photograph | None]]]:
    images = test.images[:, :, :, 0]
    works = [_Work(place, dark, images, arguments.seed) for place in chosen for dark in DISTURBANCES[place].grounds]
    # TensorFlow's threads do not survive a fork.
    with ProcessPoolExecutor(arguments.workers, multiprocessing.get_context("spawn")) as pool:
        yield from zip(works, pool.map(_disturb_and_read, works), strict=True)


def _disturb_and_read(work: _Work) -> list[Photograph | None]:
    """The disturbed images as they are read, None for one that is refused."""
    photographs = list[Photograph | None]()
    with tempfile.TemporaryDirectory() as folder:
        for place, image in enumerate(work.images):
            random = np.random.default_rng([work.seed, work.place, work.dark, place])
            path = DISTURBANCES[work.place].make(image, work.dark, random).save(Path(folder), str(place))
            try:
                photographs.append(read_photograph(path))
            except DataError:
                photographs.append(None)
    return photographs


if __name__ == "__main__":
    main()
