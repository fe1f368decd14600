"""The table: configurations of one space, each trained to the end, with what every epoch came to and cost.

Its file has a JSON object a line: first what the table is of, then a row for each configuration, in the order in which
they ended. A row is written whole or not at all, so that a recorder may be killed at any time.
"""

from __future__ import annotations

import fcntl
import json
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fmnist_sweep.text import format_epoch_count

TABLE = Path(__file__).with_name("table.jsonl")


@dataclass(frozen=True)
class Row:
    """A configuration, trained once from its first epoch to its last.

    number: its place among the draws, from 0. accuracies: on the validation images after each epoch. cpu_seconds: of
    each epoch, validation included; the first one's has the tracing of the graph. other_cpu_seconds: building the model
    and packing it. failure: why it ended before its last epoch, or None.
    """

    number: int
    values: Mapping[str, Any]
    accuracies: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    other_cpu_seconds: float
    parameters: int
    failure: str | None = None

    def compute_score(self, epochs: int) -> float | None:
        """What the product reports of a trial of so many epochs: that of its best epoch; None if it failed."""
        has_failed = self.failure is not None and len(self.accuracies) < epochs
        return None if has_failed else max(self.accuracies[:epochs])

    def compute_cost(self, earlier_epochs: int, epochs: int) -> float:
        """The CPU seconds of a trial that goes on after so many epochs, up to `epochs`.

        A trial that goes on is a trial of its own: its model is built, traced and packed again.
        """
        return self.other_cpu_seconds + self._retracing(earlier_epochs) + sum(self.cpu_seconds[earlier_epochs:epochs])

    def _retracing(self, earlier_epochs: int) -> float:
        if not earlier_epochs or len(self.cpu_seconds) < 2:
            return 0.0
        return max(0.0, self.cpu_seconds[0] - statistics.median(self.cpu_seconds[1:]))


@dataclass(frozen=True)
class Table:
    """description: what all rows share, the settings with their tunables among it. rows: by number.

    shorter: by their epochs, tables of the same configurations, each trained by a schedule of so many epochs.
    """

    description: Mapping[str, Any]
    rows: tuple[Row, ...]
    shorter: Mapping[int, Table] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.description["settings"])

    @property
    def epochs(self) -> int:
        """Of the longest schedule, which every row was trained by."""
        return int(self.settings["train"]["epochs"])

    @property
    def title(self) -> str:
        """What the rows are of, in words; whoever shows figures of another table than the real one says so."""
        return str(self.description["title"])

    @cached_property
    def finals(self) -> list[float]:
        """The scores of the rows that did not fail."""
        return [score for row in self.rows if (score := row.compute_score(self.epochs)) is not None]

    def even_costs(self) -> Table:
        """The same table with one cost for all rows of one network (by its number of parameters): that of the quickest.

        What a row costs is decided by its network, but for what else the machine, or another guest of its host, did at
        the time: that doubles the CPU seconds of an epoch and never lessens them. Epochs are evened one by one, as the
        first one has the tracing of the graph.
        """
        alike: dict[int, list[Row]] = {}
        for row in self.rows:
            alike.setdefault(row.parameters, []).append(row)
        return replace(
            self,
            rows=tuple(_take_least_costs(row, alike[row.parameters]) for row in self.rows),
            shorter={epochs: table.even_costs() for epochs, table in self.shorter.items()},
        )

    def find_short_row(self, number: int, epochs: int) -> Row:
        """The row of this number in the table of a schedule of so many epochs. Raises DamagedTable without one."""
        table = self if epochs == self.epochs else self.shorter.get(epochs)
        row = None if table is None else table._rows_by_number.get(number)
        if row is None:
            schedule = f"a schedule of {format_epoch_count(epochs)}"
            raise DamagedTable(f"no training of configuration {number} by {schedule} is recorded")
        return row

    @cached_property
    def _rows_by_number(self) -> dict[int, Row]:
        return {row.number: row for row in self.rows}

    def compute_mean_cost(self) -> float:
        """The CPU seconds of a trial that is trained to the end."""
        return statistics.mean(row.compute_cost(0, self.epochs) for row in self.rows)


def _take_least_costs(row: Row, alike: Sequence[Row]) -> Row:
    least = [min(seconds) for seconds in zip_longest(*(each.cpu_seconds for each in alike), fillvalue=float("inf"))]
    return replace(
        row,
        cpu_seconds=tuple(least[: len(row.cpu_seconds)]),
        other_cpu_seconds=min(each.other_cpu_seconds for each in alike),
    )


