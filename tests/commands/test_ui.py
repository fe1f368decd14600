"""What a person sees in the MLflow UI: a real store, the real `fmnist-sweep ui`, a real browser without a window."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from fmnist_sweep.tracking.store import build_default_uri, open_existing_store
from tests.conftest import Command
from tests.support import ROOT
from tests.support.browser import MARKS, Page
from tests.support.browser import chromium as started
from tests.support.served import Served
from tests.support.small import FILTERS, SMALLEST

pytestmark = MARKS


@dataclass(frozen=True)
class Site:
    """A served store: where its UI is, the address that was printed, and the run of each kind."""

    folder: Path
    root: str
    printed: str
    sweep: str
    study: str
    trial: str
    best_val_accuracy: float

    def run(self, run_id: str, tab: str = "") -> str:
        return f"{self.root}/#/experiments/1/runs/{run_id}{tab}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, warm_sweep: Command) -> Iterator[Site]:
    """One tiny sweep of drawn images, made by the real command and served by the real one."""
    folder = tmp_path_factory.mktemp("ui")
    ended = warm_sweep(*SMALLEST, FILTERS, "train.epochs=2", "search.max_trials=2", cwd=folder)
    assert ended.returncode == 0, ended
    store = open_existing_store(build_default_uri(folder), "fashion-mnist")
    found = store.client.search_runs([store.experiment_id], order_by=["metrics.best_val_accuracy ASC"])
    runs = {run.data.tags["fmnist.kind"]: run for run in found}  # of the trials the best
    accuracy = runs["trial"].data.metrics["best_val_accuracy"]
    with Served(folder) as (root, printed):
        ids = {kind: str(run.info.run_id) for kind, run in runs.items()}
        yield Site(folder, root, printed, ids["sweep"], ids["study"], ids["trial"], accuracy)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    # Tall: the UI draws a chart only when it is on the screen.
    with started(tmp_path_factory.mktemp("profile"), (1900, 2400)) as driver:
        yield driver


@pytest.fixture
def page(chromium: webdriver.Chrome) -> Iterator[Page]:
    """A page that must not have complained by the end of the test."""
    page = Page(chromium)
    yield page
    assert page.errors() == []


def test_the_printed_address_opens_the_sweeps_of_model_training_with_their_scores(page: Page, site: Site) -> None:
    page.open(site.printed)
    page.find("a", "DRAWN · sweep")
    score = page.find(f"[row-id='{site.sweep}'] [col-id='metrics.`best_val_accuracy`']")
    assert float(score.text) == pytest.approx(site.best_val_accuracy)
    assert page.find("h2", "Runs").text == "Runs"  # "Training runs" among the pages for language models
    assert "genai" not in page.driver.current_url


def test_mlflows_assistant_is_closed_at_the_first_visit_and_its_button_is_there(page: Page, site: Site) -> None:
    # Cleared while no page of the site is open, which could keep something again.
    page.driver.get("about:blank")
    page.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": site.root, "storageTypes": "local_storage"})
    page.open(site.printed)
    page.find("a", "DRAWN · sweep")
    page.find("button[data-assistant-ui]")
    assert page.driver.find_elements(By.CSS_SELECTOR, "[data-assistant-ui] button[aria-label='Close']") == []


def test_a_sweep_unfolds_to_its_study_and_its_trial(page: Page, site: Site) -> None:
    page.open(site.printed)
    for run_id in (site.sweep, site.study):
        page.find(f"[row-id='{run_id}'] button").click()
    page.find(f"[row-id='{site.trial}'] a", "DRAWN · ").click()
    page.find("h1, h2", "DRAWN · ")
    assert site.trial in page.driver.current_url
    page.find("div", "Hardest label")


def test_the_view_of_the_best_trials_lists_trials_only(page: Page, site: Site) -> None:
    page.open(site.printed)
    page.find("[data-testid='saved-views-trigger']", "Sweeps").click()
    page.find("[role='menu'] *, [data-radix-popper-content-wrapper] *", "Best trials").click()
    page.find(f"[row-id='{site.trial}'] a", "DRAWN · ")
    assert page.driver.find_elements(By.CSS_SELECTOR, f"[row-id='{site.sweep}']") == []


def test_a_study_shows_its_report(page: Page, site: Site) -> None:
    page.open(site.run(site.study, "/artifacts"))
    page.find("[role='treeitem'], li, span", "report.html").click()
    page.driver.switch_to.frame(page.find("iframe"))
    try:
        page.find("html[data-drawn]")
        page.find(".banner", "DRAWN")
        page.find("#labels .chart svg.main-svg")
    finally:
        page.driver.switch_to.default_content()


def test_the_pictures_of_the_docs_can_be_taken_and_no_page_complains(page: Page, site: Site, tmp_path: Path) -> None:
    """The sweep's tree, a trial, its curves and confusion matrix, the report, MLflow's comparison of trials."""
    script = runpy.run_path(str(ROOT / "docs" / "screenshots.py"))
    page.driver.set_window_size(script["WIDTH"], script["HEIGHT"])
    complaints = script["take_pictures"](page, site.root, site.printed, site.folder, tmp_path, still=0.5)
    assert complaints == []
    taken = {path.stem: path.stat().st_size for path in tmp_path.glob("*.png")}
    assert set(taken) == {"sweeps", "trial", "curves", "confusion_matrix", "report", "comparison"}
    assert min(taken.values()) > 20_000  # an empty page has less
