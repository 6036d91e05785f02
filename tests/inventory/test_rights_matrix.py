"""Every route, every kind of caller, Basic and bearer: the exact status of each. A route without a row fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import Engine
from starlette.convertors import StringConvertor

from taxii_server.taxii.routes.documented import TaxiiRoute
from tests.auth.alliance import statements
from tests.factories import indicator
from tests.taxii.alliance import TAXII, Exchange, basic, exchange_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

ROLES = (
    "nobody",  # no credentials
    "wrong",  # a secret or token that isn't right
    "suspended",  # of a suspended member
    "revoked",  # of a revoked client
    "elsewhere",  # a member of another trust group
    "stranger",  # a member without any grant
    "issued-elsewhere",  # a client narrowed to another collection of the same trust group
    "neither",  # a grant without rights
    "reader",
    "writer",
    "both",
    "issued-read",  # a client of the same member, narrowed to reading
    "read-token",  # a token narrowed to reading; by Basic the same client as "both"
)

Row = dict[str, int]


def row(unauthenticated: int, **codes: int) -> Row:
    """Spread a row: the first four roles never get in; `other` stands for the roles not named."""
    other = codes.pop("other")
    named = {name.replace("_", "-"): code for name, code in codes.items()}
    assert named.keys() <= set(ROLES)
    return {role: unauthenticated if role in ROLES[:4] else named.get(role, other) for role in ROLES}


# A collection is there for whoever has a grant for it, even one without rights.
SEEN = row(401, other=200, elsewhere=404, stranger=404, issued_elsewhere=404)
READ = row(401, other=200, elsewhere=404, stranger=404, issued_elsewhere=404, neither=403, writer=403)
IN_GROUP = row(401, other=200, elsewhere=404, stranger=404)
GROUP = "/taxii2/{trust_group}/"
COLLECTION = "/taxii2/{trust_group}/collections/{collection}/"
OPEN = dict.fromkeys(ROLES, 200)
ASSETS = "/assets/{contents_version}/{name}"
PAGES = ("/", "/docs", "/docs/", "/docs/operators", "/docs/operators/", "/redoc", "/redoc/", ASSETS)

MATRIX: dict[tuple[str, str], Row] = {
    ("GET", "/taxii2/"): row(401, other=200),
    ("GET", GROUP): IN_GROUP,
    # somebody else's status is not found, whoever it is
    ("GET", f"{GROUP}status/{{status_id}}/"): row(401, other=404, both=200, issued_read=200, read_token=200),
    ("GET", f"{GROUP}collections/"): IN_GROUP,
    ("GET", COLLECTION): SEEN,
    ("GET", f"{COLLECTION}manifest/"): READ,
    ("GET", f"{COLLECTION}objects/"): READ,
    ("POST", f"{COLLECTION}objects/"): row(
        401, other=403, elsewhere=404, stranger=404, issued_elsewhere=404, writer=202, both=202
    ),
    ("GET", f"{COLLECTION}objects/{{object_id}}/"): READ,
    # §5.7: neither right 404, one of them 403
    ("DELETE", f"{COLLECTION}objects/{{object_id}}/"): row(
        401, other=403, elsewhere=404, stranger=404, issued_elsewhere=404, neither=404, both=200
    ),
    ("GET", f"{COLLECTION}objects/{{object_id}}/versions/"): READ,
    # a contributor's question, about what its own member brought
    ("GET", f"{COLLECTION}objects/{{object_id}}/disclosures/"): row(
        401, other=403, elsewhere=404, stranger=404, issued_elsewhere=404, writer=404, both=200
    ),
    # the object is the member's of "both"; to who may write and not read, what others brought is absent
    ("POST", f"{COLLECTION}objects/{{object_id}}/recall/"): row(
        401, other=403, elsewhere=404, stranger=404, issued_elsewhere=404, writer=404, both=200
    ),
    # nobody recalled it
    ("GET", f"{COLLECTION}objects/{{object_id}}/recall/"): row(
        401, other=403, elsewhere=404, stranger=404, issued_elsewhere=404, writer=404, both=404
    ),
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/openapi.json"): OPEN,
    ("GET", "/openapi-operators.json"): OPEN,
    ("GET", "/.well-known/jwks.json"): OPEN,
    ("GET", "/.well-known/oauth-authorization-server"): OPEN,
    # pages for people: the same for everyone
    **{(method, path): OPEN for method in ("GET", "HEAD") for path in PAGES},
    # these two identify by themselves (RFC 6749 §2.3); their rows are for Basic and their own tests hold the rest
    ("POST", "/oauth2/token"): row(401, other=200),
    ("POST", "/oauth2/revoke"): row(401, other=200),
}
for (method, path), codes in list(MATRIX.items()):
    # both slash forms are served alike (D-01), and HEAD as GET (RFC 9110 §9.3.2)
    for form in (path, path.removesuffix("/") if path.startswith("/taxii2/") else path):
        MATRIX[method, form] = codes
        if method == "GET":
            MATRIX["HEAD", form] = codes


@pytest.fixture(scope="module")
async def exchange(module_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    """The alliance of the protocol tests, with the further clients that the roles need."""
    async with exchange_on(module_database_urls) as running:
        alliance = running.alliance
        indicators, scratch = running.collection_id(), running.collection_id("fraud-intel/scratch")
        alliance.member("dormant")
        alliance.grant("dormant", "fraud-intel/indicators", ("read", "write"))
        running.clients |= {
            "elsewhere": running.clients["constabulary"],
            "neither": running.clients["court"],
            "reader": running.clients["harbour"],
            "writer": running.clients["tide"],
            "both": running.clients["north"],
            "read-token": running.clients["north"],
            "issued-read": alliance.client("north", rights=("read",), collections=[indicators]),
            "issued-elsewhere": alliance.client("north", collections=[scratch]),
            "suspended": alliance.client("dormant"),
            "revoked": alliance.client("north"),
        }
        yield running


@pytest.fixture(scope="module")
async def credentials(exchange: Exchange) -> dict[tuple[str, str], dict[str, str]]:
    """The Authorization header of each role by each scheme; tokens are as good as they were when they were issued."""
    found: dict[tuple[str, str], dict[str, str]] = {("basic", "nobody"): {}, ("bearer", "nobody"): {}}
    for role in ROLES[2:]:
        found["basic", role] = exchange.as_(role)
        found["bearer", role] = await exchange.token(role, "taxii:read" if role == "read-token" else None)
    found["basic", "wrong"] = basic(exchange.clients["both"].client_id, exchange.clients["reader"].secret)
    token = found["bearer", "both"]["Authorization"]
    found["bearer", "wrong"] = {"Authorization": token[:-8] + ("A" * 8 if token[-8:] != "A" * 8 else "B" * 8)}
    exchange.alliance.execute("UPDATE members SET suspended_at = now() WHERE slug = 'dormant'")
    exchange.alliance.execute(
        "UPDATE clients SET revoked_at = now() WHERE client_id = %s",
        exchange.clients["revoked"].client_id,
    )
    return found


async def _target(exchange: Exchange) -> dict[str, str]:
    """Add an object; give it, and the status of it, as a path names them."""
    thing = indicator(id=f"indicator--{uuid4()}")
    added = await exchange.add(thing, name="fraud-intel/indicators")
    return {"object_id": thing["id"], "status_id": added["id"]}


async def _request(
    exchange: Exchange, method: str, path: str, headers: dict[str, str], target: dict[str, str]
) -> httpx.Response:
    """Make a request that would succeed if the caller had every right; one that takes something away gets a target anew."""
    if path == "/oauth2/token":
        return await exchange.http.post(path, data={"grant_type": "client_credentials"}, headers=headers)
    if path == "/oauth2/revoke":
        return await exchange.http.post(path, data={"token": "none of ours"}, headers=headers)
    if method not in {"GET", "HEAD", "OPTIONS"}:
        target = await _target(exchange)
    filled = path.format(
        trust_group="fraud-intel",
        collection=exchange.collection_id(),
        contents_version="any",
        name="site.css",
        **target,
    )
    options: dict[str, Any] = {}
    if method == "POST" and not path.rstrip("/").endswith("/recall"):
        options["json"] = {"objects": [indicator(id=f"indicator--{uuid4()}")]}
        headers = headers | {"Content-Type": TAXII}
    return await exchange.http.request(method, filled, headers=headers | {"Accept": TAXII}, **options)


def _routes(exchange: Exchange) -> set[tuple[str, str]]:
    return {
        (method, context.path)
        for context in iter_route_contexts(exchange.app.routes)
        for method in context.methods or ()
        if context.path is not None
    }


async def test_every_route_has_its_row(exchange: Exchange) -> None:
    """A new route must say who may use it before it passes."""
    assert _routes(exchange) == set(MATRIX)


@pytest.mark.parametrize(
    ("method", "path", "scheme"),
    [
        # HEAD is GET's row again, and how the caller was found out is no matter of the method
        pytest.param(method, path, scheme, marks=pytest.mark.slow if (method, scheme) == ("HEAD", "basic") else ())
        for method, path in MATRIX
        for scheme in ("basic", "bearer")
    ],
)
async def test_each_role_gets_exactly_its_status(
    exchange: Exchange,
    credentials: dict[tuple[str, str], dict[str, str]],
    method: str,
    path: str,
    scheme: str,
) -> None:
    """§5, permission matrix: who may do what, by rights; who fails to authenticate gets 401 on every endpoint, never 403 or 200."""
    expected = dict(MATRIX[method, path])
    if path.startswith("/oauth2/") and scheme == "bearer":
        expected = dict.fromkeys(ROLES, 401)
    if scheme == "basic":
        # by Basic there is no token that narrows
        expected["read-token"] = expected["both"]

    target = await _target(exchange)
    got = {
        role: (await _request(exchange, method, path, credentials[scheme, role], target)).status_code for role in ROLES
    }

    assert expected == got


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        (method, path, role)
        for method, path in MATRIX
        for role in ("elsewhere", "stranger", "issued-elsewhere")
        # to a client that was issued for another collection, the trust group is visible
        if ("{collection}" if role == "issued-elsewhere" else "{trust_group}") in path and path.endswith("/")
    ],
)
async def test_hidden_and_absent_cannot_be_told_apart(
    exchange: Exchange,
    credentials: dict[tuple[str, str], dict[str, str]],
    method: str,
    path: str,
    scheme: str,
    role: str,
) -> None:
    """App. B: equal status, body (error_id aside), headers, and number of statements, for every method."""
    headers = credentials[scheme, role]
    identifier = exchange.collection_id()
    there = {"trust_group": "fraud-intel", "collection": identifier, "object_id": "x", "status_id": "x"}
    nowhere = [there | {"collection": uuid4()}, there | {"collection": "no-such-alias"}]
    if role != "issued-elsewhere":
        nowhere.append(there | {"trust_group": "no-such-group"})

    # what was seen before is asked about in another way
    await _observed(exchange, method, path.format(**there), headers)
    hidden, cost = await _observed(exchange, method, path.format(**there), headers)

    assert hidden[0] == 404
    for names in nowhere:
        absent, absent_cost = await _observed(exchange, method, path.format(**names), headers)
        assert hidden == absent
        assert cost == absent_cost == 1


async def _observed(
    exchange: Exchange,
    method: str,
    path: str,
    headers: dict[str, str],
) -> tuple[tuple[int, dict[str, Any], dict[str, str]], int]:
    with statements(Engine) as sent:
        # an unreadable body, a bad parameter and an unknown media type: none of them is looked at
        answer = await exchange.http.request(
            method,
            f"{path}?limit=none",
            headers=headers | {"Accept": "application/unknown"},
            content=b"{" if method == "POST" else None,
        )
    told_why = {} if method == "HEAD" else answer.json()
    body = {name: value for name, value in told_why.items() if name != "error_id"}
    told = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return (answer.status_code, body, told), len(sent)


def test_what_is_called_straight_away_needs_nothing_of_the_framework(exchange: Exchange) -> None:
    """Parameters of plain text in the path, and no dependency: that is all `web.straight` gives a handler."""
    routes = [route for route in exchange.app.routes if isinstance(route, TaxiiRoute)]

    assert routes
    for route in routes:
        assert {type(one) for one in route.param_convertors.values()} <= {StringConvertor}
        needs = route.dependant
        assert needs.request_param_name == "request"
        asked = (needs.dependencies, needs.path_params, needs.query_params, needs.header_params, needs.body_params)
        assert not any(asked)
