"""Findings -> one HTML page that needs nothing from elsewhere: words and tables without scripts, charts with."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.analysis.mistakes import Mistakes
from fmnist_sweep.analysis.peers import GOOD_WITHIN, MOST_READ
from fmnist_sweep.data import LABELS
from fmnist_sweep.report import charts, coordinates, tables, wording
from fmnist_sweep.report.figures import galleries, plots
from fmnist_sweep.report.figures.canvas import encode_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from plotly.graph_objects import Figure as Chart

# Whatever is in the page, the browser is told to fetch nothing and to send nothing.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "form-action 'none'; base-uri 'none'"
)


def render_report(findings: Findings, *, title: str, banner: str | None, command: str, search_summary: str) -> str:
    """The report as the text of an HTML file.

    title: of the study or sweep; banner: a warning that stands above all, or None; command: what repeats it; searched:
    what was searched and how, a sentence. All four are plain text.
    """
    page = _ReportPage(findings)
    sections = [section for section in (build(page) for build in _SECTIONS) if section is not None]
    links = "\n".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in sections)
    body = "\n".join(
        f'<section id="{name}"><h2>{escape(heading)}</h2>\n{content}</section>' for name, heading, content in sections
    )
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{_read_asset('report.css')}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f'<div class="banner" role="alert">{escape(banner)}</div>' if banner else "",
            _render_answer(findings, command, search_summary),
            f"<nav>{links}</nav>",
            body,
            f"<footer>{escape(wording.describe_provenance(findings))}</footer>",
            page.render_scripts(),
            "</body></html>\n",
        ]
    )


class _ReportPage:
    """What sections are made of, and the charts they have asked for so far."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self._charts: list[str] = []

    def add_chart(self, figure: Chart, caption: str, kind: str = "", appendix: str = "") -> str:
        """A place for a chart, which the page's script draws; caption is HTML."""
        name = f"figure-{len(self._charts) + 1}"
        # "</" would end the script it lies in, whatever quotes it is in.
        content = figure.to_json().replace("</", "<\\/").replace("<!--", "<\\!--")
        self._charts.append(f'<script type="application/json" id="{name}">{content}</script>')
        return (
            f'<figure><div class="chart {kind}" data-figure="{name}" style="min-height:{figure.layout.height}px">'
            "<noscript>This chart needs scripts; its figures are in leaderboard.csv and in the runs.</noscript></div>"
            f"{appendix}<figcaption>{caption}</figcaption></figure>"
        )

    def render_scripts(self) -> str:
        """The charts' data, the library that draws them, and what draws them with it."""

        if not self._charts:
            return ""
        library = f'<script type="text/plain" id="library">{_pack_plotly()}</script>'
        return "\n".join([*self._charts, library, f"<script>{_read_asset('report.js')}</script>"])


_Section = tuple[str, str, str]  # its id, its heading, its HTML


def _render_answer(findings: Findings, command: str, search_summary: str) -> str:
    prefix, name, suffix = map(escape, wording.describe_best(findings))
    details = " ".join(map(escape, wording.describe_search(findings, search_summary)))
    best = wording.describe_best_settings(findings)
    settings = f'<p class="settings">{escape(best)}</p>\n' if best else ""
    bold = f"<b>{name}</b>" if name else ""
    return (
        f'<p class="answer">{prefix}{bold}{suffix}</p>\n{settings}<p class="more">{details}</p>\n'
        f'<div class="command">The command that makes or continues this<code>{escape(command)}</code></div>'
    )


def _build_leaderboard_section(page: _ReportPage) -> _Section | None:
    findings = page.findings
    if not findings.trials:
        return None
    paragraphs = [
        _render_paragraph(wording.describe_other_images(findings)),
        _render_paragraph(_describe_omitted_columns(findings), "note"),
    ]
    if len(findings.trials) > tables.MAX_ROWS:
        rest = f"The first {tables.MAX_ROWS} of {len(findings.trials):,} trials; all are in leaderboard.csv"
        paragraphs.append(_render_paragraph(f"{rest}, which is logged beside this page.", "note"))
    if findings.best is not None:
        paragraphs.append(
            _render_paragraph("≈ cannot be told apart from the best." + _describe_uncompared(findings), "note")
        )
    parts = [*paragraphs, tables.render_leaderboard(findings)]
    row_count = min(tables.MAX_ROWS, len(findings.trials))
    if row_count > tables.FIRST_ROWS:
        parts.append(f'<button type="button" data-shows="trials">Show all {row_count} rows</button>')
    if row_count > tables.PAPER_ROWS:
        parts.append(
            _render_paragraph(f"On paper the first {tables.PAPER_ROWS} rows, unless all are shown.", "note paper")
        )
    if findings.is_comparable:
        parts.append(_render_paragraph(wording.describe_tie_method(findings), "note"))
    if findings.repeated_configurations:
        parts += [
            "<h3>Repeated seeds</h3>",
            _render_paragraph(wording.describe_repeats(findings)),
            tables.render_repeats(findings),
        ]
    return "leaderboard", "Leaderboard", "\n".join(parts)


