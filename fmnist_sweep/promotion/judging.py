"""Confirmations' test predictions, read back and put before the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fmnist_sweep.data import LABELS
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion import opening
from fmnist_sweep.promotion.gate import Confirmed, Judgement, Rule, judge
from fmnist_sweep.tracking import test_predictions as tested

if TYPE_CHECKING:
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.confirming import Confirmations
    from fmnist_sweep.tracking.store import Store


def judgement_of(
    store: Store,
    finalists: Sequence[Confirmations],
    champion: Champion | None,
    theirs: Confirmations | None,
    rule: Rule,
) -> Judgement:
    """What the gate says. theirs: the champion's confirmations. Errors: PromotionRefused for other test images."""
    scored = [_Scored(store, each) for each in finalists]
    beside = None if theirs is None else _Scored(store, theirs)
    for each in (*scored[1:], *([beside] if beside else [])):
        if not scored[0].same_images(each):
            raise PromotionRefused(
                f"{each.name} and {scored[0].name} were scored on different test images, and cannot be compared."
            )
    before = None
    if beside is not None and champion is not None:
        before = replace(beside.confirmed, name=f"version {champion.number}")
    openings = max(1, len(opening.names(finalists)))
    return judge([each.confirmed for each in scored], before, scored[0].labels, LABELS, rule, openings=openings)


class _Scored:
    """A configuration's test predictions, a row a seed."""

    def __init__(self, store: Store, confirmations: Confirmations) -> None:
        self.name = confirmations.configuration.name
        self._told = [tested.read(store, run.run_id, run.name) for run in confirmations.scored]
        self.labels = self._told[0].labels

    @cached_property
    def confirmed(self) -> Confirmed:
        return Confirmed(self.name, np.stack([told.correct for told in self._told]))

    def same_images(self, other: _Scored) -> bool:
        first = self._told[0]
        return all(
            np.array_equal(first.index, told.index) and np.array_equal(first.labels, told.labels)
            for told in (*self._told, *other._told)
        )
