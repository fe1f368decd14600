"""The report in a real browser: its charts drawn, speed and size, nothing fetched, and how it prints."""

from __future__ import annotations

import base64
import io
import json
import re
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pypdf
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from fmnist_sweep.analysis import findings
from fmnist_sweep.report import page
from tests.support.browser import MARKS, SECONDS, Page, chromium
from tests.support.stored import pictures, simulation

pytestmark = MARKS
TRIALS, IMAGES = 200, 6000
Record = Callable[[str, object], None]
HEADINGS = (
    "Leaderboard",
    "What was tried",
    "What it cost",
    "Small against good",
    "Learning curves",
    "label by label",
    "Failures",
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile"), (1280, 1000)) as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 200 simulated trials on as many validation images as Fashion-MNIST gives."""
    study = simulation(TRIALS, IMAGES, failures=8)
    found = findings.compute_findings(
        study.trials,
        read_predictions=study.predictions_of,
        read_curves=study.curves_of,
        validation_images=pictures(IMAGES),
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(
        page.render_report(page.build_report_body(found), page.ReportHeading("Study", "python", "Searched.", "DRAWN"))
    )
    return path


@pytest.fixture
def opened(driver: webdriver.Chrome, report: Path) -> Iterator[Page]:
    """The page with its charts drawn; it must not have complained by the end of the test."""
    driver.get_log("performance")  # type: ignore[no-untyped-call]
    found = Page(driver)
    found.open(report.as_uri())
    found.find("html[data-drawn]")
    yield found
    assert found.errors() == []


def script(opened: Page, text: str) -> Any:
    return opened.driver.execute_script(text)


def test_every_chart_is_drawn_and_nothing_overflows(opened: Page, report: Path, record_property: Record) -> None:
    charts = opened.driver.find_elements(By.CSS_SELECTOR, ".chart")
    assert len(charts) == 6
    assert all(chart.find_elements(By.CSS_SELECTOR, "svg.main-svg") for chart in charts)
    assert script(opened, "return document.documentElement.scrollWidth <= window.innerWidth")
    milliseconds = int(str(opened.find("html").get_attribute("data-drawn")))
    painted = script(opened, "return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    record_property("page of 200 trials: words on the screen after, ms", round(painted))
    record_property("page of 200 trials: all charts drawn after, ms", milliseconds)
    record_property("page of 200 trials: MB", round(report.stat().st_size / 1e6, 2))
    assert report.stat().st_size < 10e6


def test_nothing_is_fetched(opened: Page, report: Path) -> None:
    entries = opened.driver.get_log("performance")  # type: ignore[no-untyped-call]
    messages = [json.loads(entry["message"])["message"] for entry in entries]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert report.as_uri() in urls
    assert [url for url in urls if not url.startswith(("data:", "blob:", "about:", report.as_uri()))] == []


def test_the_leaderboard_unfolds_and_is_sorted_by_a_click(opened: Page) -> None:
    rows = "#trials tbody tr"
    shown = [row for row in opened.driver.find_elements(By.CSS_SELECTOR, rows) if row.is_displayed()]
    assert len(shown) == 25
    opened.find("button[data-shows]").click()
    assert all(row.is_displayed() for row in opened.driver.find_elements(By.CSS_SELECTOR, rows))
    heads = opened.driver.find_elements(By.CSS_SELECTOR, "#trials th")
    column = next(place for place, head in enumerate(heads) if "learning" in head.text)
    heads[column].click()
    cells = opened.driver.find_elements(By.CSS_SELECTOR, f"{rows} td:nth-child({column})")  # failed rows span two
    assert cells
    text = f"return [...document.querySelectorAll('{rows}:not(.failed)')].map(r => +r.cells[{column}].textContent)"
    values = script(opened, text)
    assert values == sorted(values) and len(values) == TRIALS - 8


def test_a_box_over_an_axis_keeps_the_trials_that_pass_through_it(opened: Page) -> None:
    said = script(
        opened,
        """
        var chart = document.querySelector('#settings .chart');
        chart.emit('plotly_selected', {range: {x: [-0.1, 0.1], y: [0.9, 1.1]}});
        return chart.parentNode.querySelector('.picked').textContent;
        """,
    )
    kept = int(re.findall(r"(\d+) of 200 trials pass through", said)[0])
    assert 0 < kept < TRIALS
    lines = "var c = document.querySelector('#settings .chart'), m = c.layout.meta;"
    assert script(opened, f"{lines} return c.data[m.picked].x.filter(x => x === null).length") == kept
    assert script(opened, f"{lines} c.emit('plotly_deselect'); return c.data[m.picked].x.length") == 0


def test_on_paper_every_section_is_there_and_the_charts_fit(opened: Page) -> None:
    printed = opened.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    pages = pypdf.PdfReader(io.BytesIO(base64.b64decode(printed["data"]))).pages
    words = " ".join(sheet.extract_text() for sheet in pages)
    text = " ".join(unicodedata.normalize("NFKC", words).split())  # without ligatures
    for expected in (
        *HEADINGS,
        "DRAWN",
        "Best of 200 trials",
        "On paper the first 50 rows",
        "95% Wilson interval",
        "predicted",
    ):
        assert expected in text
    assert "Show all" not in text and "drag a box" not in text
    assert 4 < len(pages) < 16
    # A4, and not shrunk to fit something that is too wide: the words are as large as they were meant.
    assert (round(pages[0].mediabox.width), round(pages[0].mediabox.height)) == (595, 842)
    # Afterwards the screen has its charts back at their width.
    end = time.monotonic() + SECONDS
    fits = """return [...document.querySelectorAll('.chart')].every(
        c => Math.abs(c.clientWidth - c.querySelector('.main-svg').clientWidth) < 2)"""
    while not script(opened, fits):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_charts_are_as_wide_as_paper_while_it_is_printed(opened: Page) -> None:
    widths = script(
        opened,
        """
        window.dispatchEvent(new Event('beforeprint'));
        var found = [...document.querySelectorAll('.main-svg')].map(s => s.clientWidth);
        window.dispatchEvent(new Event('afterprint'));
        return found;
        """,
    )
    assert widths and max(widths) <= 700
