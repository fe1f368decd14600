"""The report's page as text: what it says without scripts, what it escapes, that it needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from fmnist_sweep.analysis import findings
from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.data import LABELS
from fmnist_sweep.report import charts, coordinates, page, tables
from fmnist_sweep.report.kept_parts import KeptParts
from fmnist_sweep.report.learning_curves import chart_curves
from tests.support.stored import Simulation, pictures, simulation, trial

NASTY = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&amp;%{y}"


def gathered(found: Simulation, images: int | None = None) -> Findings:
    shown = None if images is None else pictures(images)
    return findings.compute_findings(
        found.trials, read_predictions=found.predictions_of, read_curves=found.curves_of, validation_images=shown
    )


def html(found: Findings, **given: Any) -> str:
    words = {
        "title": "Study x",
        "banner": None,
        "command": "python -m fmnist_sweep",
        "search_summary": "Searched.",
    } | given
    return page.render_report(page.build_report_body(found), page.ReportHeading(**words))


@pytest.fixture(scope="module")
def study() -> Findings:
    return gathered(simulation(24, 600, failures=2), 600)


@pytest.fixture(scope="module")
def whole(study: Findings) -> str:
    return html(study)


class Outline(HTMLParser):
    """A page's text without scripts and styles, its elements that were not closed, and each element's attributes."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def figures(content: str) -> list[str]:
    """The charts' JSON."""
    return re.findall(r'<script type="application/json" id="figure-\d+">(.*?)</script>', content, re.DOTALL)


def own(content: str) -> str:
    """The page without the library that draws its charts."""
    return re.sub(r'<script type="text/plain" id="library">[^<]+</script>', "", content)


def test_the_page_opens_with_the_answer_and_has_every_section(whole: str, study: Findings) -> None:
    outline = Outline(whole)
    assert outline.open == [], "every element is closed"
    assert study.best is not None and study.best.accuracy is not None
    assert outline.text.startswith("Study x Study x Best of 24 trials (22 finished, 2 failed): ")
    assert f"validation accuracy {study.best.accuracy:.4f} [" in outline.text
    for heading in (
        "Leaderboard",
        "What was tried, and what mattered",
        "What it cost",
        "Small against good",
        "Learning curves",
        "The best, label by label",
        "Confusion matrix",
        "Most confused pairs",
        "Wrong in every good trial, or by chance",
        "How far its confidence can be believed",
        "Failures",
    ):
        assert heading in outline.text


def test_tables_and_pictures_are_there_without_scripts(whole: str, study: Findings) -> None:
    outline = Outline(re.sub(r"<script.*?</script>", "", whole, flags=re.DOTALL))
    rows = [attributes for tag, attributes in outline.found if tag == "tr" and "title" in attributes]
    assert len(rows) == len(study.trials)
    assert [row["class"] for row in rows].count("best") == 1
    assert [row["class"] for row in rows].count("failed") == 2
    images = [attributes for tag, attributes in outline.found if tag == "img"]
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in images)
    assert all(image["alt"] for image in images)
    assert len(images) >= 3
    assert outline.text.count("≈") >= len(study.tied_places)


def test_the_page_needs_nothing_from_elsewhere(whole: str) -> None:
    content = own(whole)
    assert "http" not in content.replace("http-equiv", "")
    assert "default-src 'none'" in content
    links = [a for _, attributes in Outline(content).found for key, a in attributes.items() if key in ("href", "src")]
    assert all(str(link).startswith(("#", "data:")) for link in links)


def test_a_page_of_two_hundred_trials_is_below_ten_megabytes(record_property: Callable[[str, object], None]) -> None:
    content = html(gathered(simulation(200, 600, failures=8), 600))
    record_property("page of 200 trials, MB", round(len(content.encode()) / 1e6, 2))
    assert len(content.encode()) < 10e6


def test_whatever_comes_from_outside_is_shown_and_not_run() -> None:
    study = simulation(12, 100, failures=1)
    for number, made in enumerate(study.trials):
        made.params["model.note"] = f"{NASTY}{number % 2}"  # type: ignore[index]
        made.params[f"model.<b>{NASTY}"] = str(number)  # type: ignore[index]
        object.__setattr__(made, "name", f"{NASTY} {number}")
    study.trials[-1].tags["fmnist.failure"] = f"{NASTY}: {NASTY}"  # type: ignore[index]
    given = dict.fromkeys(("title", "banner", "command", "search_summary"), NASTY)
    content = own(html(gathered(study), **given))
    outline = Outline(content)
    scripts = [attributes for tag, attributes in outline.found if tag == "script"]
    assert all(attributes.get("type") == "application/json" for attributes in scripts[:-2])
    assert not any(key.startswith("on") for _, attributes in outline.found for key in attributes)
    assert all(str(attributes.get("src")).startswith("data:") for tag, attributes in outline.found if tag == "img")
    assert outline.text.count("alert('x')") > 5
    data = figures(content)
    assert len(data) >= 4
    for figure in data:
        # Plotly shows a few tags as markup; what is not its own words reaches it as entities.
        assert not re.findall(r"<(?!br>|span |/span>|/?extra>)", json.dumps(json.loads(figure)))


