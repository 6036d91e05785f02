"""HEAD, ETag, If-None-Match, Cache-Control, Vary (RFC 9110, RFC 9111). What every answer obeys of it is in `laws`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine

from tests.auth.alliance import statements
from tests.factories import envelope, malware, stix_id
from tests.taxii.alliance import GROUP, TAXII, Exchange, assert_error

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.anyio

SCRATCH = f"{GROUP}collections/scratch/"
DESCRIPTIONS = ["/taxii2/", GROUP, f"{GROUP}collections/", SCRATCH]
OPEN = ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server", "/openapi.json"]
A = stix_id("malware", 7000)


def told(answer: httpx.Response) -> dict[str, str]:
    """The headers that don't name the request itself."""
    return {name: value for name, value in answer.headers.items() if name != "x-request-id"}


@pytest.fixture(scope="module", autouse=True)
async def stored(exchange: Exchange) -> Any:
    """One object; the status of its push."""
    return await exchange.add(malware(id=A, description="x" * 3000))


@pytest.mark.parametrize("slash", ["/", ""])
@pytest.mark.parametrize("path", DESCRIPTIONS)
async def test_what_the_caller_has_is_not_sent_again(exchange: Exchange, path: str, slash: str) -> None:
    """RFC 9110 §13.1.2, §15.4.5: 304 without body, with the headers that the whole answer would have had."""
    path = path.removesuffix("/") + slash
    first = await exchange.get(path)
    tag = first.headers["etag"]
    for has in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        for ask in (exchange.http.get, exchange.http.head):
            again = await ask(path, headers=exchange.as_("north") | {"If-None-Match": has})
            assert (again.status_code, again.content) == (304, b"")
            assert told(again) == {
                name: value for name, value in told(first).items() if name not in {"content-type", "content-length"}
            }

    for hasnt in ('"other"', "", "open", f"{tag} {tag}"):
        again = await exchange.get(path, headers={"If-None-Match": hasnt})
        assert (again.status_code, again.content) == (200, first.content)


async def test_several_lines_are_one_list(exchange: Exchange) -> None:
    """RFC 9110 §5.3."""
    tag = (await exchange.get(GROUP)).headers["etag"]
    lines = [*exchange.as_("north").items(), ("If-None-Match", '"other"'), ("If-None-Match", tag)]

    assert (await exchange.http.get(GROUP, headers=lines)).status_code == 304


@pytest.mark.parametrize("path", DESCRIPTIONS)
async def test_rights_come_before_tags(exchange: Exchange, path: str) -> None:
    """App. B: who may not see a thing is told so whatever it has, in the words it would be told in without."""
    tag = (await exchange.get(path)).headers["etag"]
    for has in (tag, "*"):
        assert_error(await exchange.http.get(path, headers={"If-None-Match": has}), 401)
        if path != "/taxii2/":
            hidden = await exchange.get(path, "constabulary", headers={"If-None-Match": has})
            assert_error(hidden, 404)
        refused = await exchange.get(path, headers={"If-None-Match": has, "Accept": "application/foo"})
        assert_error(refused, 406)


async def test_a_revocation_ends_304(exchange: Exchange) -> None:
    """A copy is asked after with every request, and the rights with it."""
    exchange.clients["leaver"] = exchange.alliance.client("north")
    tags = {path: (await exchange.get(path, "leaver")).headers["etag"] for path in DESCRIPTIONS}
    for path, tag in tags.items():
        assert (await exchange.get(path, "leaver", headers={"If-None-Match": tag})).status_code == 304
    client_id = exchange.clients["leaver"].client_id
    exchange.alliance.execute("UPDATE clients SET revoked_at = now() WHERE client_id = %s", client_id)

    for path, tag in tags.items():
        assert_error(await exchange.get(path, "leaver", headers={"If-None-Match": tag}), 401)


async def test_a_tag_is_of_what_its_caller_sees(exchange: Exchange) -> None:
    """Other rights make another answer, so another tag: nobody's copy is confirmed by another's."""
    path = exchange.path("")
    tags = {member: (await exchange.get(path, member)).headers["etag"] for member in ("north", "harbour", "tide")}

    assert len(set(tags.values())) == 3
    for member in tags:
        for other, tag in tags.items():
            answer = await exchange.get(path, member, headers={"If-None-Match": tag})
            assert answer.status_code == (304 if member == other else 200)


