"""What every TAXII answer obeys, whatever it was asked for: content type, headers, the resource's schema.

The schemas are written from the standard, not from the server's models. `hold` is hung on the client of the fixture
`exchange`, so each answer in these tests is held to them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from jsonschema import Draft202012Validator

if TYPE_CHECKING:
    import httpx

TAXII: Final = "application/taxii+json;version=2.1"
TIMESTAMP: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
FIRST, LAST = "x-taxii-date-added-first", "x-taxii-date-added-last"

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string", "minLength": 1}
_FLAG: Final[Schema] = {"type": "boolean"}
_WHEN: Final[Schema] = {"type": "string", "pattern": TIMESTAMP}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
_UUID4: Final[Schema] = {
    "type": "string",
    "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
}


def _list(item: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": item}


def _resource(required: str, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


_DETAIL = _resource("id version", id=_TEXT, version=_TEXT, message=_TEXT)
_COLLECTION = _resource(
    "id title can_read can_write",
    id=_UUID4,
    title=_TEXT,
    description=_TEXT,
    alias=_TEXT,
    can_read=_FLAG,
    can_write=_FLAG,
    media_types=_list({"enum": ["application/stix+json;version=2.0", "application/stix+json;version=2.1"]}),
)
_RECORD = _resource(
    "id date_added version",
    id=_TEXT,
    date_added=_WHEN,
    version=_TEXT,
    media_type={"enum": ["application/stix+json;version=2.0", "application/stix+json;version=2.1"]},
)
_ERROR = _resource(
    "title",
    title=_TEXT,
    description=_TEXT,
    error_id=_TEXT,
    error_code=_TEXT,
    http_status={"type": "string", "pattern": "^[45][0-9]{2}$"},
    external_details=_TEXT,
    details={"type": "object"},
)


def _page(name: str, item: Schema) -> Schema:
    page = _resource("", more=_FLAG, next=_TEXT, **{name: _list(item)})
    # a client that pages by `next` is stuck if it gets one without the other
    together = {"properties": {"more": {"const": True}}, "required": ["more"]}
    return page | {"if": together, "then": {"required": ["next", name]}, "else": {"properties": {"next": False}}}


_STATUS = _resource(
    "id status total_count success_count failure_count pending_count",
    id=_UUID4,
    status={"enum": ["complete", "pending"]},
    request_timestamp=_WHEN,
    total_count=_COUNT,
    success_count=_COUNT,
    successes=_list(_DETAIL),
    failure_count=_COUNT,
    failures=_list(_DETAIL),
    pending_count=_COUNT,
    pendings=_list(_DETAIL),
)
_ENVELOPE = _page("objects", {"type": "object", "required": ["type", "id"]})

_DISCLOSURE = _resource(
    "version date_added media_type removed member name received first last times",
    version=_TEXT,
    date_added=_WHEN,
    media_type={"enum": ["application/stix+json;version=2.0", "application/stix+json;version=2.1"]},
    removed=_FLAG,
    member=_TEXT,
    name=_TEXT,
    received={"enum": ["content", "listing"]},
    first=_WHEN,
    last=_WHEN,
    times=_COUNT,
)
# ours, not the standard's: a part of it may be empty though more follow
_DISCLOSURES = _resource("more", more=_FLAG, next=_TEXT, disclosures=_list(_DISCLOSURE)) | {
    "if": {"properties": {"more": {"const": True}}},
    "then": {"required": ["next"]},
    "else": {"properties": {"next": False}},
}

_ROOT = "/taxii2/[^/]+"
_FEED = f"{_ROOT}/collections/[^/]+"
# ours, beyond the standard
_RECALL: Final = f"{_FEED}/objects/[^/]+/recall"
_RECALLED = _resource(
    "id state outcome recalled_at",
    id=_TEXT,
    state={"enum": ["recalled", "lifted"]},
    outcome={"enum": ["revoked", "deleted"]},
    recalled_at=_WHEN,
    lifted_at=_WHEN,
    reason=_TEXT | {"maxLength": 300},
    recipients=_list(
        _resource(
            "member name received first last informed polled_since",
            member=_TEXT,
            name=_TEXT,
            received={"enum": ["content", "listing"]},
            first=_WHEN,
            last=_WHEN,
            informed={"enum": ["all", "some", "none"]},
            informed_at=_WHEN,
            polled_at=_WHEN,
            polled_since=_FLAG,
        )
    ),
    versions=_list(_resource("version date_added", version=_TEXT, date_added=_WHEN)),
    more={"const": True},
)
RESOURCES: Final[dict[tuple[str, str], Schema]] = {
    ("GET", "/taxii2"): _resource(
        "title", title=_TEXT, description=_TEXT, contact=_TEXT, default=_TEXT, api_roots=_list(_TEXT)
    ),
    ("GET", _ROOT): _resource(
        "title versions max_content_length",
        title=_TEXT,
        description=_TEXT,
        versions=_list({"type": "string", "pattern": r"^application/taxii\+json;version=[0-9]+\.[0-9]+$"}),
        max_content_length={"type": "integer", "minimum": 1},
    ),
    ("GET", f"{_ROOT}/status/[^/]+"): _STATUS,
    ("GET", f"{_ROOT}/collections"): _resource("", collections=_list(_COLLECTION)),
    ("GET", _FEED): _COLLECTION,
    ("GET", f"{_FEED}/manifest"): _page("objects", _RECORD),
    ("GET", f"{_FEED}/objects"): _ENVELOPE,
    ("POST", f"{_FEED}/objects"): _STATUS,
    ("GET", f"{_FEED}/objects/[^/]+"): _ENVELOPE,
    ("GET", f"{_FEED}/objects/[^/]+/versions"): _page("versions", _TEXT),
    ("GET", f"{_FEED}/objects/[^/]+/disclosures"): _DISCLOSURES,
    ("POST", _RECALL): _RECALLED,
    ("GET", _RECALL): _RECALLED,
}
_DESCRIPTIONS: Final = ("/taxii2", _ROOT, f"{_ROOT}/collections", _FEED)
_PAGES: Final = re.compile(f"{_FEED}/(manifest|objects|objects/[^/]+|objects/[^/]+/versions)/?")


async def hold(answer: httpx.Response) -> None:
    """Hold an answer to what the standard says of its kind."""
    path, method = answer.request.url.path, answer.request.method
    if not (path == "/taxii2" or path.startswith("/taxii2/")):
        return
    await answer.aread()
    tagged = answer.status_code in {200, 304} and method in {"GET", "HEAD"} and is_description(path)
    _hold_keeping(answer, tagged=tagged)
    if answer.status_code in {204, 304}:
        # RFC 9110 §15.4.5: what it says of a body would be said of one that isn't there
        assert answer.status_code == (304 if tagged else 204), (method, path)
        assert tagged or method == "OPTIONS"
        assert answer.content == b""
        assert not {"content-type", "content-length", "content-encoding"} & set(answer.headers), answer.headers
        return
    assert answer.headers.get_list("content-type") == [TAXII], (method, path, answer.headers)
    _hold_dates(
        answer, paged=answer.status_code == 200 and method in {"GET", "HEAD"} and _PAGES.fullmatch(path) is not None
    )
    if method == "HEAD":
        assert answer.content == b""
    elif answer.status_code >= 400:
        _hold_schema(_ERROR, answer.json())
        assert answer.json().get("http_status", str(answer.status_code)) == str(answer.status_code)
    elif method == "DELETE":
        assert answer.content == b""
    else:
        adding = method == "POST" and not re.fullmatch(_RECALL, path.removesuffix("/"))
        assert answer.status_code == (202 if adding else 200)
        schema = _schema(method, path)
        _hold_schema(schema, answer.json())
        if schema is _STATUS:
            _hold_counts(answer.json())


def is_description(path: str) -> bool:
    """Whether it is the path of discovery, an API Root, a list of collections or one collection."""
    return any(re.fullmatch(pattern, path.removesuffix("/")) for pattern in _DESCRIPTIONS)


def _hold_keeping(answer: httpx.Response, *, tagged: bool) -> None:
    """RFC 9111: an answer is its caller's alone, and kept only where it can be asked after; it depends on these headers."""
    assert answer.headers.get_list("cache-control") == ["private, no-cache" if tagged else "private, no-store"]
    assert len(answer.headers.get_list("etag")) == tagged, answer.headers
    assert re.fullmatch(r'W/"[0-9a-f]{32}"', answer.headers.get("etag", f'W/"{"0" * 32}"'))
    varies = {name.strip() for name in answer.headers["vary"].split(",")}
    assert varies - {"Origin"} == {"Accept", "Accept-Encoding", "Authorization"}
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert len(answer.headers.get_list("x-request-id")) == 1


