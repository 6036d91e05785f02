"""HTTP as uvicorn speaks it, with an end to how long a request's head may be.

The parser keeps a head until it is whole. Without a bound, whoever reaches the port could fill the memory with one header
that never ends, without any credentials.
"""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_OCTETS_OF_A_HEAD: Final = 2 * 1024 * 1024
"""Far above what any client sends, so that a head that is merely too long still gets its proper refusal."""


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection whose request head is longer than any honest one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take what uvicorn hands over."""
        super().__init__(*args, **options)
        self._in_head = True
        self._octets_of_head = 0

    def data_received(self, data: bytes) -> None:
        """Count what arrives before a head is whole."""
        if self._in_head:
            self._octets_of_head += len(data)
            if self._octets_of_head > MOST_OCTETS_OF_A_HEAD:
                self.send_400_response("The head of the request is too long.")
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Stop counting: what follows is the body."""
        self._in_head, self._octets_of_head = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Count again: what follows is the next head."""
        super().on_message_complete()
        self._in_head = True