def _build_settings_section(page: _ReportPage) -> _Section | None:
    findings = page.findings
    if len(findings.trials) < 2 or not findings.varied_settings:
        return None
    lines = (
        "A line is a trial: the darker, the better; <b>green</b> is the best, dotted red ones failed. "
        '<span class="screen">Point where a line meets an axis to see its trial; drag a box over part of an axis to '
        "keep the trials that pass through it, and over further axes to narrow that down; double-click to see all "
        "again.</span>"
    )
    if len(findings.trials) > coordinates.MAX_LINES:
        lines += (
            f" An even selection of {coordinates.MAX_LINES} of the {len(findings.trials):,} trials, from best to worst."
        )
    axes = coordinates.select_axes(findings)
    if len(axes) < len(findings.distinct_settings):
        lines += f" {len(axes)} of {len(findings.distinct_settings)} settings that varied."
    parts = [
        page.add_chart(
            coordinates.chart_parallel_coordinates(findings), lines, appendix='<p class="picked note screen"></p>'
        )
    ]
    parts.append("<h3>How much each setting mattered</h3>")
    parts.append(_render_paragraph(wording.describe_importance(findings)))
    if findings.importance.settings:
        parts.append(
            page.add_chart(charts.chart_importance(findings.importance), _describe_confounding(findings), "narrow")
        )
    return "settings", "What was tried, and what mattered", "\n".join(parts)


def _build_cost_section(page: _ReportPage) -> _Section | None:
    findings = page.findings
    if len(findings.cost_points) < 2 or findings.best is None:
        return None
    caption = (
        "Trials in the order in which they ended; those far below the rest, and failed ones, lie on the lower edge."
    )
    return "cost", "What it cost", page.add_chart(charts.chart_best_so_far(findings), caption)


def _build_curves_section(page: _ReportPage) -> _Section | None:
    findings = page.findings
    if not findings.curves:
        return None
    finished = findings.states["finished"]
    selection = f"The best {MOST_READ} of {finished:,} finished trials. " if finished > MOST_READ else ""
    caption = f"{selection}Solid: validation; dotted: training."
    if any(setting.key == "train.loss" for setting in findings.varied_settings):
        caption += " Trials with another train.loss have another scale of loss."
    caption += ' <span class="screen">Click on the legend to hide or show lines.</span>'
    return "curves", "Learning curves", page.add_chart(charts.chart_curves(findings), caption)


def _build_labels_section(page: _ReportPage) -> _Section | None:
    mistakes = page.findings.mistakes
    if mistakes is None:
        return None
    parts = [
        tables.render_label_scores(mistakes),
        _render_paragraph(
            "The upper body, whose labels look most alike, first; within each part the hardest label on top.", "note"
        ),
        "<h3>Seen in other ways</h3>",
        _render_facts(wording.list_accuracies(mistakes)),
        "<h3>Confusion matrix</h3>",
        page.add_chart(
            charts.chart_confusion(mistakes.confusion),
            "Images; the colour follows their share of the true label.",
            "narrow",
        ),
    ]
    return "labels", "The best, label by label", "\n".join(parts)


def _build_mistakes_section(page: _ReportPage) -> _Section | None:
    findings, mistakes = page.findings, page.findings.mistakes
    if mistakes is None:
        return None
    return (
        "mistakes",
        "Its mistakes, and everybody's",
        "\n".join([*_render_pairs(findings, mistakes), *_render_suspects(findings, mistakes)]),
    )


def _render_pairs(findings: Findings, mistakes: Mistakes) -> list[str]:
    heading = "<h3>Most confused pairs</h3>"
    if findings.pictures is not None:
        drawing = galleries.draw_confused_pairs(
            mistakes.pairs, findings.pictures, "The most confident mistakes of each kind"
        )
        return [heading, _render_picture(drawing, "examples of the most confused pairs")]
    counts = [f"{pair.true} taken for {pair.predicted}: {pair.count} ({pair.share:.1%})" for pair in mistakes.pairs]
    missing = "The images themselves are not at hand here, so that no examples are shown."
    return [
        heading,
        _render_paragraph(f"{'; '.join(counts)}." if counts else "No mistakes."),
        _render_paragraph(missing, "note"),
    ]


