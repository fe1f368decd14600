"""The sentence on the trials that may be as good as the best."""

from __future__ import annotations

import pytest

from fmnist_sweep.report.best import describe_ties, find_best


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ((0, 0, 0), ""),
        ((0, 0, 2), ""),
        ((1, 0, 0), "The other trial is not distinguishable from the best (≈)."),
        ((3, 0, 0), "None of the other 3 trials is distinguishable from the best (≈)."),
        ((1, 2, 0), "1 of the other 3 trials is not distinguishable from the best (≈)."),
        (
            (2, 1, 1),
            "2 of the other 4 trials are not distinguishable from the best (≈); 1 could not be compared with it.",
        ),
        ((0, 1, 0), "The other trial is distinguishably worse than the best."),
        ((0, 1200, 0), "The other 1,200 trials are distinguishably worse than the best."),
        ((0, 1, 1), "None of the other 2 trials is known to be as good as the best; 1 could not be compared with it."),
    ],
)
def test_ties_are_counted_in_one_sentence(counts: tuple[int, int, int], sentence: str) -> None:
    assert describe_ties(*counts) == sentence


def test_the_first_of_equally_good_trials_is_the_best() -> None:
    accuracies = {"a": 0.5, "b": 0.9, "c": 0.9, "d": None}
    assert find_best(list(accuracies), accuracies.__getitem__) == "b"
    assert find_best(["d"], accuracies.__getitem__) is None
    zero = {"a": 0.0}
    assert find_best(["a"], zero.__getitem__) == "a"
