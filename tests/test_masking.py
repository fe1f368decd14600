"""No part of a password or token of an address is left in a text, whatever it holds, and nothing else is lost."""

from __future__ import annotations

import shlex

import pytest

from fmnist_sweep.config.commands import build_sweep_command
from fmnist_sweep.errors import StoreError
from fmnist_sweep.masking import mask_address, mask_credentials, mask_reason
from fmnist_sweep.text import quote_text, shorten_text

ADDRESSES = {
    "postgresql://ann:CANARY@host/db": "postgresql://***@host/db",
    "postgresql://ann:p@CANARY@host/db": "postgresql://***@host/db",
    "postgresql://ann:p/CANARY@host/db": "postgresql://***@host/db",
    "postgresql://ann:p?a=CANARY&b#c@host/db": "postgresql://***@host/db",
    "postgresql://ann:p CANARY x@host/db": "postgresql://***@host/db",
    "postgresql://ann:'\"CANARY@host/db": "postgresql://***@host/db",
    "http://CANARY@host:5000": "http://***@host:5000",
    "http://:CANARY@[::1]:5000/x": "http://***@[::1]:5000/x",
    "mysql://host/db?password=CANARY": "mysql://host/db?password=***",
    "mysql://host/db?user=CANARY&charset=utf8&sslpassword=CANARY#CANARY": (
        "mysql://host/db?user=***&charset=utf8&sslpassword=***"
    ),
    "https://host/mlflow?x=CANARY": "https://host/mlflow?x=***",
    "postgresql+psycopg2://ann:CANARY@/db?host=/run/pg&sslmode=require&password=CANARY": (
        "postgresql+psycopg2://***@/db?host=/run/pg&sslmode=require&password=***"
    ),
}


@pytest.mark.parametrize(("address", "masked"), ADDRESSES.items())
def test_an_address_is_shown_without_what_opens_its_door(address: str, masked: str) -> None:
    assert mask_address(address) == masked
    assert mask_address(masked) == masked
    assert mask_address(f"tracking.uri={address}") == f"tracking.uri={masked}"
    assert mask_address(f"--uri={address}") == f"--uri={masked}"


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_command_with_an_address_can_be_pasted_and_holds_no_password(address: str) -> None:
    command = build_sweep_command(["-m", f"tracking.uri={address}", "seed=1,2"])
    assert "CANARY" not in command
    assert shlex.split(command)[4:] == [f"tracking.uri={ADDRESSES[address]}", "seed=1,2"]
    assert mask_credentials(command) == command


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_error_holds_no_password_whatever_a_library_quotes(address: str) -> None:
    for reason in (
        f"cannot reach {address}",
        f"cannot reach '{address}', twice: ({address}).",
        address.replace("://", ":/"),
        address.partition("://")[2],
        *address.replace("?", "/").split("/"),
    ):
        assert "CANARY" not in mask_reason(reason, address)


def test_a_sentence_keeps_what_only_looks_like_an_address() -> None:
    for sentence in (
        "http://127.0.0.1:5000 has no version models:/fashion-mnist@champion: there are versions 1",
        "sqlite:////home/ann@work/mlruns/mlflow.db (experiment a@b)",
        "http://127.0.0.1:5000/#/experiments/1/runs?searchFilter=tags.x&orderByKey=y",
        "see https://example.org/a?mode=ro, or ask me@example.org",
    ):
        assert mask_credentials(sentence) == sentence


def test_what_is_cut_is_masked_before_it_is_cut() -> None:
    text = f"postgresql://ann:{'CANARY' * 30}@host/db"
    for short in (quote_text(text), shorten_text(text, 40), str(StoreError(text))):
        assert short == "postgresql://***@host/db"
