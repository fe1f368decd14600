"""Replay every search on the recorded table, many times each: what it costs until it has found a good model.

The oracles are the product's own. Costs are the CPU seconds of training, promotions included, with one slot: those of
the quickest row of the same network, as a busy host doubles the others. What the proposals themselves cost stands
beside them. The aim is the best that 64 random trials find, trained to the end.

    python benchmarks/replay/compare.py [--seeds 200] [--table FILE] [--picture FILE] [--also NAME "OVERRIDES"]

A result of the table is one training, the same in each replay: the luck in it is not averaged over seeds, as it would
be in sweeps. How proposals become rows: replay/searches.py.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fmnist_sweep.text import format_duration
from fmnist_sweep.training import backend
from replay import searches
from replay.figures import TRIALS, Replays, summarize
from replay.searches import EVEN, RANDOM, Replay, Strategy
from replay.table import TABLE, DamagedTable, Table, read_tables

_SEEDS_A_TASK = 10


def replay_seeds(table: Table, strategy: Strategy | None, seeds: Sequence[int], budget: float) -> list[Replay]:
    """The replays of a strategy with these seeds; None: the control."""
    backend.import_tensorflow()  # for KerasTuner, without its start-up notes
    if strategy is None:
        return [searches.replay_evenly(table, seed, budget) for seed in seeds]
    return [searches.replay(table, strategy, seed, budget) for seed in seeds]


def replay_all(table: Table, strategies: Sequence[Strategy], seeds: int, trials: int, processes: int) -> Replays:
    """All replays, by the strategy's name, with the seeds from 1; random search and the control go through the table.

    The others may spend what `trials` random trials cost.
    """
    budget = trials * table.compute_mean_cost()
    tasks = list[tuple[str, Strategy | None, Sequence[int], float]]()
    for strategy in strategies:
        own_seeds = range(1, (seeds if strategy.has_seed else 1) + 1)
        limit = float("inf") if strategy.name == RANDOM else budget
        tasks += [(strategy.name, strategy, part, limit) for part in _cut(own_seeds)]
    tasks += [(EVEN, None, part, float("inf")) for part in _cut(range(1, seeds + 1))]
    found: dict[str, list[Replay]] = {name: [] for name, *_ in tasks}
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        futures = [
            (name, pool.submit(replay_seeds, table, strategy, own_seeds, limit))
            for name, strategy, own_seeds, limit in tasks
        ]
        for name, future in futures:
            found[name] += future.result()
    return found


def _cut(seeds: range) -> Iterator[range]:
    return (seeds[place : place + _SEEDS_A_TASK] for place in range(0, len(seeds), _SEEDS_A_TASK))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--trials", type=int, default=TRIALS, help="of random search, whose best is the aim")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="default: curves.svg beside the table")
    parser.add_argument("--also", nargs=2, action="append", default=[], metavar=("NAME", "OVERRIDES"))
    given = parser.parse_args()
    try:
        table = read_tables(given.table).even_costs()
    except (OSError, DamagedTable) as error:
        raise SystemExit(f"{error}: record a table with benchmarks/replay/record.py.") from None
    begun = time.monotonic()
    strategies = searches.list_strategies(table)
    strategies += [searches.compose_strategy(name, overrides.split()) for name, overrides in given.also]
    replays = replay_all(table, strategies, given.seeds, given.trials, given.processes)
    print(summarize(table, replays, given.trials))
    from replay.picture import draw

    picture = given.picture or given.table.with_name("curves.svg")
    draw(picture, table, replays, given.trials)
    machine, duration = table.description["machine"], format_duration(time.monotonic() - begun)
    print(f"{picture}; recorded on {machine}, replayed in {duration}")


if __name__ == "__main__":
    main()
