"""What data is, apart from its pixels, survives as text; a text that describes none is refused."""

from __future__ import annotations

import json

import pytest

from fmnist_sweep.data.description import (
    FASHION_MNIST,
    MAX_LABELS,
    MAX_TEXT_LENGTH,
    DataDescription,
    find_label_problem,
    find_name_problem,
    format_description,
    parse_description,
)

FLOWERS = DataDescription("flowers", (12, 16, 3), ("Rose", "Löwenzahn", "Daisy/white"))


def test_a_description_is_read_back_from_its_text() -> None:
    assert parse_description(format_description(FLOWERS)) == FLOWERS
    assert not FLOWERS.is_fashion_mnist
    assert FLOWERS.pixel_count == 12 * 16 * 3


def test_the_longest_names_that_are_allowed_fit_the_text() -> None:
    labels = tuple(f"{'x' * 15}{number:03}" for number in range(MAX_LABELS))
    assert find_label_problem(labels) is None
    text = format_description(DataDescription("n" * 64, (512, 512, 3), labels))
    assert len(text) <= MAX_TEXT_LENGTH
    assert parse_description(text).labels == labels


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (["one"], "expected 2 to 256 labels, found 1"),
        (["a", "b!"], r"'b!' has a character"),
        (["a", " b"], "has a character"),
        (["a", ""], "has a character"),
        (["a", "b", "a"], "'a' is there twice"),
        ([f"{number:064}" for number in range(200)], "too long together"),
    ],
)
def test_labels_that_no_metric_could_be_named_after_are_refused(labels: list[str], problem: str) -> None:
    assert problem in str(find_label_problem(labels))


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a:b", "x" * 65, FASHION_MNIST.name])
def test_names_that_no_model_could_have_are_refused(name: str) -> None:
    assert find_name_problem(name) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 5000,
        "x" * (MAX_TEXT_LENGTH + 1),
        json.dumps({"name": "a", "shape": [28, 28], "labels": ["a", "b"]}),
        json.dumps({"name": "a", "shape": [28, 28, 2], "labels": ["a", "b"]}),
        json.dumps({"name": "a", "shape": [28, 10**9, 1], "labels": ["a", "b"]}),
        json.dumps({"name": "a", "shape": [28, True, 1], "labels": ["a", "b"]}),
        json.dumps({"name": "a b", "shape": [28, 28, 1], "labels": ["a", "b"]}),
        json.dumps({"name": "a", "shape": [28, 28, 1], "labels": "ab"}),
        json.dumps({"name": "a", "shape": [28, 28, 1], "labels": [1, 2]}),
        json.dumps({"name": "a", "shape": [28, 28, 1], "labels": ["a"]}),
    ],
)
def test_other_texts_describe_no_data(text: str) -> None:
    with pytest.raises(ValueError):
        parse_description(text)