async def test_what_changes_gets_another_tag(exchange: Exchange) -> None:
    """A collection that is renamed is sent anew, as is the list it stands in."""
    exchange.alliance.collection("fraud-intel", "renamed")
    exchange.alliance.grant("north", "fraud-intel/renamed", ("read",))
    paths = [exchange.path("", "fraud-intel/renamed"), f"{GROUP}collections/"]
    tags = [(await exchange.get(path)).headers["etag"] for path in paths]
    exchange.alliance.execute("UPDATE collections SET title = 'Another name' WHERE alias = 'renamed'")

    for path, tag in zip(paths, tags, strict=True):
        answer = await exchange.get(path, headers={"If-None-Match": tag})
        assert (answer.status_code, answer.headers["etag"] == tag) == (200, False)
        assert "Another name" in answer.text


@pytest.mark.parametrize("rest", ["objects/", "manifest/", f"objects/{A}/", f"objects/{A}/versions/", "status"])
async def test_pages_and_statuses_are_always_sent(exchange: Exchange, stored: Any, rest: str) -> None:
    """They have no tag, so no condition holds; `laws` has what is said of keeping them."""
    path = f"{GROUP}status/{stored['id']}/" if rest == "status" else f"{SCRATCH}{rest}"
    for method in ("GET", "HEAD"):
        answer = await exchange.http.request(method, path, headers=exchange.as_("north") | {"If-None-Match": "*"})
        assert answer.status_code == 200


async def test_writes_heed_no_tag(exchange: Exchange) -> None:
    """§5.5, §5.7: TAXII has no conditional writes."""
    one = malware(id=stix_id("malware", 7001))
    added = await exchange.post(envelope(one), headers={"If-None-Match": "*"})
    removed = await exchange.delete(exchange.path(f"objects/{one['id']}/"), headers={"If-None-Match": "*"})

    assert (added.status_code, removed.status_code) == (202, 200)


async def test_a_304_costs_what_the_answer_would(exchange: Exchange) -> None:
    """Nothing is remembered between requests: the caller statement, and the list's where there is one."""
    for path in DESCRIPTIONS:
        with statements(Engine) as first:
            tag = (await exchange.get(path)).headers["etag"]
        with statements(Engine) as again:
            assert (await exchange.get(path, headers={"If-None-Match": tag})).status_code == 304
        assert again == first


@pytest.mark.parametrize("path", OPEN)
async def test_what_is_open_to_all_has_tags_too(exchange: Exchange, path: str) -> None:
    """RFC 9110 §13.1.2; keys and metadata may be kept by anybody for minutes, so rotation needs no more than its overlap."""
    first = await exchange.http.get(path)
    again = await exchange.http.get(path, headers={"If-None-Match": first.headers["etag"]})

    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    keep = "public, max-age=300" if path.startswith("/.well-known/") else "no-cache"
    assert first.headers["cache-control"] == again.headers["cache-control"] == keep
    assert first.headers["vary"] == again.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_kept_by_nobody(exchange: Exchange, path: str) -> None:
    """It is true of the moment."""
    answer = await exchange.http.get(path, headers={"If-None-Match": "*"})

    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert "etag" not in answer.headers


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize(
    ("path", "member", "accept"),
    [
        *((path, "north", TAXII) for path in DESCRIPTIONS),
        *((f"{SCRATCH}{rest}", "north", TAXII) for rest in ("objects/", "manifest/", f"objects/{A}/", f"objects/{A}/versions/")),
        *((path, None, "*/*") for path in (*OPEN, "/healthz", "/readyz")),
        (SCRATCH, None, TAXII),
        (SCRATCH, "constabulary", TAXII),
        (f"{SCRATCH}objects/", "north", "application/foo"),
        (f"{SCRATCH}objects/?limit=0", "north", TAXII),
        (f"{GROUP}nothing/", "north", TAXII),
        ("/nothing", None, "*/*"),
        ("/oauth2/token", None, "*/*"),
    ],
)  # fmt: skip
async def test_head_is_get_without_a_body(
    exchange: Exchange, path: str, member: str | None, accept: str, encoding: str
) -> None:
    """RFC 9110 §9.3.2 and T-ERR-10: the same status and headers, Content-Length and dates among them, errors included."""
    headers = {"Accept": accept, "Accept-Encoding": encoding} | ({} if member is None else exchange.as_(member))
    get = await exchange.http.get(path, headers=headers)
    head = await exchange.http.head(path, headers=headers)

    assert head.content == b""
    assert (head.status_code, told(head)) == (get.status_code, told(get))
    assert int(get.headers["content-length"]) > 0