def _render_suspects(findings: Findings, mistakes: Mistakes) -> list[str]:
    suspects = mistakes.suspects
    parts = ["<h3>Wrong in every good trial, or by chance</h3>", _render_paragraph(str(suspects))]
    if not suspects.can_tell:
        return parts
    parts.append(
        _render_paragraph(
            f"Good: within {GOOD_WITHIN} of the best or inside its interval, at most {MOST_READ} trials.", "note"
        )
    )
    if findings.pictures is None:
        return parts
    if suspects.label_suspects:
        drawing = galleries.draw_suspects(
            suspects, findings.pictures, "Suspected label errors: given → what the trials say"
        )
        parts.append(_render_picture(drawing, "suspected label errors"))
    best, rows = mistakes.predictions, np.array(suspects.occasional_errors, dtype=np.int64)
    if len(rows):
        drawing = plots.draw_misclassified(
            findings.pictures[rows],
            best.labels[rows],
            best.predicted_labels[rows],
            best.probabilities[rows].max(axis=1),
            LABELS,
            "Wrong in the best trial, right in another good one: the most confident",
            limit=16,
        )
        parts.append(_render_picture(drawing, "mistakes of the best trial that other good trials do not make"))
    return parts


def _build_calibration_section(page: _ReportPage) -> _Section | None:
    mistakes = page.findings.mistakes
    if mistakes is None:
        return None
    picture = _render_picture(
        galleries.draw_reliability(mistakes.calibration, "Confidence against accuracy of the best trial"),
        "reliability diagram",
    )
    return (
        "calibration",
        "How far its confidence can be believed",
        f"{_render_paragraph(_describe_calibration(mistakes))}\n{picture}",
    )


def _build_failures_section(page: _ReportPage) -> _Section | None:
    findings = page.findings
    if not findings.failures:
        return None
    return "failures", "Failures", tables.render_failures(findings)


_SECTIONS: tuple[Callable[[_ReportPage], _Section | None], ...] = (
    _build_leaderboard_section,
    _build_settings_section,
    _build_cost_section,
    _build_curves_section,
    _build_labels_section,
    _build_mistakes_section,
    _build_calibration_section,
    _build_failures_section,
)


def _describe_uncompared(findings: Findings) -> str:
    unknown = sum(row.tied is None and row.rank is not None for row in findings.rows[: tables.MAX_ROWS])
    return " ? not compared image by image." if unknown and findings.is_comparable else ""


def _describe_omitted_columns(findings: Findings) -> str:
    """Which settings varied without a column of their own."""
    columns = tables.select_columns(findings)
    if len(columns) == len(findings.varied_settings):
        return ""
    groups = [f"{', '.join(setting.same_as)} with {setting.key}" for setting in columns if setting.same_as]
    text = f"Changed together: {'; '.join(groups)}." if groups else ""
    omitted_keys = [
        setting.key for setting in findings.distinct_settings if setting.key not in {column.key for column in columns}
    ]
    return f"{text} Without a column: {', '.join(omitted_keys)}." if omitted_keys else text


def _describe_confounding(findings: Findings) -> str:
    groups = [
        f"{item.key} stands for {', '.join(item.same_as)} too" for item in findings.importance.settings if item.same_as
    ]
    return escape(f"Changed only together, so that nothing can tell them apart: {'; '.join(groups)}.") if groups else ""


def _describe_calibration(mistakes: Mistakes) -> str:
    calibration = mistakes.calibration
    excess = (
        (calibration.ece - calibration.ece_if_calibrated) / calibration.ece_if_calibrated_sd
        if calibration.ece_if_calibrated_sd
        else 0.0
    )
    if excess <= 2:
        verdict = "no more than chance would make of a calibrated model's"
    else:
        verdict = f"too {'sure of itself' if calibration.overconfidence > 0 else 'cautious'}"
    return (
        f"Mean confidence is {calibration.confidence:.4f} where {calibration.accuracy.value:.4f} of the images are right: "
        f"{verdict}. The expected calibration error is {calibration.ece:.4f}; a perfectly calibrated model would show "
        f"{calibration.ece_if_calibrated:.4f} ± {calibration.ece_if_calibrated_sd:.4f} on as many images. Brier score "
        f"{calibration.brier:.4f}, negative log-likelihood {calibration.nll:.4f}."
    )


def _render_paragraph(text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>" if text else ""


def _render_facts(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(what)}</dt><dd>{escape(value)}</dd>" for what, value in facts)
    return f'<dl class="facts">{rows}</dl>'


def _render_picture(drawing: Drawing, alt_text: str) -> str:
    content = base64.b64encode(encode_png(drawing)).decode()
    return f'<figure><img alt="{escape(alt_text, quote=True)}" src="data:image/png;base64,{content}"></figure>'


@cache
def _pack_plotly() -> str:
    """The script that draws the charts, packed: in the page it is 1.9 MB instead of 4.7."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 6, mtime=0)).decode()


def _read_asset(name: str) -> str:
    return files("fmnist_sweep").joinpath("assets", name).read_text(encoding="utf-8")
