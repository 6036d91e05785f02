"""Errors (§3.6): whatever refuses a request, under /taxii2/ it is told as a TAXII error resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from taxii_server.app import create_app
from taxii_server.domain import errors
from taxii_server.operations import directory, objects, reading
from tests.auth.alliance import statements
from tests.factories import envelope, malware, stix_id
from tests.taxii.alliance import (
    GROUP,
    MAX_CONTENT_LENGTH,
    PUBLIC_URL,
    TAXII,
    Exchange,
    assert_error,
    basic,
    settings_for,
)
from tests.taxii.laws import hold
from tests.taxii.shelf import A

if TYPE_CHECKING:
    from collections.abc import Callable

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

CHALLENGES = ['Basic realm="taxii", charset="UTF-8"', 'Bearer realm="taxii"']
TOKEN_CHALLENGES = [CHALLENGES[0], 'Bearer realm="taxii", error="invalid_token"']
SCRATCH = f"{GROUP}collections/scratch/"
PATHS = {
    "/taxii2/": "GET, HEAD",
    GROUP: "GET, HEAD",
    f"{GROUP}status/2b6c3a0e-6f3d-4f4e-8f0e-0c4b6f6f2f5e/": "GET, HEAD",
    f"{GROUP}collections/": "GET, HEAD",
    SCRATCH: "GET, HEAD",
    f"{SCRATCH}manifest/": "GET, HEAD",
    f"{SCRATCH}objects/": "GET, HEAD, POST",
    f"{SCRATCH}objects/{A}/": "DELETE, GET, HEAD",
    f"{SCRATCH}objects/{A}/versions/": "GET, HEAD",
}


def allowed(path: str) -> str:
    """What Allow says of a path: OPTIONS is everywhere."""
    return ", ".join(sorted({*PATHS[path].split(", "), "OPTIONS"}))


every_path = pytest.mark.parametrize("path", PATHS)


async def test_every_kind_of_refusal_is_a_taxii_error(exchange: Exchange) -> None:
    """§3.6.1: title, description, status as a string, and an id of its own, in TAXII's content type."""
    foo = {"Accept": "application/foo"}
    answers = {
        400: await exchange.get(exchange.path("objects/?limit=0")),
        401: await exchange.http.get(exchange.path("objects/")),
        403: await exchange.get(exchange.path("objects/"), "court"),
        404: await exchange.get(exchange.path("objects/"), "stranger"),
        405: await exchange.http.put(exchange.path("objects/")),
        406: await exchange.get(exchange.path("objects/"), headers=foo),
        413: await exchange.post(b" " * (MAX_CONTENT_LENGTH + 1)),
        415: await exchange.post(b"{}", headers={"Content-Type": "application/json"}),
        422: await exchange.post(b"{}"),
    }

    found = [assert_error(answer, status) for status, answer in answers.items()]
    assert all(one["description"] for one in found)
    assert len({one["error_id"] for one in found}) == len(found)
    assert len({one["error_code"] for one in found}) == len(found)
    assert all(UUID(one["error_id"]).version == 4 for one in found)