def test_a_warning_stands_above_all_else(study: Findings) -> None:
    outline = Outline(own(html(study, banner="DRAWN images\nnot Fashion-MNIST")))
    assert outline.text.index("DRAWN images") < outline.text.index("Best of")
    assert ("div", {"class": "banner", "role": "alert"}) in outline.found


@pytest.mark.parametrize("trials", [[], [trial(1)], [trial(1, state="running")]], ids=["none", "failed", "running"])
def test_a_study_without_a_finished_trial_has_a_page(trials: list[Any]) -> None:
    text = Outline(own(html(gathered(Simulation(trials, {}))))).text
    assert "No trial finished" in text
    assert ("Failures" in text) == (len(trials) > 0 and trials[0].state == "failed")


def test_a_single_trial_has_a_page() -> None:
    text = Outline(own(html(gathered(simulation(1, 200, failures=0), 200)))).text
    assert "Best of 1 trial:" in text
    assert "takes two trials or more" in text
    assert "picked for being the highest" not in text


def test_without_the_images_the_page_says_so_and_names_the_pairs() -> None:
    text = Outline(own(html(gathered(simulation(4, 200, failures=0))))).text
    assert "images themselves are not at hand" in text
    assert re.search(r"taken for .*: \d+ \(\d", text)


def test_a_long_leaderboard_is_cut_and_says_where_the_rest_is() -> None:
    study = simulation(3, 100, failures=0)
    study.trials += [trial(1000 + n, 0.3 - n / 10_000, model__filters=n) for n in range(600)]
    found = gathered(study)
    content = own(html(found))
    assert content.count(' title="trial ') == tables.MAX_ROWS
    assert "The first 200 of 603 trials; all are in leaderboard.csv" in Outline(content).text
    assert len(study.curves_read) == 50
    assert f"An even selection of {coordinates.MAX_LINES} of the 603 trials" in Outline(content).text


def test_many_settings_leave_the_leaderboard_readable_and_are_named() -> None:
    def settings(number: int) -> dict[str, Any]:
        return {f"model__s{key}": (number * (key + 3)) % 7 for key in range(12)}

    trials = [trial(number, 0.9 - number / 100, **settings(number), twin=number) for number in range(6)]
    found = gathered(Simulation(trials, {}))
    text = Outline(own(html(found))).text
    assert len(tables.select_columns(found)) <= tables.MAX_COLUMNS
    for setting in found.varied_settings:
        assert setting.key in text or setting.key.split(".")[-1] in text


def test_an_even_selection_of_lines_has_the_best_and_the_worst() -> None:
    assert coordinates.select_lines(3) == [0, 1, 2]
    many = coordinates.select_lines(5000)
    assert len(many) == coordinates.MAX_LINES
    assert (many[0], many[-1]) == (0, 4999)


def test_parallel_coordinates_put_values_where_their_axis_says() -> None:
    trials = [
        trial(1, 0.9, optimizer__learning_rate=1e-4, model__filters=32),
        trial(2, 0.8, optimizer__learning_rate=1e-2, model__filters=64),
        *(trial(n, 0.8, optimizer__learning_rate=1e-3 * n, model__filters=32) for n in range(3, 12)),
    ]
    figure = coordinates.chart_parallel_coordinates(gathered(Simulation(trials, {})), KeptParts()).build_figure()
    rows = figure["layout"]["meta"]["rows"]
    rate, _, accuracy = rows[0]
    assert rate == 0.0 and accuracy == 1.0, "the best: the least rate, the greatest accuracy"
    worst = next(row for row in rows if row[0] == 1.0)
    assert worst[0] == 1.0 and worst[2] == 0.0
    assert {"0.0002", "0.001", "0.005"} <= {note["text"] for note in figure["layout"]["annotations"]}, "factors"


def test_a_failed_trial_has_a_line_that_ends_before_accuracy() -> None:
    trials = [trial(n, 0.9, model__filters=n) for n in range(3)] + [trial(9, model__filters=7)]
    rows = coordinates.chart_parallel_coordinates(gathered(Simulation(trials, {})), KeptParts()).build_figure()[
        "layout"
    ]["meta"]["rows"]
    assert rows[-1][0] is not None and rows[-1][-1] is None


@pytest.mark.parametrize("state", ["failed", "killed", "running"])
def test_a_trial_without_accuracy_is_called_what_it_is(state: str) -> None:
    found = gathered(Simulation([trial(1, 0.9), trial(2, None, state)], {}))
    assert charts.format_hover_text(found, 1).endswith(f"<br>{state}")


