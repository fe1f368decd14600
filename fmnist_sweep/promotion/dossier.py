"""All that a promotion rests on: as JSON for programs, as Markdown for a version's description, as one page to read."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep.promotion.champion import get_champion_number
from fmnist_sweep.report.figures.canvas import encode_png
from fmnist_sweep.report.figures.promotion import draw_test_accuracies, draw_test_recalls
from fmnist_sweep.text import mask_credentials
from fmnist_sweep.tracking.names import COMMAND_TAG, NAME_TAG, PROMOTION_TAG

if TYPE_CHECKING:
    from fmnist_sweep.promotion.candidates import Candidates
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.confirmation import Confirmations
    from fmnist_sweep.promotion.gate import GateJudgement


@dataclass(frozen=True)
class Dossier:
    """What was found about some finalists, beside the champion there was.

    finalists: in the order of the judgement's standings. openings: of the test images for them. rule: what the gate
    went by, as JSON. remarks: what a reader should know beside.
    """

    decision: str
    command: str
    candidates: Candidates
    finalists: Sequence[Confirmations]
    champion: Champion | None
    champion_confirmations: Confirmations | None
    judgement: GateJudgement
    openings: Sequence[str]
    rule: str
    remarks: Sequence[str] = ()

    @property
    def winner(self) -> Confirmations:
        return self.finalists[self.judgement.winner]

    @property
    def champion_number(self) -> str:
        """Number of the version that was champion, or `nobody`."""
        return get_champion_number(self.champion)

    @property
    def folder(self) -> str:
        """Where it is kept among the artifacts of the promotion's run."""
        # After another opening it is another judgement; what the one before rested on stays.
        suffix = f"-opening-{len(self.openings)}" if len(self.openings) > 1 else ""
        return f"promotion/{self.decision}/against-{self.champion_number}{suffix}"

    @property
    def reason(self) -> str:
        return self.judgement.reasons[-1]

    def as_dict(self, version_tags: Mapping[str, Any] | None) -> dict[str, Any]:
        """All of it as plain values. registered: tags of the version that came of it."""
        return {
            "decision": self.decision,
            "command": self.command,
            "verdict": self.judgement.verdict,
            "why": self.reason,
            "candidates": {
                "rivals": self.candidates.rival_count,
                "tied_with_best": self.candidates.tie_count,
                "finalists": [trial.run_id for trial in self.candidates.finalists],
            },
            "test_openings": list(self.openings),
            "rule": json.loads(self.rule),
            "remarks": list(self.remarks),
            "finalists": [_list_confirmations(confirmations) for confirmations in self.finalists],
            "champion": None
            if self.champion is None or self.champion_confirmations is None
            else {"version": self.champion.number, **_list_confirmations(self.champion_confirmations)},
            "judgement": self.judgement.as_dict(),
            "registered": None if version_tags is None else dict(version_tags),
        }

    def render_files(self, version_tags: Mapping[str, Any] | None) -> dict[str, bytes]:
        """The artifacts, by their path in the promotion's run."""
        pictures = self._draw_pictures()
        page = self._render_page(version_tags, pictures)
        document = json.dumps(self.as_dict(version_tags), indent=1).encode()
        files = {"evidence.json": document, "evidence.html": page.encode(), **pictures}
        return {f"{self.folder}/{name}": content for name, content in files.items()}

    def _draw_pictures(self) -> dict[str, bytes]:
        confirmations = [*self.finalists, *([self.champion_confirmations] if self.champion_confirmations else [])]
        standings = [*self.judgement.standings, *([self.judgement.champion] if self.judgement.champion else [])]
        accuracies = [
            (standing.name, [run.metrics["test_accuracy"] for run in each.scored_runs])
            for standing, each in zip(standings, confirmations, strict=True)
        ]
        return {
            "accuracies.png": encode_png(draw_test_accuracies(accuracies)),
            "recalls.png": encode_png(draw_test_recalls([(each.name, each.recalls) for each in standings])),
        }

    def format_description(self, version_tags: Mapping[str, Any]) -> str:
        """A version's description in Markdown: the verdict, its reasons, the rule, and how to build it again."""
        rows = [
            f"| {standing.name} | {standing.accuracy} | {standing.gain_text} |" for standing in self.judgement.standings
        ]
        lines = [
            f"**{version_tags[NAME_TAG]}**: {self.judgement.verdict}.",
            "",
            *(f"- {reason}" for reason in self.judgement.reasons),
            *(f"- {remark}" for remark in self.remarks),
            "",
            "| configuration | test accuracy over fresh seeds | beside the champion |",
            "|--|--|--|",
            *rows,
            "",
            f"Rule: {self.judgement.rule_text}",
            "",
            f"Trained again by:\n\n    {version_tags[COMMAND_TAG]}\n",
            f"All figures: `{self.folder}/evidence.html` of run {version_tags[PROMOTION_TAG]}.",
        ]
        return "\n".join(lines)

    def _render_page(self, version_tags: Mapping[str, Any] | None, pictures: Mapping[str, bytes]) -> str:
        def format_row(values: Sequence[str], tag: str = "td") -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values) + "</tr>"

        standings = "".join(
            format_row([each.name, str(each.accuracy), each.gain_text, "; ".join(each.objections) or "–"])
            for each in self.judgement.standings
        )
        runs = "".join(
            format_row(
                [
                    each.configuration.name,
                    run.params["seed"],
                    _format_figure(run.metrics.get("best_val_accuracy")),
                    _format_figure(run.metrics.get("test_accuracy")),
                    run.run_id,
                ]
            )
            for each in self.finalists
            for run in each.scored_runs
        )
        facts = "".join(format_row([key, str(value)]) for key, value in sorted((version_tags or {}).items()))
        images = "".join(
            f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'
            for name, content in pictures.items()
        )
        sentences = "".join(f"<li>{html.escape(line)}</li>" for line in (*self.judgement.reasons, *self.remarks))
        headers = ("configuration", "test accuracy over fresh seeds", "beside the champion", "what speaks against it")
        return _PAGE.format(
            verdict=html.escape(self.judgement.verdict),
            heading=_HEADINGS[self.judgement.verdict],
            command=html.escape(mask_credentials(self.command)),
            said=sentences,
            rule=html.escape(self.judgement.rule_text),
            openings=html.escape(", ".join(self.openings)),
            standings=format_row(headers, "th") + standings,
            pictures=images,
            runs=format_row(("configuration", "seed", "validation accuracy", "test accuracy", "run"), "th") + runs,
            facts=facts,
        )


