"""Wider ranges of a tunable, and the places of values within it: only numbers in an order have edges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fmnist_sweep.search.tunable import TUNE_KEY

Spec = Mapping[str, Any]


def has_edges(spec: Spec) -> bool:
    """Whether a tunable draws numbers in an order: no boolean, no text, no choice that is said to have none."""
    match spec[TUNE_KEY]:
        case "choice":
            values = spec["values"]
            return len(values) > 1 and spec.get("ordered") is not False and all(map(_is_number, values))
        case "int" | "float":
            return bool(spec["min_value"] < spec["max_value"])
        case _:
            return False


def locate_value(spec: Spec, value: Any) -> float | None:
    """The place of a value in the range of a tunable with edges, from 0 to 1; None where it was not drawn from it."""
    if not _is_number(value):
        return None
    if spec[TUNE_KEY] == "choice":
        values = sorted(spec["values"])
        return values.index(value) / (len(values) - 1) if value in values else None
    low, high = spec["min_value"], spec["max_value"]
    if not low <= value <= high:
        return None
    match spec.get("sampling", "linear"):
        case "log":
            return math.log(value / low) / math.log(high / low)
        case "reverse_log":
            return 1 - math.log((low + high - value) / low) / math.log(high / low)
        case _:
            return float((value - low) / (high - low))


def list_wider_ranges(spec: Spec, *, is_upper: bool) -> Iterator[tuple[str, Any]]:
    """The ways to widen a tunable beyond one edge, the farthest first: the key of the tunable, and its new value.

    A choice gets one more number: the next of its sequence. A range gets half of its length more, by factors where it
    is sampled by them; or a quarter, an eighth, or one step, for where the farther ones are not allowed. None for a
    tunable without edges.
    """
    if not has_edges(spec):
        return
    if spec[TUNE_KEY] == "choice":
        for number in _list_next_choices(sorted(spec["values"]), is_upper=is_upper):
            yield "values", [*spec["values"], number] if is_upper else [number, *spec["values"]]
        return
    name, edge = ("max_value", spec["max_value"]) if is_upper else ("min_value", spec["min_value"])
    seen = {edge}
    for share in (1 / 2, 1 / 4, 1 / 8, 0.0):
        bound = _extend(spec, edge, share, is_upper=is_upper)
        if bound not in seen and (bound > edge) is is_upper:
            seen.add(bound)
            yield name, bound


def _extend(spec: Spec, edge: float, share: float, *, is_upper: bool) -> float:
    low, high, step, sign = spec["min_value"], spec["max_value"], spec.get("step"), 1 if is_upper else -1
    is_whole = spec[TUNE_KEY] == "int"
    if spec.get("sampling", "linear") != "linear":
        factor = (high / low) ** share
        if step is not None:
            factor = step ** max(1, round(math.log(factor, step)))
        bound = edge * factor**sign
    else:
        length = (high - low) * share
        unit = step if step is not None else 1 if is_whole else None
        if unit is not None:
            length = unit * max(1, math.floor(length / unit + 1e-9))
        bound = edge + sign * length
    if is_whole:
        return int(math.ceil(bound) if is_upper else math.floor(bound))
    return float(f"{bound:.10g}" if step is not None else f"{bound:.2g}")


def _list_next_choices(values: Sequence[Any], *, is_upper: bool) -> Iterator[Any]:
    """The next numbers of a sequence: by its mean factor, or by its mean difference where it holds 0 or less."""
    count, edge = len(values) - 1, values[-1] if is_upper else values[0]
    sign = 1 if is_upper else -1
    by_factor = edge * (values[-1] / values[0]) ** (sign / count) if values[0] > 0 else None
    by_difference = edge + sign * (values[-1] - values[0]) / count
    raw = by_difference if by_factor is None else by_factor
    if all(isinstance(value, int) for value in values):
        unit = math.gcd(*values)  # 32, 48 and 64 go on with 96, not with 91
        candidates: list[Any] = [unit * round(raw / unit) if unit else round(raw), round(raw), edge + sign]
    else:
        candidates = [float(f"{raw:.1g}"), float(f"{raw:.2g}")]
    is_positive = values[0] > 0
    for number in dict.fromkeys(candidates):
        if (number > edge if is_upper else number < edge) and (number > 0 or not is_positive):
            yield number


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
