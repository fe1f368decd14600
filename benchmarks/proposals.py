"""What a proposal that goes by results costs: Optuna's estimators against KerasTuner's Gaussian process, in turn.

Both search the same five tunables. At each number of finished trials, drawn at random and scored by a made-up function,
one proposal of each is timed, some times in turn. Then a search of the greatest number of trials is restored.

    python benchmarks/proposals.py [--repeats 3] [--trials 50 200 1000] [--without-process]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from dataclasses import replace

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.search.ask_and_tell import Exchange, Proposal, Search

SPACE = (
    "model.filters={tune: int, min_value: 8, max_value: 128, step: 8}",
    "optimizer.learning_rate={tune: float, min_value: 0.0001, max_value: 0.1, sampling: log}",
    "regularization.dropout={tune: float, min_value: 0.0, max_value: 0.5}",
    "train.batch_size={tune: choice, values: [32, 64, 128]}",
    "regularization.batch_normalization={tune: boolean}",
)
SEARCHES = {
    "bayesian": ("search=bayesian", "search.initial_points=5"),
    "tpe": ("search=tpe", "search.initial_points=5"),
    "asha by tpe": ("search=asha", "search.proposer=tpe", "search.initial_points=5", "train.epochs=9"),
}


def make_search(name: str) -> Search:
    config = compose_job([*SEARCHES[name], *SPACE]).config
    return Search(config.search.name, config.oracle, config.settings, config.search.objective)


def make_exchanges(name: str, count: int) -> list[Exchange]:
    """So many finished trials, drawn at random, which the search then takes as its own earlier answers."""
    config = compose_job([*SEARCHES[name], *SPACE, f"search.initial_points={count + 1}"]).config
    drawn = Search(config.search.name, config.oracle, config.settings, config.search.objective)
    exchanges: list[Exchange] = []
    for number in range(count):
        answer = drawn.ask()
        assert isinstance(answer, Proposal)
        score = random.Random(number).random()
        drawn.tell(answer.trial_id, score)
        exchanges += [replace(answer), (answer.trial_id, score)]
    return exchanges


def time_answers(name: str, count: int, answers: int) -> tuple[float, float]:
    """Seconds to restore so many trials, and for one answer after them, the median of some."""
    exchanges, search = make_exchanges(name, count), make_search(name)
    start = time.perf_counter()
    search.restore(exchanges)
    restoring, seconds = time.perf_counter() - start, []
    for _ in range(answers):
        start = time.perf_counter()
        answer = search.ask()
        seconds.append(time.perf_counter() - start)
        assert isinstance(answer, Proposal)
        search.tell(answer.trial_id, None)
    return restoring, statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, nargs="*", default=[50, 200, 1000])
    parser.add_argument("--without-process", action="store_true", help="leave the Gaussian process out")
    arguments = parser.parse_args()
    names = [name for name in SEARCHES if not (arguments.without_process and name == "bayesian")]
    make_search(names[0])  # imports
    for count in arguments.trials:
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for _ in range(arguments.repeats):
            for name in names:
                results[name].append(time_answers(name, count, 1 if name == "bayesian" else 9))
        for name, pairs in results.items():
            restoring, asking = zip(*pairs, strict=True)
            print(
                f"{name:12} after {count:5} trials: a proposal in {1000 * statistics.median(asking):.0f} ms "
                f"({1000 * min(asking):.0f} to {1000 * max(asking):.0f}), restored in "
                f"{statistics.median(restoring):.2f} s ({min(restoring):.2f} to {max(restoring):.2f}), n={len(pairs)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
