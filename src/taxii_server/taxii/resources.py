"""TAXII's resources as they go over the wire (§3.6, §3.7, §4, §5).

Optional properties that have no value are left out, and so are lists without an item: TAXII knows neither null nor an
empty list. Envelopes and manifests are written by `responses` from stored text; their models stand here for the API
documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from taxii_server.domain.stix_objects import Form
from taxii_server.domain.timestamps import to_taxii
from taxii_server.web.media_types import TAXII

if TYPE_CHECKING:
    from taxii_server.domain.access import TrustGroup
    from taxii_server.domain.statuses import Detail, Status
    from taxii_server.operations.directory import Seen

Timestamp = Annotated[
    str,
    Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$", examples=["2026-05-02T08:15:30.000001Z"]),
]
Identifier = Annotated[str, Field(examples=["91a7b528-80eb-42ed-a74d-c6fbd5a26116"])]
Count = Annotated[int, Field(ge=0)]


class Resource(BaseModel):
    """What all resources share."""

    model_config = ConfigDict(frozen=True)

    def octets(self) -> bytes:
        """Write the resource as JSON."""
        return self.model_dump_json(exclude_none=True).encode()


class DiscoveryResource(Resource):
    """What this server is, and which API Roots the caller may see (§4.1.1)."""

    title: str
    description: str | None = None
    contact: str | None = None
    default: str | None = None
    api_roots: Annotated[list[str], Field(min_length=1)] | None = None


class ApiRootResource(Resource):
    """A trust group (§4.2.1)."""

    title: str
    description: str | None = None
    versions: Annotated[list[str], Field(min_length=1)] = [TAXII]
    max_content_length: Annotated[int, Field(gt=0)]

    @classmethod
    def of(cls, group: TrustGroup, max_content_length: int) -> Self:
        """Show a trust group."""
        return cls(title=group.title, description=group.description, max_content_length=max_content_length)


class CollectionResource(Resource):
    """A feed, and what the caller may do with it (§5.2.1)."""

    id: Identifier
    title: str
    description: str | None = None
    alias: str | None = None
    can_read: bool
    can_write: bool
    media_types: Annotated[list[str], Field(min_length=1)] = [form.media_type for form in Form]

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
    """The collections of a trust group that the caller may see, ascending by id (§5.1.1)."""

    collections: Annotated[list[CollectionResource], Field(min_length=1)] | None = None


class StatusDetail(Resource):
    """What became of one object (§4.3.1)."""

    id: str
    version: str
    message: str | None = None


class StatusResource(Resource):
    """What became of an add request (§4.3.1)."""

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


class EnvelopeResource(Resource):
    """Objects, exactly as they were posted (§3.7)."""

    more: bool | None = None
    next: str | None = None
    objects: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None


class ManifestRecord(Resource):
    """One version of one object (§5.3.1)."""

    id: str
    date_added: Timestamp
    version: str
    media_type: str


class ManifestResource(Resource):
    """Which versions there are (§5.3.1)."""

    more: bool | None = None
    next: str | None = None
    objects: Annotated[list[ManifestRecord], Field(min_length=1)] | None = None


class VersionsResource(Resource):
    """The versions of one object (§5.8.1)."""

    more: bool | None = None
    next: str | None = None
    versions: Annotated[list[str], Field(min_length=1)] | None = None


class ErrorResource(Resource):
    """Why a request was refused (§3.6.1)."""

    title: str
    description: str | None = None
    error_id: str | None = None
    error_code: str | None = None
    http_status: Annotated[str, Field(pattern=r"^[45]\d\d$")] | None = None
    details: dict[str, Any] | None = None
