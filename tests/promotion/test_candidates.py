"""What a promotion says of the trials that its finalists were chosen from."""

from __future__ import annotations

import pytest

from fmnist_sweep.promotion.candidates import Candidates
from fmnist_sweep.tracking.trials import StoredTrial

BEST = StoredTrial("a", "adam", "finished", {}, {}, {}, 0, 1)


@pytest.mark.parametrize(
    ("finalists", "rivals", "ties", "words"),
    [
        (1, 2, 1, "sweep s has 2 finished trials; no other configuration is indistinguishable from the best"),
        (2, 9, 2, "sweep s has 9 finished trials; 2 configurations, the best included, are indistinguishable from it"),
        (
            *(2, 9, 5),
            "sweep s has 9 finished trials; 5 configurations, the best included, are indistinguishable from it; "
            "promote.finalists takes the best 2",
        ),
        (
            *(1, 9, 5),
            "sweep s has 9 finished trials; 5 configurations, the best included, are indistinguishable from it; "
            "promote.finalists takes the best one",
        ),
    ],
)
def test_the_number_of_equals_is_told(finalists: int, rivals: int, ties: int, words: str) -> None:
    assert Candidates((BEST,) * finalists, "sweep s", rivals, ties, ()).describe_ties() == words
