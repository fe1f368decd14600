"""Two trials side by side in a terminal."""

from __future__ import annotations

import numpy as np

from fmnist_sweep.report.pair_text import draw_sparklines


def test_sparklines_share_one_scale_and_leave_gaps() -> None:
    assert draw_sparklines([[0.0, 1.0, float("nan")], [0.5]]) == ["▁█ ", "▅"]
    assert draw_sparklines([[], [float("inf")]]) == ["", " "]
    assert draw_sparklines([list(np.ones(3))]) == ["███"]
