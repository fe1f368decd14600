"""What a person sees in the MLflow UI: a real store, the real `fmnist-sweep ui`, a real browser without a window."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from fmnist_sweep import store as stores

NEEDS = (
    "needs Chromium: apt-get install chromium chromium-driver (or put any Chrome and its chromedriver on PATH), and "
    "pip install selenium"
)
pytest.importorskip("selenium", reason=NEEDS)

from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(BROWSER is None or DRIVER is None, reason=NEEDS),
    pytest.mark.timeout(300),
    pytest.mark.slow,
]
SECONDS = 45  # for a page to show what is waited for
# MLflow's own: an endpoint that a server without accounts lacks, and a note of the browser's on layout.
BENIGN = ("/mlflow/users/current", "ResizeObserver loop")


@dataclass(frozen=True)
class Site:
    """A served store: where its UI is, the address that was printed, and the run of each kind."""

    root: str
    printed: str
    sweep: str
    study: str
    trial: str
    best_val_accuracy: float

    def run(self, run_id: str, tab: str = "") -> str:
        return f"{self.root}/#/experiments/1/runs/{run_id}{tab}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One tiny sweep of drawn images, made by the real command and served by the real one."""
    folder = tmp_path_factory.mktemp("ui")
    sweep = ["data=drawn", "data.images=300", "train.epochs=2", "search.max_trials=1", "model.dense_units=16"]
    subprocess.run([sys.executable, "-m", "fmnist_sweep", *sweep], cwd=folder, check=True, timeout=240)
    store = stores.open_existing(stores.default_uri(folder), "fashion-mnist")
    runs = {run.data.tags["fmnist.kind"]: run for run in store.client.search_runs([store.experiment_id])}
    accuracy = runs["trial"].data.metrics["best_val_accuracy"]
    with _Served(folder) as (root, printed):
        ids = {kind: str(run.info.run_id) for kind, run in runs.items()}
        yield Site(root, printed, ids["sweep"], ids["study"], ids["trial"], accuracy)


class _Served:
    """`fmnist-sweep ui` in a folder, ended by its own process group."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._root = f"http://127.0.0.1:{port}"
        self._log = folder / "ui.log"
        command = [sys.executable, "-m", "fmnist_sweep.cli", "ui", "--port", str(port)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def __enter__(self) -> tuple[str, str]:
        try:
            return self._root, self._answering()
        except BaseException:
            self.__exit__()
            raise

    def _answering(self) -> str:
        end = time.monotonic() + 90
        while time.monotonic() < end and self._process.poll() is None:
            try:
                if requests.get(f"{self._root}/health", timeout=5).ok:
                    lines = self._log.read_text().splitlines()
                    return next(line.split()[0] for line in lines if line.startswith(self._root))
            except requests.ConnectionError:
                time.sleep(0.3)
        pytest.fail(f"fmnist-sweep ui did not answer:\n{self._log.read_text()}")

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=30)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    switches = [
        "headless",
        "disable-gpu",
        "disable-quic",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1900,2400",  # tall: the UI draws a chart only when it is on the screen
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ]
    if os.geteuid() == 0:  # as root, Chromium starts only without its sandbox
        switches.append("no-sandbox")
    for switch in switches:
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=Service(str(DRIVER))) as driver:
        driver.set_page_load_timeout(SECONDS)
        driver.set_script_timeout(SECONDS)
        yield driver


class Page:
    """The browser's page, with waiting for what is looked for."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        self.driver.get("about:blank")  # else only the part after # changes, and the page is not loaded anew
        self.driver.get(address)

    def find(self, css: str, text: str = "", *, met: Callable[[WebElement], object] = bool) -> WebElement:
        """The first shown element that matches, contains the text and meets the condition."""

        def shown(driver: webdriver.Chrome) -> WebElement | None:
            for element in driver.find_elements(By.CSS_SELECTOR, css):
                if element.is_displayed() and text in element.text and met(element):
                    return element
            return None

        wait = WebDriverWait(self.driver, SECONDS, ignored_exceptions=[StaleElementReferenceException])
        found = wait.until(shown, f"no {css!r} with {text!r} at {self.driver.current_url}")
        assert found is not None
        return found

    def errors(self) -> list[str]:
        """What the page complained about since last asked, without what is MLflow's own."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        severe = [str(entry["message"]) for entry in entries if entry["level"] == "SEVERE"]
        return [message for message in severe if not any(benign in message for benign in BENIGN)]


@pytest.fixture
def page(chromium: webdriver.Chrome) -> Iterator[Page]:
    """A page that must not have complained by the end of the test."""
    page = Page(chromium)
    yield page
    assert page.errors() == []


def _picture_is_drawn(element: WebElement) -> bool:
    width = element.get_property("naturalWidth")
    return isinstance(width, int) and width > 0


def test_the_printed_address_opens_the_sweeps_of_model_training_with_their_scores(page: Page, site: Site) -> None:
    page.open(site.printed)
    page.find("a", "DRAWN · sweep")
    score = page.find(f"[row-id='{site.sweep}'] [col-id='metrics.`best_val_accuracy`']")
    assert float(score.text) == pytest.approx(site.best_val_accuracy)
    assert page.find("h2", "Runs").text == "Runs"  # "Training runs" among the pages for language models
    assert "genai" not in page.driver.current_url


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


def test_a_trial_shows_the_curve_of_every_epoch(page: Page, site: Site) -> None:
    page.open(site.run(site.trial, "/model-metrics"))
    card = page.find("[data-testid='experiment-view-compare-runs-card']", "val_accuracy")
    page.find("[data-testid='experiment-view-compare-runs-card'] .scatterlayer path.js-line")
    assert card.is_displayed()


def test_a_trial_shows_its_confusion_matrix(page: Page, site: Site) -> None:
    page.open(site.run(site.trial, "/artifacts"))
    page.find("[role='treeitem'], li, span", "confusion_matrix.png").click()
    page.find("img", met=_picture_is_drawn)


@pytest.mark.parametrize("kind", ["sweep", "study"])
def test_a_sweep_and_a_study_show_their_report(page: Page, site: Site, kind: str) -> None:
    page.open(site.run(getattr(site, kind), "/artifacts"))
    page.find("[role='treeitem'], li, span", "report.html").click()
    page.driver.switch_to.frame(page.find("iframe"))
    try:
        assert "DRAWN" in page.find("tr.best").text
        page.find("img[alt='confusion_matrix.png']", met=_picture_is_drawn)
    finally:
        page.driver.switch_to.default_content()
