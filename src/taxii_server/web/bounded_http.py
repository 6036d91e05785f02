"""HTTP as uvicorn speaks it, with an end to what a connection may cost before anybody knows who is at its other side.

The parser keeps a head, and what follows a chunked body, until it is whole; a response waits in memory until its reader
takes it. Without bounds, whoever reaches the port could fill the memory with a header that never ends, hold connections
with heads and refused bodies that never come, or ask for large pages and never read them.
"""

from __future__ import annotations

import json
from asyncio import CancelledError, Handle, Transport, get_running_loop
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from taxii_server.web.bodies import LEAST_RATE
from taxii_server.web.media_types import TAXII

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope

MOST_OCTETS_BETWEEN_BODIES: Final = 2 * 1024 * 1024
"""Far above what any client sends, so that a head that is merely too long still gets its proper refusal."""

HEAD_TIMEOUT: Final = 30.0
"""Seconds that a request's head may take to arrive."""

STALL_TIMEOUT: Final = 60.0
"""Seconds that a reader may take nothing of a response that waits for it."""

REST_TIMEOUT: Final = 30.0
"""Seconds after which it is looked how much came of a body that nobody reads any more."""

# what was asked isn't known, so all that any answer of ours would say is said
_BAD_REQUEST: Final = (
    f"HTTP/1.1 400 Bad Request\r\nContent-Type: {TAXII}\r\nCache-Control: private, no-store\r\n"
    "Vary: Accept, Accept-Encoding, Authorization\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n"
)


def _ending_in_order(app: ASGI3Application) -> ASGI3Application:
    """Let requests end that are cancelled because the server stops: who answered them is not at fault."""

    async def ended(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        with suppress(CancelledError):
            await app(scope, receive, send)

    return ended


def _nobody_asks() -> None:
    pass


class BoundedHttp(HttpToolsProtocol):
    """Closes connections that cost more than any honest one."""

    head_timeout = HEAD_TIMEOUT
    stall_timeout = STALL_TIMEOUT
    rest_timeout = REST_TIMEOUT

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take what uvicorn hands over."""
        super().__init__(*args, **options)
        self.app = _ending_in_order(self.app)
        self._octets_between_bodies = 0
        self._head: Handle | None = None
        self._stall: Handle | None = None
        self._rest: Handle | None = None
        self._octets_of_rest = 0
        self.when_left: Callable[[], None] = _nobody_asks
        """Called when the connection was lost."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._head_is_here()
        self._rest_is_here()
        self._reader_goes_on()
        self.when_left()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what the parser has to keep."""
        self._octets_between_bodies += len(data)
        if self._octets_between_bodies > MOST_OCTETS_BETWEEN_BODIES:
            if not self.transport.is_closing():
                self.send_400_response("The request has more besides its body than any should.")
            return
        if self._head is None and self.cycle.response_complete:
            self._wait_for_head()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._octets_between_bodies = 0
        self._head_is_here()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A body is counted, and waited for, by whoever reads it; once it is answered, by us."""
        self._octets_between_bodies = 0
        self._head_is_here()
        if self.cycle.response_complete:
            self._octets_of_rest += len(body)
            if self._rest is None:
                self._watch_sender()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """What follows is the next request."""
        self._octets_between_bodies = 0
        self._head_is_here()
        self._rest_is_here()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """A response waits for its reader: look whether any of it is taken."""
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The reader took it."""
        self._reader_goes_on()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP in the form of every other refusal (TAXII 2.1 §3.6.1)."""
        body = {"title": "Bad request", "description": msg, "error_id": str(uuid4()), "http_status": "400"}
        octets = json.dumps(body).encode()
        head = f"{_BAD_REQUEST}Content-Length: {len(octets)}\r\nX-Request-ID: {body['error_id']}\r\n\r\n"
        self.transport.write(head.encode() + octets)
        self.transport.close()

    def _wait_for_head(self) -> None:
        self._head = get_running_loop().call_later(self.head_timeout, self.transport.abort)

    def _head_is_here(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _rest_is_here(self) -> None:
        self._octets_of_rest = 0
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _watch_sender(self) -> None:
        """Cut whoever was answered before the end of its body, as with a refusal, and doesn't send it with the least rate."""

        def look() -> None:
            if self._octets_of_rest < LEAST_RATE * self.rest_timeout:
                self.transport.abort()
            else:
                self._octets_of_rest = 0
                self._watch_sender()

        self._rest = get_running_loop().call_later(self.rest_timeout, look)

    def _reader_goes_on(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _watch_reader(self, waiting: int) -> None:
        def look() -> None:
            left = self.transport.get_write_buffer_size()
            if left < waiting:
                self._watch_reader(left)
            else:
                self.transport.abort()

        self._stall = get_running_loop().call_later(self.stall_timeout, look)
