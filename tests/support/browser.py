"""A real browser without a window for tests, and a page in it: the module is skipped where there is none."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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
SECONDS = 300  # for a page to show what is waited for
MARKS = [
    pytest.mark.skipif(BROWSER is None or DRIVER is None, reason=NEEDS),
    pytest.mark.slow,
]
# MLflow's own: an endpoint that a server without accounts lacks, and a note of the browser's on layout.
BENIGN = ("/mlflow/users/current", "ResizeObserver loop")


@contextmanager
def chromium(profile: Path, size: tuple[int, int], *also: str) -> Iterator[webdriver.Chrome]:
    """Chromium with a folder for its profile and a window's width and height; also: further switches."""
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
        f"window-size={size[0]},{size[1]}",
        f"user-data-dir={profile}",
        *also,
    ]
    if os.geteuid() == 0:  # as root, Chromium starts only without its sandbox
        switches.append("no-sandbox")
    for switch in switches:
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
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

    def settle(self, still: float = 1.5) -> None:
        """Wait until the page has not changed for so many seconds: animations and late answers are over."""
        end, before, since = time.monotonic() + SECONDS, "", time.monotonic()
        while time.monotonic() < end and time.monotonic() - since < still:
            now = self.driver.get_screenshot_as_base64()
            if now != before:
                before, since = now, time.monotonic()
            time.sleep(0.2)

    def errors(self) -> list[str]:
        """What the page complained about since last asked, without what is MLflow's own."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        severe = [str(entry["message"]) for entry in entries if entry["level"] == "SEVERE"]
        return [message for message in severe if not any(benign in message for benign in BENIGN)]
