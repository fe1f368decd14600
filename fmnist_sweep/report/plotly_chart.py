"""A chart as the script in the page takes it: traces and a layout, which become JSON.

They are plain values. Figures of the plotly package would check each value by its schema; that and its import take
longer than all else in the report of a few trials (benchmarks/answers.py), so the tests do it instead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass
class Chart:
    """The traces and the layout of a chart, with the words of plotly's reference."""

    traces: list[dict[str, Any]] = field(default_factory=list)
    layout: dict[str, Any] = field(default_factory=dict)

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.layout["height"])

    def add_trace(self, kind: str, **values: Any) -> None:
        """Add a trace. kind: scatter or heatmap."""
        self.traces.append({"type": kind, **values})

    def add_shape(self, **values: Any) -> None:
        self.layout.setdefault("shapes", []).append(values)

    def add_annotation(self, **values: Any) -> None:
        self.layout.setdefault("annotations", []).append(values)

    def update_layout(self, **values: Any) -> None:
        """Set parts of the layout; mappings are merged with what is there."""
        _merge(self.layout, values)

    def update_axes(self, *names: str, **values: Any) -> None:
        """Set parts of axes, which are named as in the layout: xaxis, yaxis, xaxis2 and so on."""
        for name in names:
            self.update_layout(**{name: values})

    def build_figure(self) -> dict[str, Any]:
        """The chart as one mapping with the keys data and layout."""
        return {"data": self.traces, "layout": self.layout}

    def encode_json(self) -> str:
        """The chart as JSON; numbers that JSON does not have are null."""
        figure = self.build_figure()
        try:
            return json.dumps(figure, allow_nan=False, separators=(",", ":"))
        except ValueError:
            return json.dumps(mask_nonfinite(figure), allow_nan=False, separators=(",", ":"))


def _merge(target: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            # The mapping is copied: what is merged into it later belongs to this chart alone.
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


def mask_nonfinite(value: Any) -> Any:
    """A value of JSON with None for each number in it that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: mask_nonfinite(each) for key, each in value.items()}
    return [mask_nonfinite(each) for each in value] if isinstance(value, list | tuple) else value


def read_plotly_script() -> bytes:
    """The script that draws charts: a file in the plotly package, found without its import, which takes a while."""
    spec = find_spec("plotly")
    assert spec is not None and spec.origin is not None
    return (Path(spec.origin).parent / "package_data" / "plotly.min.js").read_bytes()