class DamagedTable(ValueError):
    """A file that is no table, or a table of something else than was asked for."""


def read_table(path: Path) -> Table:
    """Read a table; a last line without its end, which a kill may leave, is left out. Raises DamagedTable."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        description, *rows = map(json.loads, lines)
        parsed = [_parse_row(row) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedTable(f"{path} is no table of replay/record.py ({error})") from None
    return Table(description, tuple(sorted(parsed, key=lambda row: row.number)))


# What the rows of a table and those of a shorter schedule have in common, beside their tunables.
_SHARED_KEYS = ("title", "images", "precision", "drawing_seed")


def name_shorter_table(path: Path, epochs: int) -> Path:
    """The file of the table of shorter schedules that belongs to a table."""
    return path.with_name(f"{path.stem}_{epochs}{path.suffix}")


def read_tables(path: Path, say: Callable[[str], object] = print) -> Table:
    """Read a table and those of shorter schedules beside it that have all of its rows. Errors: DamagedTable."""
    table = read_table(path)
    beside = map(read_table, path.parent.glob(f"{path.stem}_*{path.suffix}"))
    shorter = {each.epochs: each for each in beside}
    for each in shorter.values():
        differing = [key for key in _SHARED_KEYS if each.description[key] != table.description[key]]
        if differing:
            raise DamagedTable(f"the table of {each.epochs} epochs has another {', '.join(differing)} than {path}")
    numbers = {row.number for row in table.rows}
    missing = {epochs: len(numbers - {row.number for row in each.rows}) for epochs, each in shorter.items()}
    for epochs, count in missing.items():
        if count:
            say(f"the table of {epochs} epochs is not used: {count} of {len(numbers)} rows are not recorded yet")
    return replace(table, shorter={epochs: each for epochs, each in shorter.items() if not missing[epochs]})


def _parse_row(row: Mapping[str, Any]) -> Row:
    return Row(**{**row, "accuracies": tuple(row["accuracies"]), "cpu_seconds": tuple(row["cpu_seconds"])})


def format_row(row: Row) -> str:
    """The line of a row, compact: seconds to the hundredth."""
    rounded = asdict(row) | {
        "accuracies": [round(value, 6) for value in row.accuracies],
        "cpu_seconds": [round(value, 2) for value in row.cpu_seconds],
        "other_cpu_seconds": round(row.other_cpu_seconds, 2),
    }
    return json.dumps(rounded, separators=(",", ":")) + "\n"


class Recorded:
    """A table's file that is open for more rows."""

    def __init__(self, descriptor: int, numbers: set[int]) -> None:
        self._descriptor = descriptor
        self.numbers = numbers

    def append_row(self, row: Row) -> None:
        """Write a row, on disk when this returns."""
        _write_durably(self._descriptor, format_row(row))
        self.numbers.add(row.number)


@contextmanager
def open_table(path: Path, description: Mapping[str, Any]) -> Iterator[Recorded]:
    """Open a table's file for more rows, or begin it. Raises DamagedTable if it is of something else, or in use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DamagedTable(f"{path}: another recorder writes to it; wait for it, or give another --table") from None
        content = path.read_bytes()
        os.ftruncate(descriptor, content.rfind(b"\n") + 1)
        if b"\n" not in content:
            _write_durably(descriptor, json.dumps(description, separators=(",", ":")) + "\n")
            yield Recorded(descriptor, set())
            return
        table = read_table(path)
        differing = list_differences(table.description, json.loads(json.dumps(description)))
        if differing:
            raise DamagedTable(
                f"{path} was recorded with another {', '.join(differing)}: give another --table, or what it began with"
            )
        yield Recorded(descriptor, {row.number for row in table.rows})
    finally:
        os.close(descriptor)


# What may change between two sessions of a recorder: what it is to do, and from which commit it is run.
_FREE_KEYS = ("command", "commit")


def list_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Sequence[str]:
    """The keys that decide what a row is, and that two descriptions have unlike values of."""
    return [key for key in sorted({*one, *other} - {*_FREE_KEYS}) if one.get(key) != other.get(key)]


def _write_durably(descriptor: int, line: str) -> None:
    os.write(descriptor, line.encode())
    os.fsync(descriptor)
