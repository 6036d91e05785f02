"""How each answer that the API documents show is brought about, by operation, status and example.

What several operations share, like 401, has one scene; `tests.api.test_examples` repeats it for each of them.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from taxii_server.operations.validation import _Push
from taxii_server.storage import clocks
from taxii_server.taxii import description
from taxii_server.taxii.description.parameters import INDICATOR, PUSHED, RECALLED
from taxii_server.web.describing import examples
from tests.api.demo import FEED
from tests.factories import indicator, stix_id
from tests.taxii.alliance import TAXII

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import httpx
    import pytest

    from tests.api.demo import Demo

    Scene = Callable[[Demo, pytest.MonkeyPatch], Awaitable[httpx.Response]]

TOKEN: Final = "/oauth2/token"
REVOKE: Final = "/oauth2/revoke"
OTHER_MEMBERS: Final = "indicator--826be925-e97b-42aa-a5f3-521aed787aad"
_STIX: Final = {"Content-Type": "application/stix+json;version=2.1"}
_ENVELOPE: Final = {"Content-Type": TAXII}
_TRACED: Final = stix_id("indicator", 4001)
_UNREAD: Final = stix_id("indicator", 4002)
_GRANT: Final = {"grant_type": "client_credentials"}
_LARGEST: Final = 10 * 1024 * 1024

SCENES: Final[dict[tuple[str, int, str], Scene]] = {}


def _get(operation: str, status: int, name: str, path: str, who: str | None = "north") -> None:
    SCENES[operation, status, name] = lambda demo, _: demo.ask("GET", path, who)


def _post(status: int, name: str, content: Any, who: str = "north", **headers: str) -> None:
    named = {header.replace("_", "-"): value for header, value in headers.items()}
    SCENES["add_objects", status, name] = lambda demo, _: demo.ask(
        "POST", "objects/", who, content=content, headers=_ENVELOPE | named
    )


def _token(
    status: int, name: str, who: str | None = "harbour", form: dict[str, str] | None = None, **headers: str
) -> None:
    named = {header.replace("_", "-"): value for header, value in headers.items()}
    SCENES["get_token", status, name] = lambda demo, _: demo.http.post(
        TOKEN, data=form or _GRANT, headers=({} if who is None else demo.as_(who)) | named
    )


def _revoke(
    status: int, name: str, who: str | None = "harbour", form: dict[str, str] | None = None, **headers: str
) -> None:
    named = {header.replace("_", "-"): value for header, value in headers.items()}
    SCENES["revoke_token", status, name] = lambda demo, _: demo.http.post(
        REVOKE, data=form or {"token": "no-token"}, headers=({} if who is None else demo.as_(who)) | named
    )


def _scene(operation: str, status: int, name: str) -> Callable[[Scene], Scene]:
    def keep(scene: Scene) -> Scene:
        SCENES[operation, status, name] = scene
        return scene

    return keep


async def _silence() -> AsyncIterator[bytes]:
    """A sender that stops: the wait for more has run out."""
    yield b"{"
    raise TimeoutError


def shown(operation: str, key: str, name: str) -> Any:
    """Give an example as the API documents show it."""
    return examples(description.__name__, operation)[key][name]["value"]


# Server information

_get("get_discovery", 200, "two_groups", "/taxii2/")
_get("get_discovery", 200, "nothing_granted", "/taxii2/", "stranger")
_get("get_api_root", 200, "fraud_intel", "/taxii2/fraud-intel/")
_get("get_collections", 200, "reader", "/taxii2/fraud-intel/collections/", "harbour")
_get("get_collection", 200, "by_alias", FEED)


@_scene("get_status", 200, "complete")
async def _later(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    return await _status_of(demo, "one_indicator")


@_scene("get_status", 200, "with_a_failure")
async def _later_with_a_failure(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    return await _status_of(demo, "one_of_two")


async def _status_of(demo: Demo, example: str) -> httpx.Response:
    sent = await _add(demo, shown("add_objects", TAXII, example))
    return await demo.ask("GET", f"/taxii2/fraud-intel/status/{sent.json()['id']}/")


# Pages

_get("get_objects", 200, "first_page", "objects/?match[type]=indicator&limit=1")
_get("get_objects", 200, "last_page", f"objects/?match[id]={INDICATOR},{OTHER_MEMBERS}")
_get("get_objects", 200, "empty_page", "objects/?added_after=2099-01-01T00:00:00Z")
_get("get_manifest", 200, "first_page", "manifest/?match[type]=indicator&limit=2")
_get("get_manifest", 200, "last_page", f"manifest/?match[version]=all&match[id]={INDICATOR}")
_get("get_manifest", 200, "empty_page", "manifest/?match[type]=campaign")
_get("get_object", 200, "last_version", f"objects/{INDICATOR}/")
_get("get_object", 200, "first_of_several", f"objects/{INDICATOR}/?match[version]=all&limit=1")
_get("get_object", 200, "no_version_matches", f"objects/{INDICATOR}/?match[spec_version]=2.0")
_get("get_versions", 200, "all", f"objects/{INDICATOR}/versions/")
_get("get_versions", 200, "first_page", f"objects/{INDICATOR}/versions/?limit=1")

for _name, _rest in {
    "get_objects": "objects/",
    "get_manifest": "manifest/",
    "get_object": f"objects/{INDICATOR}/",
    "get_versions": f"objects/{INDICATOR}/versions/",
}.items():
    _get(_name, 400, "limit", f"{_rest}?limit=0")
    _get(_name, 400, "twice", f"{_rest}?match[spec_version]=2.0&match[spec_version]=2.1")
    _get(_name, 400, "next", f"{_rest}?next=made-up")
    _get(_name, 403, "write_only", _rest, "write-only")
_get("get_objects", 400, "added_after", "objects/?added_after=yesterday")
_get("get_objects", 400, "version", "objects/?match[version]=latest")


@_scene("get_objects", 400, "other_filters")
async def _other_filters(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    first = await demo.ask("GET", "objects/?match[type]=indicator&limit=1")
    return await demo.ask("GET", f"objects/?match[type]=malware&next={first.json()['next']}")


# Who received what


@_scene("get_disclosures", 200, "two_members")
async def _traced(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    await _add(demo, {"objects": [indicator(id=_TRACED)]})
    for who, rest in (("harbour", ""), ("meadow", ""), ("meadow", "versions/")):
        await demo.ask("GET", f"objects/{_TRACED}/{rest}", who)
    return await demo.ask("GET", f"objects/{_TRACED}/disclosures/")


@_scene("get_disclosures", 200, "nobody")
async def _sent_to_nobody(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    await _add(demo, {"objects": [indicator(id=_UNREAD)]})
    return await demo.ask("GET", f"objects/{_UNREAD}/disclosures/")


_get("get_disclosures", 400, "next", f"objects/{INDICATOR}/disclosures/?next=made-up")
_get("get_disclosures", 403, "read_only", f"objects/{INDICATOR}/disclosures/", "harbour")

# Adding


async def _add(demo: Demo, content: Any) -> httpx.Response:
    return await demo.ask("POST", "objects/", content=json.dumps(content), headers=_ENVELOPE)


@_scene("add_objects", 202, "complete")
async def _complete(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    return await _add(demo, shown("add_objects", TAXII, "one_indicator"))


@_scene("add_objects", 202, "with_a_failure")
async def _with_a_failure(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    return await _add(demo, shown("add_objects", TAXII, "one_of_two"))


@_scene("add_objects", 202, "bundle")
async def _bundle(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    bundle = shown("add_objects", _STIX["Content-Type"], "bundle")
    return await demo.ask("POST", "objects/", content=json.dumps(bundle), headers=_STIX)


_post(400, "no_json", '{"objects": [')
_post(403, "read_only", "{}", "harbour")
SCENES["add_objects", 408, "silence"] = lambda demo, _: demo.ask(
    "POST", "objects/", content=_silence(), headers=_ENVELOPE
)
_post(413, "too_large", "{}", Content_Length=str(_LARGEST + 1))
_post(415, "media_type", "{}", Content_Type="application/json")
_post(415, "coding", "{}", Content_Encoding="br")
_post(422, "no_objects", '{"objects": []}')
_post(422, "no_envelope", "[]")


@_scene("add_objects", 503, "clock_ahead")
async def _clock_ahead(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    patch.setattr(clocks, "FURTHEST_AHEAD", timedelta(days=-1))
    return await _add(demo, shown("add_objects", TAXII, "one_indicator"))


@_scene("add_objects", 503, "validators")
async def _validators(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    def broken(*_: object, **__: object) -> NoReturn:
        raise BrokenProcessPool

    async def nothing(_: object) -> None:
        """Leave all to the processes, as what is odd or large is."""

    patch.setattr(_Push, "glance", nothing)
    patch.setattr(ProcessPoolExecutor, "submit", broken)
    return await _add(demo, shown("add_objects", TAXII, "one_indicator"))


# Removing


SCENES["delete_object", 400, "all_alone"] = lambda demo, _: demo.ask(
    "DELETE", f"objects/{PUSHED}/?match[version]=all,first"
)
SCENES["delete_object", 403, "one_right"] = lambda demo, _: demo.ask("DELETE", f"objects/{PUSHED}/", "harbour")
SCENES["delete_object", 403, "another_member"] = lambda demo, _: demo.ask("DELETE", f"objects/{OTHER_MEMBERS}/")


@_scene("delete_object", 200, "")
async def _removed(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    await _add(demo, shown("add_objects", TAXII, "one_indicator"))
    return await demo.ask("DELETE", f"objects/{PUSHED}/")


# Recalling


async def _recall(demo: Demo, content: Any, who: str = "north", **headers: str) -> httpx.Response:
    named = {header.replace("_", "-"): value for header, value in headers.items()}
    body = content if isinstance(content, str | bytes) or hasattr(content, "__aiter__") else json.dumps(content)
    return await demo.ask("POST", f"objects/{RECALLED}/recall/", who, content=body, headers=_ENVELOPE | named)


@_scene("recall_object", 200, "revoked")
async def _recalled(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    [one] = shown("add_objects", TAXII, "one_indicator")["objects"]
    # from the second time on it is refused, because it was recalled
    await _add(demo, {"objects": [one | {"id": RECALLED}]})
    return await _recall(demo, shown("recall_object", TAXII, "reason"))


@_scene("get_recall", 200, "recalled")
async def _how_it_stands(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    await _recalled(demo, patch)
    return await demo.ask("GET", f"objects/{RECALLED}/recall/")


SCENES["recall_object", 400, "no_json"] = lambda demo, _: _recall(demo, '{"reason": ')
SCENES["recall_object", 403, "read_only"] = lambda demo, _: _recall(demo, {}, "harbour")
SCENES["recall_object", 403, "another_member"] = lambda demo, _: demo.ask("POST", f"objects/{OTHER_MEMBERS}/recall/")
SCENES["recall_object", 408, "silence"] = lambda demo, _: _recall(demo, _silence())
SCENES["recall_object", 413, "too_large"] = lambda demo, _: _recall(demo, "x" * 16_385)
SCENES["recall_object", 415, "media_type"] = lambda demo, _: _recall(demo, {}, Content_Type="application/json")
SCENES["recall_object", 422, "too_long"] = lambda demo, _: _recall(demo, {"reason": "x" * 301})
SCENES["recall_object", 422, "no_text"] = lambda demo, _: _recall(demo, {"reason": ["a list"]})
_get("get_recall", 403, "read_only", f"objects/{RECALLED}/recall/", "harbour")


# Tokens

_token(200, "token")
_token(200, "narrowed", "north", _GRANT | {"scope": "taxii:read"})
_token(400, "scope", "harbour", _GRANT | {"scope": "taxii:write"})
_token(400, "unknown_scope", "harbour", _GRANT | {"scope": "everything"})
_token(400, "grant_type", "harbour", {"grant_type": "password"})
_token(400, "no_grant_type", "harbour", {"scope": "taxii:read"})
_token(400, "two_ways", "harbour", _GRANT | {"client_secret": "txs_…"})
_token(401, "invalid_client", None)
_token(413, "too_large", "harbour", _GRANT | {"padding": "x" * 64 * 1024})
_revoke(200, "")
_revoke(400, "no_token", form={"token_type_hint": "access_token"})
_revoke(401, "invalid_client", None)
_revoke(413, "too_large", form={"token": "x" * 64 * 1024})
_revoke(415, "no_form", Content_Type="application/json")
_token(415, "no_form", "harbour", _GRANT, Content_Type="application/json")
SCENES["get_token", 408, "silence"] = lambda demo, _: demo.http.post(
    TOKEN, content=_silence(), headers={"Content-Type": "application/x-www-form-urlencoded"}
)
SCENES["revoke_token", 408, "silence"] = lambda demo, _: demo.http.post(
    REVOKE, content=_silence(), headers={"Content-Type": "application/x-www-form-urlencoded"}
)
SCENES["get_server_metadata", 200, "metadata"] = lambda demo, _: demo.http.get(
    "/.well-known/oauth-authorization-server"
)


@_scene("get_keys", 200, "keys")
async def _keys(demo: Demo, patch: pytest.MonkeyPatch) -> httpx.Response:
    await demo.http.post(TOKEN, data=_GRANT, headers=demo.as_("north"))
    return await demo.http.get("/.well-known/jwks.json")


# Health

SCENES["get_health", 200, "ok"] = lambda demo, _: demo.http.get("/healthz")
SCENES["get_readiness", 200, "ok"] = lambda demo, _: demo.http.get("/readyz")
