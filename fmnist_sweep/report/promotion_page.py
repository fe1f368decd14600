"""The decision of a promotion as a page, two pictures, and a version's description in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.report.figures.canvas import encode_png
from fmnist_sweep.report.figures.test_scores import draw_test_accuracies, draw_test_recalls
from fmnist_sweep.report.markdown import format_table
from fmnist_sweep.report.markup import encode_picture, render_template_page

_HEADINGS = {
    "first": "the first champion",
    "better": "better than the champion",
    "cannot tell": "it is unclear whether it is better than the champion",
    "worse": "worse than the champion",
    "futile": "no finalist was likely to pass the test",
}


@dataclass(frozen=True)
class StandingRow:
    """A configuration compared with the champion.

    accuracy, gain: mean test accuracy and its gain over the champion's, as text. objections: what keeps it from being
    better. test_accuracies: one per training seed, 0..1. recalls: mean of each label, None for a label without images.
    """

    name: str
    accuracy: str
    gain: str
    objections: Sequence[str]
    test_accuracies: Sequence[float] = field(repr=False)
    recalls: Mapping[str, float | None] = field(repr=False)


@dataclass(frozen=True)
class FreshTraining:
    """One training of a finalist with a fresh seed; accuracies are None where they were not measured."""

    name: str
    seed: str
    validation_accuracy: float | None
    test_accuracy: float | None
    run_id: str


@dataclass(frozen=True)
class PromotionDecision:
    """What a promotion decided and what it rests on.

    standings: of the finalists, in order; champion: of the champion there was. openings: of the test images.
    reasons, remarks: sentences on how the rule was applied, and what a reader should know besides. why: the verdict in
    a sentence. cost: of the trainings. looks: sentences on each look at the validation images. account: on what is left
    of the account of the test images. correction: of the winner's interval after an early stop; empty without one.
    """

    verdict: str
    command: str
    reasons: Sequence[str]
    remarks: Sequence[str]
    rule: str
    openings: Sequence[str]
    standings: Sequence[StandingRow]
    champion: StandingRow | None
    trainings: Sequence[FreshTraining]
    why: str = ""
    cost: str = ""
    looks: Sequence[str] = ()
    account: Sequence[str] = ()
    correction: str = ""


def draw_promotion_pictures(decision: PromotionDecision) -> dict[str, bytes]:
    """PNG files by name: test accuracies seed by seed, and recalls label by label."""
    rows = [*decision.standings, *([decision.champion] if decision.champion else [])]
    return {
        "accuracies.png": encode_png(draw_test_accuracies([(row.name, row.test_accuracies) for row in rows])),
        "recalls.png": encode_png(draw_test_recalls([(row.name, row.recalls) for row in rows])),
    }


def render_promotion_page(
    decision: PromotionDecision, version_tags: Mapping[str, Any] | None, pictures: Mapping[str, bytes]
) -> str:
    """The page as the text of an HTML file. version_tags: of the registered version, None where there is none."""
    return render_template_page(
        "promotion.html",
        decision=decision,
        heading=_HEADINGS[decision.verdict],
        command=mask_credentials(decision.command),
        pictures={name: encode_picture(content) for name, content in pictures.items()},
        trainings=[
            (
                training.name,
                training.seed,
                _format_accuracy(training.validation_accuracy),
                _format_accuracy(training.test_accuracy),
                training.run_id,
            )
            for training in decision.trainings
        ],
        facts=sorted((version_tags or {}).items()),
    )


def format_version_description(decision: PromotionDecision, *, name: str, command: str, evidence: str) -> str:
    """A version's description in Markdown: the verdict, its reasons, the rule, and how to train it again.

    name: of the configuration. command: what trains it again. evidence: where the page is, in words.
    """
    table = format_table(
        ["configuration", "test accuracy over fresh seeds", "gain over the champion"],
        [[row.name, row.accuracy, row.gain] for row in decision.standings],
    )
    correction = [decision.correction] if decision.correction else []
    lines = [
        f"**{name}**: {decision.verdict}.",
        "",
        *(f"- {sentence}" for sentence in (*decision.reasons, *correction, *decision.remarks, *decision.account)),
        "",
        table,
        "",
        f"Rule: {decision.rule}",
        "",
        f"To train it again:\n\n    {command}\n",
        f"All figures: {evidence}.",
    ]
    return "\n".join(lines)


def _format_accuracy(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