@pytest.mark.parametrize(
    "path",
    [
        "/taxii2/fraud-intel/nothing/",
        "/taxii2//",
        "/taxii2/fraud-intel/collections/scratch/nothing/",
        f"{SCRATCH}objects/{A}/versions/2024/",
        "/taxii2/fraud-intel/status/",
        f"{SCRATCH}objects//versions/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
async def test_no_route_is_404(exchange: Exchange, path: str, method: str) -> None:
    """§3.1, §3.6: the router's own 404 looks like any other, and takes no credentials."""
    answer = await exchange.http.request(method, path)

    if answer.status_code == 405:
        assert_error(answer, 405)
    else:
        assert_error(answer, 404)


@every_path
@pytest.mark.parametrize("slash", ["/", ""])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST", "DELETE"])
async def test_a_wrong_method_is_told_the_right_ones(exchange: Exchange, path: str, slash: str, method: str) -> None:
    """RFC 9110 §15.5.6: Allow names every method of the path, under both slash forms."""
    if method in PATHS[path]:
        return
    answer = await exchange.http.request(method, path.removesuffix("/") + slash)

    assert_error(answer, 405)
    assert answer.headers["allow"] == allowed(path)


@every_path
@pytest.mark.parametrize("slash", ["/", ""])
async def test_options_tells_the_methods_of_a_path(exchange: Exchange, path: str, slash: str) -> None:
    """RFC 9110 §9.3.7: in Allow, without a body, under both slash forms."""
    answer = await exchange.http.options(path.removesuffix("/") + slash)

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == allowed(path)
    assert not {"content-length", "content-type", "etag"} & set(answer.headers)


@pytest.mark.parametrize("member", [None, "north", "stranger"])
async def test_options_tells_nothing_of_what_there_is(exchange: Exchange, member: str | None) -> None:
    """App. B: for what is there, what is hidden and what isn't, equal answers, whoever asks, and nobody is looked up."""
    headers = {} if member is None else exchange.as_(member)
    answers = []
    for group, collection in (("fraud-intel", "scratch"), ("crime-desk", "cases"), ("no-such-group", "none")):
        with statements(Engine) as sent:
            answer = await exchange.http.options(f"/taxii2/{group}/collections/{collection}/objects/", headers=headers)
        assert sent == []
        answers.append({name: value for name, value in answer.headers.items() if name != "x-request-id"})

    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/oauth2/token", "OPTIONS, POST"),
        ("/.well-known/jwks.json", "GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_is_answered_by_every_face(exchange: Exchange, path: str, allow: str) -> None:
    """RFC 9110 §9.3.7."""
    answer = await exchange.http.options(path)

    assert (answer.status_code, answer.headers["allow"]) == (204, allow)


async def test_options_of_no_path_is_404_in_the_form_of_its_face(exchange: Exchange) -> None:
    """§3.6: where there is no route there are no methods."""
    assert_error(await exchange.http.options("/taxii2/fraud-intel/nothing/"), 404)
    assert (await exchange.http.options("/oauth2/nothing")).json()["error"] == "invalid_request"
    assert (await exchange.http.options("/nothing")).headers["content-type"] == "application/problem+json"


def _tampered(secret: str) -> str:
    return secret[:-1] + ("0" if secret[-1] != "0" else "1")


BAD_CREDENTIALS: dict[str, Callable[[Exchange], dict[str, str]]] = {
    "none": lambda _: {},
    "another scheme": lambda _: {"Authorization": "Digest username=north"},
    "no base64": lambda _: {"Authorization": "Basic !"},
    "unknown client": lambda exchange: basic("nobody", exchange.clients["north"].secret),
    "another's secret": lambda exchange: basic(exchange.clients["north"].client_id, exchange.clients["harbour"].secret),
    "a typo": lambda exchange: basic(exchange.clients["north"].client_id, _tampered(exchange.clients["north"].secret)),
    "no token": lambda _: {"Authorization": "Bearer x.y.z"},
}


@every_path
@pytest.mark.parametrize("credentials", BAD_CREDENTIALS)
async def test_failed_authentication_is_401_with_challenges(exchange: Exchange, path: str, credentials: str) -> None:
    """§1.6.9, §5: for every method of every endpoint, one challenge a scheme, and the same words whatever was wrong.

    RFC 6750 §3.1: who sent a token is told that it doesn't hold, so that its client fetches another; who sent none isn't.
    """
    for method in PATHS[path].split(", "):
        answer = await exchange.http.request(method, path, headers=BAD_CREDENTIALS[credentials](exchange))
        challenges = TOKEN_CHALLENGES if credentials == "no token" else CHALLENGES
        assert answer.headers.get_list("www-authenticate") == challenges
        if method == "HEAD":
            assert answer.status_code == 401
            continue
        error = assert_error(answer, 401)
        assert error["error_code"] == "not-authenticated"
        assert error["description"] == errors.NotAuthenticated("").message


# What a request gets wrong, one thing less each time; the answer names the first that is left.
STEPS: list[tuple[int, str, dict[str, Any]]] = [
    (404, "/taxii2/fraud-intel/nothing/?limit=0", {}),
    (405, "objects/?limit=0", {"method": "PUT"}),
    (401, "objects/?limit=0", {}),
    (404, "objects/?limit=0", {"member": "stranger"}),
    (403, "objects/?limit=0", {"member": "court"}),
    (406, "objects/?limit=0", {"member": "north"}),
    (415, "objects/", {"member": "north", "Accept": TAXII}),
    (413, "objects/", {"member": "north", "Accept": TAXII, "Content-Type": TAXII}),
    (400, "objects/", {"member": "north", "Accept": TAXII, "Content-Type": TAXII, "content": b"{"}),
]


@pytest.mark.parametrize(("status", "path", "better"), STEPS, ids=[f"{step[0]}" for step in STEPS])
async def test_checks_come_in_a_fixed_order(exchange: Exchange, status: int, path: str, better: dict[str, Any]) -> None:
    """D-16: path, method, credentials, place, rights, Accept, Content-Type, size, body; the earlier one answers."""
    answer = await exchange.http.request(
        better.get("method", "POST"),
        path if path.startswith("/") else exchange.path(path),
        headers={
            "Accept": better.get("Accept", "application/foo"),
            "Content-Type": better.get("Content-Type", "text/plain"),
            **(exchange.as_(better["member"]) if "member" in better else {}),
        },
        content=better.get("content", b"{" * (MAX_CONTENT_LENGTH + 1)),
    )

    assert_error(answer, status)


async def test_parameters_are_looked_at_after_accept(exchange: Exchange) -> None:
    """D-16: on a GET, rights and Accept answer before a malformed parameter."""
    path = exchange.path("objects/?limit=0")

    assert_error(await exchange.get(path, headers={"Accept": "application/foo"}), 406)
    assert_error(await exchange.get(path), 400)


# Faults of our own


@pytest.mark.parametrize("fault", [RuntimeError, KeyError, ValueError, AssertionError, ExceptionGroup])
async def test_a_fault_is_500_and_tells_nothing_of_itself(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    """§3.6: a fixed sentence and the error's id, under which the log has the cause."""

    async def broken(*_: object, **__: object) -> NoReturn:
        raise fault("TXS-LEAK", [RuntimeError("TXS-LEAK")]) if fault is ExceptionGroup else fault("TXS-LEAK")

    monkeypatch.setattr(reading.Reader, "read", broken)
    with capture_logs() as logged:
        answer = await exchange.get(exchange.path("objects/"))

    error = assert_error(answer, 500)
    assert error == {
        "title": "Internal error",
        "description": "The server failed on this request; its operator finds the cause under this error_id.",
        "error_id": answer.headers["x-request-id"],
        "error_code": "internal-error",
        "http_status": "500",
    }
    assert "TXS-LEAK" not in answer.text + str(answer.headers)
    [line] = [one for one in logged if one["event"] == "unexpected"]
    assert line["request_id"] == error["error_id"]
    assert fault.__name__ in str(line["raised"])
    assert "TXS-LEAK" not in str(logged)


async def test_after_a_fault_the_next_request_is_served(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """§3.6: a fault is of its request alone, in whichever operation, and its log line can be written."""

    async def broken(*_: object, **__: object) -> NoReturn:
        raise RuntimeError

    for module, name, path in (
        (reading.Reader, "read", f"{SCRATCH}manifest/"),
        (directory, "collections", f"{GROUP}collections/"),
        (directory, "trust_groups", "/taxii2/"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, broken)
            assert_error(await exchange.get(path), 500)
        assert (await exchange.get(path)).status_code == 200


@pytest.mark.parametrize("trouble", [errors.Unavailable, errors.DatabaseGone, errors.ClockAhead, errors.ValidatorsGone])
async def test_trouble_that_passes_is_503_and_says_when_to_come_back(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, trouble: type[errors.Unavailable]
) -> None:
    """RFC 9110 §15.6.4: Retry-After in seconds, and a TAXII error all the same."""

    async def broken(*_: object, **__: object) -> NoReturn:
        raise trouble

    monkeypatch.setattr(objects, "add_objects", broken)
    one = malware(id=stix_id("malware", 750))
    answer = await exchange.post(envelope(one), name="fraud-intel/scratch")

    assert assert_error(answer, 503)["error_code"] == trouble.code
    assert answer.headers["retry-after"] == str(trouble.retry_after)
    assert trouble.retry_after > 0


async def test_a_lost_database_is_503_on_every_endpoint(exchange: Exchange, module_database_urls: DatabaseUrls) -> None:
    """§3.6: without a database nobody can be told who they are; it is never 401, never 500, and tells no address."""
    lost = module_database_urls.server.rpartition("/")[0] + "/no_such_database"
    app = create_app(settings_for(module_database_urls, database_url=lost))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url=PUBLIC_URL, event_hooks={"response": [hold]}, headers=exchange.as_("north")
    ) as http:
        for path, methods in PATHS.items():
            for method in methods.split(", "):
                answer = await http.request(method, path)
                assert answer.headers["retry-after"] == "5"
                if method == "HEAD":
                    assert answer.status_code == 503
                    continue
                error = assert_error(answer, 503)
                assert error["error_code"] == "database-unavailable"
                assert "no_such_database" not in answer.text


async def test_errors_elsewhere_are_not_taxiis(exchange: Exchange) -> None:
    """§8.2.1: other URLs of this server speak their own language."""
    for path in ("/nothing", "/taxii2x/", "/healthz/nothing"):
        answer = await exchange.http.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] != TAXII
