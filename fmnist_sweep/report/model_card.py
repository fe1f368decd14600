"""The card of a registered version, in Markdown: what it is, what it was measured to do, and what it is not for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fmnist_sweep.analysis.mistakes import ClassScore, ConfusedPair
from fmnist_sweep.analysis.proportions import Proportion
from fmnist_sweep.data.description import FASHION_MNIST
from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.report.markdown import format_list, format_table
from fmnist_sweep.text import format_interval

MODEL_CARD_FILE = "model_card.md"
_LEAST_CALIBRATION_ERROR = 2.0  # standard deviations above what a calibrated model would show


@dataclass(frozen=True)
class DataFacts:
    """The images of a model. source: its name and hash; canonical: whether it is Fashion-MNIST by its checksums.

    train_count, validation_count, test_count: images. twin_count: test images with a near twin in the training file.
    name: what the images are called.
    """

    source: str
    canonical: bool
    image_shape: tuple[int, ...]
    labels: Sequence[str]
    train_count: int
    validation_count: int
    test_count: int
    twin_count: int
    includes_validation: bool
    name: str = FASHION_MNIST.name


@dataclass(frozen=True)
class CardFigures:
    """What was measured on images that the model was not trained on.

    test, without_twins: this model's accuracy on the test images. over_seeds: the mean of its configuration's
    trainings, in words, with its interval. validation: None where these images were trained on. ece: expected
    calibration error; ece_if_calibrated, ece_if_calibrated_sd: what a calibrated model would show; overconfidence:
    mean confidence minus accuracy. scores: by label. pairs: the commonest mistakes.
    """

    test: Proportion
    without_twins: Proportion
    over_seeds: str
    validation: Proportion | None
    ece: float
    ece_if_calibrated: float
    ece_if_calibrated_sd: float
    overconfidence: float
    scores: Sequence[ClassScore]
    pairs: Sequence[ConfusedPair]


@dataclass(frozen=True)
class ModelCard:
    """All that a card says. facts: what the model is, as rows of a table. settings: that it was trained with, as YAML.

    decision: sentences on why it was registered, and on the openings of the test images. command: rebuilds it.
    plugins: fingerprints of the own code that it needs, by name; that of a package has a version before a colon.
    """

    name: str
    address: str
    facts: Mapping[str, str]
    settings: str = field(repr=False)
    data: DataFacts
    figures: CardFigures
    decision: Sequence[str]
    command: str
    plugins: Mapping[str, str] = field(default_factory=dict)


def render_model_card(card: ModelCard) -> str:
    """A version's card, with the headings of M. Mitchell et al., "Model cards for model reporting", FAT* 2019."""
    sections = {
        "Model details": _render_details(card),
        "Intended use": _render_use(card.data),
        "Factors": _render_factors(card.data),
        "Metrics": _render_metrics(card.data),
        "Evaluation data": _render_evaluation_data(card.data),
        "Training data": _render_training_data(card.data),
        "Quantitative analyses": _render_figures(card.figures),
        "Ethical considerations": _render_ethics(card.data),
        "Caveats and recommendations": _render_caveats(card),
        "How to rebuild it": _render_rebuilding(card),
    }
    text = "\n\n".join([f"# {card.name}", *(f"## {head}\n\n{content}" for head, content in sections.items())])
    return mask_credentials(text) + "\n"


def _render_details(card: ModelCard) -> str:
    facts = format_table(["", ""], [[key, value] for key, value in card.facts.items()])
    return f"{facts}\n\nIt was trained with these settings:\n\n```yaml\n{card.settings.strip()}\n```"


def _render_use(data: DataFacts) -> str:
    shape = _format_shape(data.image_shape)
    uses = [
        f"It is for images of {shape} that look like those it was trained on: raw pixels, 0 to 255, in; "
        f"{len(data.labels)} probabilities out.",
        f"Its labels, in this order: {', '.join(data.labels)}.",
    ]
    misuses = [
        f"**Not for images of anything else.** It gives every image one of these {len(data.labels)} labels, and can be "
        "sure of it: it has no answer for what it does not know.",
        "**Not for decisions about people**, and not where a wrong label does harm that nobody checks.",
        "**Not as a measure of other models on the same test images**: it was chosen with them, as the caveats say.",
    ]
    if data.canonical:
        misuses.append(
            "**Not for photographs as they are.** The images are tiny, grey, bright on black, of one shop's catalogue; "
            "`fmnist-sweep predict` converts a photograph, and says where it guessed."
        )
    return f"{format_list(uses)}\n\nWhat it must not be used for:\n\n{format_list(misuses)}"


def _render_factors(data: DataFacts) -> str:
    return (
        "Figures are given for each label. Nothing else is recorded of an image, such as where, when or with what it "
        f"was taken, so no figure is given by such a factor. All images have {_format_shape(data.image_shape)}."
    )


def _render_metrics(data: DataFacts) -> str:
    lines = [
        "Accuracy: the share of images whose likeliest label is theirs. Recall: that share among the images of a "
        "label. Precision: among those that were given it. Intervals are Wilson's, at 95%, for other images of the "
        "same kind.",
        "Over fresh seeds: the mean of several trainings with one configuration, ± the standard deviation of a single "
        "one, and Student's 95% interval of the mean.",
        "ECE: the expected calibration error, over 15 bins of equal width.",
    ]
    if data.includes_validation:
        lines.append("There is no validation accuracy: the validation images were trained on, too.")
    return format_list(lines)


