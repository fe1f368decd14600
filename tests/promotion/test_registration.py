"""A judgement carried out in the registry: what is read of it before an alias moves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fmnist_sweep.errors import ExitCode, Locked
from fmnist_sweep.promotion import registration
from fmnist_sweep.promotion.outcome import Outcome
from fmnist_sweep.tracking.names import MODEL_NAME
from fmnist_sweep.tracking.registry import CHALLENGER, CHAMPION


class _Registry:
    """In place of a store and its client: a registered model with these aliases, which counts how often it is read."""

    def __init__(self, **aliases: str) -> None:
        self.aliases, self.reads = aliases, 0
        self.client = self
        self.model_name = MODEL_NAME

    def get_registered_model(self, name: str) -> Any:
        assert name == MODEL_NAME
        self.reads += 1
        return SimpleNamespace(aliases=dict(self.aliases), tags={})


def register_winner(
    monkeypatch: pytest.MonkeyPatch, registry: _Registry, *, champion: str, promotes: bool
) -> tuple[Outcome, list[int]]:
    """Register version 3, judged against `champion`: the outcome, and the number of reads before the alias moved."""
    reads: list[int] = []
    for name, stand_in in {
        "_find_former_champion": lambda registration: SimpleNamespace(number="3", tags={}),
        "_log_dossier": lambda *_: None,
        "_describe_version": lambda *_: [],
        "_locate_evidence": lambda _: "",
        "move_alias": lambda *_, **__: reads.append(registry.reads),
    }.items():
        monkeypatch.setattr(registration, name, stand_in)
    judgement = SimpleNamespace(verdict="better", promotes=promotes, reasons=())
    dossier: Any = SimpleNamespace(
        judgement=judgement,
        remarks=(),
        account=(),
        corrected=None,
        reason="a test.",
        command="promote",
        champion_number=champion,
    )
    promotion: Any = SimpleNamespace(store=registry, request=SimpleNamespace(data_dir=None))
    return registration.register_winner(promotion, dossier, "a run"), reads


def test_no_request_comes_between_the_check_of_the_champion_and_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, reads = register_winner(monkeypatch, _Registry(champion="1"), champion="1", promotes=True)
    assert (outcome.code, reads) == (ExitCode.DONE, [1])
    assert outcome.lines[0] == f"models:/{MODEL_NAME}@{CHAMPION} is now version 3 (before: version 1)"


def test_a_challenger_is_described_by_the_same_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, reads = register_winner(monkeypatch, _Registry(challenger="3"), champion="nobody", promotes=False)
    assert (outcome.code, reads) == (ExitCode.NOT_BETTER, [1])
    assert outcome.lines[0] == f"models:/{MODEL_NAME}@{CHALLENGER} is still version 3"


def test_nothing_moves_once_another_command_has_changed_the_champion(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Locked, match="another command changed the champion"):
        register_winner(monkeypatch, _Registry(champion="2"), champion="1", promotes=True)
