"""TAXII's resources as they go over the wire (§3.6, §3.7, §4, §5).

Optional properties that have no value are left out, and so are lists without an item: TAXII knows neither null nor an
empty list. Envelopes, manifests and versions are written by `responses` from stored text; their models stand here for
the API documents, as do those of what is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from taxii_server.domain.stix_objects import Form
from taxii_server.domain.timestamps import to_taxii
from taxii_server.operations.envelopes import MOST_OBJECTS
from taxii_server.web.media_types import TAXII

if TYPE_CHECKING:
    from taxii_server.domain.access import TrustGroup
    from taxii_server.domain.statuses import Detail, Status
    from taxii_server.operations.directory import Seen

TIMESTAMP: Final = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$"
_UUID4: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
STIX_ID: Final = "^[A-Za-z0-9-]{1,250}--[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"

Timestamp = Annotated[
    str,
    Field(pattern=TIMESTAMP, json_schema_extra={"format": "date-time"}, examples=["2026-05-02T08:15:30.000001Z"]),
]
Identifier = Annotated[
    str,
    Field(pattern=_UUID4, json_schema_extra={"format": "uuid"}, examples=["5d3b1b0a-3f0f-4a0e-9c55-0f4c3c6f7a11"]),
]
Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
More = Annotated[bool, Field(description="Whether something follows this page; then `next` leads to it.")]
Next = Annotated[
    str,
    Field(
        min_length=1, description="Opaque; give it as `next` to get the page after this one. There if `more` is true."
    ),
]
StixMediaType = Annotated[str, Field(json_schema_extra={"enum": [form.media_type for form in Form]})]


class Resource(BaseModel):
    """What all resources share."""

    model_config = ConfigDict(frozen=True)

    def octets(self) -> bytes:
        """Write the resource as JSON."""
        return self.model_dump_json(exclude_none=True).encode()


class DiscoveryResource(Resource):
    """What this server is, and which API Roots the client may see (§4.1.1)."""

    title: Text
    description: Text | None = None
    contact: Annotated[Text, Field(description="Whom to ask about this server.")] | None = None
    default: (
        Annotated[Text, Field(description="The first of `api_roots`; not there for a client that sees none.")] | None
    ) = None
    api_roots: (
        Annotated[
            list[str],
            Field(min_length=1, description="URLs of the trust groups in which the client sees a collection."),
        ]
        | None
    ) = None


class ApiRootResource(Resource):
    """A trust group (§4.2.1)."""

    title: Text
    description: Text | None = None
    versions: Annotated[list[str], Field(min_length=1, description="What is spoken here.")] = [TAXII]
    max_content_length: Annotated[int, Field(gt=0, description="The most octets of a POST's body.")]

    @classmethod
    def of(cls, group: TrustGroup, max_content_length: int) -> Self:
        """Show a trust group."""
        return cls(title=group.title, description=group.description, max_content_length=max_content_length)


class CollectionResource(Resource):
    """A feed, and what the client may do with it (§5.2.1)."""

    id: Identifier
    title: Text
    description: Text | None = None
    alias: Annotated[Text, Field(description="Stands for `id` in URLs.")] | None = None
    can_read: Annotated[bool, Field(description="Whether this client may read it.")]
    can_write: Annotated[bool, Field(description="Whether this client may add to it.")]
    media_types: Annotated[list[StixMediaType], Field(min_length=1, description="What it holds.")] = [
        form.media_type for form in Form
    ]

    @classmethod
    def of(cls, seen: Seen) -> Self:
        """Show a collection as one caller sees it."""
        return cls(
            id=str(seen.collection.id),
            title=seen.collection.title,
            description=seen.collection.description,
            alias=seen.collection.alias,
            can_read=seen.can_read,
            can_write=seen.can_write,
        )


class CollectionsResource(Resource):
    """The collections of a trust group that the client may see, ascending by `id` (§5.1.1)."""

    collections: Annotated[list[CollectionResource], Field(min_length=1)] | None = None


class StatusDetail(Resource):
    """What became of one object (§4.3.1)."""

    id: Annotated[
        Text, Field(description="The object's `id`; `unknown-` and its place in the envelope if it has none.")
    ]
    version: Annotated[Text, Field(description="Its version, as manifests write it.")]
    message: Annotated[Text, Field(description="Of a failure: what to mend.")] | None = None


class StatusResource(Resource):
    """What became of an addition, object by object (§4.3.1)."""

    id: Identifier
    status: Literal["complete", "pending"] = "complete"
    request_timestamp: Timestamp
    total_count: Count
    success_count: Count
    successes: Annotated[list[StatusDetail], Field(min_length=1)] | None = None
    failure_count: Count
    failures: Annotated[list[StatusDetail], Field(min_length=1)] | None = None
    pending_count: Count = 0

    @classmethod
    def of(cls, status: Status) -> Self:
        """Show a status."""
        return cls(
            id=str(status.id),
            request_timestamp=to_taxii(status.requested_at),
            total_count=status.total_count,
            success_count=len(status.successes),
            successes=_details(status.successes),
            failure_count=len(status.failures),
            failures=_details(status.failures),
        )


def _details(details: tuple[Detail, ...]) -> list[StatusDetail] | None:
    return [StatusDetail(id=one.id, version=one.version, message=one.message) for one in details] or None


class StixObject(Resource):
    """One version of a STIX object, whole; besides these it has the properties of its type."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[Text, Field(examples=["indicator"])]
    id: Annotated[str, Field(pattern=STIX_ID, examples=["indicator--bb28639b-2379-4150-872d-101c60c62553"])]
    spec_version: Annotated[str, Field(description="`2.1`; STIX 2.0 has none.", examples=["2.1"])] | None = None
    created: Annotated[str, Field(examples=["2026-03-02T08:00:00.000Z"])] | None = None
    modified: Annotated[str, Field(description="Names the version.", examples=["2026-03-02T08:00:00.000Z"])] | None = (
        None
    )


