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
from fmnist_sweep.report.figures.canvas import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from plotly.graph_objects import Figure as Chart

# Whatever is in the page, the browser is told to fetch nothing and to send nothing.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "form-action 'none'; base-uri 'none'"
)


def html(findings: Findings, *, title: str, banner: str | None, command: str, searched: str) -> str:
    """The report as the text of an HTML file.

    title: of the study or sweep; banner: a warning that stands above all, or None; command: what repeats it; searched:
    what was searched and how, a sentence. All four are plain text.
    """
    page = _Page(findings)
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
            f"<style>\n{_asset('report.css')}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f'<div class="banner" role="alert">{escape(banner)}</div>' if banner else "",
            _opening(findings, command, searched),
            f"<nav>{links}</nav>",
            body,
            f"<footer>{escape(wording.provenance(findings))}</footer>",
            page.scripts(),
            "</body></html>\n",
        ]
    )


class _Page:
    """What sections are made of, and the charts they have asked for so far."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self._charts: list[str] = []

    def chart(self, figure: Chart, caption: str, kind: str = "", after: str = "") -> str:
        """A place for a chart, which the page's script draws; caption is HTML."""
        name = f"figure-{len(self._charts) + 1}"
        # "</" would end the script it lies in, whatever quotes it is in.
        content = figure.to_json().replace("</", "<\\/").replace("<!--", "<\\!--")
        self._charts.append(f'<script type="application/json" id="{name}">{content}</script>')
        return (
            f'<figure><div class="chart {kind}" data-figure="{name}" style="min-height:{figure.layout.height}px">'
            "<noscript>This chart needs scripts; its figures are in leaderboard.csv and in the runs.</noscript></div>"
            f"{after}<figcaption>{caption}</figcaption></figure>"
        )

    def scripts(self) -> str:
        """The charts' data, the library that draws them, and what draws them with it."""

        if not self._charts:
            return ""
        library = f'<script type="text/plain" id="library">{_library()}</script>'
        return "\n".join([*self._charts, library, f"<script>{_asset('report.js')}</script>"])


_Section = tuple[str, str, str]  # its id, its heading, its HTML


def _opening(findings: Findings, command: str, searched: str) -> str:
    before, name, after = map(escape, wording.answer(findings))
    more = " ".join(map(escape, wording.more(findings, searched)))
    best = wording.settings_of_best(findings)
    settings = f'<p class="settings">{escape(best)}</p>\n' if best else ""
    bold = f"<b>{name}</b>" if name else ""
    return (
        f'<p class="answer">{before}{bold}{after}</p>\n{settings}<p class="more">{more}</p>\n'
        f'<div class="command">The command that makes or continues this<code>{escape(command)}</code></div>'
    )


def _leaderboard(page: _Page) -> _Section | None:
    found = page.findings
    if not found.trials:
        return None
    said = [_p(wording.elsewhere(found)), _p(_left_out_columns(found), "note")]
    if len(found.trials) > tables.MOST_ROWS:
        rest = f"The first {tables.MOST_ROWS} of {len(found.trials):,} trials; all are in leaderboard.csv"
        said.append(_p(f"{rest}, which is logged beside this page.", "note"))
    if found.best is not None:
        said.append(_p("≈ cannot be told apart from the best." + _unknown(found), "note"))
    parts = [*said, tables.leaderboard(found)]
    shown = min(tables.MOST_ROWS, len(found.trials))
    if shown > tables.FIRST_ROWS:
        parts.append(f'<button type="button" data-shows="trials">Show all {shown} rows</button>')
    if shown > tables.PAPER_ROWS:
        parts.append(_p(f"On paper the first {tables.PAPER_ROWS} rows, unless all are shown.", "note paper"))
    if found.comparable:
        parts.append(_p(wording.how_ties_were_told(found), "note"))
    if found.repeated:
        parts += ["<h3>Repeated seeds</h3>", _p(wording.seeds_of_all(found)), tables.repeats(found)]
    return "leaderboard", "Leaderboard", "\n".join(parts)


