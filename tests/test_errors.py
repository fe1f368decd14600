"""An error is a sentence of at most a screen, whatever it quotes."""

from __future__ import annotations

import pickle

import pytest

from fmnist_sweep.errors import ConfigError, DataError, Locked, PromotionRefused, StoreError, UserError
from fmnist_sweep.text import quote_text, shorten_sentence


@pytest.mark.parametrize("kind", [UserError, ConfigError, DataError, StoreError, Locked, PromotionRefused])
@pytest.mark.parametrize(
    "value", ["\0" * 10**6, "x " * 10**6, "9" * 400 * 400, "a,b;" * 10**5, "\n" * 10**6, "ü" * 10**6]
)
def test_whatever_an_error_quotes_it_keeps_its_beginning_and_its_end(kind: type[UserError], value: str) -> None:
    sentence = str(kind(f"data.dir={value}: expected a folder; correct data.dir."))
    assert len(sentence) < 2200
    assert sentence.startswith("data.dir=") and sentence.endswith("expected a folder; correct data.dir.")
    assert "characters)" in sentence
    assert str(pickle.loads(pickle.dumps(kind(sentence)))) == sentence


def test_a_sentence_of_a_usual_length_stays_as_it_is() -> None:
    sentence = f"{'/a/long/path' * 30} has no file: {'expected a word, ' * 80}."
    assert shorten_sentence(sentence) == str(DataError(sentence)) == sentence


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("short", "short"),
        ("a\nb\x1b", r"a\nb\x1b"),
        ("x" * 100, f"{'x' * 60}… (100 characters)"),
        (["a"] * 3, "['a', 'a', 'a']"),
        ("", ""),
    ],
)
def test_a_value_is_quoted_in_a_few_printable_characters(value: object, quoted: str) -> None:
    assert quote_text(value) == quoted
