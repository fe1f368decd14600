"""Decisions on test images, as the registry keeps them for every machine that shares it.

Each is a tag of the registered model (`fmnist.test_decision.KEY`, JSON), like a move of an alias. The key follows from
what is decided, so that a repeated decision is written under the same key, and two decisions of two machines are not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, TypeAdapter, ValidationError

from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.reading import parse_json
from fmnist_sweep.text import quote_text, shorten_text
from fmnist_sweep.tracking.foreign import name_left_out
from fmnist_sweep.tracking.names import TEST_DECISION_TAG_PREFIX
from fmnist_sweep.tracking.registry import ensure_registered_model, get_registered_model

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

    from fmnist_sweep.tracking.store import Store

_MAX_RECORD_LENGTH = 5_000  # the column of a registered model's tags
_MAX_OPENINGS, _MAX_COMMAND = 50, 1_000


@dataclass(frozen=True)
class TestDecision:
    """One decision on test images, or an opening that no decision is known of yet.

    key: by which it is kept. time: in UTC, ISO 8601. part: hash of the test images in any order; None if unknown.
    decision: id of what was decided. against: number of the champion's version, `nobody` without one, None if unknown
    (an opening of an earlier release, or one whose decision is still to come). openings: of the test images that it
    rests on. number: among the decisions on its part, from 1; error: how probably it promotes a model that is no
    better; both None if it compared with nobody or was made before there was an account.
    """

    __test__ = False  # for pytest: this is not a class of tests

    key: str
    time: Annotated[str, Field(max_length=64)]
    part: Annotated[str, Field(max_length=64)] | None
    decision: Annotated[str, Field(max_length=64)]
    against: Annotated[str, Field(max_length=16)] | None
    openings: tuple[str, ...]
    number: Annotated[int, Field(ge=1, le=10**9)] | None = None
    error: Annotated[float, Field(ge=0, le=1)] | None = None
    command: str = ""


@dataclass(frozen=True)
class KeptDecisions:
    """What the registry keeps. unreadable_count: of tags that hold something else, and may have been decisions."""

    decisions: Sequence[TestDecision]
    unreadable_count: int


_ADAPTER = TypeAdapter(TestDecision)


def make_decision_key(*parts: str) -> str:
    """The key of the decision that these texts identify."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def read_test_decisions(store: Store) -> KeptDecisions:
    """All decisions, the oldest first. A tag that holds something else is named, and counted."""
    return parse_test_decisions(store, get_registered_model(store))


def parse_test_decisions(store: Store, model: RegisteredModel | None) -> KeptDecisions:
    """The decisions in the tags of a registered model, which was read before."""
    decisions, misfits = list[TestDecision](), list[tuple[str, str]]()
    for tag, text in ({} if model is None else model.tags).items():
        if tag.startswith(TEST_DECISION_TAG_PREFIX):
            try:
                values = {**parse_json(text), "key": tag.removeprefix(TEST_DECISION_TAG_PREFIX)}
                decisions.append(_ADAPTER.validate_python(values))
            except (ValueError, TypeError, ValidationError):
                misfits.append((tag, f"it holds {quote_text(text)}"))
    name_left_out(
        store, "tag", f"of models:/{store.model_name} and no decision on test images, though counted as one", misfits
    )
    return KeptDecisions(sorted(decisions, key=lambda decision: (decision.time, decision.key)), len(misfits))


def write_test_decision(store: Store, decision: TestDecision) -> None:
    """Keep a decision under its key; the registered model is made if it is missing."""
    content = asdict(decision)
    del content["key"]
    content["openings"] = list(decision.openings[:_MAX_OPENINGS])
    content["command"] = shorten_text(
        mask_credentials(decision.command).encode(errors="replace").decode(), _MAX_COMMAND
    )
    text = json.dumps(content, ensure_ascii=False)
    if len(text) > _MAX_RECORD_LENGTH:  # it has characters that JSON escapes
        text = json.dumps({**content, "command": ""})
    ensure_registered_model(store)
    store.client.set_registered_model_tag(store.model_name, f"{TEST_DECISION_TAG_PREFIX}{decision.key}", text)
