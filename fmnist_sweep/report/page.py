"""Findings -> one HTML page that needs nothing from elsewhere: words and tables without scripts, charts with."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.analysis.mistakes import Mistakes
from fmnist_sweep.analysis.peers import MOST_READ
from fmnist_sweep.report import charts, coordinates, tables, wording
from fmnist_sweep.report.advice import Advice
from fmnist_sweep.report.figures import galleries, plots
from fmnist_sweep.report.kept_parts import KeptParts
from fmnist_sweep.report.learning_curves import chart_curves
from fmnist_sweep.report.markup import encode_picture, encode_script_json, render_part, render_template_page
from fmnist_sweep.report.plotly_chart import Chart, read_plotly_script

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ReportHeading:
    """What stands at the top of a report, all of it plain text.

    title: of the study or sweep. command: what repeats it. search_summary: what was searched and how, a sentence.
    banner: a warning above all else, or None. advice: the diagnosis, a sentence each.
    """

    title: str
    command: str
    search_summary: str
    banner: str | None = None
    advice: Sequence[Advice] = ()


@dataclass(frozen=True)
class ReportBody:
    """What a report says of its trials, whatever stands at its top: its sections, and the charts in them.

    library: the script that draws the charts, packed, in base64: in the page it is 1.9 MB instead of 4.7.
    """

    findings: Findings
    sections: Sequence[_Section]
    charts: Sequence[ChartSlot]
    library: str


def build_report_body(findings: Findings, parts: KeptParts | None = None) -> ReportBody:
    """Word and draw what was found. It takes most of a report's time, and two reports of the same trials share it.

    parts: those that were kept; None keeps nothing.
    """
    page = _ReportPage(findings, parts or KeptParts())
    sections = [section for section in (build(page) for build in _SECTIONS) if section is not None]
    return ReportBody(findings, sections, page.charts, _pack_library(page.parts) if page.charts else "")


@cache
def _pack_library(parts: KeptParts) -> str:
    return base64.b64encode(parts.pack(read_plotly_script())).decode()


def render_report(body: ReportBody, heading: ReportHeading) -> str:
    """The report as the text of an HTML file."""
    findings = body.findings
    prefix, name, suffix = wording.describe_best(findings)
    answer = {
        "prefix": prefix,
        "name": name,
        "suffix": suffix,
        "settings": wording.describe_best_settings(findings),
        "details": " ".join(wording.describe_search(findings, heading.search_summary)),
    }
    return render_template_page(
        "report.html",
        heading=heading,
        answer=answer,
        sections=body.sections,
        provenance=wording.describe_provenance(findings),
        charts=body.charts,
        library=body.library,
    )


@dataclass(frozen=True)
class ChartSlot:
    """The place of a chart in the page: its name, its height in pixels, and the JSON from which the script draws it."""

    name: str
    height: int
    content: Markup


class _ReportPage:
    """What sections are made of, and the charts that they have asked for so far."""

    def __init__(self, findings: Findings, parts: KeptParts) -> None:
        self.findings = findings
        self.parts = parts
        self.charts: list[ChartSlot] = []

    def add_chart(self, chart: Chart) -> ChartSlot:
        """Keep a chart for the page's script and return its place."""
        name = f"figure-{len(self.charts) + 1}"
        slot = ChartSlot(name, chart.height, encode_script_json(chart.encode_json()))
        self.charts.append(slot)
        return slot

    def draw_picture(self, draw: Callable[..., Figure], *inputs: Any) -> str:
        """Draw a figure as a data URI. draw: a function that draws it from these inputs alone."""
        return encode_picture(self.parts.draw_picture(draw, *inputs))


@dataclass(frozen=True)
class _Section:
    """A section of the page: its id, which is also its template's name, its heading and its HTML."""

    name: str
    heading: str
    content: Markup


def _make_section(name: str, heading: str, **values: object) -> _Section:
    return _Section(name, heading, render_part(f"sections/{name}.html", **values))


def _build_leaderboard_section(page: _ReportPage) -> _Section | None:
    findings = page.findings
    if not findings.trials:
        return None
    columns = tables.select_columns(findings)
    return _make_section(
        "leaderboard",
        "Leaderboard",
        other_images=wording.describe_other_images(findings),
        omitted_columns=wording.describe_omitted_columns(findings, columns),
        legend=wording.describe_tie_marks(findings, tables.MAX_ROWS),
        table=tables.build_leaderboard_table(findings),
        trial_count=len(findings.trials),
        first_rows=tables.FIRST_ROWS,
        paper_rows=tables.PAPER_ROWS,
        tie_method=wording.describe_tie_method(findings) if findings.is_comparable else "",
        repeats=wording.describe_repeats(findings),
        repeats_table=tables.build_repeats_table(findings) if findings.repeated_configurations else None,
    )


