"""The last step of every answer: who may keep it and for how long, whether the caller has it already, and gzip.

A face declares with `Cache-Control` what may be kept. What is declared so gets an `ETag` and obeys `If-None-Match`: the
tag is made from an answer that exists, so rights were checked before. What declares nothing is kept nowhere under
/taxii2/, and asked after each time elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from taxii_server.web.compression import pack, packable, wants_gzip
from taxii_server.web.conditional import etag_of, has_it, opaque
from taxii_server.web.headers import header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Message, Scope, Send

    from taxii_server.web.cross_origin import CrossOrigin

    Headers = list[tuple[bytes, bytes]]

_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
# a year; without includeSubDomains, because hosts below this one may be others'
_ONLY_TLS: Final = (b"strict-transport-security", b"max-age=31536000")
_PRIVATE: Final = b"private, no-store"
_READING: Final = frozenset({"GET", "HEAD"})
_PACKED: Final = frozenset({HTTPStatus.OK, HTTPStatus.ACCEPTED})
# what a 304 leaves to the answer it stands for
_OF_THE_BODY: Final = frozenset({b"content-type", b"content-length"})


@dataclass(frozen=True, slots=True)
class _Face:
    """What goes with every answer under a prefix; `good` and `bad` hold who may keep it if it doesn't say itself."""

    prefix: str
    always: tuple[tuple[bytes, bytes], ...]
    good: bytes
    bad: bytes
    packs: bool
    shared: bool

    def has(self, path: str) -> bool:
        """Tell whether a path is of this face."""
        return path.startswith(self.prefix) and (len(path) == len(self.prefix) or path[len(self.prefix)] == "/")


class Delivery:
    """Finishes answers on their way out. Make one per application."""

    def __init__(self, *, https: bool, cross_origin: CrossOrigin) -> None:
        """Take whether clients reach this server by TLS alone, and which origins' pages may."""
        self._cross_origin = cross_origin
        common = (_NOSNIFF, _ONLY_TLS) if https else (_NOSNIFF,)

        def face(prefix: str, vary: str, good: bytes, bad: bytes, *, packs: bool = True, shared: bool = True) -> _Face:
            parts = [part for part in (vary, "Origin" if cross_origin and shared else "") if part]
            always = (*common, (b"vary", ", ".join(parts).encode())) if parts else common
            return _Face(prefix, always, good, bad, packs, shared)

        self._faces = (
            face("/taxii2", "Accept, Accept-Encoding, Authorization", _PRIVATE, _PRIVATE),
            face("/oauth2", "", b"no-store", b"no-store", packs=False),
            face("/.well-known", "Accept-Encoding", b"no-cache", b"no-store"),
        )
        self._elsewhere = face("", "Accept-Encoding", b"no-cache", b"no-store", shared=False)

    def to(self, scope: Scope, send: Send) -> Send:
        """Give what to send an answer to, so that it arrives finished at `send`."""
        path, reading, head = scope["path"], scope["method"] in _READING, scope["method"] == "HEAD"
        face = next((one for one in self._faces if one.has(path)), self._elsewhere)
        held: Message | None = None

        async def deliver(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                # its headers hang on the body that follows
                held = message
                return
            if held is not None:
                start, held = held, None
                body = message.get("body", b"")
                status, headers, body = await self._finish(
                    scope, face, start, body, reading=reading, more=message.get("more_body", False)
                )
                await send({**start, "status": status, "headers": headers})
                message = {**message, "body": body}
            await send({**message, "body": b""} if head else message)

        return deliver

    async def _finish(
        self, scope: Scope, face: _Face, start: Message, body: bytes, *, reading: bool, more: bool
    ) -> tuple[int, Headers, bytes]:
        status: int = start["status"]
        headers: Headers = list(start["headers"])
        own = dict(headers)
        keep = own.get(b"cache-control")
        if keep is None:
            keep = face.good if status < HTTPStatus.BAD_REQUEST else face.bad
            headers.append((b"cache-control", keep))
        headers += face.always
        if self._cross_origin and face.shared:
            headers += self._cross_origin.headers(scope, own.get(b"allow"))
        # a stream, or the head of a file that isn't read, can be neither tagged nor packed here
        whole = not more and own.get(b"content-length") == b"%d" % len(body)
        if whole and status == HTTPStatus.OK and reading and b"no-store" not in keep:
            etag = own.get(b"etag")
            if etag is None:
                etag = etag_of(body)
                headers.append((b"etag", etag))
            if has_it(header(scope, b"if-none-match"), etag):
                return HTTPStatus.NOT_MODIFIED.value, [one for one in headers if one[0] not in _OF_THE_BODY], b""
        packs = whole and status in _PACKED and face.packs and _may_be_packed(own)
        if packs and wants_gzip(header(scope, b"accept-encoding"), len(body)):
            body = await pack(body)
            headers = _packed(headers, len(body))
        return status, headers, body


def _may_be_packed(own: dict[bytes, bytes]) -> bool:
    # of a file that is served in ranges, the ranges are those of the plain octets
    return b"content-encoding" not in own and b"accept-ranges" not in own and packable(own.get(b"content-type", b""))


def _packed(headers: Headers, octets: int) -> Headers:
    """Describe the packed body; a strong tag would name the plain octets."""
    told: Sequence[tuple[bytes, bytes]] = [
        (name, b"W/" + opaque(value)) if name == b"etag" else (name, value)
        for name, value in headers
        if name != b"content-length"
    ]
    return [*told, (b"content-length", b"%d" % octets), (b"content-encoding", b"gzip")]