class EnvelopeResource(Resource):
    """A page of objects, exactly as they were posted (§3.7)."""

    more: More
    next: Next | None = None
    objects: Annotated[list[StixObject], Field(min_length=1, description="Left out of an empty page.")] | None = None


class AdditionResource(Resource):
    """An envelope of objects to add (§3.7)."""

    objects: Annotated[
        list[StixObject],
        Field(
            min_length=1,
            max_length=MOST_OBJECTS,
            description="Each is judged by itself: one that is not valid is told in the status, and the others are stored.",
        ),
    ]


class ManifestRecord(Resource):
    """One version of one object (§5.3.1)."""

    id: Annotated[Text, Field(examples=["indicator--bb28639b-2379-4150-872d-101c60c62553"])]
    date_added: Timestamp
    version: Annotated[Text, Field(examples=["2026-03-02T08:00:00.000Z"])]
    media_type: StixMediaType


class ManifestResource(Resource):
    """A page of versions, without their content (§5.3.1)."""

    more: More
    next: Next | None = None
    objects: Annotated[list[ManifestRecord], Field(min_length=1, description="Left out of an empty page.")] | None = (
        None
    )


class VersionsResource(Resource):
    """A page of the versions of one object (§5.8.1)."""

    more: More
    next: Next | None = None
    versions: Annotated[list[str], Field(min_length=1, description="Left out of an empty page.")] | None = None


class ErrorResource(Resource):
    """Why a request was refused (§3.6.1)."""

    title: Annotated[Text, Field(description="The kind of refusal, for people.")]
    description: Annotated[Text, Field(description="What was wrong with this request.")] | None = None
    error_id: Annotated[Text, Field(description="Names this request in the operator's log.")] | None = None
    error_code: Annotated[Text, Field(description="The kind of refusal, for programs; doesn't change.")] | None = None
    http_status: Annotated[str, Field(pattern=r"^[45]\d\d$")] | None = None
    details: (
        Annotated[dict[str, Any], Field(description="For programs: `parameter` names the field that was wrong.")] | None
    ) = None
