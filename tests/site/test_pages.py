"""The pages for people: what they say, to whom, and what they let a browser do."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine

from taxii_server.site.pages import About, router
from tests.auth.alliance import statements

if TYPE_CHECKING:
    from tests.taxii.alliance import Exchange

pytestmark = pytest.mark.anyio

PAGES = ("/", "/docs", "/docs/operators", "/redoc")
CURL = "curl -u your-client-id -H 'Accept: application/taxii+json;version=2.1' https://taxii.example.org/taxii2/"


class Seen(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each of these tags."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def targets(self) -> list[str]:
        """Whatever the page links to, or is made of."""
        return [value for _, each in self.tags for name, value in each.items() if name in {"href", "src"} and value]


async def overview(about: About) -> Seen:
    """Give the page at `/` of a server that an operator describes so."""
    app = FastAPI(openapi_url=None)
    app.include_router(router(about))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://taxii.example.org") as http:
        return Seen((await http.get("/")).text)


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_lets_a_browser_ask_nobody_else(exchange: Exchange, path: str) -> None:
    """Nothing is loaded but from here, no script stands in the page, nobody may frame it, no address leaks."""
    answer = await exchange.http.get(path)

    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy.get("script-src", "'none'") in {"'none'", "'self'"}
    assert policy.get("connect-src", "'none'") in {"'none'", "'self'"}
    assert policy["img-src"] in {"'self'", "'self' data:"}
    assert policy["form-action"] in {"'none'", "'self'"}
    assert not {"http:", "https:", "*", "'unsafe-eval'"} & {word for value in policy.values() for word in value.split()}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-cache"


async def test_secrets_are_typed_under_the_strictest_policy(exchange: Exchange) -> None:
    """Only Redoc writes styles into its page and makes a worker, and nobody tells it a secret."""
    loose = re.compile("unsafe|blob:")
    policies = {path: (await exchange.http.get(path)).headers["content-security-policy"] for path in PAGES}

    assert {path for path, policy in policies.items() if loose.search(policy)} == {"/redoc"}


@pytest.mark.parametrize("path", PAGES)
async def test_no_script_or_style_stands_in_a_page(exchange: Exchange, path: str) -> None:
    """All of it comes from files, so the policy can refuse whatever else gets into a page."""
    seen = Seen((await exchange.http.get(path)).text)

    assert [one for one in seen.all("script") if "src" not in one] == []
    assert seen.all("style") == []
    assert [name for _, each in seen.tags for name in each if name.startswith("on") or name == "style"] == []


@pytest.mark.parametrize("path", PAGES)
async def test_every_target_of_a_page_is_there_and_here(exchange: Exchange, path: str) -> None:
    """No link is dead, none leads elsewhere, and none names a host: pages are right behind any proxy."""
    targets = Seen((await exchange.http.get(path)).text).targets
    answers = {one: (await exchange.http.get(one)).status_code for one in targets if not one.startswith("#")}

    assert {one for one in targets if not one.startswith(("/", "#"))} == set()
    assert [one for one in targets if one.startswith("//")] == []
    assert {one for one, status in answers.items() if status != 200} == set()
    assert any(one.startswith("/assets/") for one in answers)


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_the_same_for_everyone(exchange: Exchange, path: str) -> None:
    """Whoever asks, from wherever: no trust group, nothing of a request comes back, and the database isn't asked."""
    with statements(Engine) as sent:
        stranger = await exchange.http.get(path)
        member = await exchange.http.get(path, headers=exchange.as_("north") | {"Accept": "application/json"})
        odd = await exchange.http.get(
            path, params={"q": "<i>"}, headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
        )

    assert stranger.content == member.content == odd.content
    assert stranger.headers["etag"] == member.headers["etag"]
    assert not re.search("fraud-intel|crime-desk|evil", stranger.text)
    assert len(sent) == 0


@pytest.mark.parametrize("path", PAGES)
async def test_head_of_a_page(exchange: Exchange, path: str) -> None:
    """RFC 9110 §9.3.2: the same headers, no body."""
    get, head = await exchange.http.get(path), await exchange.http.head(path)
    own = {"x-request-id"}

    assert head.status_code == 200
    assert head.content == b""
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in get.headers.items() if k not in own
    }


@pytest.mark.parametrize("path", PAGES[1:])
async def test_a_last_slash_changes_nothing(exchange: Exchange, path: str) -> None:
    """People type both."""
    assert (await exchange.http.get(f"{path}/")).content == (await exchange.http.get(path)).content


async def test_a_page_that_is_known_is_not_sent_again(exchange: Exchange) -> None:
    """RFC 9110 §13.1.2."""
    first = await exchange.http.get("/")
    again = await exchange.http.get("/", headers={"If-None-Match": first.headers["etag"]})

    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize("path", ["/index.html", "/docs/x", "/redoc/x", "/docs/../settings.py", "/templates/base.html"])
async def test_what_is_no_page_is_told_in_the_words_of_machines(exchange: Exchange, path: str) -> None:
    """RFC 9457 problem details."""
    answer = await exchange.http.get(path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_overview_tells_where_things_are() -> None:
    """What to give a client, by the public URL; and a line to paste that holds no secret."""
    seen = await overview(About("Exchange", "For the banks.", "ops@example.org", "https://taxii.example.org"))

    text = " ".join(seen.text.split())
    for place in ("/taxii2/", "/docs", "/redoc", "/oauth2/token", "/.well-known/oauth-authorization-server"):
        assert f"https://taxii.example.org{place}" in text
    assert {"/docs", "/redoc", "/openapi.json", "/healthz", "/readyz", "mailto:ops@example.org"} <= set(seen.targets)
    assert "For the banks." in text
    assert CURL in text


@pytest.mark.parametrize(
    ("contact", "link"),
    [
        ("ops@example.org", "mailto:ops@example.org"),
        ("mailto:ops@example.org", "mailto:ops@example.org"),
        ("o'brien?cc=x@example.org", "mailto:o%27brien%3Fcc%3Dx@example.org"),
        ("https://example.org/contact?a=1&b=2", "https://example.org/contact?a=1&b=2"),
        ("+49 30 1234567", None),
        ("The operator, ops@example.org", None),
        ("javascript:alert(1)", None),
        ("JAVASCRIPT:alert(1)//@example.org", None),
        ("data:text/html,x", None),
        ("//evil.example", None),
    ],
)
async def test_a_contact_is_linked_if_that_is_safe(contact: str, link: str | None) -> None:
    """A mail address or a web page is a link; whatever else is text."""
    seen = await overview(About("Exchange", None, contact, "https://taxii.example.org"))

    elsewhere = [one for one in seen.targets if not one.startswith(("/", "#"))]
    assert elsewhere == ([link] if link else [])
    assert contact in seen.text


async def test_what_the_operator_writes_stays_text() -> None:
    """Titles, descriptions and contacts are shown as they are written, never read as HTML."""
    evil = "</title><script>alert('x')</script><img src=//evil.example onerror=alert(1)> & \"'"
    plain = await overview(About("Exchange", "d", "c", "https://taxii.example.org"))

    seen = await overview(About(evil, evil, evil, "https://taxii.example.org"))

    assert [tag for tag, _ in seen.tags] == [tag for tag, _ in plain.tags]
    assert seen.text.count(evil) == 5
    assert all(urlsplit(one).netloc == "" for one in seen.targets)