def _build_settings_section(page: _ReportPage) -> _Section | None:
    findings = page.findings
    if len(findings.trials) < 2 or not findings.varied_settings:
        return None
    has_ranking = bool(findings.importance.settings)
    return _make_section(
        "settings",
        "What was tried, and what mattered",
        lines=page.add_chart(coordinates.chart_parallel_coordinates(findings, page.parts)),
        selection=coordinates.describe_selection(findings),
        importance=wording.describe_importance(findings),
        importance_chart=page.add_chart(charts.chart_importance(findings.importance)) if has_ranking else None,
        confounding=wording.describe_confounding(findings),
    )


def _build_cost_section(page: _ReportPage) -> _Section | None:
    findings = page.findings
    if len(findings.cost_points) < 2 or findings.best is None:
        return None
    return _make_section("cost", "What it cost", chart=page.add_chart(charts.chart_best_so_far(findings)))


def _build_size_section(page: _ReportPage) -> _Section | None:
    findings = page.findings
    fronts = findings.fronts
    if not fronts:
        return None
    pairs = [fronts[start : start + 2] for start in range(0, len(fronts), 2)]
    return _make_section(
        "size",
        "Small against good",
        charts=[page.add_chart(charts.chart_fronts(findings, pair)) for pair in pairs],
        table=tables.build_fronts_table(findings),
        unknown=wording.describe_unknown_costs(findings),
    )


def _build_curves_section(page: _ReportPage) -> _Section | None:
    findings = page.findings
    if not findings.curves:
        return None
    finished = findings.states["finished"]
    return _make_section(
        "curves",
        "Learning curves",
        chart=page.add_chart(chart_curves(findings)),
        selection=f"The best {MOST_READ} of {finished:,} finished trials." if finished > MOST_READ else "",
        has_other_losses=any(setting.key == "train.loss" for setting in findings.varied_settings),
    )


def _build_labels_section(page: _ReportPage) -> _Section | None:
    mistakes = page.findings.mistakes
    if mistakes is None:
        return None
    return _make_section(
        "labels",
        "The best, label by label",
        scores=tables.build_label_table(mistakes),
        accuracies=wording.list_accuracies(mistakes),
        similar_name="" if mistakes.similar_labels is None else mistakes.similar_labels.name,
        matrix=page.add_chart(charts.chart_confusion(mistakes.confusion, mistakes.labels)),
    )


def _build_mistakes_section(page: _ReportPage) -> _Section | None:
    mistakes = page.findings.mistakes
    if mistakes is None:
        return None
    return _make_section(
        "mistakes",
        "Its mistakes, and everybody's",
        pairs=wording.describe_confused_pairs(mistakes),
        suspects=wording.describe_suspects(mistakes.suspects),
        good_trials=wording.describe_good_trials() if mistakes.suspects.can_tell else "",
        pairs_picture=_draw_pairs(page, mistakes),
        suspects_picture=_draw_suspects(page, mistakes),
        chance_picture=_draw_occasional_errors(page, mistakes),
    )


def _draw_pairs(page: _ReportPage, mistakes: Mistakes) -> str | None:
    pictures = page.findings.pictures
    if pictures is None:
        return None
    title = "The most confident mistakes of each kind"
    return page.draw_picture(galleries.draw_confused_pairs, mistakes.pairs, pictures, title)


def _draw_suspects(page: _ReportPage, mistakes: Mistakes) -> str | None:
    pictures = page.findings.pictures
    if pictures is None or not mistakes.suspects.can_tell or not mistakes.suspects.label_suspects:
        return None
    title = "Suspected label errors: given → what the trials say"
    return page.draw_picture(galleries.draw_suspects, mistakes.suspects, pictures, title)


def _draw_occasional_errors(page: _ReportPage, mistakes: Mistakes) -> str | None:
    pictures = page.findings.pictures
    best, rows = mistakes.predictions, np.array(mistakes.suspects.occasional_errors, dtype=np.int64)
    if pictures is None or not mistakes.suspects.can_tell or not len(rows):
        return None
    return page.draw_picture(
        plots.draw_misclassified,
        pictures[rows],
        best.labels[rows],
        best.predicted_labels[rows],
        best.probabilities[rows].max(axis=1),
        mistakes.labels,
        "Wrong in the best trial, right in another good one: the most confident",
        16,
    )


def _build_calibration_section(page: _ReportPage) -> _Section | None:
    mistakes = page.findings.mistakes
    if mistakes is None:
        return None
    title = "Confidence against accuracy of the best trial"
    return _make_section(
        "calibration",
        "How far its confidence can be believed",
        verdict=wording.describe_calibration(mistakes.calibration),
        diagram=page.draw_picture(galleries.draw_reliability, mistakes.calibration, title),
    )


def _build_failures_section(page: _ReportPage) -> _Section | None:
    findings = page.findings
    if not findings.failures:
        return None
    return _make_section("failures", "Failures", causes=tables.list_failure_causes(findings))


_SECTIONS: tuple[Callable[[_ReportPage], _Section | None], ...] = (
    _build_leaderboard_section,
    _build_settings_section,
    _build_cost_section,
    _build_size_section,
    _build_curves_section,
    _build_labels_section,
    _build_mistakes_section,
    _build_calibration_section,
    _build_failures_section,
)
