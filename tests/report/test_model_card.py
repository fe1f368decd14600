"""The model card: its headings, what it says of the data, and what others may have put into a name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fmnist_sweep.analysis.mistakes import find_confused_pairs, score_classes
from fmnist_sweep.analysis.proportions import Proportion
from fmnist_sweep.report.model_card import CardFigures, DataFacts, ModelCard, format_versions, render_model_card
from fmnist_sweep.training.evaluation import count_confusion

NAMES = ("Coat", "Shirt | or so")
LABELS = np.array([0] * 10 + [1] * 10)
PROBABILITIES = np.array([[0.9, 0.1]] * 10 + [[0.8, 0.2]] * 4 + [[0.3, 0.7]] * 6, np.float32)
CONFUSION = np.asarray(count_confusion(LABELS, PROBABILITIES.argmax(axis=1), NAMES))
FIGURES = CardFigures(
    test=Proportion.from_counts(16, 20),
    without_twins=Proportion.from_counts(15, 19),
    over_seeds="0.7900 ± 0.0100 (n=3) [0.7652, 0.8148]",
    validation=Proportion.from_counts(40, 50),
    ece=0.10,
    ece_if_calibrated=0.02,
    ece_if_calibrated_sd=0.01,
    overconfidence=0.10,
    scores=score_classes(CONFUSION, NAMES),
    pairs=find_confused_pairs(CONFUSION, LABELS, PROBABILITIES, NAMES),
)
CARD = ModelCard(
    name="cnn · filters 8",
    address="models:/fashion-mnist/3",
    facts={"parameters": "1,234", "machine": "a | b"},
    settings="model:\n  builder: cnn\n",
    data=DataFacts("pieces:0123456789ab", False, (20, 30, 3), NAMES, 80, 50, 20, 1, includes_validation=False),
    figures=FIGURES,
    decision=("it is the first champion.",),
    command="python -m fmnist_sweep model.filters=8 seed=10001",
)
HEADINGS = [
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
    "How to rebuild it",
]


def test_a_card_has_the_usual_headings_in_their_order() -> None:
    lines = render_model_card(CARD).splitlines()
    assert lines[0] == "# cnn · filters 8"
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == HEADINGS


def test_figures_have_their_intervals_and_their_counts_label_by_label() -> None:
    text = render_model_card(CARD)
    assert f"| test accuracy of this model | {FIGURES.test} | 20 |" in text
    assert "0.8000 [0." in text
    shirt = FIGURES.scores[1]
    row = next(line for line in text.splitlines() if line.startswith(r"| Shirt \| or so |"))
    assert f"| 10 | 0.6000 | [{shirt.recall_low:.4f}, {shirt.recall_high:.4f}] |" in row
    assert "Shirt | or so is taken for Coat in 40.0% of its images (4)." in text
    assert "too sure of itself, by 10.0 points" in text
    assert r"| machine | a \| b |" in text


def test_a_card_speaks_of_the_images_that_it_is_given_and_of_no_others() -> None:
    text = render_model_card(CARD)
    assert "20x30 pixels in colour" in text
    assert "2 probabilities out" in text
    for word in ("Fashion-MNIST's, by", "28", "clothing", "photograph"):
        assert word not in text.replace("They are not Fashion-MNIST's: no checksum vouches for them.", "")
    canonical = replace(CARD, data=replace(CARD.data, canonical=True, image_shape=(28, 28, 1)))
    assert "28x28 grey pixels" in render_model_card(canonical)
    assert "Fashion-MNIST's, by their checksum" in render_model_card(canonical)


def test_a_card_names_the_own_code_that_rebuilding_needs() -> None:
    text = render_model_card(replace(CARD, plugins={"my models.py": "0a1b", "my-package": "1.2:0c"}))
    assert f"    fmnist-sweep reproduce {CARD.address} --plugins 'my models.py'\n" in text
    assert "It needs own code: `my models.py` (0a1b), `my-package` (1.2:0c), which the run of its study keeps" in text
    assert "own code" not in render_model_card(CARD)


def test_images_that_were_trained_on_give_no_validation_accuracy() -> None:
    data = replace(CARD.data, includes_validation=True)
    text = render_model_card(replace(CARD, data=data, figures=replace(FIGURES, validation=None)))
    assert "validation accuracy of this model" not in text
    assert "There is no validation accuracy" in text
    assert "chose the best epoch" not in text


def test_probabilities_of_a_calibrated_model_are_said_to_be_frequencies() -> None:
    text = render_model_card(replace(CARD, figures=replace(FIGURES, ece=0.03)))
    assert "can be taken as frequencies" in text
    assert "no frequencies" not in text


def test_a_card_holds_no_password() -> None:
    card = replace(CARD, command="python -m fmnist_sweep tracking.uri=postgresql://me:hunter2@host/db")
    assert "hunter2" not in render_model_card(card)


@pytest.mark.parametrize(
    ("tag", "text"), [('{"keras": "3.15", "a": 1}', "a 1, keras 3.15"), ("{}", "–"), ("no JSON", "no JSON")]
)
def test_versions_are_one_line(tag: str, text: str) -> None:
    assert format_versions(tag) == text
