"""The answers of TAXII's operations: headers, and the refusals that several of them share (§3.2, §3.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taxii_server.auth.identify import CHALLENGES
from taxii_server.taxii.resources import TIMESTAMP, ErrorResource
from taxii_server.web.describing import Component, answer, examples, header
from taxii_server.web.media_types import TAXII

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taxii_server.web.describing import Json

_PACKAGE: Final = __package__ or ""

_TAG: Final = 'W/"8f0c4c1e3c7e4c0f9b7d2a5e6f1a3b2c"'

REQUEST_ID: Final = header(
    "X-Request-ID",
    "Names this request in the operator's log; in an error also the `error_id`.",
    format="uuid",
    example="9f0a2c56-4f0e-4b62-8a52-2f9f8ad7e6a3",
)
FIRST: Final = header(
    "X-TAXII-Date-Added-First",
    "When the first item of the page was added; of an empty page, where the client already was.",
    pattern=TIMESTAMP,
    example="2026-05-02T08:15:30.000001Z",
)
LAST: Final = header(
    "X-TAXII-Date-Added-Last",
    "When the last item of the page was added: `added_after` of the next poll.",
    pattern=TIMESTAMP,
    example="2026-05-02T08:15:30.000005Z",
)
CHALLENGE: Final = header(
    "WWW-Authenticate", "One for each way to authenticate, Basic and Bearer.", example=CHALLENGES[0]
)
RETRY_AFTER: Final = header(
    "Retry-After", "Seconds after which the same request may succeed.", type="integer", minimum=1, example=5
)

VARY: Final = header(
    "Vary", "What else an answer depends on, for whoever keeps it.", example="Accept, Accept-Encoding, Authorization"
)
NOT_KEPT: Final = header(
    "Cache-Control",
    "Kept by nobody on the way, nor by the client's HTTP library.",
    "content",
    example="private, no-store",
)
ETAG: Final = header(
    "ETag",
    "Names this state of the answer: send it as `If-None-Match` to be told whether it changed.",
    pattern='^W/"[0-9a-f]{32}"$',
    example=_TAG,
)
KEPT: Final = header(
    "Cache-Control",
    "May be kept by the client alone, and has to be asked for again before it is used.",
    "description",
    example="private, no-cache",
)
IF_NONE_MATCH: Final = Component(
    "parameters",
    "If-None-Match",
    {
        "name": "If-None-Match",
        "in": "header",
        "required": False,
        "description": "The `ETag` of an earlier answer: if it is still true, 304 without a body.",
        "schema": {"type": "string"},
        "examples": {"kept": {"summary": "The ETag of an earlier answer", "value": _TAG}},
    },
)

# What a refusal means that several operations share: its name in the document, and the sentence.
_SHARED: Final[Mapping[int, tuple[str, str]]] = {
    401: (
        "Unauthorized",
        "No credentials, or none that hold. Which it was, the operator's log says and the answer doesn't.",
    ),
    404: ("NotFound", "Absent, or hidden from this client: the two answers never differ."),
    406: ("NotAcceptable", "The `Accept` header leaves no room for TAXII 2.1."),
    500: ("InternalError", "A fault of the server. Its operator finds the cause under the `error_id`."),
    503: ("Unavailable", "Can't be served now, and nothing was stored. Try again after the seconds of `Retry-After`."),
}
_MEANINGS: Final[Mapping[int, str]] = {
    400: "A field of the query string is malformed, occurs twice, or has no value; `details.parameter` names it.",
    403: "The collection is visible to this client, but the right is missing.",
    408: "Nothing more of the body arrived in time.",
    413: "The body has more octets than the API Root's `max_content_length`.",
    415: "The body's `Content-Type` or `Content-Encoding` is none that is read here.",
    422: "The body is JSON, but not an envelope with objects; or it unpacks to more than `max_content_length`.",
}
_OF_ADDING: Final[Mapping[int, str]] = {
    400: "The body is no JSON in UTF-8, or cut short. Nothing was stored.",
}
_OF_REMOVING: Final[Mapping[int, str]] = {
    403: "One of the two rights is missing, or another member brought what was to be removed. Nothing was removed.",
}


def refusal(operation: str, status: int) -> Json:
    """Describe a refusal, by itself or as one that several operations share."""
    headers = [REQUEST_ID, *{401: [CHALLENGE], 503: [RETRY_AFTER]}.get(status, [])]
    if status in _SHARED:
        name, meaning = _SHARED[status]
        shown = examples(_PACKAGE, "errors")[str(status)]
        return Component(
            "responses", name, answer(meaning, *headers, media_type=TAXII, model=ErrorResource, examples=shown)
        )
    own = {"add_objects": _OF_ADDING, "delete_object": _OF_REMOVING}.get(operation, {})
    meaning = own.get(status, _MEANINGS[status])
    shown = examples(_PACKAGE, operation)[str(status)]
    return answer(meaning, *headers, media_type=TAXII, model=ErrorResource, examples=shown)


def shown(operation: str, status: int) -> Mapping[str, Json]:
    """Give the examples of an operation's good answer."""
    return examples(_PACKAGE, operation).get(str(status), {})


def shown_bodies(operation: str, media_type: str) -> Mapping[str, Json]:
    """Give the examples of what an operation is sent in a media type."""
    return examples(_PACKAGE, operation)[media_type]


def not_modified() -> Component:
    """Describe the answer to who has it already."""
    told = answer(
        "Not modified: the answer is still the one that has this `ETag`. No body.", REQUEST_ID, ETAG, KEPT, VARY
    )
    return Component("responses", "NotModified", told)
