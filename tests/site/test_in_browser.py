"""The pages in Chromium, with every other host out of reach: an integrator authorizes, polls, reads, and leaves no trace.

PICTURES=folder pytest -m slow tests/site/test_in_browser.py keeps what was on screen at the end of each test, to look at.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from selenium.webdriver.common.by import By

from tests.cli.processes import Demo, running_demo
from tests.factories import indicator
from tests.site.browser import Browser, browser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver.remote.webelement import WebElement

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FEED = "/taxii2/fraud-intel/collections/indicators/objects/"
TEMPLATE = "/taxii2/{trust_group}/collections/{collection}/objects/"
PAGES = ("/", "/docs", "/docs/operators", "/redoc")
PICTURES = os.environ.get("PICTURES")
DRAWN = {"/": "h1", "/docs": ".opblock", "/docs/operators": ".opblock", "/redoc": "[data-section-id^='operation/']"}
PAINTED = """
const parse = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
const over = ([r, g, b, a = 1], below) => [r, g, b].map((one, at) => one * a + below[at] * (1 - a));
const light = (parts) => {
  const [r, g, b] = parts.map((one) => one / 255).map(
    (one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  const colour = element && parse(getComputedStyle(element).backgroundColor);
  if (!element) return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
  return colour[3] === undefined ? colour : over(colour, ground(element.parentElement));
};
return [...(arguments[0] || document.body).querySelectorAll("*")]
  .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && one.offsetParent)
  .map((one) => {
    const below = ground(one);
    const [a, b] = [light(over(parse(getComputedStyle(one).color), below)), light(below)].sort((x, y) => y - x);
    return [one.textContent.trim().slice(0, 40), (a + 0.05) / (b + 0.05)];
  });
"""


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """One demo for the module."""
    with running_demo() as running:
        yield running


@pytest.fixture(scope="module")
def chromium(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for the module; `page` is what a test takes."""
    with browser(demo.url, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def page(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """The browser at desk size, in light, at an empty page, with nothing yet to complain of."""
    chromium.size(1280, 900)
    chromium.prefer("light")
    chromium.scripts(allowed=True)
    chromium.driver.get("about:blank")
    chromium.forget()
    yield chromium
    if PICTURES:
        chromium.picture(Path(PICTURES) / f"{re.sub(r'[^a-z0-9]+', '_', request.node.name)}.png")


def drawn(page: Browser, path: str) -> None:
    """Open a page and wait until it is there."""
    page.open(path)
    page.find(DRAWN[path])


def authorize(page: Browser, scheme: str, client_id: str, secret: str) -> WebElement:
    """Type a client's id and secret into the dialog; give the scheme's part of it."""
    fields = {
        "basic": ("#auth-basic-username", "#auth-basic-password"),
        "oauth2": ("#client_id_clientCredentials", "#client_secret_clientCredentials"),
    }[scheme]
    page.click(".scheme-container .authorize")
    for field, value in zip(fields, (client_id, secret), strict=True):
        page.find(field).send_keys(value)
    part: WebElement = page.run("return arguments[0].closest('.auth-container')", page.find(fields[0]))
    part.find_element(By.CSS_SELECTOR, ".btn.authorize").click()
    return part


def poll(page: Browser, **fields: str) -> WebElement:
    """Fill in the form for reading objects and send it; give the part with the answer."""
    found = f"[data-path='{TEMPLATE}']"
    page.click(f".opblock-get:has({found}) .opblock-summary-control")
    form = page.find(f".opblock-get.is-open:has({found})")
    page.find(".opblock-get.is-open .execute")
    for name, value in fields.items():
        field = form.find_element(By.CSS_SELECTOR, f"tr[data-param-name='{name}'] input")
        page.run("arguments[0].scrollIntoView({block: 'center'})", field)
        field.clear()
        field.send_keys(value)
    page.click(".opblock-get.is-open .execute")
    return page.find(".opblock-get.is-open .live-responses-table .response")


def some_objects(demo: Demo, limit: int) -> list[dict[str, Any]]:
    """What a client gets that asks for the same."""
    accept = {"Accept": "application/taxii+json;version=2.1"}
    answer = httpx.get(demo.url + FEED, auth=demo.siem, params={"limit": limit}, headers=accept)
    objects: list[dict[str, Any]] = answer.json()["objects"]
    return objects


def test_the_watch_notices_a_try(page: Browser) -> None:
    """What the other tests rely on: an attempt to reach another host is seen, with a policy in the way and without."""
    page.driver.get("data:text/html,<img src='https://elsewhere.example/plain.png'>")
    page.until(page.elsewhere, "no request was seen")
    drawn(page, "/")
    page.run("new Image().src = 'https://elsewhere.example/refused.png'")
    refused = page.until(lambda: [one for one in page.complaints() if "refused.png" in one], "no complaint was seen")

    assert page.elsewhere() == ["https://elsewhere.example/plain.png", "https://elsewhere.example/refused.png"]
    assert "Content Security Policy" in refused[0]


@pytest.mark.parametrize("scheme", ["basic", "oauth2"])
def test_an_integrator_authorizes_and_polls(page: Browser, demo: Demo, scheme: str) -> None:
    """With a client's id and secret, by either scheme, a real page of objects is on screen, and no trace is left."""
    wanted = some_objects(demo, 3)
    drawn(page, "/docs")
    part = authorize(page, scheme, *demo.siem)
    page.until(lambda: "Logout" in part.text, "it was not authorized")
    page.click(".modal-ux .close-modal")

    answer = poll(page, limit="3")
    page.until(lambda: wanted[-1]["id"] in answer.text, "no page of objects is shown")

    shown = json.loads(
        answer.find_element(By.CSS_SELECTOR, ".response-col_description code").get_attribute("textContent") or ""
    )
    assert shown["objects"] == wanted
    assert shown["more"] is True
    assert answer.find_element(By.CSS_SELECTOR, ".response-col_status").text.startswith("200")
    assert page.elsewhere() == []
    assert page.complaints() == []
    assert page.kept() == '[{},{},""]'
    assert demo.siem[1] not in page.run("return document.documentElement.outerHTML")


def test_the_line_to_paste_holds_no_secret(page: Browser, demo: Demo) -> None:
    """With Basic it names the client, and curl asks for the secret: such lines end up in tickets."""
    drawn(page, "/docs")
    authorize(page, "basic", *demo.siem)
    page.click(".modal-ux .close-modal")
    poll(page, limit="1")

    for shell, program in (("bash", "curl"), ("PowerShell", "curl.exe"), ("CMD", "curl")):
        page.click(".request-snippets .btn, .curl-command button", shell)
        line = page.find(".curl-command .curl, .request-snippets .curl, .request-snippets pre").text
        assert line.startswith(f"{program} -u {demo.siem[0]} -X")
        assert "uthorization" not in line
        assert "accept: application/taxii+json;version=2.1" in line


@pytest.mark.parametrize("scheme", ["basic", "oauth2"])
def test_a_wrong_secret_is_told(page: Browser, demo: Demo, scheme: str) -> None:
    """The refusal is on screen, in the server's words, and the browser asks for no password by itself."""
    drawn(page, "/docs")
    wrong = demo.siem[1][:-1] + ("0" if demo.siem[1][-1] != "0" else "1")
    part = authorize(page, scheme, demo.siem[0], wrong)
    if scheme == "oauth2":
        page.until(lambda: "auth error" in part.text.lower(), "no error is shown")
        assert "Logout" not in part.text
    page.click(".modal-ux .close-modal")
    answer = poll(page, limit="3")

    assert answer.find_element(By.CSS_SELECTOR, ".response-col_status").text.startswith("401")
    assert '"http_status": "401"' in answer.text
    assert [one for one in page.complaints() if "401 (Unauthorized)" not in one] == []


def test_a_form_begins_with_what_must_be_told(page: Browser, demo: Demo) -> None:
    """Filters are there to choose, not chosen: the first poll from the page finds something, and little of it."""
    drawn(page, "/docs")
    authorize(page, "basic", *demo.siem)
    page.click(".modal-ux .close-modal")

    answer = poll(page)
    url = page.find(".opblock-get.is-open .request-url pre").text

    assert re.fullmatch(rf"{re.escape(demo.url)}/taxii2/[a-z-]+/collections/[a-z-]+/objects/\?limit=\d", url)
    assert answer.find_element(By.CSS_SELECTOR, ".response-col_status").text.startswith("200")
    assert '"objects": [' in answer.text


def test_a_large_answer_does_not_stop_the_page(page: Browser, demo: Demo) -> None:
    """Past a length, an answer is shown plain and in part, and can be saved whole."""
    objects = [indicator(id=f"indicator--{uuid4()}", description="long " * 300) for _ in range(900)]
    added = httpx.post(
        demo.url + FEED,
        auth=demo.tool,
        json={"objects": objects},
        headers={"Content-Type": "application/taxii+json;version=2.1"},
    )
    assert added.json()["success_count"] == len(objects)
    drawn(page, "/docs")
    authorize(page, "basic", *demo.siem)
    page.click(".modal-ux .close-modal")

    answer = poll(page, limit="2000")
    told = page.find(".large-answer p").text

    assert re.match(r"The first 1,000,000 of 1,[\d,]+ characters\.", told)
    assert len(answer.find_element(By.CSS_SELECTOR, ".large-answer pre").text) < 1_100_000
    assert answer.find_elements(By.CSS_SELECTOR, ".large-answer pre span") == []
    assert page.find(".large-answer button").text == "Download"


def test_the_reference_has_every_operation_and_finds_them(page: Browser, demo: Demo) -> None:
    """Redoc shows each operation of the document, and its search works under the page's policy."""
    document = httpx.get(f"{demo.url}/openapi.json").json()
    operations = [one for path in document["paths"].values() for one in path.values() if "responses" in one]
    drawn(page, "/redoc")

    def shown() -> list[str]:
        return [
            one.get_attribute("id") or ""
            for one in page.driver.find_elements(
                By.CSS_SELECTOR, "[data-section-id^='operation/'], [data-section-id*='/operation/']"
            )
        ]

    page.until(lambda: len(shown()) >= len(operations), f"not all operations are shown, but {shown()}")
    headings = page.run(
        "return [...document.querySelectorAll('#api h2, #api h1')].map((one) => one.textContent.trim())"
    )
    page.find("input[placeholder='Search...']").send_keys("manifest")
    manifest = document["paths"][TEMPLATE.replace("objects", "manifest")]["get"]["summary"]
    page.until(lambda: manifest in page.find("[data-role='search:results']").text, "the manifest was not found")

    assert {one["summary"] for one in operations} <= set(headings)
    assert page.elsewhere() == []
    assert page.complaints() == []
    assert page.kept() == '[{},{},""]'


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_in_order(page: Browser, path: str) -> None:
    """No other host is asked, nothing is refused or fails, nothing is kept; title, language, one first heading, texts
    for images, names for links and buttons.
    """
    drawn(page, path)

    nameless = page.run(
        """return [...document.querySelectorAll("a[href], button")].filter(
            (one) => one.offsetParent && !(one.textContent.trim() || one.ariaLabel || one.title)).map((one) => one.outerHTML)"""
    )
    assert page.driver.title.startswith("TAXII 2.1 server") or " · " in page.driver.title
    assert page.run("return document.documentElement.lang") == "en"
    assert page.run("return [...document.querySelectorAll('h1')].filter((one) => one.offsetParent).length") == 1
    assert (
        page.run("return ['main', 'body > header', 'header nav'].filter((one) => document.querySelector(one)).length")
        == 3
    )
    assert page.run("return document.querySelectorAll('img:not([alt])').length") == 0
    assert nameless == []
    assert page.elsewhere() == []
    assert page.complaints() == []
    assert page.kept() == '[{},{},""]'


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_overview_can_be_read(page: Browser, scheme: str) -> None:
    """WCAG 2.2 §1.4.3: a contrast of 4.5 for every text; §2.4.1 and §2.4.7: a way past the bar, and a visible focus."""
    page.prefer(scheme)
    drawn(page, "/")
    painted = page.run(PAINTED)
    page.run("document.querySelector('.skip').focus()")

    assert len(painted) > 20
    assert [(text, round(ratio, 1)) for text, ratio in painted if ratio < 4.5] == []
    assert page.find(".skip").rect["height"] > 20
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["Read objects", "Add objects", "Remove one object", "Get an access token"])
def test_a_request_can_be_read(page: Browser, scheme: str, name: str) -> None:
    """WCAG 2.2 §1.4.3 for the form, the answer that came and those that may come, and for the dialog of credentials."""
    page.prefer(scheme)
    drawn(page, "/docs")
    page.click(".opblock-summary-control", name)
    page.click(".opblock.is-open .execute")
    page.find(".opblock.is-open .live-responses-table .response-col_status", "4")
    request = page.run(PAINTED, page.find(".opblock.is-open"))
    page.click(".scheme-container .btn.authorize")
    dialog = page.run(PAINTED, page.find(".modal-ux"))

    assert min(len(request), len(dialog)) > 10
    assert {text: round(ratio, 1) for text, ratio in request + dialog if ratio < 4.5} == {}


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
def test_a_page_fits_a_phone(page: Browser, path: str) -> None:
    """At 360 pixels nothing has to be scrolled sideways but what is code."""
    page.size(360, 740)
    drawn(page, path)

    assert page.run("return document.documentElement.scrollWidth") == 360


def test_every_request_fits_a_phone(page: Browser) -> None:
    """Opened, with its form, its answers and their examples."""
    page.size(360, 740)
    drawn(page, "/docs")

    widths = {}
    for summary in page.driver.find_elements(By.CSS_SELECTOR, ".opblock-summary-control"):
        name = str(summary.get_attribute("textContent"))
        page.run("arguments[0].click()", summary)
        page.find(".opblock.is-open .responses-table")
        widths[name] = page.run("return document.documentElement.scrollWidth")
        page.run("arguments[0].click()", summary)
        page.until(lambda: not page.driver.find_elements(By.CSS_SELECTOR, ".opblock.is-open"), f"{name} stays open")

    assert len(widths) > 10
    assert {name: width for name, width in widths.items() if width != 360} == {}


def test_the_focus_can_be_seen_in_the_reference(page: Browser) -> None:
    """WCAG 2.2 §2.4.7, in the field for searching as well."""
    drawn(page, "/redoc")
    page.find("input.search-input").send_keys("x")

    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("path", PAGES)
def test_without_scripts_the_pages_say_what_to_do(page: Browser, path: str) -> None:
    """The overview is whole; the others link to the document that they would show."""
    page.scripts(allowed=False)
    page.open(path)

    assert len(page.driver.find_elements(By.TAG_NAME, "h1")) == 1
    if path == "/":
        assert "curl -u" in page.find("pre").text
    else:
        assert page.find("noscript a, .note a").get_attribute("href") is not None