def _render_evaluation_data(data: DataFacts) -> str:
    text = (
        f"{data.test_count:,} test images of {data.source.partition(':')[0]}, opened on record after the configuration "
        f"was chosen. {data.twin_count:,} of them have a near twin in the training file."
    )
    if data.includes_validation:
        return text
    return f"{text} {data.validation_count:,} validation images, cut from the training file, chose the best epoch."


def _render_training_data(data: DataFacts) -> str:
    canonical = (
        f"They are a set of their own, called {data.name}."
        if data.name != FASHION_MNIST.name
        else "They are Fashion-MNIST's, by their checksum (H. Xiao, K. Rasul, R. Vollgraf, 2017)."
        if data.canonical
        else "They are not Fashion-MNIST's: no checksum vouches for them."
    )
    also = ", the validation images among them" if data.includes_validation else ""
    return f"{data.train_count:,} images{also}, `{data.source}` (source and a hash of the images). {canonical}"


def _render_figures(figures: CardFigures) -> str:
    rows = [
        ["test accuracy of this model", str(figures.test), f"{figures.test.n:,}"],
        ["the same without near twins", str(figures.without_twins), f"{figures.without_twins.n:,}"],
        ["test accuracy over fresh seeds", figures.over_seeds, f"{figures.test.n:,}"],
    ]
    if figures.validation is not None:
        rows.append(["validation accuracy of this model", str(figures.validation), f"{figures.validation.n:,}"])
    expected = f"{figures.ece_if_calibrated:.4f} ± {figures.ece_if_calibrated_sd:.4f}"
    rows.append(["ECE", f"{figures.ece:.4f}; {expected} if it were calibrated", f"{figures.test.n:,}"])
    overall = format_table(["figure", "value", "images"], rows, right=[2])
    labels = format_table(
        ["label", "images", "recall", "95%", "precision", "F1"],
        [
            [
                score.label,
                f"{score.support:,}",
                f"{score.recall:.4f}",
                format_interval(score.recall_low, score.recall_high),
                f"{score.precision:.4f}",
                f"{score.f1:.4f}",
            ]
            for score in figures.scores
        ],
        right=[1, 2, 4, 5],
    )
    return f"{overall}\n\nLabel by label, on the test images:\n\n{labels}"


def _render_ethics(data: DataFacts) -> str:
    shown = "The images show pieces of clothing from a shop's catalogue, and hold no personal data. " * data.canonical
    return (
        f"{shown}Which images there are, and which labels they were given, was the choice of whoever collected them; "
        "it was not examined here. Where images show people or what belongs to them, that has to be examined before "
        "the model is used."
    )


def _render_caveats(card: ModelCard) -> str:
    figures = card.figures
    weakest = min(figures.scores, key=lambda score: score.recall)
    lines = [
        f"It recognises {weakest.label} least: recall {weakest.recall:.4f} "
        f"{format_interval(weakest.recall_low, weakest.recall_high)}.",
        *(
            f"{pair.true} is taken for {pair.predicted} in {pair.share:.1%} of its images ({pair.count:,})."
            for pair in figures.pairs
        ),
        _describe_confidence(figures),
        "It is one of several trainings: the mean over fresh seeds is what another training would give, and this "
        "model's own test accuracy is one draw round it.",
        "On images from elsewhere expect less, by how much nobody measured.",
        *card.decision,
    ]
    return format_list(lines)


def _describe_confidence(figures: CardFigures) -> str:
    excess = figures.ece - figures.ece_if_calibrated
    if excess <= _LEAST_CALIBRATION_ERROR * figures.ece_if_calibrated_sd:
        return "Its probabilities can be taken as frequencies: its ECE is what a calibrated model would show."
    direction = "too sure of itself" if figures.overconfidence > 0 else "not sure enough of itself"
    return (
        f"Its probabilities are no frequencies: it is {direction}, by {100 * abs(figures.overconfidence):.1f} points "
        "on average."
    )


def _render_rebuilding(card: ModelCard) -> str:
    files = "".join(f" --plugins {shlex.quote(name)}" for name, mark in card.plugins.items() if ":" not in mark)
    needs = ", ".join(f"`{name}` ({mark})" for name, mark in card.plugins.items())
    own_code = f"It needs own code: {needs}, which the run of its study keeps in `plugins/`.\n\n" if needs else ""
    return (
        f"{own_code}"
        f"    fmnist-sweep reproduce {card.address}{files}\n\n"
        "trains it again from the registry and the data, and compares the result bit for bit. Without the registry:\n\n"
        f"    {card.command}"
    )


def _format_shape(shape: Sequence[int]) -> str:
    height, width, channels = shape
    pixels = {1: "grey pixels", 3: "pixels in colour"}.get(channels, f"pixels of {channels} channels")
    return f"{height}x{width} {pixels}"


def format_versions(versions: str) -> str:
    """Library versions, given as the JSON of a tag, as one line."""
    try:
        content = json.loads(versions)
    except ValueError:
        return versions
    return ", ".join(f"{name} {value}" for name, value in sorted(content.items())) if content else "–"