def _schema(method: str, path: str) -> Schema:
    [schema] = [
        schema
        for (of, pattern), schema in RESOURCES.items()
        if of == method and re.fullmatch(pattern, path.removesuffix("/"))
    ]
    return schema


def _hold_schema(schema: Schema, body: object) -> None:
    Draft202012Validator(schema).validate(body)


def _hold_dates(answer: httpx.Response, *, paged: bool) -> None:
    """§3.2: both dates on every page, in order, and on nothing else."""
    first, last = answer.headers.get_list(FIRST), answer.headers.get_list(LAST)
    if not paged:
        assert (first, last) == ([], [])
        return
    assert len(first) == len(last) == 1, answer.headers
    assert re.fullmatch(TIMESTAMP, first[0])
    assert re.fullmatch(TIMESTAMP, last[0])
    assert first <= last


def _hold_counts(status: dict[str, Any]) -> None:
    """§4.3.1: the counts add up, and each list is as long as its count."""
    counts = {name: status[f"{name}_count"] for name in ("success", "failure", "pending")}
    assert sum(counts.values()) == status["total_count"]
    for name, plural in (("success", "successes"), ("failure", "failures"), ("pending", "pendings")):
        if plural in status or name != "pending":
            assert len(status.get(plural, [])) == counts[name]
