"""Chromium without a window and without a way to any other host, and what its pages did."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests import parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 30.0
OURS = "127.0.0.1"

_SWITCHES = [
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {OURS}",
]


class Browser:
    """A browser with one page."""

    def __init__(self, driver: webdriver.Chrome, base_url: str) -> None:
        self.driver = driver
        self.base_url = base_url
        self._asked: list[str] = []

    def open(self, path: str) -> None:
        """Go to a page of the server."""
        self.driver.get(self.base_url + path)

    def until(self, found: Callable[[], Any], what: str) -> Any:
        """Wait until something is there, and give it."""
        return WebDriverWait(self.driver, PATIENCE).until(lambda _: found(), what)

    def find(self, css: str, text: str = "") -> WebElement:
        """Wait for a visible element that holds a text."""

        def found() -> WebElement | None:
            shown = (one for one in self.driver.find_elements(By.CSS_SELECTOR, css) if one.is_displayed())
            return next((one for one in shown if text in one.text), None)

        element: WebElement = self.until(found, f"no {css} with {text!r}")
        return element

    def click(self, css: str, text: str = "") -> None:
        """Click what `find` finds, as a person does who scrolls there first."""
        element = self.find(css, text)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript in the page."""
        return self.driver.execute_script(script, *arguments)

    def size(self, width: int, height: int) -> None:
        """Make the page as large as on some device."""
        self._command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def prefer(self, scheme: str) -> None:
        """Let the reader prefer `light` or `dark`."""
        self._command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def scripts(self, *, allowed: bool) -> None:
        """Let pages run scripts, or not."""
        self._command("Emulation.setScriptExecutionDisabled", value=not allowed)

    def forget(self) -> None:
        """Forget what was seen so far."""
        self.asked()
        self.complaints()
        self._asked.clear()

    def picture(self, file: Path) -> None:
        """Keep what is on screen."""
        self.driver.save_screenshot(str(file))

    def asked(self) -> list[str]:
        """Every URL that pages have asked for, or tried to; and sockets and workers alike."""
        for entry in self._log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                self._asked.append(event["params"]["request"]["url"])
            elif event["method"] == "Network.webSocketCreated":
                self._asked.append(event["params"]["url"])
        return self._asked

    def elsewhere(self) -> list[str]:
        """Which of those are of another host."""
        here = {"data", "blob", "about"}
        asked = [one for one in self.asked() if urlsplit(one).scheme not in here and not one.startswith("chrome:")]
        return [one for one in asked if urlsplit(one).hostname != OURS]

    def complaints(self) -> list[str]:
        """What the console says: errors of scripts, violations of the pages' policies, failed requests."""
        return [entry["message"] for entry in self._log("browser") if entry["level"] in {"WARNING", "SEVERE"}]

    def kept(self) -> str:
        """Whatever the page keeps beyond itself."""
        kept: str = self.run("return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        return kept

    def _log(self, kind: str) -> list[dict[str, str]]:
        entries: list[dict[str, str]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]  # selenium's own lack
        return entries

    def _command(self, name: str, **parameters: object) -> None:
        self.driver.execute_cdp_cmd(name, parameters)


@contextmanager
def browser(base_url: str, profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile; it ends with the block."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    parts.need(chromium and driver, "chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    for switch in (*_SWITCHES, f"--user-data-dir={profile}", "--window-size=1280,900"):
        options.add_argument(switch)
    options.binary_location = chromium or ""
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    # with the driver's path selenium asks nobody for one
    running = webdriver.Chrome(options, Service(driver))
    try:
        yield Browser(running, base_url)
    finally:
        running.quit()
