"""The diagnosis in sentences, each with the override to type; kept with a run as a file, and read back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep.analysis.settings import format_value
from fmnist_sweep.reading import parse_json

if TYPE_CHECKING:
    from fmnist_sweep.analysis.diagnosis import Diagnosis, Prospect
    from fmnist_sweep.analysis.edges import Edge
    from fmnist_sweep.analysis.shortcomings import CutDown, FitProblem, StillImproving

# Of a file that others may have written.
_MAX_ADVICE, _MAX_LENGTH = 50, 1000


@dataclass(frozen=True)
class Advice:
    """A sentence of a diagnosis, and the override that it ends with; empty where there is nothing to type."""

    sentence: str
    override: str = ""

    @property
    def typed(self) -> str:
        """The override as it is typed in a shell."""
        return shlex.quote(self.override) if self.override else ""

    def __str__(self) -> str:
        return f"{self.sentence} {self.typed}" if self.override else self.sentence


def word_diagnosis(diagnosis: Diagnosis, min_gain: float) -> list[Advice]:
    """Word a diagnosis. min_gain: from which on more trials are worth their override."""
    advice = [_word_edge(edge) for edge in diagnosis.edges]
    advice += [] if diagnosis.improvement is None else [_word_improvement(diagnosis.improvement)]
    advice += [] if diagnosis.fit is None else [_word_fit(diagnosis.fit)]
    advice += [_word_limit(limit) for limit in diagnosis.limits]
    return [*advice, *([] if diagnosis.prospect is None else [_word_prospect(diagnosis.prospect, min_gain)])]


def _word_edge(edge: Edge) -> Advice:
    side = "upper" if edge.is_upper else "lower"
    return Advice(
        f"{edge.key}: the best trial has {format_value(edge.value)}, at the {side} edge of the range, and over "
        f"{edge.trials} trials accuracy rises towards it; widen it:",
        edge.override,
    )


def _word_improvement(found: StillImproving) -> Advice:
    return Advice(
        f"The best trial was still improving at the last of its {found.epochs} epochs (validation accuracy "
        f"{found.gain:+.4f}); train for longer:",
        found.override,
    )


def _word_fit(fit: FitProblem) -> Advice:
    reading = "far apart" if fit.kind == "apart" else "both poor"
    return Advice(
        f"Training accuracy {fit.train_accuracy:.4f} and validation accuracy {fit.val_accuracy:.4f} of the best trial "
        f"are {reading}; {fit.remedy}:",
        fit.override,
    )


def _word_limit(cut: CutDown) -> Advice:
    counts = f"{cut.count:,} of {cut.trials:,} trials"
    match cut.kind:
        case "ended":
            sentence = f"{cut.limit} cut down {counts}; give them longer:"
        case "not begun":
            sentence = f"{cut.limit} ended the search before {counts} began; give it longer:"
        case _:
            sentence = f"{cut.limit} ended {counts} in the first half of their epochs; wait longer for an improvement:"
    return Advice(sentence, cut.override)


def _word_prospect(prospect: Prospect, min_gain: float) -> Advice:
    hour = f"Another hour, about {prospect.further:,} trial{'' if prospect.further == 1 else 's'} more"
    gain = f"about {prospect.gain:.4f}" if prospect.gain >= 0.00005 else "less than 0.0001"
    sentence = f"{hour}, is expected to raise the best validation accuracy by {gain}"
    if prospect.luck is not None:
        images = "" if prospect.images is None else f" {prospect.images:,}"
        sentence += (
            f"; the best of these {prospect.trials:,} is flattered by about {prospect.luck:.4f}, as it was picked on "
            f"its{images} images"
        )
    if prospect.gain < min_gain:
        return Advice(f"{sentence}.")
    return Advice(f"{sentence}; to train them:", f"search.max_trials={prospect.max_trials}")


def encode_advice(advice: Sequence[Advice]) -> bytes:
    """Advice as the bytes of a JSON file."""
    return json.dumps([asdict(each) for each in advice], indent=1, ensure_ascii=False).encode()


def parse_advice(content: bytes | None) -> list[Advice]:
    """Read advice back. What is none, as anybody may have put there, is left out."""
    try:
        entries: Any = [] if content is None else parse_json(content.decode())
    except ValueError:
        return []
    return list(_iterate_advice(entries[:_MAX_ADVICE] if isinstance(entries, list) else []))


def _iterate_advice(entries: Sequence[Any]) -> Iterator[Advice]:
    for entry in entries:
        sentence, override = (entry.get("sentence"), entry.get("override")) if isinstance(entry, dict) else (None, None)
        if isinstance(sentence, str) and isinstance(override, str) and len(sentence) + len(override) <= _MAX_LENGTH:
            yield Advice(sentence, override)
