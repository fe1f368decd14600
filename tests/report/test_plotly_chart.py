"""Charts as plain values: what plotly's own figures say of them, and their JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from fmnist_sweep.analysis.findings import Findings, compute_findings
from fmnist_sweep.analysis.importance import Importance, SettingImportance
from fmnist_sweep.report import charts, coordinates
from fmnist_sweep.report.kept_parts import KeptParts
from fmnist_sweep.report.learning_curves import chart_curves
from fmnist_sweep.report.plotly_chart import Chart, read_plotly_script
from tests.support.stored import simulation


@pytest.fixture(scope="module")
def findings() -> Findings:
    study = simulation(7, 60, failures=1)
    found = compute_findings(
        study.trials, read_predictions=study.predictions_of, read_curves=study.curves_of, validation_images=None
    )
    settings = (SettingImportance("model.filters", 0.6, 0.4, 0.7), SettingImportance("seed", 0.1, 0.0, 0.2))
    return replace(found, importance=Importance(settings, 0.5, 6))


def test_plotly_knows_every_property_of_every_chart_and_would_write_the_same(findings: Findings) -> None:
    assert findings.mistakes is not None
    for chart in (
        charts.chart_best_so_far(findings),
        chart_curves(findings),
        charts.chart_confusion(findings.mistakes.confusion, findings.mistakes.labels),
        charts.chart_importance(findings.importance),
        coordinates.chart_parallel_coordinates(findings, KeptParts()),
    ):
        figure = json.loads(chart.encode_json())
        checked = json.loads(Figure(figure, skip_invalid=False).to_json())
        checked["layout"].pop("template")  # plotly's own look, of which a chart has none
        assert checked == figure
        assert chart.height == figure["layout"]["height"]


def test_plotly_refuses_what_is_not_a_property() -> None:
    chart = charts.make_chart(100)
    chart.add_trace("scatter", why=[1])
    with pytest.raises(ValueError, match="why"):
        Figure(chart.build_figure())


def test_settings_of_an_axis_are_merged_and_belong_to_one_chart() -> None:
    style = {"title": {"font": {"color": "red"}}}
    chart, other = Chart(), Chart()
    for each in (chart, other):
        each.update_axes("xaxis", "yaxis", **style)
    chart.update_axes("xaxis", title={"text": "epoch"})
    assert chart.layout["xaxis"]["title"] == {"font": {"color": "red"}, "text": "epoch"}
    assert other.layout["xaxis"] == chart.layout["yaxis"] == style


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_does_not_have_is_null(value: float) -> None:
    chart = Chart()
    chart.add_trace("scatter", x=[1.5, value], marker={"size": (value, 2)})
    assert json.loads(chart.encode_json())["data"][0] == {
        "type": "scatter",
        "x": [1.5, None],
        "marker": {"size": [None, 2]},
    }


def test_the_script_is_the_one_of_plotly() -> None:
    assert read_plotly_script().decode() == get_plotlyjs()