def _settings(page: _Page) -> _Section | None:
    found = page.findings
    if len(found.trials) < 2 or not found.varied:
        return None
    lines = (
        "A line is a trial: the darker, the better; <b>green</b> is the best, dotted red ones failed. "
        '<span class="screen">Point where a line meets an axis to see its trial; drag a box over part of an axis to '
        "keep the trials that pass through it, and over further axes to narrow that down; double-click to see all "
        "again.</span>"
    )
    if len(found.trials) > coordinates.MOST_LINES:
        lines += (
            f" An even selection of {coordinates.MOST_LINES} of the {len(found.trials):,} trials, from best to worst."
        )
    axes = coordinates.axes_of(found)
    if len(axes) < len(found.distinct):
        lines += f" {len(axes)} of {len(found.distinct)} settings that varied."
    parts = [page.chart(coordinates.parallel(found), lines, after='<p class="picked note screen"></p>')]
    parts.append("<h3>How much each setting mattered</h3>")
    parts.append(_p(wording.importance(found)))
    if found.importance.settings:
        parts.append(page.chart(charts.importance(found.importance), _together(found), "narrow"))
    return "settings", "What was tried, and what mattered", "\n".join(parts)


def _cost(page: _Page) -> _Section | None:
    found = page.findings
    if len(found.spent) < 2 or found.best is None:
        return None
    caption = (
        "Trials in the order in which they ended; those far below the rest, and failed ones, lie on the lower edge."
    )
    return "cost", "What it cost", page.chart(charts.best_so_far(found), caption)


def _curves(page: _Page) -> _Section | None:
    found = page.findings
    if not found.curves:
        return None
    finished = found.states["finished"]
    many = f"The best {MOST_READ} of {finished:,} finished trials. " if finished > MOST_READ else ""
    caption = f"{many}Solid: validation; dotted: training."
    if any(setting.key == "train.loss" for setting in found.varied):
        caption += " Trials with another train.loss have another scale of loss."
    caption += ' <span class="screen">Click on the legend to hide or show lines.</span>'
    return "curves", "Learning curves", page.chart(charts.curves(found), caption)


def _labels(page: _Page) -> _Section | None:
    mistakes = page.findings.mistakes
    if mistakes is None:
        return None
    parts = [
        tables.per_class(mistakes),
        _p("The upper body, whose labels look most alike, first; within each part the hardest label on top.", "note"),
        "<h3>Seen in other ways</h3>",
        _facts(wording.confused(mistakes)),
        "<h3>Confusion matrix</h3>",
        page.chart(
            charts.confusion(mistakes.confusion), "Images; the colour follows their share of the true label.", "narrow"
        ),
    ]
    return "labels", "The best, label by label", "\n".join(parts)


def _mistakes(page: _Page) -> _Section | None:
    found, mistakes = page.findings, page.findings.mistakes
    if mistakes is None:
        return None
    return "mistakes", "Its mistakes, and everybody's", "\n".join([*_pairs(found, mistakes), *_doubts(found, mistakes)])


def _pairs(found: Findings, mistakes: Mistakes) -> list[str]:
    heading = "<h3>Most confused pairs</h3>"
    if found.pictures is not None:
        drawing = galleries.confused(mistakes.pairs, found.pictures, "The most confident mistakes of each kind")
        return [heading, _picture(drawing, "examples of the most confused pairs")]
    said = [f"{pair.true} taken for {pair.predicted}: {pair.count} ({pair.share:.1%})" for pair in mistakes.pairs]
    missing = "The images themselves are not at hand here, so that no examples are shown."
    return [heading, _p(f"{'; '.join(said)}." if said else "No mistakes."), _p(missing, "note")]


