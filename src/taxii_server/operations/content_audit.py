"""Writing down what became of a collection's content: who, how many versions, and a digest of exactly which."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from taxii_server.domain import audit
from taxii_server.domain.additions import SMALL_ENVELOPE
from taxii_server.domain.audit import Contents, Entry
from taxii_server.storage import audit as storage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from taxii_server.domain.audit import Act, Content
    from taxii_server.storage.engine import Connection

NOTHING_MORE: Final[Mapping[str, Any]] = MappingProxyType({})


async def write(
    connection: Connection,
    collection_id: UUID,
    act: Act,
    who: str,
    contents: Sequence[Content],
    told: Mapping[str, Any] = NOTHING_MORE,
) -> None:
    """Write down that versions came or went, with what is `told` besides. The collection's clock must be locked.

    None did where a recall found the object revoked already.
    """
    # a large push must not hold up everybody else's requests
    large = len(contents) > SMALL_ENVELOPE
    some = await asyncio.to_thread(Contents.of, contents) if large else Contents.of(contents)
    details: dict[str, Any] = {**some.details, **told}
    storage.append_later(connection, Entry(audit.of_collection(collection_id), act, who, details))
