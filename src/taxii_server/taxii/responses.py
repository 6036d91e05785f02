"""Answers in TAXII's one content type. Stored objects go out as the octets that came in."""

from __future__ import annotations

import asyncio
from itertools import chain, repeat
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import JSONResponse

from taxii_server.domain import timestamps
from taxii_server.domain.additions import SMALL_ENVELOPE
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.timestamps import to_taxii
from taxii_server.taxii.resources import ErrorResource, StatusResource
from taxii_server.web.media_types import TAXII

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from taxii_server.domain.errors import TaxiiServerError
    from taxii_server.domain.statuses import Status
    from taxii_server.operations.reading import Answer
    from taxii_server.storage.object_pages import Page
    from taxii_server.taxii.queries import PageQuery
    from taxii_server.taxii.resources import Resource

# the rights that it was made under may be gone the next moment
_ASK_AGAIN = {"Cache-Control": "private, no-cache"}
_CONTENT_TYPE = (b"content-type", TAXII.encode("ascii"))
_MEDIA_TYPES = {int(form): form.media_type for form in Form}


class _Record(msgspec.Struct):
    """An entry of a manifest (§5.3.1.1)."""

    id: str
    date_added: str
    version: str
    media_type: str


class TaxiiResponse(JSONResponse):
    """A response whose content type is TAXII's, to the letter."""

    media_type = TAXII

    def __init__(self, content: bytes = b"", status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        """Take the octets, which are JSON already."""
        super().__init__(content, status_code, headers)

    def render(self, content: bytes) -> bytes:
        """Send what is given."""
        return content

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Write headers down as the framework does, without looking which of its own are among them: none is."""
        given = () if headers is None else headers.items()
        own = ((b"content-length", b"%d" % len(self.body)), _CONTENT_TYPE)
        self.raw_headers = [*((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given), *own]


def resource(one: Resource, status_code: int = 200) -> TaxiiResponse:
    """Answer with one resource."""
    return TaxiiResponse(one.octets(), status_code)


def description(one: Resource) -> TaxiiResponse:
    """Answer with a resource that tells what there is: the caller may keep it, and asks each time whether it still holds.

    Statuses and pages have no such header: they change, or differ with every cursor, so nobody would ask twice.
    """
    return TaxiiResponse(one.octets(), headers=_ASK_AGAIN)


def envelope(answer: Answer, asked: PageQuery) -> TaxiiResponse:
    """Answer with an envelope of objects (§3.7)."""
    return _page(answer, asked, b"objects", answer.page.bodies)


def manifest(answer: Answer, asked: PageQuery) -> TaxiiResponse:
    """Answer with a manifest (§5.3.1)."""
    listed = answer.page.listed
    dates = timestamps.all_to_taxii(version.added for version in listed)
    records = [
        _Record(version.stix_id, date, version.version, _MEDIA_TYPES[version.form])
        for version, date in zip(listed, dates, strict=True)
    ]
    return _page(answer, asked, b"objects", [msgspec.json.encode(records)[1:-1]])


def versions(answer: Answer, asked: PageQuery) -> TaxiiResponse:
    """Answer with the versions of one object (§5.8.1)."""
    names = [version.version for version in answer.page.listed]
    return _page(answer, asked, b"versions", [msgspec.json.encode(names)[1:-1]])


async def status(one: Status, status_code: int = 200) -> TaxiiResponse:
    """Answer with a status (§4.3.1), a long one written in a thread: it has a line for each of perhaps 100,000 objects."""

    def written() -> TaxiiResponse:
        return resource(StatusResource.of(one), status_code)

    return written() if one.total_count <= SMALL_ENVELOPE else await asyncio.to_thread(written)


def error(refusal: TaxiiServerError, status: int, request_id: str) -> TaxiiResponse:
    """Answer with an error resource (§3.6.1)."""
    return resource(
        ErrorResource(
            title=refusal.title,
            description=refusal.message,
            error_id=request_id,
            error_code=refusal.code,
            http_status=str(status),
            details=None if refusal.details is None else dict(refusal.details),
        ),
        status,
    )


def _page(answer: Answer, asked: PageQuery, name: bytes, pieces: Sequence[bytes]) -> TaxiiResponse:
    """Answer with a page; what it holds comes in pieces, to be joined with commas. They are copied once, here."""
    head = b'{"more":false' if answer.next is None else b'{"more":true,"next":' + msgspec.json.encode(answer.next)
    if not answer.page.dates:
        content = head + b"}"
    else:
        separated = chain.from_iterable(zip(repeat(b","), pieces, strict=False))
        next(separated)
        content = b"".join((head, b',"', name, b'":[', *separated, b"]}"))
    first, last = _dates(answer.page, asked)
    begins = to_taxii(first)
    ends = begins if last is first else to_taxii(last)
    return TaxiiResponse(content, headers={"X-TAXII-Date-Added-First": begins, "X-TAXII-Date-Added-Last": ends})


def _dates(page: Page, asked: PageQuery) -> tuple[datetime, datetime]:
    """Give the dates of the first and last version of the page (§3.2).

    An empty page has none, yet must name some: where the caller already was, so that it can go on from there.
    """
    if page.first is not None and page.last is not None:
        return page.first, page.last
    known = [instant for instant in (asked.position, asked.want.added_after) if instant is not None]
    instant = max(known, default=timestamps.EPOCH)
    return instant, instant