def _doubts(found: Findings, mistakes: Mistakes) -> list[str]:
    suspects = mistakes.suspects
    parts = ["<h3>Wrong in every good trial, or by chance</h3>", _p(str(suspects))]
    if not suspects.can_tell:
        return parts
    parts.append(
        _p(f"Good: within {GOOD_WITHIN} of the best or inside its interval, at most {MOST_READ} trials.", "note")
    )
    if found.pictures is None:
        return parts
    if suspects.suspected:
        drawing = galleries.suspected(suspects, found.pictures, "Suspected label errors: given → what the trials say")
        parts.append(_picture(drawing, "suspected label errors"))
    best, rows = mistakes.predictions, np.array(suspects.sometimes, dtype=np.int64)
    if len(rows):
        drawing = plots.misclassified(
            found.pictures[rows],
            best.labels[rows],
            best.predicted[rows],
            best.probabilities[rows].max(axis=1),
            LABELS,
            "Wrong in the best trial, right in another good one: the most confident",
            most=16,
        )
        parts.append(_picture(drawing, "mistakes of the best trial that other good trials do not make"))
    return parts


def _calibration(page: _Page) -> _Section | None:
    mistakes = page.findings.mistakes
    if mistakes is None:
        return None
    picture = _picture(
        galleries.reliability(mistakes.calibration, "Confidence against accuracy of the best trial"),
        "reliability diagram",
    )
    return "calibration", "How far its confidence can be believed", f"{_p(_calibration_words(mistakes))}\n{picture}"


def _failures(page: _Page) -> _Section | None:
    found = page.findings
    if not found.failures:
        return None
    return "failures", "Failures", tables.failures(found)


_SECTIONS: tuple[Callable[[_Page], _Section | None], ...] = (
    _leaderboard,
    _settings,
    _cost,
    _curves,
    _labels,
    _mistakes,
    _calibration,
    _failures,
)


def _unknown(found: Findings) -> str:
    unknown = sum(row.tied is None and row.rank is not None for row in found.rows[: tables.MOST_ROWS])
    return " ? not compared image by image." if unknown and found.comparable else ""


def _left_out_columns(found: Findings) -> str:
    """Which settings varied without a column of their own."""
    columns = tables.columns_of(found)
    if len(columns) == len(found.varied):
        return ""
    same = [f"{', '.join(setting.same_as)} with {setting.key}" for setting in columns if setting.same_as]
    text = f"Changed together: {'; '.join(same)}." if same else ""
    others = [setting.key for setting in found.distinct if setting.key not in {column.key for column in columns}]
    return f"{text} Without a column: {', '.join(others)}." if others else text


def _together(found: Findings) -> str:
    same = [
        f"{item.key} stands for {', '.join(item.same_as)} too" for item in found.importance.settings if item.same_as
    ]
    return escape(f"Changed only together, so that nothing can tell them apart: {'; '.join(same)}.") if same else ""


def _calibration_words(mistakes: Mistakes) -> str:
    found = mistakes.calibration
    beyond = (found.ece - found.ece_if_calibrated) / found.ece_if_calibrated_sd if found.ece_if_calibrated_sd else 0.0
    if beyond <= 2:
        said = "no more than chance would make of a calibrated model's"
    else:
        said = f"too {'sure of itself' if found.overconfidence > 0 else 'cautious'}"
    return (
        f"Mean confidence is {found.confidence:.4f} where {found.accuracy.value:.4f} of the images are right: "
        f"{said}. The expected calibration error is {found.ece:.4f}; a perfectly calibrated model would show "
        f"{found.ece_if_calibrated:.4f} ± {found.ece_if_calibrated_sd:.4f} on as many images. Brier score "
        f"{found.brier:.4f}, negative log-likelihood {found.nll:.4f}."
    )


def _p(text: str, kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f"<p{marked}>{escape(text)}</p>" if text else ""


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(what)}</dt><dd>{escape(value)}</dd>" for what, value in facts)
    return f'<dl class="facts">{rows}</dl>'


def _picture(drawing: Drawing, words: str) -> str:
    content = base64.b64encode(png(drawing)).decode()
    return f'<figure><img alt="{escape(words, quote=True)}" src="data:image/png;base64,{content}"></figure>'


@cache
def _library() -> str:
    """The script that draws the charts, packed: in the page it is 1.9 MB instead of 4.7."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 6, mtime=0)).decode()


def _asset(name: str) -> str:
    return files("fmnist_sweep").joinpath("assets", name).read_text(encoding="utf-8")
