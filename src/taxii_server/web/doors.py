"""Connections are shared out among workers, so that one doesn't work alone while others wait.

All workers listen on one socket, and whoever is awake first takes what waits there: one of them may hold nearly all of the few
connections that pollers keep open. So each worker tells the others how many it holds, in a page of memory that they share, and
who holds more than another leaves the next connection to that one, for a moment: it may be busy, or gone.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import structlog
import uvloop

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable
    from pathlib import Path

log = structlog.get_logger(__name__)

COUNTS: Final = "TAXII_WORKER_CONNECTIONS"
"""Names the file of counts to workers; nothing that an operator sets."""

_COUNT: Final = struct.Struct("=q")
_MOMENT: Final = 0.002  # seconds until it is looked whether the connection is still there
_MOST_MOMENTS: Final = 5
_OUT_OF_ROOM: Final = 1.0
# what one worker takes before it looks after its requests again
_AT_ONCE: Final = 8


class Counts:
    """How many connections each worker holds; opened by each worker, which claims a place of its own."""

    def __init__(self, path: str) -> None:
        """Claim a place in the file that `prepare` made; that of a worker which ended is free again.

        Raises:
            OSError: if there is no such file.
            RuntimeError: if there are more workers than places.
        """
        # kept open, for the place is claimed with a lock that ends with the process
        self._file = os.open(path, os.O_RDWR)
        self._shared = mmap.mmap(self._file, 0)
        self._places = len(self._shared) // _COUNT.size
        self._own = self._claimed() * _COUNT.size
        self._write(0)

    @staticmethod
    def prepare(path: Path, workers: int) -> None:
        """Make the file for so many workers."""
        path.write_bytes(bytes(workers * _COUNT.size))

    def add(self, change: int) -> None:
        """Tell the others that this worker holds more or fewer."""
        self._write(_COUNT.unpack_from(self._shared, self._own)[0] + change)

    def most(self) -> bool:
        """Tell whether another worker holds fewer."""
        counts = struct.unpack_from(f"={self._places}q", self._shared)
        return bool(min(counts) < _COUNT.unpack_from(self._shared, self._own)[0])

    def _claimed(self) -> int:
        for place in range(self._places):
            with suppress(BlockingIOError):
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                return place
        message = "there are more workers than were planned for"
        raise RuntimeError(message)

    def _write(self, count: int) -> None:
        _COUNT.pack_into(self._shared, self._own, count)


@runtime_checkable
class Leaving(Protocol):
    """A connection's protocol that tells when it was lost."""

    when_left: Callable[[], None]


class Door:
    """Takes connections off a listening socket in the worker's turn; what `create_server` gives."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: Callable[[], asyncio.Protocol],
        listening: socket.socket,
        tls: ssl.SSLContext | None,
        counts: Counts,
    ) -> None:
        """Take what connections become, and begin."""
        self._loop = loop
        self._protocol = protocol
        self._listening = listening
        self._tls = tls
        self._counts = counts
        self._greeting: set[asyncio.Task[None]] = set()
        self._later: asyncio.TimerHandle | None = None
        self._moments = 0
        listening.setblocking(False)
        loop.add_reader(listening, self._look)

    def close(self) -> None:
        """Take no more."""
        self._loop.remove_reader(self._listening)
        if self._later is not None:
            self._later.cancel()

    async def wait_closed(self) -> None:
        """Wait for nothing: connections are looked after by whoever closes."""

    def _look(self) -> None:
        if self._counts.most() and self._moments < _MOST_MOMENTS:
            self._moments += 1
            self._pause(_MOMENT)
            return
        self._moments = 0
        for _ in range(_AT_ONCE):
            try:
                taken, _address = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # no descriptor or no memory left: it waits where it is until others have gone
                log.warning("connections_wait", reason=os.strerror(error.errno or 0))
                self._pause(_OUT_OF_ROOM)
                return
            taken.setblocking(False)
            greeting = self._loop.create_task(self._greet(taken, _Held(self._counts)))
            self._greeting.add(greeting)
            greeting.add_done_callback(self._greeting.discard)
            if self._counts.most():
                return

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._later = self._loop.call_later(seconds, self._look_again)

    def _look_again(self) -> None:
        self._later = None
        self._loop.add_reader(self._listening, self._look)

    async def _greet(self, taken: socket.socket, held: _Held) -> None:
        def protocol() -> asyncio.Protocol:
            made = self._protocol()
            if isinstance(made, Leaving):
                made.when_left = held.leave
            return made

        try:
            await self._loop.connect_accepted_socket(protocol, taken, ssl=self._tls)
        except (OSError, asyncio.CancelledError):
            # it spoke no TLS, or is gone already
            taken.close()
            held.leave()


class _Held:
    """One connection among those that are counted."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._here = True
        counts.add(1)

    def leave(self) -> None:
        """Count it no more."""
        if self._here:
            self._here = False
            self._counts.add(-1)


class FairLoop(uvloop.Loop):
    """An event loop whose server takes no more than its share of the connections to a socket of several workers."""

    async def create_server(self, protocol_factory: Any, *more: Any, **options: Any) -> Any:
        """Serve; on a socket that was handed over, beside the other workers."""
        path, listening = os.environ.get(COUNTS), options.get("sock")
        if path is None or listening is None:
            return await super().create_server(protocol_factory, *more, **options)
        try:
            counts = Counts(path)
        except (OSError, RuntimeError) as error:
            # a share is worth less than a server
            log.warning("connections_not_shared_out", reason=str(error))
            return await super().create_server(protocol_factory, *more, **options)
        return Door(self, protocol_factory, listening, options.get("ssl"), counts)
