"""What a promotion cost, beside what all seeds would have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fmnist_sweep.promotion.confirmation import Confirmations, read_confirmations
from fmnist_sweep.promotion.cost import PromotionCost, count_cost
from fmnist_sweep.promotion.entrants import Entrant
from tests.promotion.test_confirmation import CONFIGURATION, make_confirmation
from tests.support.versions import connect_store


def test_trainings_of_all_entrants_count_but_those_that_the_champion_had(tmp_path: Path) -> None:
    store = connect_store(tmp_path)
    for _ in range(3):
        store.client.log_metric(make_confirmation(store, "own"), "fit_seconds", 10.0)
    trained = read_confirmations(store, CONFIGURATION, "own")
    finalist = Entrant(CONFIGURATION, 3)
    champion = Entrant(CONFIGURATION, 3, is_champion=True, least_seeds=2)
    dropped = replace(finalist, seeds=1, drop="it is out")
    confirmations = [trained, trained, Confirmations(CONFIGURATION, "own", trained.runs[:1])]
    cost = count_cost([finalist, champion, dropped], confirmations, 20)
    assert cost == PromotionCost(trainings=3 + 1 + 1, seconds=50.0, most=20 + 18 + 20)
    assert count_cost([finalist, champion, dropped], confirmations, None).most == 5


def test_what_looks_saved_is_said_and_a_fixed_design_is_not_compared_with_itself() -> None:
    assert PromotionCost(10, 120.0, 40).text == (
        "10 trainings, 2 min 00 s of training one after another; all seeds, without a look, would have been 40 "
        "trainings, about 8 min 00 s."
    )
    assert PromotionCost(1, 30.0, 1).text == "1 training, 30 s of training one after another."
