"""The answers of TAXII's operations: headers, and the refusals that several of them share (§3.2, §3.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taxii_server.auth.authorization import CHALLENGES
from taxii_server.taxii.resources import TIMESTAMP, ErrorResource
from taxii_server.web.describing import ETAG, REQUEST_ID, RETRY_AFTER, Component, answer, examples, header, vary
from taxii_server.web.media_types import TAXII

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taxii_server.web.describing import Json

_PACKAGE: Final = __package__ or ""


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
    "WWW-Authenticate",
    'One for each way to authenticate, Basic and Bearer; after a token that did not hold with `error="invalid_token"`.',
    example=CHALLENGES[0],
)

VARY: Final = vary("Accept, Accept-Encoding, Authorization")
NOT_KEPT: Final = header(
    "Cache-Control",
    "Kept by nobody on the way, nor by the client's HTTP library.",
    "content",
    example="private, no-store",
)
KEPT: Final = header(
    "Cache-Control",
    "May be kept by the client alone, and has to be asked for again before it is used.",
    "description",
    example="private, no-cache",
)

_MEANINGS: Final = {
    400: "A field of the query string is malformed, occurs twice, or has no value; `details.parameter` names it.",
    401: "No credentials, or none that hold. Which it was, the operator's log says and the answer doesn't.",
    403: "The collection is visible to this client, but the right is missing.",
    404: "Absent, or hidden from this client: the two answers never differ.",
    406: "The `Accept` header leaves no room for TAXII 2.1.",
    408: "Nothing more of the body arrived in time, or all of it too slowly.",
    413: "The body has more octets than the API Root's `max_content_length`.",
    415: "The body's `Content-Type` or `Content-Encoding` is none that is read here.",
    422: "The body is JSON, but not an envelope with objects; or it unpacks to more than `max_content_length`.",
    429: "This client asks too often or too much at once, or too many logins from its address have failed. It depends on "
    "who asks, not on what for. Send the same request again after the seconds of `Retry-After`.",
    500: "A fault of the server. Its operator finds the cause under the `error_id`.",
    503: "Can't be served now. Send the same request again after the seconds of `Retry-After`: what it stored already is "
    "not stored twice.",
}
_OF_ONE: Final = {
    ("add_objects", 400): "The body is no JSON in UTF-8, or cut short. Nothing was stored.",
    (
        "delete_object",
        403,
    ): "One of the two rights is missing, or another member brought what was to be removed, or it says that the object was "
    "recalled. Nothing was removed.",
    ("recall_object", 400): "The body is no JSON in UTF-8, or cut short. Nothing was recalled.",
    ("recall_object", 403): "The right to write is missing, or another member brought the object or versions of it. "
    "Nothing was recalled.",
    ("recall_object", 413): "The body has more than 16,384 octets.",
    ("recall_object", 422): "The body is JSON, but no object with a `reason` that fits. Nothing was recalled.",
    ("get_recall", 403): "The right to write is missing.",
}
_SHARED: Final = {
    401: "Unauthorized",
    404: "NotFound",
    406: "NotAcceptable",
    429: "TooManyRequests",
    500: "InternalError",
    503: "Unavailable",
}
"""Refusals that are the same for every operation without examples of its own, by their names in the document."""


def refusal(operation: str, status: int) -> Json:
    """Describe a refusal, by itself or as one that several operations share."""
    headers = [REQUEST_ID, NOT_KEPT, VARY, *{401: [CHALLENGE], 429: [RETRY_AFTER], 503: [RETRY_AFTER]}.get(status, [])]
    own = examples(_PACKAGE, operation).get(str(status))
    told = answer(
        _OF_ONE.get((operation, status), _MEANINGS[status]),
        *headers,
        media_type=TAXII,
        model=ErrorResource,
        examples=own or examples(_PACKAGE, "errors")[str(status)],
    )
    return told if own else Component("responses", _SHARED[status], told)


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
