"""Every answer that the API documents describe is brought about, and is the one they show.

With TAXII_RECORD_EXAMPLES=1 the examples are written anew from what is answered.
"""

from __future__ import annotations

import json
import os
from importlib import resources
from typing import TYPE_CHECKING, Any, NoReturn

import httpx
import pytest

from taxii_server import oauth, site
from taxii_server.app import create_app
from taxii_server.auth.identify import Identifier
from taxii_server.domain.allowances import Allowances
from taxii_server.oauth import routes as oauth_routes
from taxii_server.site import health
from taxii_server.taxii import description
from tests.api.demo import Demo, settings_of
from tests.api.document import Operation, operations
from tests.api.scenes import REVOKE, SCENES, TOKEN
from tests.taxii.alliance import PUBLIC_URL

if TYPE_CHECKING:
    from pathlib import Path

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

OPERATIONS = {one.id: one for one in operations()}
ANSWERS = [(one.id, status) for one in OPERATIONS.values() for status in one.answers]
SHARED = {
    401: "unauthorized",
    404: "not_found",
    406: "not_acceptable",
    429: "too_many_requests",
    500: "internal",
    503: "database",
}
RECORDING = bool(os.environ.get("TAXII_RECORD_EXAMPLES"))

# What differs from one answer to the next.
_OWN = {
    "error_id",
    "next",
    "date_added",
    "first",
    "last",
    "request_timestamp",
    "access_token",
    "x",
    "y",
    "kid",
    "recalled_at",
}
# What every answer of this server has, whatever it answers; or HTTP itself gives it.
_EVERYWHERE = {"content-type", "content-length", "date", "content-encoding", "x-content-type-options"}


@pytest.fixture(scope="module")
def lost(demo: Demo, module_database_urls: DatabaseUrls) -> Demo:
    """The same clients before a server whose database is away."""
    url = module_database_urls.server.rpartition("/")[0] + "/no_such_database"
    away = type(module_database_urls)(server=url, owner=url)
    app = create_app(settings_of(away))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return Demo(app, httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL), demo.clients)


async def _generic(
    operation: Operation, status: int, demo: Demo, lost: Demo, patch: pytest.MonkeyPatch
) -> httpx.Response:
    """Bring about what several operations share."""

    async def broken(*_: object, **__: object) -> NoReturn:
        raise RuntimeError

    def broken_at_once(*_: object, **__: object) -> NoReturn:
        raise RuntimeError

    values = {
        one["name"]: next(iter(one["examples"].values()))["value"] for one in operation.parameters if "examples" in one
    }
    if status == 404:
        values["trust_group"] = "no-such-group"
    path = operation.path.format(**values)
    if status == 304:
        first = await demo.ask("GET", path)
        return await demo.ask("GET", path, headers={"If-None-Match": first.headers["etag"]})
    patch.setattr(Allowances, "take", lambda *_: 4.2 if status == 429 else 0)
    if status == 500:
        patch.setattr(Identifier, "caller", broken)
        for module, name in (
            (oauth_routes, "issue_token"),
            (oauth_routes, "published_keys"),
            (oauth_routes, "revoke_own_token"),
        ):
            patch.setattr(module, name, broken)
        for module in (oauth_routes, health):
            patch.setattr(module, "JSONResponse", broken_at_once)
    asked = lost if status == 503 else demo
    if path == TOKEN:
        return await asked.http.post(path, data={"grant_type": "client_credentials"}, headers=asked.as_("north"))
    if path == REVOKE:
        return await asked.http.post(path, data={"token": "no-token"}, headers=asked.as_("north"))
    headers = {"Accept": "text/html"} if status == 406 else {}
    return await asked.ask(operation.method.upper(), path, None if status == 401 else "north", headers=headers)


@pytest.mark.parametrize(("name", "status"), ANSWERS)
async def test_every_answer_is_the_one_that_is_shown(demo: Demo, lost: Demo, name: str, status: int) -> None:
    """Each documented status comes about, with the documented headers and no others, and with the body of an example."""
    operation = OPERATIONS[name]
    answer = operation.answers[status]
    [(media_type, content)] = answer.get("content", {"": {"examples": {}}}).items()
    scenes = {example: scene for (of, code, example), scene in SCENES.items() if (of, code) == (name, status)}
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for example, scene in scenes.items():
            found[example] = await scene(demo, patch)
            patch.undo()
        if not scenes or set(content["examples"]) - set(scenes):
            found[SHARED.get(status, "")] = await _generic(operation, status, demo, lost, patch)

    for example, got in found.items():
        assert got.status_code == status, got.text
        _hold_headers(operation, answer, got)
        if not media_type:
            assert got.content == b""
            continue
        assert got.headers["content-type"] == media_type
        operation.check(content["schema"], got.json())
        if RECORDING:
            _record(name, status, example, got.json())
        else:
            assert _told(content["examples"][example]["value"]) == _told(got.json())
    if media_type:
        assert set(content["examples"]) == set(found)


def test_no_scene_is_without_its_example() -> None:
    """What is brought about here is shown in the documents."""
    shown = {
        (operation.id, status, example)
        for operation in OPERATIONS.values()
        for status, answer in operation.answers.items()
        for content in answer.get("content", {"": {"examples": {"": {}}}}).values()
        for example in content["examples"]
    }

    assert set(SCENES) - shown == set()


def _hold_headers(operation: Operation, answer: dict[str, Any], got: httpx.Response) -> None:
    headers = {name.lower(): operation.resolved(one) for name, one in answer["headers"].items()}

    assert set(got.headers) - _EVERYWHERE == set(headers)
    for name, header in headers.items():
        value = got.headers[name]
        operation.check(header["schema"], int(value) if header["schema"]["type"] == "integer" else value)


def _told(value: Any) -> Any:
    """Leave out what differs from one answer to the next."""
    if isinstance(value, dict):
        own = _OWN | ({"id"} if "request_timestamp" in value else set())
        # of a version that the server made
        own |= {"version"} if value.keys() == {"version", "date_added"} else set()
        return {name: f"<{name}>" if name in own else _told(inner) for name, inner in value.items()}
    return [_told(inner) for inner in value] if isinstance(value, list) else value


def _record(name: str, status: int, example: str, body: Any) -> None:
    packages = {
        "get_token": oauth,
        "revoke_token": oauth,
        "get_keys": oauth,
        "get_server_metadata": oauth,
        "get_health": site,
        "get_readiness": site,
    }
    package = packages.get(name, description)
    own = json.loads(resources.files(package).joinpath("examples", f"{name}.json").read_text("utf-8"))
    shared = package is description and status in SHARED and str(status) not in own
    file: Path = resources.files(package).joinpath("examples", f"{'errors' if shared else name}.json")  # type: ignore[assignment]
    kept = json.loads(file.read_text("utf-8"))
    if _told(kept[str(status)][example]["value"]) == _told(body):
        return
    kept[str(status)][example]["value"] = body
    file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", "utf-8")
