"""A stretch of wire between the server and its PostgreSQL that a test can cut or freeze.

Octets pass through until it is cut; then connections break and no new ones are let in, as when the database's machine
is gone. Frozen, nothing breaks and nothing passes, as when PostgreSQL is stopped or a firewall drops what it sees:
connections are taken and not answered. The database itself goes on: other tests use it.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from taxii_server.storage.embedded import DatabaseUrls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_PORT = 5432


class Wire:
    """The wire, by the folder of the socket at its near end."""

    def __init__(self, urls: DatabaseUrls, folder: Path) -> None:
        self._far = make_url(urls.server)
        self._folder = folder
        self._streams: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self.frozen = asyncio.Event()
        self.freeze_at: bytes | None = None
        """Freeze before octets that hold this are passed on to the database."""
        self.cut_at: bytes | None = None
        """Cut before octets that hold this are passed on to the database."""
        self.cut_after: bytes | None = None
        """Pass octets that hold this on to the database, but cut before its answer comes back."""

    @property
    def urls(self) -> DatabaseUrls:
        """The database at the far end, as seen from the near one."""
        near = self._far.set(host=None, port=_PORT, query={"host": str(self._folder)})
        return DatabaseUrls(server=near.render_as_string(hide_password=False), owner="")

    @property
    def is_cut(self) -> bool:
        """Whether nothing gets through."""
        return self._server is None

    async def mend(self) -> None:
        """Let connections in."""
        self.cut_at = self.cut_after = None
        self._server = await asyncio.start_unix_server(self._accept, self._folder / f".s.PGSQL.{_PORT}")

    def cut(self) -> None:
        """Break all connections, let in no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        # each of them may be cut while its own task runs
        for stream in self._streams:
            stream.transport.abort()

    def freeze(self) -> None:
        """Let nothing pass, either way, and break nothing."""
        self._flows.clear()
        self.frozen.set()

    def thaw(self) -> None:
        """Let pass what was kept, and all that follows."""
        self.freeze_at = None
        self.frozen.clear()
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await self._flows.wait()
        try:
            far_reader, far_writer = await self._reach()
        except OSError:
            # nobody is there: so it is at this end
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._streams |= ends
        try:
            await asyncio.gather(self._pass_on(reader, far_writer), self._give_back(far_reader, writer))
        finally:
            self._streams -= ends
            for end in ends:
                end.transport.abort()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        folder = self._far.query.get("host", self._far.host)
        port = self._far.port or self._far.query.get("port", _PORT)
        if isinstance(folder, str) and folder.startswith("/"):
            return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{port}")
        return await asyncio.open_connection(self._far.host, int(str(port)))

    async def _pass_on(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while octets := await reader.read(65_536):
                if self.cut_at is not None and self.cut_at in octets:
                    self.cut()
                    return
                if self.freeze_at is not None and self.freeze_at in octets:
                    self.freeze()
                await self._flows.wait()
                last = self.cut_after is not None and self.cut_after in octets
                to.write(octets)
                await to.drain()
                if last:
                    # the database has it, and answers into the void
                    await asyncio.sleep(0.2)
                    self.cut()
                    return
        to.transport.abort()

    async def _give_back(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while octets := await reader.read(65_536):
                if self.cut_after is not None and b"COMMIT\0" in octets:
                    continue
                await self._flows.wait()
                to.write(octets)
                await to.drain()
        to.transport.abort()

    async def close(self) -> None:
        """Cut it for good."""
        self.thaw()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def wire(urls: DatabaseUrls, folder: Path) -> AsyncIterator[Wire]:
    """Lay a wire to a database; `folder` must have a short name."""
    made = Wire(urls, folder)
    await made.mend()
    try:
        yield made
    finally:
        await made.close()