def test_the_confusion_chart_counts_true_down_and_predicted_across() -> None:
    matrix = [[0] * 10 for _ in range(10)]
    matrix[6][0] = 7
    heatmap = charts.chart_confusion(matrix, LABELS).build_figure()["data"][0]
    assert heatmap["text"][6][0] == "7" and heatmap["text"][0][6] == ""
    assert (heatmap["y"][6], heatmap["x"][0]) == ("Shirt", "T-shirt/top")


def test_the_confusion_chart_of_many_labels_grows_and_writes_no_counts() -> None:
    figures = [
        charts.chart_confusion([[1] * count] * count, [f"label {number}" for number in range(count)]).build_figure()
        for count in (20, 60)
    ]
    assert [figure["data"][0]["texttemplate"] for figure in figures] == ["%{text}", ""]
    assert figures[0]["layout"]["height"] < figures[1]["layout"]["height"]


def test_best_so_far_never_falls_and_ends_at_all_that_was_spent(study: Findings) -> None:
    traces = charts.chart_best_so_far(study).build_figure()["data"]
    steps = next(trace for trace in traces if trace["name"] == "best so far")
    assert list(steps["y"]) == sorted(steps["y"])
    assert study.best is not None and steps["y"][-1] == study.best.accuracy
    unit = 60.0 if study.cpu_seconds < 3 * 3600 else 3600.0
    points = sum(len(trace["x"]) for trace in traces if trace is not steps)
    assert points == len(study.trials)
    assert max(max(trace["x"]) for trace in traces) == pytest.approx(study.cpu_seconds / unit)


def test_the_fronts_lead_from_the_cheapest_to_the_best_and_are_in_words_too() -> None:
    simulated = simulation(24, 600, failures=2)
    for number, each in enumerate(simulated.trials):
        each.metrics["parameters"] = 1000.0 + 37 * (number * 7 % 24)  # type: ignore[index]
        if number:
            each.metrics["size_bytes"] = 5000.0 + number  # type: ignore[index]
    study = gathered(simulated)
    fronts = {front.measure.key: front for front in study.fronts}
    assert list(fronts) == ["parameters", "bytes", "cpu_seconds"]
    chart = charts.chart_fronts(study, study.fronts[:2]).build_figure()
    lines = [trace for trace in chart["data"] if trace["mode"] == "lines"]
    for line, front in zip(lines, study.fronts, strict=False):
        assert line["x"] == sorted(line["x"]) == [front.costs[place] for place in front.places]
        assert line["y"] == sorted(line["y"])
    assert lines[0]["y"][-1] == study.best.accuracy if study.best else False
    assert sum(len(trace["x"]) for trace in chart["data"] if trace.get("xaxis") == "x" and trace not in lines) == 22
    outline = Outline(html(study))
    assert outline.open == []
    assert "Small against good" in outline.text
    rows = {place for front in fronts.values() for place in front.places}
    assert outline.text.count("•") == sum(len(front.places) for front in fronts.values()) + 1  # one in the legend
    assert all(study.trials[place].run_id[:8] in outline.text for place in rows)
    assert "Not measured by the version that trained them: bytes of 1 of 22 trials." in outline.text


def test_equal_costs_and_a_single_trial_have_no_fronts() -> None:
    same = [trial(number, 0.8 + number / 100) for number in range(3)]
    assert "Small against good" not in Outline(html(gathered(Simulation(same, {})))).text


def test_curves_of_a_diverged_trial_have_gaps() -> None:
    study = simulation(2, 100, failures=0)
    rows = [{"accuracy": 0.5, "val_accuracy": 0.5, "loss": float("nan"), "val_loss": float("inf")}] * 2
    found = findings.compute_findings(
        study.trials, read_predictions=study.predictions_of, read_curves=lambda run_id: rows, validation_images=None
    )
    losses = [trace for trace in chart_curves(found).build_figure()["data"] if trace["yaxis"] == "y2"]
    assert losses and all(value is None for trace in losses for value in trace["y"])
    assert not re.search(r"\bNaN|Infinity", "".join(figures(html(found))))


def test_zeros_count_in_the_ranges_of_the_curves() -> None:
    rows = [{"accuracy": 0.0, "val_accuracy": 0.0, "loss": 0.0, "val_loss": 0.0}] * 4
    rows += [{"accuracy": 0.9, "val_accuracy": 0.9, "loss": 2.0, "val_loss": 2.0}]
    study = simulation(2, 100, failures=0)
    found = findings.compute_findings(
        study.trials, read_predictions=study.predictions_of, read_curves=lambda run_id: rows, validation_images=None
    )
    axes = chart_curves(found).build_figure()["layout"]
    assert axes["yaxis"]["range"][0] == pytest.approx(-0.01)