def _list_confirmations(confirmations: Confirmations) -> dict[str, Any]:
    configuration = confirmations.configuration
    return {
        "name": configuration.name,
        "configuration": configuration.key,
        "journal": confirmations.journal,
        "runs": [
            {
                "run_id": run.run_id,
                "seed": int(run.params["seed"]),
                "val_accuracy": run.metrics.get("best_val_accuracy"),
                "test_accuracy": run.metrics.get("test_accuracy"),
            }
            for run in confirmations.scored_runs
        ],
    }


def _format_figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


_HEADINGS = {
    "first": "the first champion",
    "better": "better than the champion",
    "cannot tell": "it cannot be told whether it is better",
    "worse": "worse than the champion",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Promotion: {verdict}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }}
table {{ border-collapse: collapse; margin: 1rem 0; width: 100% }}
td, th {{ border-bottom: 1px solid #ddd; padding: .3rem .6rem .3rem 0; text-align: left; vertical-align: top }}
.facts td:last-child {{ overflow-wrap: anywhere }}
img {{ max-width: 100%; display: block; margin: 1rem 0 }}
code {{ overflow-wrap: anywhere }}
</style></head><body>
<h1>Promotion: {heading}</h1>
<ul>{said}</ul>
<table>{standings}</table>
{pictures}
<h2>The rule</h2><p>{rule}</p>
<p>Openings of the test images for these finalists: {openings}.</p>
<h2>Trainings with fresh seeds</h2><table>{runs}</table>
<h2>The version</h2><table class="facts">{facts}</table>
<p>Command: <code>{command}</code></p>
</body></html>
"""
